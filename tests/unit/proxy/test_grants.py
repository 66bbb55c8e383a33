"""Grants: what is asked, what is reused, and what happens while the broker is away or says no."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from proxy.errors import Refused
from proxy.grants import GrantCache, Held, Lru, Step, next_step
from proxy.model import SealedGrant
from tests.support.clock import FakeClock
from tollbridge.client import RpcFailed
from tollbridge.model import Endpoint, Grant, StsChallenge, StsProof, TlsFacts, Token, as_token
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

APP: dict[str, str] = {"workload": "spiffe://td/app", "database": "orders", "db_user": "app", "db_name": "app"}
AWAY = RpcFailed(Reason.BROKER_UNAVAILABLE, "the broker is not available")


def a_grant(clock: FakeClock, name: str = "c-1") -> Grant:
    """Recheck in 60 s, usable for 840 s."""
    now = clock.now()
    return Grant(
        decision_id=f"d-of-{name}",
        credential_id=name,
        endpoint=Endpoint(host="orders.example", port=5432),
        tls=TlsFacts(),
        credential=Token(user="app", password=Secret(f"password of {name}")),
        issued_at=now,
        expires_at=now + timedelta(seconds=900),
        recheck_after=now + timedelta(seconds=60),
        usable_until=now + timedelta(seconds=840),
        policy_version="whatever this broker calls it",
    )


class FakeBroker:
    """Answers c-1, c-2, ... or what `answers` holds next; with `gate` closed it does not answer."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Grant | RpcFailed] = []
        self.always: RpcFailed | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def issue_credential(
        self,
        database: str,
        db_user: str,
        db_name: str = "",
        workload: str = "",
        requested_ttl: timedelta | None = None,
        rejected: str = "",
    ) -> Grant:
        """One question."""
        self.asked.append({"database": database, "db_user": db_user, "workload": workload, "rejected": rejected})
        number = len(self.asked)
        await self.gate.wait()
        answer = self.always or (self.answers.pop(0) if self.answers else a_grant(self._clock, f"c-{number}"))
        if isinstance(answer, RpcFailed):
            raise answer
        return answer

    async def sign_challenge(
        self, database: str, db_user: str, challenge: StsChallenge, db_name: str = "", workload: str = ""
    ) -> StsProof:
        """One proof, that says for whom; or what is planned."""
        self.asked.append({"database": database, "db_user": db_user, "workload": workload, "host": challenge.host})
        if self.always is not None:
            raise self.always
        said = f"{workload} {db_user}/{db_name} {challenge.nonce.hex()}"
        return StsProof(authorization=Secret(said), date="20300101T000000Z", session_token=Secret(""))


class World:
    """A cache, its broker, and time."""

    def __init__(self, *, patience_seconds: float = 60, limit: int = 100) -> None:
        self.clock = FakeClock()
        self.broker = FakeBroker(self.clock)
        self.policy = "v1"
        self.rows: dict[str, str] = {}
        self.cache = GrantCache(
            self.broker,
            self.clock,
            lambda database: self.policy + self.rows.get(database, ""),
            jitter=lambda low, high: high,
            patience_seconds=patience_seconds,
            limit=limit,
        )

    async def login(self, rejected: str = "", **changes: str) -> SealedGrant:
        """One login's request."""
        sealed, credential = await self.cache.request(**{**APP, **changes}, rejected=rejected)
        assert as_token(credential).password.reveal() == f"password of {sealed.credential_id}"
        return sealed

    async def refusal(self, rejected: str = "", **changes: str) -> Refused:
        """One login that gets none."""
        with pytest.raises(Refused) as caught:
            await self.login(rejected, **changes)
        return caught.value


@pytest.fixture
def world() -> World:
    """A broker that says yes."""
    return World()


async def until_asked(broker: FakeBroker, count: int) -> None:
    """Let tasks run until so many questions have left."""
    while len(broker.asked) < count:  # noqa: ASYNC110 - no time passes: the loop turns
        await asyncio.sleep(0)


# The decision


@pytest.mark.parametrize(
    ("age", "policy", "step"),
    [
        (0, "v1", Step.USE),
        (59.9, "v1", Step.USE),
        (60, "v1", Step.RECHECK),
        (1, "v2", Step.RECHECK),
        (839.9, "v1", Step.RECHECK),
        (840, "v1", Step.ASK),
        (840, "v2", Step.ASK),
    ],
)
def test_the_next_step_follows_from_age_and_policy(age: float, policy: str, step: Step) -> None:
    """The edges belong to the later state."""
    clock = FakeClock()
    held = Held(grant=a_grant(clock), basis="v1")
    clock.advance(age)
    assert next_step(held, now=clock.now(), basis=policy) is step


def test_nothing_held_means_ask() -> None:
    """The first login."""
    assert next_step(None, now=FakeClock().now(), basis="") is Step.ASK


def test_the_table_forgets_what_was_not_used_for_longest() -> None:
    """Reading counts as use."""
    table: Lru[str, int] = Lru(2)
    table.put("a", 1)
    table.put("b", 2)
    assert table.get("a") == 1
    table.put("c", 3)
    assert table.get("b") is None
    assert len(table) == 2


# Reuse


async def test_a_grant_is_reused_until_its_recheck(world: World) -> None:
    """The first login asks; the next ones do not, and say so."""
    first, second = await world.login(), await world.login()
    assert (first.reused, second.reused) == (False, True)
    assert first.decision_id == second.decision_id == "d-of-c-1"
    assert len(world.broker.asked) == 1
    world.clock.advance(60)
    assert (await world.login()).credential_id == "c-2"


async def test_a_thousand_logins_at_once_ask_once(world: World) -> None:
    """Single flight."""
    world.broker.gate.clear()
    async with asyncio.TaskGroup() as group:
        logins = [group.create_task(world.login()) for _ in range(1000)]
        await until_asked(world.broker, 1)
        world.broker.gate.set()
    assert {login.result().credential_id for login in logins} == {"c-1"}
    assert len(world.broker.asked) == 1
    assert world.cache.counters.shared == 999


@pytest.mark.parametrize("what", ["workload", "database", "db_user", "db_name"])
async def test_nothing_is_shared_across(what: str, world: World) -> None:
    """Each of the four names is part of the key."""
    await world.login()
    other = await world.login(**{what: "other"})
    assert other.credential_id == "c-2"


async def test_the_first_waiter_may_hang_up(world: World) -> None:
    """The question belongs to the cache: the others get its answer."""
    world.broker.gate.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(world.login())
        await until_asked(world.broker, 1)
        second = group.create_task(world.login())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        world.broker.gate.set()
    assert second.result().credential_id == "c-1"
    assert len(world.broker.asked) == 1


async def test_all_waiters_may_hang_up(world: World) -> None:
    """The answer is kept for whoever comes next."""
    world.broker.gate.clear()
    async with asyncio.TaskGroup() as group:
        login = group.create_task(world.login())
        await until_asked(world.broker, 1)
        login.cancel()
    world.broker.gate.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (await world.login()).reused
    assert len(world.broker.asked) == 1


async def test_the_cache_is_bounded() -> None:
    """By grants held; a flood of refused names does not push them out."""
    world = World(limit=2)
    await world.login()
    await world.login(database="b")
    world.broker.always = RpcFailed(Reason.DB_USER_NOT_ALLOWED, "no")
    for number in range(5000):
        await world.refusal(db_user=f"invented-{number}")
    world.broker.always = None
    assert (await world.login()).reused
    await world.login(database="c")
    assert len(world.cache) == 2


# Refusals


@pytest.mark.parametrize("reason", [Reason.DB_USER_NOT_ALLOWED, Reason.DATABASE_UNKNOWN, Reason.ASSUME_ROLE_DENIED])
async def test_a_refusal_drops_the_grant_at_once(reason: Reason, world: World) -> None:
    """A refusal is an answer: when the broker then goes away, nothing is left to go on with."""
    await world.login()
    world.clock.advance(60)
    world.broker.answers = [RpcFailed(reason, "no longer", metadata={"decision_id": "d-no"})]
    refusal = await world.refusal()
    assert (refusal.reason, refusal.message, refusal.decision_id) == (reason, "no longer", "d-no")
    world.clock.advance(5)
    world.broker.always = AWAY
    assert (await world.refusal()).reason is Reason.BROKER_UNAVAILABLE


async def test_a_refusal_is_remembered_for_a_moment(world: World) -> None:
    """A client in a retry loop costs one question in two seconds."""
    world.broker.always = RpcFailed(Reason.DB_USER_NOT_ALLOWED, "no")
    for _ in range(100):
        await world.refusal()
    assert len(world.broker.asked) == 1
    world.clock.advance(2)
    world.broker.always = None
    await world.login()
    assert world.cache.counters.denied == 100


async def test_a_remembered_refusal_dies_with_the_policy_it_was_made_under(world: World) -> None:
    """The operator fixed the rule: the next login must not hear the old answer."""
    world.broker.answers = [RpcFailed(Reason.DENIED_BY_RULE, "no")]
    await world.refusal()
    world.policy = "v2"
    await world.login()


# The broker is away


async def test_while_the_broker_is_away_the_grant_goes_on_until_it_is_unusable(world: World) -> None:
    """Then one clear refusal."""
    await world.login()
    world.broker.always = AWAY
    world.clock.advance(100)
    assert (await world.login()).reused
    world.clock.advance(739)
    assert (await world.login()).credential_id == "c-1"
    assert world.cache.counters.outages == 2
    world.clock.advance(5)
    refusal = await world.refusal()
    assert (refusal.reason, refusal.message) == (Reason.BROKER_UNAVAILABLE, AWAY.message)


@pytest.mark.parametrize("reason", [Reason.AWS_THROTTLED, Reason.BROKER_OVERLOADED, Reason.AWS_UNAVAILABLE])
async def test_a_broker_that_cannot_say_is_as_good_as_away(reason: Reason, world: World) -> None:
    """Retryable reasons withdraw nothing."""
    await world.login()
    world.broker.always = RpcFailed(reason, "later")
    world.clock.advance(100)
    assert (await world.login()).reused


async def test_a_silent_broker_costs_a_login_its_patience_and_no_more() -> None:
    """It does not answer and does not fail either: the held grant is used, and nobody else waits for that question."""
    world = World(patience_seconds=0)
    await world.login()
    world.clock.advance(100)
    world.broker.gate.clear()
    assert (await world.login()).reused
    assert (await world.login()).reused
    assert len(world.broker.asked) == 2
    world.broker.gate.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (await world.login()).credential_id == "c-2"


async def test_questions_under_way_end_with_the_cache(world: World) -> None:
    """Nothing outlives the process's drain."""
    world.broker.gate.clear()
    async with asyncio.TaskGroup() as group:
        login = group.create_task(world.login())
        await until_asked(world.broker, 1)
        await world.cache.aclose()
    assert login.cancelled()


# A credential the database refused


async def test_a_rejected_credential_is_dropped_and_asked_about_once(world: World) -> None:
    """Fifty logins find out together: the broker hears of it once and all get the fresh one."""
    await world.login()
    world.broker.gate.clear()
    async with asyncio.TaskGroup() as group:
        logins = [group.create_task(world.login(rejected="c-1")) for _ in range(50)]
        logins.append(group.create_task(world.login()))
        await until_asked(world.broker, 2)
        await asyncio.sleep(0)
        world.broker.gate.set()
    assert {login.result().credential_id for login in logins} == {"c-2"}
    assert [question["rejected"] for question in world.broker.asked] == ["", "c-1"]


async def test_a_late_complaint_about_a_credential_that_was_replaced_asks_nothing(world: World) -> None:
    """The fresh one is there already."""
    await world.login()
    await world.login(rejected="c-1")
    late = await world.login(rejected="c-1")
    assert (late.credential_id, late.reused) == ("c-2", True)
    assert len(world.broker.asked) == 2


async def test_a_complaint_does_not_take_the_answer_to_an_older_question(world: World) -> None:
    """That one left without the complaint and may bring the dead credential again."""
    dead = replace(a_grant(world.clock, "c-1"), recheck_after=world.clock.now())
    world.broker.answers = [dead]
    await world.login()
    world.broker.gate.clear()
    async with asyncio.TaskGroup() as group:
        recheck = group.create_task(world.login())
        await until_asked(world.broker, 2)
        complaint = group.create_task(world.login(rejected="c-1"))
        await until_asked(world.broker, 3)
        world.broker.gate.set()
    assert recheck.result().credential_id == "c-2"
    assert complaint.result().credential_id == "c-3"
    assert (await world.login()).credential_id == "c-3"


async def test_a_database_that_refuses_a_living_session_is_a_refusal(world: World) -> None:
    """The broker's causes reach the client."""
    await world.login()
    world.broker.answers = [RpcFailed(Reason.DATABASE_REFUSED, "GRANT rds_iam TO app")]
    refusal = await world.refusal(rejected="c-1")
    assert (refusal.reason, refusal.message) == (Reason.DATABASE_REFUSED, "GRANT rds_iam TO app")
