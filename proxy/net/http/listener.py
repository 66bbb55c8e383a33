"""A door for HTTP: accepts, identifies, watches deadlines once a second, drains."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final

from proxy.engine import HttpEngine
from proxy.errors import PeerViolation, Refused, Side
from proxy.http.replies import encode
from proxy.model import Door, PeerFacts
from proxy.net.bind import BACKLOG, Bind, TcpBind, bind
from proxy.net.channel import LINGER_SECONDS
from proxy.net.counters import Counters
from proxy.net.events import LoginFacts, RequestLog
from proxy.net.http.bodies import Budget
from proxy.net.http.house import House, HttpCounters, HttpLimits
from proxy.net.http.inbound import Inbound
from proxy.net.http.passes import Passes
from proxy.net.http.pool import PoolLimits, Pools
from proxy.net.identity import ClientTls
from proxy.net.services import Services
from proxy.net.transport import Link
from tollbridge.reasons import Reason

SWEEP_SECONDS: Final = 0.25
"""How exactly deadlines are kept."""

_CLIENT_HELLO: Final = b"\x16"

_log = logging.getLogger(__name__)


class HttpListener:
    """One door. `bind`, then `run` until somebody calls `drain`. As `proxy.net.listener.Listener` to the app."""

    def __init__(
        self,
        *,
        door: Door,
        engine: HttpEngine,
        where: Bind,
        services: Services,
        log: RequestLog,
        counters: Counters,
        http: HttpCounters,
        max_connections: int = 1000,
        limits: HttpLimits,
        pool_limits: PoolLimits,
        client_tls: ClientTls | None = None,
        audited: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`audited`: whether each request to a database is written down."""
        self.door = door
        self.port = 0
        """The TCP port in use, once bound."""
        self._where = where
        self._max_connections = max_connections
        self._client_tls = client_tls
        self._counters = counters
        pools = Pools(
            dialer=services.dialer,
            tls=services.upstream_tls,
            gate=services.gate,
            clock=services.clock,
            spawn=self._spawn,
            limits=pool_limits,
        )
        self._house = House(
            door=door,
            engine=engine,
            passes=Passes(
                engine=engine,
                grants=services.grants,
                pools=pools,
                clock=services.clock,
                spawn=self._spawn,
                audited=audited,
            ),
            pools=pools,
            limits=limits,
            log=log,
            counters=counters,
            http=http,
            budget=Budget(limits.buffer_bytes),
            spool=Budget(limits.spool_bytes),
            crashed=self._crashed,
        )
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._open: dict[Link, Inbound | None] = {}
        self._leaving = 0
        self._group: asyncio.TaskGroup | None = None
        self._drained = asyncio.Event()
        self._one_left = asyncio.Event()
        self._sweeping: asyncio.TimerHandle | None = None

    def bind(self) -> None:
        """Take the address. Raises OSError."""
        self._sockets = bind(self._where)
        if isinstance(self._where, TcpBind):
            self.port = self._sockets[0].getsockname()[1]

    @property
    def open_connections(self) -> int:
        """Connections of clients."""
        return len(self._open)

    @property
    def pools(self) -> Pools:
        """For metrics."""
        return self._house.pools

    def buffered(self) -> tuple[int, int]:
        """Room that bodies have taken, in memory and in files."""
        return self._house.budget.used, self._house.spool.used

    def live_bytes(self) -> tuple[int, int]:
        """To clients and to upstreams, of what is not in the counters yet: they have every request that is done."""
        return 0, 0

    async def run(self) -> None:
        """Serve until drained. Cancelling it ends every connection at once."""
        if not self._sockets:
            self.bind()
        loop = asyncio.get_running_loop()
        self._tick(loop.time())
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for sock in self._sockets:
                    serve = loop.create_server if sock.family != socket.AF_UNIX else loop.create_unix_server
                    self._servers.append(await serve(self._new_link, sock=sock, backlog=BACKLOG))
                self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)
                await self._drained.wait()
                await self._emptied(2 * LINGER_SECONDS)
                self._group = None
                self._house.pools.close()
        finally:
            self._close_servers()
            if self._sweeping is not None:
                self._sweeping.cancel()
            for link in list(self._open):
                link.abort()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let requests finish for so long, then refuse or abort the rest."""
        self._house.draining = True
        self._close_servers()
        for inbound in list(self._open.values()):
            if inbound is not None:
                inbound.drain()
        await self._emptied(seconds)
        for link, inbound in list(self._open.items()):
            if inbound is None:
                link.abort()
            else:
                inbound.end(Refused(Reason.DRAINING, "the proxy is shutting down: connect again, another answers"))
        self._drained.set()

    async def _emptied(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open:
                    self._one_left.clear()
                    await self._one_left.wait()

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self._sockets:
            sock.close()

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """A task of this listener. `work` handles what goes wrong in it; what it misses ends no other task."""
        if self._group is not None:
            self._group.create_task(self._guarded(work), name=name)

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception as fault:  # noqa: BLE001 - out of a TaskGroup it would end every connection of the listener
            self._crashed(fault)

    def _new_link(self) -> Link:
        return Link(Side.CLIENT, self._accepted)

    def _accepted(self, link: Link) -> None:
        self._counters.connections_total += 1
        peername = link.socket_info("peername")
        peer = f"{peername[0]}:{peername[1]}" if isinstance(peername, tuple) else "unix"
        facts = LoginFacts(peer=peer, door=self.door.name)
        if self._house.draining or self._group is None:
            self._turn_away(link, Reason.DRAINING, "the proxy is shutting down: connect again")
            return
        if len(self._open) >= self._max_connections:
            self._turn_away(
                link,
                Reason.TOO_MANY_CONNECTIONS,
                f"listener {self.door.name!r} has {self._max_connections} connections already: use a smaller pool, "
                "raise `max_connections`, or add replicas",
            )
            return
        self._open[link] = None
        self._counters.connections_open += 1
        link.when_closed(lambda: self._left(link))
        if self._client_tls is None:
            self._serve(link, facts, None)
        else:
            self._spawn(lambda: self._identify(link, facts, self._client_tls), f"{self.door.name} {peer}")

    def _left(self, link: Link) -> None:
        if self._open.pop(link, self) is not self:
            self._counters.connections_open -= 1
            self._one_left.set()

    def _turn_away(self, link: Link, reason: Reason, message: str) -> None:
        self._counters.login(reason)
        if self._leaving >= 2 * self._max_connections:
            link.abort()  # so many goodbyes are under way, each with its descriptor, that who never got in gets none
            return
        self._leaving += 1
        link.when_closed(self._turned_away)
        if not self.door.tls_required:
            link.write(encode(self._house.engine.refuse(Refused(reason, message)), closing=True))
        link.close()

    def _turned_away(self) -> None:
        self._leaving -= 1

    async def _identify(self, link: Link, facts: LoginFacts, client_tls: ClientTls | None) -> None:
        """TLS first, where the client begins it."""
        peer: PeerFacts | None = None
        try:
            async with asyncio.timeout(self._house.limits.head_seconds):
                await link.fill(1)
                if client_tls is not None and link.inbox.peek(1) == _CLIENT_HELLO:
                    peer = client_tls.facts(await link.start_tls(client_tls.context(("http/1.1",))))
        except (TimeoutError, PeerViolation, ssl.SSLError) as error:
            if isinstance(error, ssl.SSLError | TimeoutError):
                self._counters.login(Reason.CLIENT_PROTOCOL)
            link.close()
            return
        except Exception as fault:  # noqa: BLE001 - a bug of ours harms one connection
            self._crashed(fault)
            link.abort()
            return
        if peer is None and self.door.tls_required:
            message = f"listener {self.door.name!r} takes TLS alone"
            link.write(encode(self._house.engine.refuse(Refused(Reason.CLIENT_TLS_REQUIRED, message)), closing=True))
            link.close()
            return
        self._serve(link, facts, peer)

    def _serve(self, link: Link, facts: LoginFacts, peer: PeerFacts | None) -> None:
        inbound = self._open[link] = Inbound(self._house, link, facts, peer)
        link.serve(inbound, inbound.feed)

    def _crashed(self, fault: Exception) -> None:
        """Our own bug. The message of a foreign exception can hold anything, so only its type and place are logged."""
        self._counters.crashes += 1
        where = "".join(traceback.format_tb(fault.__traceback__))
        _log.error("a connection at %s crashed: %s\n%s", self.door.name, type(fault).__name__, where)

    def _tick(self, now: float) -> None:
        self._house.tick = now
        self._house.pools.sweep(now)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)
        now = loop.time()
        self._tick(now)
        for inbound in list(self._open.values()):
            if inbound is not None and inbound.deadline <= now:
                try:
                    inbound.overdue()
                except Exception as fault:  # noqa: BLE001 - as above
                    self._crashed(fault)
                    inbound.crashed()
