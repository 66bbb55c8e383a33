"""A door for HTTP: TLS where the client begins it, then requests one by one, and an eye on their deadlines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from proxy.engine import HttpEngine
from proxy.errors import PeerClosed, PeerViolation, Refused
from proxy.http.replies import encode
from proxy.model import Door, PeerFacts
from proxy.net import crashes
from proxy.net.bind import Bind
from proxy.net.counters import Counters
from proxy.net.events import LoginFacts, RequestLog
from proxy.net.http.bodies import Budget
from proxy.net.http.house import House, HttpCounters, HttpLimits
from proxy.net.http.inbound import Inbound
from proxy.net.http.passes import Passes
from proxy.net.http.pool import PoolLimits, Pools
from proxy.net.identity import ClientTls
from proxy.net.reception import Reception
from proxy.net.services import Services
from proxy.net.transport import Link
from tollbridge.reasons import Reason

SWEEP_SECONDS: Final = 0.25
"""How exactly deadlines are kept."""

_CLIENT_HELLO: Final = b"\x16"

_log = logging.getLogger(__name__)


class HttpListener(Reception[Inbound | None]):
    """One door of the proxy, where each request is signed for itself. A client is no Inbound yet while TLS begins."""

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
        super().__init__(door=door, where=where, max_connections=max_connections, log=log, counters=counters)
        self._client_tls = client_tls
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
        self._sweeping: asyncio.TimerHandle | None = None

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
        loop = asyncio.get_running_loop()
        self._tick(loop.time())
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)
        try:
            await super().run()
        finally:
            self._sweeping.cancel()
            self._house.pools.close()

    async def drain(self, seconds: float) -> None:
        self._house.draining = True
        for inbound in list(self._open.values()):
            if inbound is not None:
                inbound.drain()
        await super().drain(seconds)

    def _admit(self, link: Link, facts: LoginFacts) -> Inbound | None:
        link.when_closed(partial(self._forget, link))
        if self._client_tls is None:
            return self._serve(link, facts, None)
        self._spawn(partial(self._identify, link, facts, self._client_tls), f"{self.door.name} {facts.peer}")
        return None

    def _words(self, refusal: Refused) -> bytes:
        return b"" if self.door.tls_required else encode(self._house.engine.refuse(refusal), closing=True)

    def _end(self, link: Link, client: Inbound | None, refusal: Refused) -> None:
        if client is None:
            link.abort()
        else:
            client.end(refusal)

    async def _identify(self, link: Link, facts: LoginFacts, client_tls: ClientTls) -> None:
        """TLS first, where the client begins it."""
        peer: PeerFacts | None = None
        try:
            async with asyncio.timeout(self._house.limits.head_seconds):
                await link.fill(1)
                if link.inbox.peek(1) == _CLIENT_HELLO:
                    peer = await client_tls.handshake(link, ("http/1.1",))
        except PeerClosed:
            link.close()  # a health check, or a client that does not like our certificate
        except TimeoutError:
            message = f"neither a request nor a whole TLS handshake came within {self._house.limits.head_seconds:g} s"
            self._dismiss(link, facts, Refused(Reason.CLIENT_PROTOCOL, message))
        except PeerViolation as violation:
            self._dismiss(link, facts, violation.as_refusal())
        except Exception as fault:  # noqa: BLE001 - a bug of ours harms one connection
            self._crashed(fault)
            link.abort()
        else:
            if peer is None and self.door.tls_required:
                refusal = Refused(Reason.CLIENT_TLS_REQUIRED, f"listener {self.door.name!r} takes TLS alone")
                link.write(encode(self._house.engine.refuse(refusal), closing=True))
                self._dismiss(link, facts, refusal)
            elif not link.lost:
                self._open[link] = self._serve(link, facts, peer)

    def _dismiss(self, link: Link, facts: LoginFacts, refusal: Refused) -> None:
        link.close()
        self._refused(facts, refusal)

    def _serve(self, link: Link, facts: LoginFacts, peer: PeerFacts | None) -> Inbound:
        inbound = Inbound(self._house, link, facts, peer)
        link.serve(inbound, inbound.feed)
        return inbound

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """The same; what `work` does not handle is a bug that ends no other task."""
        super()._spawn(partial(self._guarded, work), name)

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception as fault:  # noqa: BLE001 - see above
            self._crashed(fault)

    def _crashed(self, fault: Exception) -> None:
        self._counters.crashes += 1
        crashes.report(_log, f"a connection at {self.door.name}", fault)

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
