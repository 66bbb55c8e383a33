"""Who may log in to a database now: so many connections at once, so many logins a second, a short queue. PURE.

One `Turnstile` per database counts every login of the process, whichever listener it came through. It takes the time as
a number and never waits: `arrive` says come in, wait or no; `admit` names those whose turn has come; `leave` and
`abandon` give a place back. `proxy.net.gate` does the waiting.

The rate is a token bucket that holds one second's worth, so that a pool that starts is not slowed down, and a thousand
clients that come back after a failover reach the database over many seconds instead of in one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import Refused
from tollbridge.reasons import Reason

WAIT_SECONDS: Final = 2.0
"""How long a login waits by default. Most clients give up on a login after 5 to 10 s."""

WAITING_LIMIT: Final = 1000
"""Logins that wait for one database, whatever its rate: each holds a client's connection."""

RETRY_SECONDS_LIMIT: Final = 60
"""The longest wait a client is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginLimits:
    """What one database bears, from this process. None: no limit."""

    max_connections: int | None = None
    logins_per_second: float | None = None
    wait_seconds: float = WAIT_SECONDS
    """How long a login may wait for its turn before it is refused."""

    @property
    def burst(self) -> float:
        """Logins that may come at once after a pause."""
        return max(1.0, self.logins_per_second or 0.0)


NO_LIMITS: Final = LoginLimits()


@dataclass(slots=True, eq=False)
class Ticket:
    """One login at the turnstile. Compared by identity."""

    alive: Callable[[], bool]
    """Whether the client is still there: the turn of one that left goes to the next."""
    inside: bool = False
    """It counts as a connection of the database."""


@dataclass(slots=True)
class TurnstileCounters:
    """Plain counts, read when scraped."""

    waited: int = 0
    """Logins that did not get in at once."""
    refused: dict[Reason, int] = field(default_factory=dict)


class Turnstile:
    """The limits of one database, and who is inside or waiting. Instants are seconds of a monotonic clock."""

    def __init__(self, database: str, limits: LoginLimits) -> None:
        self._database = database
        self.limits = limits
        self.open = 0
        """Connections to the database, logins under way included."""
        self._waiting: OrderedDict[Ticket, None] = OrderedDict()
        self._tokens = limits.burst
        self._counted_at = 0.0
        self._promised_until = float("-inf")
        self.counters = TurnstileCounters()

    @property
    def waiting(self) -> int:
        """Logins in the queue."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Who comes now gets in when somebody leaves, and not before."""
        limit = self.limits.max_connections
        return limit is not None and self.open >= limit

    @property
    def idle(self) -> bool:
        """Nobody is inside or waiting."""
        return not self.open and not self._waiting

    def arrive(self, now: float, *, wait_seconds: float, alive: Callable[[], bool]) -> Ticket:
        """A login comes: it is inside at once or waits. Raises Refused when `wait_seconds` cannot be enough."""
        self._refill(now)
        ticket = Ticket(alive)
        if not self._waiting and self._may_enter():
            self._enter(ticket)
            return ticket
        if self._hopeless(wait_seconds):
            self._forget_the_gone()
            if self._hopeless(wait_seconds):
                raise self.refusal(now)
        self._waiting[ticket] = None
        self.counters.waited += 1
        return ticket

    def admit(self, now: float) -> list[Ticket]:
        """Let in, first come first served, whoever may enter now."""
        self._refill(now)
        admitted: list[Ticket] = []
        while self._waiting and self._may_enter():
            ticket, _ = self._waiting.popitem(last=False)
            if ticket.alive():
                self._enter(ticket)
            admitted.append(ticket)
        return admitted

    def next_at(self, now: float) -> float | None:
        """When to call `admit` again; None when that depends on somebody leaving."""
        if not self._waiting or self.full:
            return None
        self._refill(now)
        return now + max(0.0, 1.0 - self._tokens) / (self.limits.logins_per_second or 1.0)

    def leave(self, ticket: Ticket) -> None:
        """A login that was inside, or its session, is over. Twice is once."""
        if ticket.inside:
            ticket.inside = False
            self.open -= 1

    def abandon(self, ticket: Ticket) -> None:
        """A login does not want to wait any longer, or has come in and does not want that either."""
        self._waiting.pop(ticket, None)
        self.leave(ticket)

    def refusal(self, now: float) -> Refused:
        """The no for one login, which it counts; it says when to come back.

        Those turned away are sent to different seconds: at the same one they would be the next storm.
        """
        limits, rate = self.limits, self.limits.logins_per_second
        if self.full or rate is None:
            refusal = Refused(
                Reason.TOO_MANY_CONNECTIONS,
                f"database {self._database!r} has {self.open} connections through this proxy, as many as it may "
                f"(`max_connections`), and {self.waiting} logins wait: retry in {int(limits.wait_seconds) + 1} s, "
                "use a smaller pool, or have the limit raised",
            )
        else:
            turn = max(now + self._queue_seconds(rate), self._promised_until + 1.0 / rate)
            self._promised_until = min(turn, now + RETRY_SECONDS_LIMIT - 1)
            refusal = Refused(
                Reason.LOGIN_RATE_LIMITED,
                f"database {self._database!r} takes {rate:g} logins a second through this proxy (`logins_per_second`) "
                f"and {self.waiting} wait already: retry in {int(self._promised_until - now) + 1} s, keep connections "
                "open in a pool, or have the limit raised",
            )
        self.counters.refused[refusal.reason] = self.counters.refused.get(refusal.reason, 0) + 1
        return refusal

    def _may_enter(self) -> bool:
        return not self.full and (self.limits.logins_per_second is None or self._tokens >= 1.0)

    def _enter(self, ticket: Ticket) -> None:
        ticket.inside = True
        self.open += 1
        if self.limits.logins_per_second is not None:
            self._tokens -= 1.0

    def _refill(self, now: float) -> None:
        if now > self._counted_at:
            grown = (now - self._counted_at) * (self.limits.logins_per_second or 0.0)
            self._tokens = min(self.limits.burst, self._tokens + grown)
            self._counted_at = now

    def _queue_seconds(self, rate: float) -> float:
        """Until the turn of one more login, as far as the rate goes."""
        return max(0.0, self.waiting + 1.0 - self._tokens) / rate

    def _hopeless(self, wait_seconds: float) -> bool:
        rate = self.limits.logins_per_second
        return self.waiting >= WAITING_LIMIT or (rate is not None and self._queue_seconds(rate) > wait_seconds)

    def _forget_the_gone(self) -> None:
        for ticket in [ticket for ticket in self._waiting if not ticket.alive()]:
            del self._waiting[ticket]
