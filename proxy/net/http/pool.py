"""Connections to one host over verified TLS, kept for the next request.

A request takes an idle connection, or waits while one is dialled or comes back. Who waits is served in turn. A
connection lives for minutes only, so that a name that has moved is followed, and is closed when it was idle for long.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from proxy.errors import LocalFault, PeerViolation, Refused
from proxy.model import Location
from proxy.net import crashes
from proxy.net.dial import Dialer
from proxy.net.gate import Gate, Slot
from proxy.net.http.stamps import Stamps
from proxy.net.http.upstream import Upstream
from proxy.net.tls import UpstreamTls
from tollbridge.clock import Clock
from tollbridge.reasons import Reason

POOLS_LIMIT: Final = 1024
"""Pools kept in mind; one without connections and without anybody waiting goes first."""

ALPN: Final = ("http/1.1",)

HANDSHAKE_SECONDS: Final = 10.0
"""For TLS with upstream; TCP has its own."""

_log = logging.getLogger(__name__)

_PATIENCE: Final = frozenset({Reason.TOO_MANY_CONNECTIONS, Reason.LOGIN_RATE_LIMITED})
"""A dial that ended so does not end a wait: a connection may come back before its time is over."""


Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]], str], None]
"""Runs what has to wait as a task of the listener, under a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How long connections are kept, and how many."""

    idle_seconds: float = 30.0
    """AWS's load balancers give up after 60 s; the first to close must be us, or requests are lost."""
    age_seconds: float = 300.0
    """After so long, less up to a fifth, a connection takes no new request: DNS may say something else by now."""
    idle_connections: int = 256
    connections: int = 2048
    waiting: int = 4096
    wait_seconds: float = 10.0
    """For a connection, when as many as may are in use."""


class Waiter(Protocol):
    """A request that waits for a connection."""

    wait_until: float

    def connected(self, upstream: Upstream) -> bool:
        """A connection is yours; False when nobody wants it any more."""
        ...

    def unconnected(self, refusal: Refused) -> None: ...

    def crashed(self) -> None:
        """A bug of ours, found in one of these: nothing is known to be right any more."""
        ...


@dataclass(slots=True)
class PoolCounters:
    """Plain numbers, read when scraped."""

    dialled: int = 0
    reused: int = 0
    failed: int = 0


class Pool:
    """The connections to one location of one database."""

    def __init__(self, location: Location, pools: Pools) -> None:
        self.location = location
        endpoint = location.endpoint
        self.authority = endpoint.host if endpoint.port == 443 else str(endpoint)
        """As the Host header says it."""
        self.stamps = Stamps(pools.clock)
        self._pools = pools
        self._idle: deque[Upstream] = deque()
        self._all: set[Upstream] = set()
        self._waiting: deque[Waiter] = deque()
        self._dialling = 0

    @property
    def unused(self) -> bool:
        """Nothing here would be missed."""
        return not self._all and not self._waiting and not self._dialling

    @property
    def size(self) -> int:
        """Open connections."""
        return len(self._all)

    def take(self) -> Upstream | None:
        """An idle connection, the one used last; None: `wait` for one."""
        if not self._idle:
            return None
        self._pools.counters.reused += 1
        return self._idle.pop()  # `sweep` has taken out those that are too old, `gone` those that are closed

    def wait(self, waiter: Waiter) -> None:
        """Stand in line for a connection, and have one dialled."""
        if len(self._waiting) >= self._pools.limits.waiting:
            waiter.unconnected(self._crowded())
            return
        waiter.wait_until = asyncio.get_running_loop().time() + self._pools.limits.wait_seconds
        self._waiting.append(waiter)
        self._dial()

    def put(self, upstream: Upstream) -> None:
        """A connection has done its request and can do another."""
        now = self._pools.tick
        if now >= upstream.retire_at or upstream.link.closing:
            upstream.close()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            try:
                if waiter.connected(upstream):
                    return
            except Exception as fault:  # noqa: BLE001 - who waits behind it has done nothing
                crashes.report(_log, "a request with a connection", fault)
                waiter.crashed()
                upstream.close()  # part of a request may be on it
                self._dial()
                return
        if len(self._idle) >= self._pools.limits.idle_connections:
            upstream.close()
            return
        upstream.idle_since = now
        self._idle.append(upstream)

    def gone(self, upstream: Upstream) -> None:
        """A connection is closed; it may have been idle."""
        self._all.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)
        if self._waiting:
            self._dial()

    def sweep(self, now: float) -> None:
        """Close what was idle for too long, and send home who waited for too long."""
        limits = self._pools.limits
        while self._idle and (now - self._idle[0].idle_since >= limits.idle_seconds or now >= self._idle[0].retire_at):
            self._idle.popleft().close()
        while self._waiting and self._waiting[0].wait_until <= now:
            self._waiting.popleft().unconnected(self._crowded())

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    def _crowded(self) -> Refused:
        return Refused(
            Reason.TOO_MANY_CONNECTIONS,
            f"all {len(self._all)} connections of this proxy to {self.location.endpoint} are in use: send fewer "
            "requests at a time, or have the limit raised",
        )

    def _dial(self) -> None:
        """As many dials as there are who wait, within the limit."""
        while self._dialling < len(self._waiting) and len(self._all) + self._dialling < self._pools.limits.connections:
            self._dialling += 1
            self._pools.spawn(self._connect, f"dial {self.location.endpoint}")

    async def _connect(self) -> None:
        refusal: Refused | None = None
        upstream: Upstream | None = None
        try:
            upstream = await self._connected()
        except Refused as refused:
            refusal = refused
        except PeerViolation as violation:
            refusal = violation.as_refusal()
        except Exception as fault:  # noqa: BLE001 - a bug of ours ends requests, not the listener
            crashes.report(_log, "a dial", fault)
            refusal = Refused(Reason.INTERNAL, "internal error in the proxy: its log has the details")
        self._dialling -= 1
        if upstream is not None:
            self._pools.counters.dialled += 1
            self.put(upstream)
        elif refusal is not None:
            self._pools.counters.failed += 1
            if refusal.reason in _PATIENCE and self._all:
                return
            if self._waiting:
                self._waiting.popleft().unconnected(refusal)
            self._dial()

    async def _connected(self) -> Upstream:
        pools, location = self._pools, self.location
        slot = await pools.gate.enter(location.database, wait_seconds=pools.limits.wait_seconds)
        try:
            return await self._handshaken(slot)
        except BaseException:
            slot.release()
            raise

    async def _handshaken(self, slot: Slot) -> Upstream:
        pools, location = self._pools, self.location
        await pools.tls.context(location.tls, ALPN)  # where that cannot be made, nobody is dialled
        link, address = await pools.dialer.connect(location.endpoint)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await pools.tls.prove(link, location, ALPN)
        except TimeoutError as error:
            link.abort()
            raise Refused(Reason.UPSTREAM_TIMEOUT, f"TLS with {location.endpoint} takes too long") from error
        except BaseException:
            link.abort()
            raise
        if not link.encrypted:
            raise LocalFault("a connection to upstream is not on TLS")
        age = pools.limits.age_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - it decides no secret
        now = asyncio.get_running_loop().time()
        upstream = Upstream(link, self, str(address), retire_at=now + age)
        self._all.add(upstream)
        link.when_closed(slot.release)
        return upstream


class Pools:
    """All pools of one process, by location."""

    def __init__(
        self,
        *,
        dialer: Dialer,
        tls: UpstreamTls,
        gate: Gate,
        clock: Clock,
        spawn: Spawn,
        limits: PoolLimits,
    ) -> None:
        self.dialer = dialer
        self.tls = tls
        self.gate = gate
        self.clock = clock
        self.spawn = spawn
        self.limits = limits
        self.counters = PoolCounters()
        self.tick = 0.0
        """The loop's clock when it was last looked at."""
        self._pools: OrderedDict[Location, Pool] = OrderedDict()

    @property
    def connections(self) -> int:
        """Open connections to upstreams."""
        return sum(pool.size for pool in self._pools.values())

    def of(self, location: Location) -> Pool:
        """The pool of a location."""
        pool = self._pools.get(location)
        if pool is None:
            if len(self._pools) >= POOLS_LIMIT:
                for key in [key for key, known in self._pools.items() if known.unused]:
                    del self._pools[key]
            pool = self._pools[location] = Pool(location, self)
        return pool

    def sweep(self, now: float) -> None:
        """Now and then."""
        self.tick = now
        for pool in list(self._pools.values()):  # whom it sends home may ask for another at once
            pool.sweep(now)

    def close(self) -> None:
        """Close what is idle."""
        for pool in self._pools.values():
            pool.close()
