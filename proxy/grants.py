"""Asks the broker whether a workload may enter, and remembers the answer for as long as the answer says.

    login --> request() --> next_step(): USE the held grant
                                         RECHECK: ask; while the broker is away go on with the held grant
                                         ASK: nothing usable is held

One question per (workload, database, db_user, db_name) is under way at a time, however many logins wait for it. It
belongs to this cache, not to the login that came first: that login may hang up without harm to the others.

What the broker answers is final: a grant replaces what is held, a refusal drops it. Only when the broker cannot answer
(a retryable reason) the held grant goes on, until `usable_until`. A refusal is remembered for a second or two, so that
a client in a retry loop costs the broker one question and not hundreds.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

from proxy.errors import Refused
from proxy.model import Location, SealedGrant
from tollbridge.client import RpcFailed
from tollbridge.clock import Clock
from tollbridge.model import Credential, Grant, StsChallenge, StsProof, Token
from tollbridge.process.telemetry import DECISION_ID
from tollbridge.reasons import Reason

HELD_LIMIT: Final = 4096
"""Grants held. One is some 3 KB, most of it the token: 12 MB. Past it the longest unused goes."""

DENIED_LIMIT: Final = 4096
"""Refusals remembered, in a table of their own: login names are the client's to invent and must not push out grants."""

DENIED_SECONDS: Final = (1.0, 2.0)
"""How long a refusal is remembered, drawn evenly. Short: somebody is fixing the rule right now."""

PATIENCE_SECONDS: Final = 2.0
"""How long a login that holds a usable grant waits for the broker's word before it counts as away."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Broker(Protocol):
    """What this module needs of `tollbridge.client.Client`."""

    async def issue_credential(
        self,
        database: str,
        db_user: str,
        db_name: str = "",
        workload: str = "",
        requested_ttl: timedelta | None = None,
        rejected: str = "",
    ) -> Grant:
        """Raises RpcFailed."""
        ...

    async def sign_challenge(
        self, database: str, db_user: str, challenge: StsChallenge, db_name: str = "", workload: str = ""
    ) -> StsProof:
        """Raises RpcFailed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Who wants to enter what: the key of everything here."""

    workload: str
    database: str
    db_user: str
    db_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A grant and what it rests on (policy, the database's row), as the catalog knew that when the question left."""

    grant: Grant
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Why there was no grant."""

    reason: Reason
    message: str
    retryable: bool
    """The broker could not answer: what is held may still be used."""
    basis: str
    quiet_until: float
    """Monotonic instant before which the broker is not asked again."""
    decision_id: str = ""

    def refused(self) -> Refused:
        """As an outcome of one login."""
        return Refused(self.reason, self.message, decision_id=self.decision_id)


class Step(Enum):
    """What to do for a login."""

    USE = "use the held grant"
    RECHECK = "ask; while the broker is away, use the held grant"
    ASK = "ask: nothing usable is held"


def next_step(held: Held | None, *, now: datetime, basis: str) -> Step:
    """Decide from the times of a held grant and whether policy or database have changed since it was asked for.

    The basis is compared with what the catalog said when the question left, not with the version inside the grant:
    while brokers roll out a policy they disagree, and every login would ask.
    """
    if held is None or now >= held.grant.usable_until:
        return Step.ASK
    if now >= held.grant.recheck_after or held.basis != basis:
        return Step.RECHECK
    return Step.USE


class Lru(Generic[K, V]):
    """A table that forgets what was not used for longest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: K) -> V | None:
        """The value, which counts as a use."""
        if key in self._rows:
            self._rows.move_to_end(key)
        return self._rows.get(key)

    def put(self, key: K, value: V) -> None:
        """Insert or replace."""
        self._rows[key] = value
        self._rows.move_to_end(key)
        while len(self._rows) > self._limit:
            self._rows.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget, if known."""
        self._rows.pop(key, None)


@dataclass(slots=True, kw_only=True, eq=False)
class _Flight:
    """One question under way."""

    rejected: str
    basis: str
    task: asyncio.Task[Held | Denial]
    given_up: bool = False
    """A login lost patience with it: others with a usable grant do not wait for it either."""


@dataclass(slots=True)
class GrantCounters:
    """Plain counts, read when scraped."""

    hits: int = 0
    """Logins served from a held grant whose decision still lived."""
    misses: int = 0
    """Questions sent to the broker."""
    shared: int = 0
    """Logins that waited for a question already under way."""
    outages: int = 0
    """Logins served from a held grant because the broker did not answer."""
    denied: int = 0
    """Logins refused by the broker's answer, remembered ones included."""


class GrantCache:
    """Grants by wish. Implements `proxy.net`'s `Grants`."""

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        basis: Callable[[str], str],
        *,
        jitter: Callable[[float, float], float] = random.uniform,
        patience_seconds: float = PATIENCE_SECONDS,
        limit: int = HELD_LIMIT,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._basis = basis
        self._jitter = jitter
        self._patience_seconds = patience_seconds
        self._held: Lru[Wish, Held] = Lru(limit)
        self._denials: Lru[Wish, Denial] = Lru(DENIED_LIMIT)
        self._flights: dict[Wish, _Flight] = {}
        self._tasks: set[asyncio.Task[Held | Denial]] = set()
        self.counters = GrantCounters()

    def __len__(self) -> int:
        return len(self._held)

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str = ""
    ) -> tuple[SealedGrant, Credential]:
        """A grant and its credential, apart. Raises Refused.

        `rejected` is the credential the database has just refused: it is dropped, and the broker is asked with it.
        """
        wish = Wish(workload=workload, database=database, db_user=db_user, db_name=db_name)
        held = self._held.get(wish)
        if rejected and held is not None and held.grant.credential_id == rejected:
            self._held.drop(wish)
            self._denials.drop(wish)
            held = None
        step = next_step(held, now=self._clock.now(), basis=self._basis(database))
        if held is not None and step is Step.USE:
            self.counters.hits += 1
            return seal(wish, held.grant, reused=True)
        usable = held if step is Step.RECHECK else None
        outcome: Held | Denial | None = self._remembered(wish)
        if outcome is None:
            flight = self._flight(wish, rejected if held is None else "")
            outcome = await self._answer(flight, may_give_up=usable is not None)
        return self._settle(wish, usable, outcome)

    async def sign_challenge(
        self, *, workload: str, database: str, db_user: str, db_name: str, challenge: StsChallenge
    ) -> StsProof:
        """The broker's answer to what a server asks: each is for one login, so nothing is kept. Raises Refused."""
        try:
            return await self._broker.sign_challenge(
                database=database, db_user=db_user, challenge=challenge, db_name=db_name, workload=workload
            )
        except RpcFailed as failed:
            raise Refused(failed.reason, failed.message, decision_id=failed.metadata.get(DECISION_ID, "")) from failed

    async def aclose(self) -> None:
        """End every question under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _remembered(self, wish: Wish) -> Denial | None:
        """A refusal young enough to stand for an answer."""
        denial = self._denials.get(wish)
        if denial is None or self._clock.monotonic() >= denial.quiet_until:
            return None
        return denial if denial.basis == self._basis(wish.database) else None

    def _flight(self, wish: Wish, rejected: str) -> _Flight:
        """The question to wait for: the one under way if it asks the same on the same basis, or a new one."""
        basis = self._basis(wish.database)
        flight = self._flights.get(wish)
        if flight is not None and flight.basis == basis and rejected in ("", flight.rejected):
            self.counters.shared += 1
            return flight
        self.counters.misses += 1
        task = asyncio.get_running_loop().create_task(
            self._ask(wish, rejected, basis), name=f"grant {wish.database} for {wish.workload}"
        )
        flight = _Flight(rejected=rejected, basis=basis, task=task)
        self._flights[wish] = flight
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._land(wish, flight))
        return flight

    async def _answer(self, flight: _Flight, *, may_give_up: bool) -> Held | Denial:
        """Wait for a question; with a usable grant in hand, not for long."""
        if not may_give_up:
            return await asyncio.shield(flight.task)
        if not flight.given_up:
            try:
                async with asyncio.timeout(self._patience_seconds):
                    return await asyncio.shield(flight.task)
            except TimeoutError:
                flight.given_up = True
        slow = RpcFailed(Reason.BROKER_UNAVAILABLE, "the broker takes too long to answer")
        return self._denial(slow, flight.basis)

    async def _ask(self, wish: Wish, rejected: str, basis: str) -> Held | Denial:
        """One question, its answer as a value: a waiter that has gone leaves no exception behind."""
        try:
            grant = await self._broker.issue_credential(
                database=wish.database,
                db_user=wish.db_user,
                db_name=wish.db_name,
                workload=wish.workload,
                rejected=rejected,
            )
        except RpcFailed as failed:
            return self._denial(failed, basis)
        return Held(grant=grant, basis=basis)

    def _denial(self, failed: RpcFailed, basis: str) -> Denial:
        return Denial(
            reason=failed.reason,
            message=failed.message,
            retryable=failed.retryable,
            basis=basis,
            quiet_until=self._clock.monotonic() + self._jitter(*DENIED_SECONDS),
            decision_id=failed.metadata.get(DECISION_ID, ""),
        )

    def _land(self, wish: Wish, flight: _Flight) -> None:
        """Keep what came back, unless a later question is under way: then its answer counts."""
        self._tasks.discard(flight.task)
        if self._flights.get(wish) is not flight:
            return
        del self._flights[wish]
        if flight.task.cancelled() or flight.task.exception() is not None:
            return
        outcome = flight.task.result()
        if isinstance(outcome, Held):
            self._held.put(wish, outcome)
            self._denials.drop(wish)
            return
        self._denials.put(wish, outcome)
        if not outcome.retryable:
            self._held.drop(wish)

    def _settle(self, wish: Wish, usable: Held | None, outcome: Held | Denial) -> tuple[SealedGrant, Credential]:
        """What one login gets. Raises Refused."""
        if isinstance(outcome, Held):
            return seal(wish, outcome.grant, reused=False)
        if outcome.retryable and usable is not None and self._clock.now() < usable.grant.usable_until:
            self.counters.outages += 1
            return seal(wish, usable.grant, reused=True)
        self.counters.denied += 1
        raise outcome.refused()


def seal(wish: Wish, grant: Grant, *, reused: bool) -> tuple[SealedGrant, Credential]:
    """What an engine may see of a grant, and apart from it the credential."""
    sealed = SealedGrant(
        location=Location(database=wish.database, endpoint=grant.endpoint, tls=grant.tls),
        decision_id=grant.decision_id,
        credential_id=grant.credential_id,
        user=grant.credential.user if isinstance(grant.credential, Token) else wish.db_user,
        reused=reused,
    )
    return sealed, grant.credential
