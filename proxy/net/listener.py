"""A door: each connection is one named task, first its login and then its session, so that none can harm another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from proxy.engine import Engine
from proxy.errors import LocalFault, PeerClosed, PeerViolation, Refused, Side
from proxy.model import Door, Established, Finished, PeerFacts, Shared
from proxy.net import crashes
from proxy.net.bind import Bind
from proxy.net.counters import Counters
from proxy.net.driver import Driver, Services
from proxy.net.events import LoginFacts, SessionEnd, SessionLog, SessionRefusal, SessionStart
from proxy.net.identity import ClientTls
from proxy.net.lifetime import SessionLimits
from proxy.net.limits import SourceLimiter
from proxy.net.reception import Reception, nothing
from proxy.net.relay import Relay, relay_of
from proxy.net.shared.session import SharedSession
from proxy.net.transport import Link
from tollbridge.reasons import Reason

_log = logging.getLogger(__name__)

_NO_LIMITS: Final = SessionLimits()
_NO_OVERRIDES: Final[Mapping[str, SessionLimits]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one listener allows."""

    max_connections: int = 1000
    handshake_seconds: float = 15.0
    """From accept to Established: the slow client, the broker and the slow database together."""
    cancels_per_second: float = 10.0
    """Per source, where TLS is required: connections of clients that are not known and make us dial without a grant."""
    cancels_burst: int = 50


class _Connection:
    """One accepted client: its login first, its relay afterwards."""

    __slots__ = ("driver", "relay")

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.relay: Relay | SharedSession | None = None

    def end(self, refusal: Refused) -> None:
        if self.relay is not None:
            self.relay.end(refusal)
        else:
            self.driver.interrupt(refusal)


class Listener(Reception[_Connection]):
    """One door of the proxy, for a protocol with a login."""

    def __init__(
        self,
        *,
        door: Door,
        engine: Engine,
        where: Bind,
        services: Services,
        log: SessionLog,
        counters: Counters,
        limits: Limits,
        client_tls: ClientTls | None = None,
        session_limits: SessionLimits = _NO_LIMITS,
        database_limits: Mapping[str, SessionLimits] = _NO_OVERRIDES,
    ) -> None:
        """`database_limits`: database name -> limits that replace `session_limits` for its sessions."""
        super().__init__(door=door, where=where, max_connections=limits.max_connections, log=log, counters=counters)
        self._engine = engine
        self._services = services
        self._limits = limits
        self._client_tls = client_tls
        self._session_limits = session_limits
        self._database_limits = database_limits
        self._cancels = SourceLimiter(
            per_second=limits.cancels_per_second, burst=limits.cancels_burst, clock=services.clock
        )

    def live_bytes(self) -> tuple[int, int]:
        """Bytes to clients and to upstreams that running sessions have relayed so far."""
        relays = [connection.relay for connection in self._open.values() if connection.relay is not None]
        return sum(relay.bytes_to_client for relay in relays), sum(relay.bytes_to_upstream for relay in relays)

    def _admit(self, link: Link, facts: LoginFacts) -> _Connection:
        driver = Driver(
            self._services,
            facts=facts,
            client=link,
            client_tls=self._client_tls,
            admit_ungranted=self._admission(facts.source),
        )
        driver.joining.longest = lambda database: self._limits_of(database).max_session_seconds
        connection = _Connection(driver)
        self._spawn(partial(self._serve, connection, link), f"{self.door.name} {facts.peer}")
        return connection

    def _words(self, refusal: Refused) -> bytes:
        return self._engine.refuse(refusal.reason, refusal.message)

    def _end(self, link: Link, client: _Connection, refusal: Refused) -> None:
        client.end(refusal)

    def _admission(self, source: str) -> Callable[[PeerFacts | None], None] | None:
        """Where TLS is required, clients that are not known may still cancel queries, but not at any rate."""
        if not self.door.tls_required:
            return None

        def admit(facts: PeerFacts | None) -> None:
            known = facts is not None and (facts.identity is not None or self.door.workload is not None)
            if not known and not self._cancels.admit(source):
                raise Refused(
                    Reason.TOO_MANY_CONNECTIONS,
                    f"too many connections from {source} for whose sake a database is dialled before they say who they "
                    "are: cancel over TLS with the client's certificate, or wait until the database answers",
                )

        return admit

    async def _serve(self, connection: _Connection, link: Link) -> None:
        driver = connection.driver
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            try:
                outcome = await driver.run(self._engine.login(self.door), self._limits.handshake_seconds)
                if isinstance(outcome, Finished):
                    self._counters.login("finished")
                else:
                    await self._run_session(connection, outcome, loop.time() - started)
            except Refused as refusal:
                self._refused(driver.facts, refusal, loop.time() - started)
            except PeerViolation as violation:
                if isinstance(violation, PeerClosed) and violation.side is Side.CLIENT and not driver.facts.database:
                    self._counters.login("left")  # a health check, or a client that wanted to know if we speak TLS
                else:
                    self._refused(driver.facts, violation.as_refusal(), loop.time() - started)
        except Exception as fault:  # noqa: BLE001 - a crash, of the session log too, harms no other connection
            self._crashed(connection, fault, loop.time() - started)
        finally:
            for side, then in ((link, nothing), (driver.upstream, driver.release)):
                if side is None:
                    then()
                elif connection.relay is None and self._flooded:
                    side.abort()
                    then()
                else:
                    self._let_go(side, then)
            self._forget(link)

    async def _run_session(self, connection: _Connection, outcome: Established | Shared, took: float) -> None:
        driver, counters = connection.driver, self._counters
        relay = connection.relay = self._session(driver, outcome)
        if driver.place is None:
            raise LocalFault("a script has logged in and nobody knows where")
        cancel_key = outcome.cancel_key if isinstance(outcome, Established) else None
        counters.login("ok")
        counters.login_took(took)
        counters.sessions_open += 1
        try:
            self._log.on_start(SessionStart(facts=driver.facts, seconds=took))
            with self._services.sessions.running(cancel_key, driver.place):
                summary = await relay.run()
        finally:
            counters.sessions_open -= 1
            counters.bytes_to_client += relay.bytes_to_client
            counters.bytes_to_upstream += relay.bytes_to_upstream
        refusal = summary.refusal
        counters.session_ended(refusal.reason if refusal else summary.ended)
        self._log.on_end(
            SessionEnd(
                facts=driver.facts,
                ended=summary.ended,
                reason=refusal.reason if refusal else None,
                message=refusal.message if refusal else "",
                seconds=summary.seconds,
                bytes_to_client=summary.bytes_to_client,
                bytes_to_upstream=summary.bytes_to_upstream,
            )
        )

    def _limits_of(self, database: str) -> SessionLimits:
        return self._database_limits.get(database, self._session_limits)

    def _session(self, driver: Driver, outcome: Established | Shared) -> Relay | SharedSession:
        limits = self._limits_of(driver.facts.database)
        if isinstance(outcome, Shared):
            seconds = self._limits.handshake_seconds
            return SharedSession(driver, outcome, services=self._services, limits=limits, login_seconds=seconds)
        return relay_of(driver, outcome, limits=limits, clock=self._services.clock)

    def _crashed(self, connection: _Connection, fault: Exception, seconds: float) -> None:
        """Our own bug."""
        facts, relay = connection.driver.facts, connection.relay
        self._counters.crashes += 1
        crashes.report(_log, f"connection of {facts.peer} at {facts.door}", fault)
        message = "internal error in the proxy"
        try:
            if relay is None:
                self._counters.login(Reason.INTERNAL)
                event = SessionRefusal(facts=facts, reason=Reason.INTERNAL, message=message, seconds=seconds)
                self._log.on_refusal(event)
            else:
                self._log.on_end(
                    SessionEnd(
                        facts=facts,
                        ended="fault",
                        reason=Reason.INTERNAL,
                        message=message,
                        seconds=seconds,
                        bytes_to_client=relay.bytes_to_client,
                        bytes_to_upstream=relay.bytes_to_upstream,
                    )
                )
        except Exception as again:  # noqa: BLE001 - see _serve
            _log.error("the session log failed as well: %s", type(again).__name__)
