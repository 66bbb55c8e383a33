"""A door: accepts, counts, limits, and runs one named task per connection, so that none can harm another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from proxy.engine import Engine
from proxy.errors import LocalFault, PeerClosed, PeerViolation, Refused, Side
from proxy.model import Door, Established, Finished, PeerFacts, Shared
from proxy.net.bind import BACKLOG, Bind, TcpBind, bind
from proxy.net.channel import LINGER_SECONDS
from proxy.net.counters import Counters
from proxy.net.driver import Driver, Services
from proxy.net.events import LoginFacts, SessionEnd, SessionLog, SessionRefusal, SessionStart
from proxy.net.identity import ClientTls
from proxy.net.lifetime import SessionLimits
from proxy.net.limits import SourceLimiter
from proxy.net.relay import Relay, relay_of
from proxy.net.shared.session import SharedSession
from proxy.net.transport import Link
from tollbridge.reasons import Reason

_log = logging.getLogger(__name__)

_NO_LIMITS: Final = SessionLimits()
_NO_OVERRIDES: Final[Mapping[str, SessionLimits]] = MappingProxyType({})


def _nothing() -> None:
    """What follows where nothing does."""


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


class Listener:
    """One door of the proxy. `bind`, then `run` until somebody calls `drain`."""

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
        self.door = door
        self._engine = engine
        self._where = where
        self._services = services
        self._log = log
        self._counters = counters
        self._limits = limits
        self._client_tls = client_tls
        self._session_limits = session_limits
        self._database_limits = database_limits
        self._cancels = SourceLimiter(
            per_second=limits.cancels_per_second, burst=limits.cancels_burst, clock=services.clock
        )
        self.port = 0
        """The TCP port in use, once bound."""
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Connection] = set()
        self._leaving = 0
        self._group: asyncio.TaskGroup | None = None
        self._draining = False
        self._drained = asyncio.Event()
        self._emptied = asyncio.Event()
        self._one_left = asyncio.Event()

    def bind(self) -> None:
        """Take the address. Raises OSError."""
        self._sockets = bind(self._where)
        if isinstance(self._where, TcpBind):
            self.port = self._sockets[0].getsockname()[1]

    @property
    def open_connections(self) -> int:
        """Connections being logged in or relayed."""
        return len(self._connections)

    def live_bytes(self) -> tuple[int, int]:
        """Bytes to clients and to upstreams that running sessions have relayed so far."""
        relays = [connection.relay for connection in self._connections if connection.relay is not None]
        return sum(relay.bytes_to_client for relay in relays), sum(relay.bytes_to_upstream for relay in relays)

    async def run(self) -> None:
        """Serve until drained and every goodbye is delivered. Cancelling it ends every connection at once."""
        if not self._sockets:
            self.bind()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for sock in self._sockets:
                    serve = loop.create_server if sock.family != socket.AF_UNIX else loop.create_unix_server
                    self._servers.append(await serve(self._new_link, sock=sock, backlog=BACKLOG))
                await self._drained.wait()
            await self._flushed()
        finally:
            self._close_servers()

    async def _flushed(self) -> None:
        """Last words take a moment to reach their readers; the process must not end before."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 2 * LINGER_SECONDS  # each link gives up by itself after LINGER_SECONDS
        while self._leaving and loop.time() < deadline:
            self._one_left.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._one_left.wait()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let connections finish for so long, then say the protocol's goodbye to the rest."""
        self._draining = True
        self._close_servers()
        try:
            if self._connections:
                async with asyncio.timeout(seconds):
                    await self._emptied.wait()
        except TimeoutError:
            message = "the proxy is shutting down: connect again, another replica answers"
            for connection in list(self._connections):
                connection.end(Refused(Reason.DRAINING, message))
        self._drained.set()

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self._sockets:
            sock.close()

    def _new_link(self) -> Link:
        return Link(Side.CLIENT, self._accepted)

    def _accepted(self, link: Link) -> None:
        self._counters.connections_total += 1
        peername = link.socket_info("peername")
        source = str(peername[0]) if isinstance(peername, tuple) else "unix"
        peer = f"{source}:{peername[1]}" if isinstance(peername, tuple) else "unix"
        facts = LoginFacts(peer=peer, door=self.door.name)
        if self._draining or self._group is None:
            self._turn_away(link, facts, Reason.DRAINING, "the proxy is shutting down: connect again")
        elif len(self._connections) >= self._limits.max_connections:
            message = (
                f"listener {self.door.name!r} has {self._limits.max_connections} connections already: "
                "use a smaller pool, raise `max_connections`, or add replicas"
            )
            self._turn_away(link, facts, Reason.TOO_MANY_CONNECTIONS, message)
        else:
            driver = Driver(
                self._services,
                facts=facts,
                client=link,
                client_tls=self._client_tls,
                admit_ungranted=self._admission(source),
            )
            driver.joining.longest = lambda database: self._limits_of(database).max_session_seconds
            connection = _Connection(driver)
            self._connections.add(connection)
            self._counters.connections_open += 1
            self._group.create_task(self._serve(connection, link), name=f"{self.door.name} {peer}")

    def _turn_away(self, link: Link, facts: LoginFacts, reason: Reason, message: str) -> None:
        self._counters.login(reason)
        if self._flooded:
            link.abort()
            return
        link.write(self._engine.refuse(reason, message))
        self._let_go(link, _nothing)
        self._log.on_refusal(SessionRefusal(facts=facts, reason=reason, message=message, seconds=0.0))

    @property
    def _flooded(self) -> bool:
        """So many goodbyes are under way, each with its descriptor, that who never got in gets none."""
        return self._leaving >= 2 * self._limits.max_connections

    def _let_go(self, link: Link, then: Callable[[], None]) -> None:
        """Close a link, count it until it is gone, and call `then`: a server has it in its own count as long."""
        link.close()
        if link.lost:
            then()
        else:
            self._leaving += 1
            link.when_closed(partial(self._left, then))

    def _left(self, then: Callable[[], None]) -> None:
        self._leaving -= 1
        self._one_left.set()
        then()

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
                self._refused(driver, refusal, loop.time() - started)
            except PeerViolation as violation:
                if isinstance(violation, PeerClosed) and violation.side is Side.CLIENT and not driver.facts.database:
                    self._counters.login("left")  # a health check, or a client that wanted to know if we speak TLS
                else:
                    self._refused(driver, violation.as_refusal(), loop.time() - started)
        except Exception as fault:  # noqa: BLE001 - a crash, of the session log too, harms no other connection
            self._crashed(connection, fault, loop.time() - started)
        finally:
            for side, then in ((link, _nothing), (driver.upstream, driver.release)):
                if side is None:
                    then()
                elif connection.relay is None and self._flooded:
                    side.abort()
                    then()
                else:
                    self._let_go(side, then)
            self._connections.discard(connection)
            self._counters.connections_open -= 1
            if self._draining and not self._connections:
                self._emptied.set()

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

    def _refused(self, driver: Driver, refusal: Refused, seconds: float) -> None:
        self._log.on_refusal(
            SessionRefusal(facts=driver.facts, reason=refusal.reason, message=refusal.message, seconds=seconds)
        )
        self._counters.login(refusal.reason)

    def _crashed(self, connection: _Connection, fault: Exception, seconds: float) -> None:
        """Our own bug. The message of a foreign exception can hold anything, so only its type and place are logged."""
        facts, relay = connection.driver.facts, connection.relay
        self._counters.crashes += 1
        said = str(fault) if isinstance(fault, LocalFault) else ""
        where = "".join(traceback.format_tb(fault.__traceback__))
        _log.error(
            "connection of %s at %s crashed: %s %s\n%s", facts.peer, facts.door, type(fault).__name__, said, where
        )
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
