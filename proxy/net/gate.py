"""Where logins wait for their turn at a database: `proxy.admission` decides, this waits and wakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from proxy.admission import NO_LIMITS, LoginLimits, Ticket, Turnstile
from proxy.errors import PeerClosed, Side

TURNSTILES_LIMIT: Final = 1024
"""Databases kept in mind without anybody in them. Names come from grants, so the registry bounds them too."""


class Slot:
    """A place among a database's connections, given back once."""

    __slots__ = ("_gate", "_ticket", "_turnstile")

    def __init__(self, gate: Gate, turnstile: Turnstile, ticket: Ticket) -> None:
        self._gate = gate
        self._turnstile = turnstile
        self._ticket = ticket

    def release(self) -> None:
        """Give it back. Every further call does nothing."""
        if self._ticket.inside:
            self._turnstile.leave(self._ticket)
            self._gate.turn(self._turnstile)


class Gate:
    """All logins of a process pass here, whichever listener they came through."""

    def __init__(self, limits_of: Callable[[str], LoginLimits] = lambda _: NO_LIMITS) -> None:
        """`limits_of`: a database's name -> its limits."""
        self._limits_of = limits_of
        self._turnstiles: dict[str, Turnstile] = {}
        self._waiters: dict[Ticket, asyncio.Future[None]] = {}
        self._timers: dict[Turnstile, asyncio.TimerHandle] = {}

    @property
    def turnstiles(self) -> Mapping[str, Turnstile]:
        """By database, for metrics."""
        return self._turnstiles

    def full(self, database: str) -> bool:
        """Whether a login that comes now has to wait until a place is given back."""
        turnstile = self._turnstiles.get(database)
        return turnstile is not None and turnstile.full

    def wanted(self, database: str) -> bool:
        """Whether one waits for that."""
        turnstile = self._turnstiles.get(database)
        return turnstile is not None and turnstile.full and turnstile.waiting > 0

    async def enter(self, database: str, *, wait_seconds: float, alive: Callable[[], bool] = lambda: True) -> Slot:
        """Wait for a place, at most `wait_seconds` and at most as long as the database's limits say.

        Raises Refused, and PeerClosed when `alive` says that the client left in the queue.
        """
        loop = asyncio.get_running_loop()
        turnstile = self._turnstile(database)
        wait_seconds = min(wait_seconds, turnstile.limits.wait_seconds)
        ticket = turnstile.arrive(loop.time(), wait_seconds=wait_seconds, alive=alive)
        if not ticket.inside:
            await self._wait(turnstile, ticket, loop.time() + wait_seconds)
        return Slot(self, turnstile, ticket)

    def turn(self, turnstile: Turnstile) -> None:
        """Wake whoever may enter now, and come back when the next one may."""
        loop = asyncio.get_running_loop()
        for ticket in turnstile.admit(loop.time()):
            woken = self._waiters.get(ticket)
            if woken is None or woken.done():
                turnstile.leave(ticket)
            else:
                woken.set_result(None)
        timer = self._timers.pop(turnstile, None)
        if timer is not None:
            timer.cancel()
        at = turnstile.next_at(loop.time())
        if at is not None:
            # A millisecond later, the grain of uvloop's timers: a timer that is early would run again and again.
            self._timers[turnstile] = loop.call_at(at + 0.001, self.turn, turnstile)

    async def _wait(self, turnstile: Turnstile, ticket: Ticket, until: float) -> None:
        loop = asyncio.get_running_loop()
        woken = self._waiters[ticket] = loop.create_future()
        self.turn(turnstile)
        try:
            async with asyncio.timeout_at(until):
                await woken
        except TimeoutError:
            self._give_up(turnstile, ticket)
            raise turnstile.refusal(loop.time()) from None
        except BaseException:
            self._give_up(turnstile, ticket)
            raise
        finally:
            del self._waiters[ticket]
        if not ticket.inside:
            raise PeerClosed(Side.CLIENT)

    def _give_up(self, turnstile: Turnstile, ticket: Ticket) -> None:
        """The turn may have come in the same moment: then it goes to the next."""
        turnstile.abandon(ticket)
        self.turn(turnstile)

    def _turnstile(self, database: str) -> Turnstile:
        turnstile = self._turnstiles.get(database)
        if turnstile is None:
            if len(self._turnstiles) >= TURNSTILES_LIMIT:
                self._turnstiles = {name: kept for name, kept in self._turnstiles.items() if not kept.idle}
            turnstile = self._turnstiles[database] = Turnstile(database, self._limits_of(database))
        return turnstile
