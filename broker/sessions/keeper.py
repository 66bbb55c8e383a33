"""One thing that AWS gives for a while (an account session, a password) and the only flight that fetches it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

from broker.audit import KeeperCounters
from broker.errors import BrokerError
from broker.sessions.freshness import Freshness, freshness, is_too_short
from tollbridge.reasons import ROWS, Reason

REFUSAL_SECONDS: Final = 10.0
"""How long a refusal that somebody must fix is remembered: 1,000 logins make one STS call."""
TRANSIENT_REFUSAL_SECONDS: Final = 2.0
"""How long one is remembered that passes by itself (throttling, 5xx)."""
CHECK_SECONDS: Final = 30.0
"""How long the answer that a session is alive stands."""

_log = logging.getLogger(__name__)


class Lived(Protocol):
    """What is kept: it has a life, and AWS's name of the keys behind it."""

    @property
    def access_key_id(self) -> str:
        """Of the session itself, or of the one that a password was asked for with."""
        ...

    @property
    def issued_at(self) -> datetime:
        """When its life began."""
        ...

    @property
    def expires_at(self) -> datetime | None:
        """When it ends; None for what does not end by itself."""
        ...


T = TypeVar("T", bound=Lived)


class Verdict(Enum):
    """What became of a session whose credential a database refused."""

    DEAD = "dead"
    """AWS no longer knew it. It is dropped; the next caller gets another."""
    ALIVE = "alive"
    """AWS knows it: the database has another reason."""
    REPLACED = "replaced"
    """It is not the one held now: what is issued next is signed by another."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A failed flight, remembered."""

    error: BrokerError
    until: float
    """On the monotonic clock."""

    def again(self) -> BrokerError:
        """The same refusal as a new exception: one raised in many tasks would gather all their tracebacks."""
        return type(self.error)(self.error.reason, self.error.message, metadata=self.error.metadata)


@dataclass(slots=True)
class _Check:
    """A question whether a session is alive, and how long its answer stands."""

    access_key_id: str
    task: asyncio.Task[bool]
    until: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every keeper needs of the world."""

    now: Callable[[], datetime]
    """AWS's time: the clock, corrected by the measured skew."""
    monotonic: Callable[[], float]
    jitter: Callable[[], float]
    """From [0, 1)."""
    counters: KeeperCounters


class Keeper(Generic[T]):
    """Holds one thing, such as a chain's session. Fresh: returned. Stale: returned, and refreshed once behind it.
    Expired: all wait for one flight, which belongs to this keeper, so that no waiter's cancellation ends it.

    A failed refresh never replaces a valid session.
    """

    def __init__(
        self,
        *,
        name: str,
        fetch: Callable[[], Awaitable[T]],
        is_alive: Callable[[T], Awaitable[bool]],
        on_dead: Callable[[str], None],
        can_be_forced: bool,
        world: Surroundings,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._is_alive = is_alive
        self._on_dead = on_dead
        self._can_be_forced = can_be_forced
        self._world = world
        self._held: T | None = None
        self._jitter = world.jitter()
        self._flight: asyncio.Task[None] | None = None
        self._refusal: _Refusal | None = None
        self._check: _Check | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether something is under way, so that it must not be thrown away."""
        return self._flight is not None or (self._check is not None and not self._check.task.done())

    async def get(self, *, need_seconds: float = 0.0) -> T:
        """The thing, with `need_seconds` of life left where a new one can give that. Raises BrokerError."""
        held, state = self._look()
        short = held is not None and state is not Freshness.EXPIRED and self._is_too_short(held, need_seconds)
        if held is not None and state is not Freshness.EXPIRED:
            if (state is Freshness.FRESH and not short) or self._remembered() is not None:
                self._world.counters.hits += 1
                return held
        elif (refusal := self._remembered()) is not None:
            self._world.counters.refusal_hits += 1
            raise refusal.again()
        flight = self._flight or self._take_off()
        if held is not None and state is Freshness.STALE and not short:
            self._world.counters.hits += 1
            return held
        await asyncio.wait((flight,))
        return self._after(flight)

    async def reject(self, access_key_id: str) -> Verdict:
        """A database refused what this session signed: ask AWS, at most once per session and 30 s, if it is alive.

        Raises BrokerError when AWS does not answer.
        """
        held = self._held
        if held is None or held.access_key_id != access_key_id:
            return Verdict.REPLACED
        check = self._check
        if check is None or check.access_key_id != access_key_id or self._world.monotonic() >= check.until:
            self._raise_if_closed()
            loop = asyncio.get_running_loop()
            check = _Check(access_key_id, loop.create_task(self._ask(held), name=f"is-alive {self._name}"))
            self._check = check
            check.task.add_done_callback(self._asked)
        await asyncio.wait((check.task,))
        if check.task.cancelled():
            raise _stopping()
        error = check.task.exception()
        if isinstance(error, BrokerError):
            raise _Refusal(error, 0.0).again()
        return Verdict.ALIVE if check.task.result() else Verdict.DEAD

    def drop(self, access_key_id: str) -> None:
        """Forget what these keys are behind, if it is still held."""
        if self._held is not None and self._held.access_key_id == access_key_id:
            self._held = None
            self._on_dead(access_key_id)

    async def close(self) -> None:
        """End what is under way. Whoever waits is told that the broker is stopping."""
        self._closed = True
        flight, check = self._flight, self._check
        tasks: set[asyncio.Task[None] | asyncio.Task[bool]] = set()
        if flight is not None:
            tasks.add(flight)
        if check is not None:
            tasks.add(check.task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self) -> tuple[T | None, Freshness]:
        held = self._held
        if held is None:
            return None, Freshness.EXPIRED
        state = freshness(
            issued_at=held.issued_at, expires_at=held.expires_at, now=self._world.now(), jitter=self._jitter
        )
        return held, state

    def _is_too_short(self, held: T, need_seconds: float) -> bool:
        return self._can_be_forced and is_too_short(
            issued_at=held.issued_at, expires_at=held.expires_at, now=self._world.now(), need_seconds=need_seconds
        )

    def _remembered(self) -> _Refusal | None:
        if self._refusal is not None and self._world.monotonic() >= self._refusal.until:
            self._refusal = None
        return self._refusal

    def _take_off(self) -> asyncio.Task[None]:
        self._raise_if_closed()
        flight = asyncio.get_running_loop().create_task(self._fly(), name=self._name)
        self._flight = flight
        flight.add_done_callback(self._landed)
        return flight

    async def _fly(self) -> None:
        self._world.counters.fetches += 1
        try:
            thing = await self._fetch()
        except BrokerError as error:
            self._world.counters.failures += 1
            retryable = ROWS[error.reason].retryable
            seconds = TRANSIENT_REFUSAL_SECONDS if retryable else REFUSAL_SECONDS
            spread = 0.75 + 0.5 * self._world.jitter()
            self._refusal = _Refusal(error, self._world.monotonic() + seconds * spread)
            if self._held is not None:
                _log.warning("%s was not refreshed: %s: %s", self._name, error.reason, error.message)
            return
        self._held = thing
        self._refusal = None
        self._jitter = self._world.jitter()

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if not flight.cancelled() and (error := flight.exception()) is not None:
            _log.error("%s: fetching it failed", self._name, exc_info=error)

    def _after(self, flight: asyncio.Task[None]) -> T:
        if flight.cancelled():
            raise _stopping()
        flight.result()
        held, state = self._look()
        if held is not None and state is not Freshness.EXPIRED:
            return held
        if self._refusal is not None:
            raise self._refusal.again()
        raise BrokerError(
            Reason.AWS_UNAVAILABLE, f"{self._name}: what AWS returned is of no use any more; compare the clocks"
        )

    async def _ask(self, thing: T) -> bool:
        self._world.counters.checks += 1
        alive = await self._is_alive(thing)
        if not alive:
            _log.warning("%s is dead: AWS no longer knows its keys; it is assumed again", self._name)
            self.drop(thing.access_key_id)
        return alive

    def _asked(self, task: asyncio.Task[bool]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if self._check is not None and self._check.task is task:
            stands = TRANSIENT_REFUSAL_SECONDS if failed else CHECK_SECONDS
            self._check.until = self._world.monotonic() + stands

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise _stopping()


def _stopping() -> BrokerError:
    return BrokerError(Reason.BROKER_UNAVAILABLE, "the broker is stopping; ask another replica")
