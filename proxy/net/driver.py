"""Runs a script over two links under one deadline, and keeps what must never depend on an engine.

- A grant's secret stays here. `Reveal` is answered only while upstream is on TLS that was verified under that grant's
  own TLS facts and dialled at that grant's own endpoint.
- `Connect` dials the place of the last Locate, RequestGrant or Recall, and no other.
- A login that was granted has a place among its database's connections before upstream hears of it: dialling waits for
  one, and so does the grant of a login that has dialled already. Who runs a driver calls `release` at the end.
- At `StartTls` unread bytes go into the TLS engine. Upstream, any byte before our ClientHello is a PeerViolation.
- Deadline, drain and our own bugs are thrown into the script as refusals, so that the engine says them natively; after
  that it can only send.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from proxy.errors import LocalFault, PeerViolation, Refused, Side
from proxy.inbox import INBOX_LIMIT
from proxy.model import Location, PeerFacts, SealedGrant
from proxy.net.dial import Observer, Step
from proxy.net.events import LoginFacts
from proxy.net.facts import Inquiry
from proxy.net.gate import Slot
from proxy.net.identity import ClientTls
from proxy.net.services import Services
from proxy.net.sessions import Place
from proxy.net.shared.joining import Joining
from proxy.net.shared.trunks import SharedKey
from proxy.net.tls import expected_name
from proxy.net.transport import TAIL_BYTES, Link
from proxy.net.vault import Vault, same_server
from proxy.script import (
    AwaitClose,
    Buffered,
    Connect,
    Effect,
    KeepFacts,
    Locate,
    Note,
    Now,
    OwnAddress,
    Peek,
    Random,
    Recall,
    RecallFacts,
    Receive,
    RequestGrant,
    Reveal,
    RevealKey,
    Script,
    Send,
    Share,
    SignChallenge,
    StartTls,
)
from tollbridge.model import StsChallenge, StsProof
from tollbridge.reasons import Reason

__all__ = ["Driver", "Services"]

T = TypeVar("T")

NOTES_LIMIT: Final = 32
RANDOM_LIMIT: Final = 4096
INF: Final = float("inf")


class Driver:
    """Runs one script. After `run` the links and what was learned are here for the relay."""

    def __init__(
        self,
        services: Services,
        *,
        facts: LoginFacts,
        client: Link | None = None,
        client_tls: ClientTls | None = None,
        admit_ungranted: Callable[[PeerFacts | None], None] | None = None,
        observer: Observer | None = None,
        only: SharedKey | None = None,
    ) -> None:
        """`client` is None for a probe. `admit_ungranted` is asked before a dial that no grant covers, with what is
        known of a client on TLS; it may raise Refused. `only`: what grants may be asked for, where that is fixed."""
        self._services = services
        self._client_tls = client_tls
        self._admit_ungranted = admit_ungranted
        self._observer = observer
        self._only = only
        self._facts = facts
        self._client_facts: PeerFacts | None = None
        self._notes: dict[str, str] = {}
        self._vault = Vault()
        self._grant: SealedGrant | None = None
        self._destination: Location | Place | None = None
        self._granted = False
        self._verified: Location | None = None
        self._interruption: Refused | None = None
        self._deadline: asyncio.Timeout | None = None
        self._slot: Slot | None = None
        self._inquiry = Inquiry(services.facts)
        self.joining = Joining(services, lambda key: Driver(services, facts=LoginFacts(peer="", door=""), only=key))
        self.asked: RequestGrant | None = None
        """The last grant that was asked for."""
        self.client = client
        self.upstream: Link | None = None
        self.place: Place | None = None
        """Where `upstream` is connected."""
        self.last_words = b""
        """Tail of what the script sent to the client."""

    @property
    def facts(self) -> LoginFacts:
        """What is known now."""
        encrypted = self.client is not None and self.client.encrypted
        upstream = str(self.place.address) if self.place else ""
        return replace(self._facts, notes=dict(self._notes), encrypted=encrypted, upstream=upstream)

    async def run(self, script: Script[T], seconds: float) -> T:
        """Drive a script to its end. Raises what it ends in: Refused, PeerViolation; LocalFault and others are bugs."""
        try:
            with self._inquiry:
                async with asyncio.timeout(seconds) as self._deadline:
                    return await self._drive(script)
        except TimeoutError:
            if not self._deadline or not self._deadline.expired():
                raise
            refusal = self._interruption or Refused(
                Reason.HANDSHAKE_TIMEOUT,
                f"the login did not finish within {seconds:g} s: check what the client waits for, and that the "
                "database answers",
            )
            self._say(script, refusal)
            raise refusal from None
        finally:
            self._deadline = None
            script.close()

    def interrupt(self, refusal: Refused) -> None:
        """End a running script with a refusal, as its deadline would."""
        if self._deadline is not None and not self._deadline.expired() and self._interruption is None:
            self._interruption = refusal
            self._deadline.reschedule(asyncio.get_running_loop().time())

    def release(self) -> None:
        """The connection to the database is over: give its place back. Every further call does nothing."""
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()

    async def renew(self) -> tuple[str, str]:
        """User and password of a fresh grant for the session that runs, for guards. Raises Refused."""
        if self.asked is None:
            raise LocalFault("a guard wants a grant and the login had none")
        self._vault.clear()  # a session may renew as often as its client likes: one is kept at a time
        grant = await self._request(self.asked)
        if self._verified is not None and not same_server(grant.location, self._verified):
            raise Refused(
                Reason.UPSTREAM_TLS_UNVERIFIED,
                f"database {grant.location.database!r} is registered at another endpoint or with other TLS facts since "
                "this session began: connect again",
                decision_id=grant.decision_id,
            )
        return grant.user, self._vault.password(grant, self.proven)

    async def permit(self, db_name: str) -> None:
        """Whether the session that runs may use another logical database as well, for guards. Raises Refused."""
        asked = self.asked
        if asked is None:
            raise LocalFault("a guard asks for a database and the login had no grant")
        await self._services.grants.request(
            workload=asked.workload, database=asked.database, db_user=asked.db_user, db_name=db_name, rejected=""
        )

    async def _drive(self, script: Script[T]) -> T:
        reply: Any = None
        error: Exception | None = None
        while True:
            try:
                effect = script.send(reply) if error is None else script.throw(error)
            except StopIteration as stop:
                value: T = stop.value
                return value
            reply = error = None
            try:
                reply = await self._perform(effect)
            except (Refused, PeerViolation) as expected:
                error = expected
                if isinstance(expected, Refused) and expected.decision_id:  # of a shared login that was made for this
                    self._facts = replace(self._facts, decision_id=expected.decision_id)
            except Exception:
                self._say(script, Refused(Reason.INTERNAL, "internal error in the proxy: its log has the details"))
                raise

    def _say(self, script: Script[Any], refusal: Refused) -> None:
        """Let the script put a refusal into the database's own words. It may send and note; anything else ends it."""
        try:
            effect = script.throw(refusal)
            while isinstance(effect, Send | Note):
                self.note(effect.key, effect.value) if isinstance(effect, Note) else self._send(effect)
                effect = script.send(None)
        except (StopIteration, Refused, PeerViolation):
            pass

    async def _perform(self, effect: Effect) -> Any:  # noqa: C901 - one row per effect
        match effect:
            case Receive(side, count):
                link = self._link(side)
                if len(link.inbox) < count:
                    await self._fill(link, count)
                return link.take(count)
            case Send():
                self._send(effect)
                if (link := self._link(effect.side)).clogged:
                    await link.drained()
            case Peek(side, count):
                link = self._link(side)
                if len(link.inbox) < count:
                    await self._fill(link, count)
                return link.inbox.peek(count)
            case Buffered(side):
                return len(self._link(side).inbox)
            case StartTls(Side.CLIENT, alpn):
                return await self._start_client_tls(alpn)
            case StartTls(_, alpn):
                return await self._start_upstream_tls(alpn)
            case RequestGrant():
                return await self._request(effect)
            case Connect():
                await self._connect()
            case Reveal(grant):
                return self._vault.password(grant, self.proven)
            case RevealKey(grant):
                return self._vault.signing_key(grant, self.proven)
            case SignChallenge():
                return await self._sign_challenge(effect)
            case Share():
                trunk = await self.joining.join(effect, self.asked, self._grant, self._seconds_left())
                self._vault.clear()  # it reveals nothing while it shares, and may join again as often as servers leave
                self.place = trunk.place
                return trunk.login
            case Locate(database):
                self._destination, self._granted = self._services.catalog.locate(database), False
                return self._destination
            case RecallFacts(find_out):
                return await self._inquiry.recall(self._destination, find_out)
            case KeepFacts(data):
                self._inquiry.keep(self.place, data)
            case Recall(key):
                place = self._services.sessions.recall(key)
                self._destination, self._granted = place, False
                return place.location if place else None
            case OwnAddress():
                return self._link(Side.CLIENT).own_address()
            case Random(count):
                if not 0 <= count <= RANDOM_LIMIT:
                    raise LocalFault(f"a script asks for {count} random bytes")
                return secrets.token_bytes(count)
            case Now():
                return self._services.clock.now()
            case Note(key, value):
                self.note(key, value)
            case AwaitClose(side):
                await self._link(side).discard_to_end()
            case _:
                raise LocalFault(f"a script yields {type(effect).__name__}, which is no effect")
        return None

    def _link(self, side: Side) -> Link:
        link = self.client if side is Side.CLIENT else self.upstream
        if link is None:
            raise LocalFault(f"a script uses the {side} side, which is not connected")
        return link

    async def _fill(self, link: Link, count: int) -> None:
        if count > INBOX_LIMIT:
            raise LocalFault(f"a script asks for {count} bytes at once; the limit is {INBOX_LIMIT}")
        await link.fill(count)

    def _send(self, effect: Send) -> None:
        link = self._link(effect.side)
        link.write(effect.data)
        if link is self.client:
            self.last_words = (self.last_words + effect.data)[-TAIL_BYTES:]

    def note(self, key: str, value: str) -> None:
        """A fact for the session's audit lines."""
        if len(self._notes) < NOTES_LIMIT:
            self._notes[key] = value

    async def _request(self, asked: RequestGrant) -> SealedGrant:
        if self._only is not None and not self._only.covers(asked):
            raise LocalFault("a connection for some is made with a grant for others")
        self._facts = replace(
            self._facts,
            workload=asked.workload,
            database=asked.database,
            db_user=asked.db_user,
            db_name=asked.db_name,
        )
        self.asked = replace(asked, rejected="")
        try:
            grant, credential = await self._services.grants.request(
                workload=asked.workload,
                database=asked.database,
                db_user=asked.db_user,
                db_name=asked.db_name,
                rejected=asked.rejected,
            )
        except Refused as refusal:
            self._facts = replace(self._facts, decision_id=refusal.decision_id)
            raise
        self._facts = replace(
            self._facts, decision_id=grant.decision_id, credential_id=grant.credential_id, reused=grant.reused
        )
        self._vault.put(grant, credential)
        self._grant = grant
        self._destination, self._granted = grant.location, True
        if self.upstream is not None and self._slot is None:
            await self._take_place(grant.location.database)
        return grant

    async def _connect(self) -> None:
        destination = self._destination
        if destination is None:
            raise LocalFault("a script connects and has not said where: Locate, RequestGrant or Recall comes first")
        if not self._granted and self._admit_ungranted is not None:
            self._admit_ungranted(self._client_facts)
        if self.upstream is not None:
            self.upstream.close()
        self.upstream = self.place = self._verified = None
        if self._granted and isinstance(destination, Location):
            await self._take_place(destination.database)
        if isinstance(destination, Place):
            location, pinned = destination.location, destination.address
        else:
            location, pinned = destination, None
        self.upstream, address = await self._services.dialer.connect(location.endpoint, pinned, self._observer)
        self.place = Place(location=location, address=address)

    async def _take_place(self, database: str) -> None:
        """Wait for this login's turn at the database; half of the time that is left stays for the login itself."""
        self.release()
        wait_seconds = self._seconds_left() / 2
        self._slot = await self._services.place(database, wait_seconds=wait_seconds, alive=self._client_is_there)

    def _seconds_left(self) -> float:
        return INF if self._deadline is None else (self._deadline.when() or INF) - asyncio.get_running_loop().time()

    def _client_is_there(self) -> bool:
        client = self.client
        return client is None or not client.ended or len(client.inbox) > 0

    async def _start_client_tls(self, alpn: tuple[str, ...]) -> PeerFacts:
        link = self._link(Side.CLIENT)
        if self._client_tls is None:
            raise LocalFault("a script starts TLS with a client on a listener that has none")
        self._client_facts = await self._client_tls.handshake(link, alpn)
        return self._client_facts

    async def _start_upstream_tls(self, alpn: tuple[str, ...]) -> PeerFacts:
        link, place = self._link(Side.UPSTREAM), self.place
        if place is None:
            raise LocalFault("upstream is connected and nobody knows where")
        location = place.location
        started = asyncio.get_running_loop().time()
        tls = await self._services.upstream_tls.prove(link, location, alpn)
        self._verified = location
        if self._observer is not None:
            detail = f"{tls.version()}, {location.tls.mode}, name {expected_name(location)}"
            self._observer.step(Step(name="tls", detail=detail, seconds=asyncio.get_running_loop().time() - started))
        return PeerFacts(sni=None, alpn=tls.selected_alpn_protocol(), identity=None)

    @property
    def proven(self) -> Location | None:
        """The place that upstream is connected to, on verified TLS; None while nothing is proved."""
        return self._verified if self.upstream is not None and self.upstream.encrypted else None

    async def _sign_challenge(self, effect: SignChallenge) -> StsProof:
        """The broker's answer to the server's question, asked as the login's own grant was."""
        asked = self.asked
        challenge = self._vault.challenge(effect.grant, self.proven, StsChallenge(nonce=effect.nonce, host=effect.host))
        if asked is None:
            raise LocalFault("a script has a challenge signed and no grant was asked for")
        return await self._services.grants.sign_challenge(
            workload=asked.workload,
            database=asked.database,
            db_user=asked.db_user,
            db_name=asked.db_name,
            challenge=challenge,
        )
