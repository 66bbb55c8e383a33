"""The client: one method per RPC, on a channel that follows its certificate files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf.duration_pb2 import Duration

from tollbridge.client import convert, errors, registrations, reports
from tollbridge.client.channel import Lane, resolve_target
from tollbridge.client.discovery import DiscoveryCalls
from tollbridge.client.errors import RpcFailed, unavailable
from tollbridge.client.events import Event
from tollbridge.client.registrations import Origin, Registration
from tollbridge.client.view import View, known
from tollbridge.clock import Clock
from tollbridge.model import Database, Grant, StsChallenge, StsProof
from tollbridge.process import tls
from tollbridge.process.lifecycle import SystemClock
from tollbridge.process.tls import TlsFiles, TlsFilesError, TlsWatch
from tollbridge.reasons import Reason
from tollbridge.reports import DiagnosisStep, Explanation
from tollbridge.v1 import (
    access_service_pb2,
    catalog_service_pb2,
    credential_service_pb2,
    diagnostics_service_pb2,
    registry_service_pb2,
)

DEFAULT_DEADLINE_SECONDS: Final = 10.0
"""Longer than the broker waits for an STS that hangs (7 s), so that its own word on the cause arrives."""
_CONNECT_SECONDS: Final = 5.0
_WATCH_SILENCE_SECONDS: Final = 15.0
"""Until a watch is whole, its next message must come in this time. After that silence is normal; keepalive watches."""
_REOPEN_SECONDS: Final = (0.1, 0.3)
"""Between the attempts to open a watch that broke: a broker that stops may still take, and cut off, the first."""
_DIAGNOSE_SECONDS: Final = 180.0
"""A diagnosis of a chain whose every call hangs; each step says so when it is given up."""
_DRAIN_MARGIN_SECONDS: Final = 2.0
_PAGE_SIZE: Final = 200

_log = logging.getLogger(__name__)


class Client(DiscoveryCalls):
    """Talks to the broker between `async with` and its end.

    Without an identity the target must be loopback or a unix socket. `server_name` is the name expected in the
    broker's certificate where that is not the host in `target`. Construction raises ValueError for a bad target and
    TlsFilesError for files that do not fit together; later files that do not fit are kept out with a warning.
    """

    def __init__(
        self,
        target: str,
        identity: TlsFiles | None = None,
        *,
        server_name: str = "",
        clock: Clock | None = None,
        deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
    ) -> None:
        self.target = target
        self._address = resolve_target(target, plaintext=identity is None)
        self._identity = identity
        self._server_name = server_name
        self._clock = clock or SystemClock()
        self._deadline = deadline_seconds
        self._watch = TlsWatch(identity, what=f"client of {target}") if identity else None
        self._lane: Lane | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.moves = 0
        """How often calls moved to a new channel."""

    async def __aenter__(self) -> Self:
        self._lane = self._new_lane()
        if self._watch is not None:
            self._spawn(self._follow_files(self._watch), "tls files")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lane, self._lane = self._lane, None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if lane is not None:
            await lane.drain(0)

    async def connect(self, seconds: float = _CONNECT_SECONDS) -> bool:
        """Connect ahead of the first call. False: not within that time; calls go on trying."""
        return await self._open_lane().connect(seconds)

    async def issue_credential(
        self,
        database: str,
        db_user: str,
        db_name: str = "",
        workload: str = "",
        requested_ttl: timedelta | None = None,
        rejected: str = "",
    ) -> Grant:
        """Ask for a credential. `rejected` is the credential_id of a grant the database has just refused.

        The grant's instants are by this client's clock, however far it is from the broker's.
        """
        request = credential_service_pb2.IssueCredentialRequest(
            database=database, db_user=db_user, db_name=db_name, workload=workload, rejected=rejected
        )
        if requested_ttl is not None:
            request.requested_ttl.CopyFrom(_duration(requested_ttl))
        answer = await self._call("credentials", "IssueCredential", request)
        try:
            return convert.on_our_clock(convert.grant(answer), self._clock.now())
        except convert.NotUnderstood as error:
            raise self._not_understood(error) from error

    async def sign_challenge(
        self, database: str, db_user: str, challenge: StsChallenge, db_name: str = "", workload: str = ""
    ) -> StsProof:
        """Have the broker answer what a server asks during the login, where a grant's credential is a Challenge."""
        request = credential_service_pb2.SignChallengeRequest(
            database=database,
            db_user=db_user,
            db_name=db_name,
            workload=workload,
            mongodb_aws=credential_service_pb2.MongodbAwsChallenge(nonce=challenge.nonce, host=challenge.host),
        )
        answer = await self._call("credentials", "SignChallenge", request)
        try:
            return convert.proof(answer)
        except convert.NotUnderstood as error:
            raise self._not_understood(error) from error

    async def list_databases(self) -> list[Database]:
        """Every database this caller may serve or enter, by name. Kinds this client does not know are left out."""
        found: list[Database] = []
        token = ""
        while True:
            request = catalog_service_pb2.ListDatabasesRequest(page_size=_PAGE_SIZE, page_token=token)
            answer = await self._call("catalog", "ListDatabases", request)
            found.extend(database for message in answer.databases if (database := known(message)) is not None)
            token = answer.next_page_token
            if not token:
                return found

    async def explain(
        self, database: str, db_user: str, *, workload: str, db_name: str = "", caller: str = ""
    ) -> Explanation:
        """What would be decided and done about such a request; for operators who may view."""
        request = access_service_pb2.ExplainRequest(
            database=database, db_user=db_user, db_name=db_name, workload=workload, caller=caller
        )
        answer = await self._call("access", "Explain", request)
        try:
            return reports.explanation(answer)
        except convert.NotUnderstood as error:
            raise self._not_understood(error) from error

    async def diagnose(
        self, database: str, db_user: str = "", *, db_name: str = "", workload: str = ""
    ) -> AsyncIterator[DiagnosisStep]:
        """Each step from the broker's identity to a credential, as it begins and ends; for operators who may view."""
        request = diagnostics_service_pb2.DiagnoseRequest(
            database=database, db_user=db_user, db_name=db_name, workload=workload
        )
        lane = self._open_lane()
        stream = lane.diagnostics.Diagnose(request, timeout=_DIAGNOSE_SECONDS)
        lane.open_stream(stream)
        try:
            while (message := await self._read(stream, lane, bounded=False)) is not None:
                yield reports.step(message.step)
        finally:
            lane.close_stream(stream)

    async def create_database(self, document: str, *, validate_only: bool = False) -> Registration:
        """Register a dynamic database from a `kind: db` document. RpcFailed has `problems` when it is not accepted."""
        request = registry_service_pb2.CreateDatabaseRequest(document=document, validate_only=validate_only)
        return self._registration(await self._call("registry", "CreateDatabase", request))

    async def get_database(self, name: str) -> Registration:
        """One registration, by the name it is registered or served under; for operators who may view."""
        request = registry_service_pb2.GetDatabaseRequest(name=name)
        return self._registration(await self._call("registry", "GetDatabase", request))

    async def list_registrations(self, origins: Collection[Origin] = ()) -> list[Registration]:
        """Every registration, static, dynamic and discovered, or those of some origins; for operators who may view."""
        found: list[Registration] = []
        token = ""
        while True:
            request = registry_service_pb2.RegistryServiceListDatabasesRequest(
                page_size=500, page_token=token, origins=[registrations.wire_origin(origin) for origin in origins]
            )
            answer = await self._call("registry", "ListDatabases", request)
            found.extend(map(registrations.registration, answer.registrations))
            token = answer.next_page_token
            if not token:
                return found

    async def update_database(
        self, document: str, *, revision: str = "", allow_missing: bool = False, validate_only: bool = False
    ) -> Registration:
        """Replace a dynamic database. `revision`: what it must have now; empty: the document's own, if any."""
        request = registry_service_pb2.UpdateDatabaseRequest(
            document=document, revision=revision, allow_missing=allow_missing, validate_only=validate_only
        )
        return self._registration(await self._call("registry", "UpdateDatabase", request))

    async def delete_database(self, name: str, *, revision: str = "") -> None:
        """Remove a dynamic database."""
        request = registry_service_pb2.DeleteDatabaseRequest(name=name, revision=revision)
        await self._call("registry", "DeleteDatabase", request)

    async def watch_databases(self) -> AsyncIterator[Event]:
        """The same list, then `Synced`, then every change, until it raises RpcFailed.

        One watch is one continuous view: when the stream moves to another channel or broker, only differences are
        yielded. A watch after an RpcFailed starts whole: what it did not upsert before its `Synced` is gone.
        """
        view = View()
        pauses: Iterator[float] = iter(())
        while True:
            lane = self._open_lane()
            stream = lane.catalog.WatchDatabases(catalog_service_pb2.WatchDatabasesRequest())
            lane.open_stream(stream)
            view.begin()
            pause: float | None = None
            try:
                while (message := await self._read(stream, lane, bounded=not view.whole)) is not None:
                    for event in view.apply(message):
                        yield event
                if not view.whole and lane is self._lane:
                    raise unavailable(f"the broker at {self.target} ended a watch before it was whole")
            except RpcFailed as failure:
                # A watch that was whole broke: another broker may stand ready. One that never was is a failure.
                pause = 0.0 if view.whole else next(pauses, None)
                if pause is None or not failure.retryable or self._lane is None:
                    raise
                _log.info("the watch broke and is opened again: %s", failure.message)
            finally:
                lane.close_stream(stream)
            if view.whole:
                pauses = iter(_REOPEN_SECONDS)
            await asyncio.sleep(pause or 0)

    async def _read(self, stream: Any, lane: Lane, *, bounded: bool) -> Any:
        """The stream's next message; None when it ended well or its lane drains. Raises RpcFailed."""
        try:
            async with asyncio.timeout(_WATCH_SILENCE_SECONDS if bounded else None):
                message = await stream.read()
        except TimeoutError:
            raise unavailable(f"the broker at {self.target} did not send its catalog in time") from None
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        except asyncio.CancelledError:
            if _was_cancelled():
                raise
            if self._lane is None:
                raise self._closed() from None
            if lane is self._lane:
                raise unavailable(f"the watch of the broker at {self.target} was cut off") from None
            return None
        return None if message is grpc.aio.EOF else message

    async def _call(self, service: str, method: str, request: object) -> Any:
        """One unary call; a second attempt only when its channel was closed beneath it by a rotation."""
        lane = self._open_lane()
        while True:
            try:
                return await lane.unary(getattr(getattr(lane, service), method), request, self._deadline)
            except grpc.aio.AioRpcError as error:
                raise self._failed(error) from None
            except asyncio.CancelledError:
                # grpc.aio raises this in calls whose channel was closed, though nobody cancelled the task: it would
                # escape `except Exception` and end the caller's task group.
                if _was_cancelled():
                    raise
                if self._lane is lane:
                    raise unavailable(f"the call to the broker at {self.target} was cut off") from None
                lane = self._open_lane()

    async def _follow_files(self, watch: TlsWatch) -> None:
        complained = False
        while True:
            await asyncio.sleep(tls.POLL_SECONDS)
            await watch.poll()
            lane = self._open_lane()
            if lane.material is watch.material:
                continue
            if await self._move(lane):
                complained = False
            elif not complained:
                complained = True
                _log.warning(
                    "the broker at %s does not accept the new certificate in %s (or we not its own); the connection "
                    "made with the previous one stays in use: check the CAs on both sides",
                    self.target,
                    self._identity.cert_file if self._identity else "",
                )

    async def _move(self, old: Lane) -> bool:
        """Open a channel with the new files and move to it, unless only the old one works."""
        new = self._new_lane()
        try:
            accepted = await new.connect(_CONNECT_SECONDS)
            if not accepted and old.is_connected:
                return False
            self._lane, new = new, old
        finally:
            # Whichever lost. Longer than any deadline: no call is cut off.
            self._spawn(new.drain(self._deadline + _DRAIN_MARGIN_SECONDS), "drain a channel")
        self.moves += 1
        return True

    def _new_lane(self) -> Lane:
        return Lane(self._address, self._watch.material if self._watch else None, self._server_name)

    def _open_lane(self) -> Lane:
        if self._lane is None:
            raise self._closed()
        return self._lane

    def _spawn(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=f"tollbridge.client: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _registration(self, answer: Any) -> Registration:
        return registrations.registration(answer.registration)

    def _failed(self, error: grpc.aio.AioRpcError) -> RpcFailed:
        return errors.decode(error, self.target, certificate=self._certificate_note)

    def _certificate_note(self) -> str:
        if self._identity is None:
            return ""
        with suppress(TlsFilesError):
            expires_at = datetime.fromtimestamp(
                tls.certificate_facts(self._identity.cert_file).expires_at_seconds, tz=UTC
            )
            if expires_at <= self._clock.now():
                return f"; the client's certificate {self._identity.cert_file} expired at {expires_at.isoformat()}"
        return ""

    def _closed(self) -> RpcFailed:
        return unavailable(f"this client of the broker at {self.target} is closed")

    def _not_understood(self, error: Exception) -> RpcFailed:
        return RpcFailed(Reason.INTERNAL, f"the answer of the broker at {self.target} was not understood: {error}")


def _was_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _duration(value: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(value)
    return message
