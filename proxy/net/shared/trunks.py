"""All shared connections of a process, each under what was asked for when it was made.

The key is made by the driver from what a login has asked a grant for, and from nothing an engine says beside that:
nobody of another workload, database or user is ever on the same connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from proxy.errors import PeerClosed, PeerViolation, Refused, Side
from proxy.model import Location
from proxy.multiplex import SharedLogin
from proxy.net.channel import LINGER_SECONDS
from proxy.net.sessions import Place
from proxy.net.shared.trunk import UNNEEDED, Trunk
from proxy.net.transport import Link
from proxy.script import RequestGrant
from tollbridge.clock import Clock
from tollbridge.reasons import Reason

WHYS_LIMIT: Final = 64
"""Reasons to pin that are counted apart. They are an engine's own words, a handful each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedKey:
    """Who may share."""

    workload: str
    database: str
    db_user: str
    """As asked for: the grant may name another to log in with."""
    db_name: str
    location: Location
    kind: str
    """An engine's: clients it may put on one connection ask for the same."""
    longest_seconds: float | None = None
    """Of their sessions. A login that others join is as old as theirs may be at most: it stands for their permission at
    the server, which is asked anew with the next."""

    def covers(self, asked: RequestGrant) -> bool:
        """Whether a grant was asked for exactly these."""
        mine = (self.workload, self.database, self.db_user, self.db_name)
        return mine == (asked.workload, asked.database, asked.db_user, asked.db_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A connection that can be shared from here on."""

    link: Link
    """On TLS, to a server that has proved who it is."""
    login: SharedLogin
    place: Place
    clock: Clock
    wanted: Callable[[], bool]
    """Whether a login waits for a place among its database's connections."""
    release: Callable[[], None]
    """Gives its own back."""


class Trunks:
    """All logins of a process share one."""

    def __init__(self) -> None:
        self._trunks: dict[SharedKey, Trunk] = {}
        self._flights: dict[SharedKey, asyncio.Future[Refused | None]] = {}
        self._all: set[Trunk] = set()
        self._closing = False
        self._one_gone = asyncio.Event()
        self.pins: dict[str, int] = {}
        """Clients that were given a connection of their own, by why."""

    @property
    def connections(self) -> int:
        """Open, those that take no new requests included."""
        return len(self._all)

    @property
    def clients(self) -> int:
        """On them."""
        return sum(trunk.clients for trunk in self._all)

    def pinned(self, why: str) -> None:
        """A client needs a connection of its own."""
        if why not in self.pins and len(self.pins) >= WHYS_LIMIT:
            why = "other"
        self.pins[why] = self.pins.get(why, 0) + 1

    async def join(self, key: SharedKey, make: Callable[[], Awaitable[LoggedIn]]) -> Trunk:
        """The connection of a key. One login at a time has it made; who waits for that shares a refusal, but not its
        client's end. Raises Refused, and PeerViolation."""
        while not self._closing:
            trunk = self._trunks.get(key)
            if trunk is not None and trunk.takes_requests():
                trunk.expect()
                return trunk
            flight = self._flights.get(key)
            if flight is None:
                return await self._make(key, make)
            refusal = await asyncio.shield(flight)
            if refusal is not None:
                raise Refused(refusal.reason, refusal.message)
        raise Refused(Reason.DRAINING, "the proxy is shutting down: connect again")

    def make_room(self, database: str) -> None:
        """Somebody will wait for a place at a database: of the connections there that are only kept, the one that has
        been without a client for longest gives its own up."""
        spare = [trunk for trunk in self._all if trunk.spare and trunk.place.location.database == database]
        if spare:
            min(spare, key=lambda trunk: trunk.empty_at).close(UNNEEDED)

    async def aclose(self) -> None:
        """Close all. Nobody can join any more; returns when they are gone, which takes some seconds at most."""
        self._closing = True
        for trunk in list(self._all):
            trunk.close(Refused(Reason.DRAINING, "the proxy is shutting down: connect again, another replica answers"))
        try:
            async with asyncio.timeout(2 * LINGER_SECONDS):
                while self._all:
                    self._one_gone.clear()
                    await self._one_gone.wait()
        except TimeoutError:
            pass

    async def _make(self, key: SharedKey, make: Callable[[], Awaitable[LoggedIn]]) -> Trunk:
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        refusal: Refused | None = None
        try:
            return self._take_on(key, await make())
        except Refused as refused:
            refusal = refused
            raise
        except PeerViolation as violation:
            refusal = violation.as_refusal()
            raise
        finally:
            del self._flights[key]
            if not flight.done():
                flight.set_result(refusal)

    def _take_on(self, key: SharedKey, made: LoggedIn) -> Trunk:
        ended = partial(self._ended, key)
        trunk = Trunk(made.link, made.login, made.place, clock=made.clock, wanted=made.wanted, on_ended=ended)
        self._all.add(trunk)
        if made.link.lost:
            self._gone(trunk, made.release)
        else:
            made.link.when_closed(partial(self._gone, trunk, made.release))
        if made.link.ended:
            trunk.close(Refused(Reason.UPSTREAM_CLOSED, ""))
            raise PeerClosed(Side.UPSTREAM, "the server closed the connection right behind the login")
        if trunk.ended:
            raise PeerViolation(Side.UPSTREAM, "the server said more than its login asked for")
        if self._closing:
            refusal = Refused(Reason.DRAINING, "the proxy is shutting down: connect again")
            trunk.close(refusal)
            raise refusal
        self._trunks[key] = trunk
        return trunk

    def _ended(self, key: SharedKey, trunk: Trunk) -> None:
        if self._trunks.get(key) is trunk:
            del self._trunks[key]

    def _gone(self, trunk: Trunk, release: Callable[[], None]) -> None:
        self._all.discard(trunk)
        self._one_gone.set()
        release()
