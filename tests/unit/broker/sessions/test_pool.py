from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.audit import Counters
from broker.errors import BrokerError
from broker.model import ChainKey, Hop
from broker.sessions.keeper import Verdict
from broker.sessions.pool import Pool
from tests.support.clock import FakeClock
from tests.unit.broker.sessions.fakes import BROKER_ARN, ROLE, SECOND_ROLE, FakeSts, Role, denied, half, hop, throttled
from tollbridge.reasons import Reason


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sts(clock: FakeClock) -> FakeSts:
    return FakeSts(clock, roles={ROLE: Role(), SECOND_ROLE: Role()})


@pytest.fixture
async def pool(sts: FakeSts, clock: FakeClock) -> AsyncIterator[Pool]:
    pool = Pool(sts=sts, clock=clock, jitter=half, counters=Counters())
    yield pool
    await pool.close()
    assert len(asyncio.all_tasks()) == 1, "no task outlives the pool"


def key(*hops: Hop) -> ChainKey:
    return ChainKey(partition="aws", sts_region="us-east-1", hops=hops)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_thousand_callers_make_one_call(pool: Pool, sts: FakeSts) -> None:
    sts.gate = asyncio.Event()
    callers = [asyncio.get_running_loop().create_task(pool.session(key(hop()))) for _ in range(1000)]
    await settle()
    sts.gate.set()
    sessions = await asyncio.gather(*callers)
    assert len(sts.assumed) == 1
    assert sts.base_reads == 1
    assert {session.access_key_id for session in sessions} == {sessions[0].access_key_id}


async def test_a_cancelled_waiter_does_not_end_the_flight(pool: Pool, sts: FakeSts) -> None:
    sts.gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    first = loop.create_task(pool.session(key(hop())))
    await settle()
    second = loop.create_task(pool.session(key(hop())))
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    sts.gate.set()
    assert (await second).account_id == "222222222222"
    assert len(sts.assumed) == 1


async def test_a_flight_goes_on_when_its_only_waiter_leaves(pool: Pool, sts: FakeSts) -> None:
    sts.gate = asyncio.Event()
    only = asyncio.get_running_loop().create_task(pool.session(key(hop())))
    await settle()
    only.cancel()
    await settle()
    sts.gate.set()
    await settle()
    await pool.session(key(hop()))
    assert len(sts.assumed) == 1


async def test_a_stale_session_is_returned_and_refreshed_once_behind(
    pool: Pool, sts: FakeSts, clock: FakeClock
) -> None:
    first = await pool.session(key(hop()))
    clock.advance(2701)
    sts.gate = asyncio.Event()
    for _ in range(50):
        assert await pool.session(key(hop())) is first
    sts.gate.set()
    await settle()
    assert len(sts.assumed) == 2
    assert (await pool.session(key(hop()))).access_key_id != first.access_key_id


async def test_a_failed_refresh_never_replaces_a_valid_session(pool: Pool, sts: FakeSts, clock: FakeClock) -> None:
    first = await pool.session(key(hop()))
    clock.advance(2701)
    sts.faults = [denied()]
    assert await pool.session(key(hop())) is first
    await settle()
    assert await pool.session(key(hop()), need_seconds=900) is first
    assert len(sts.assumed) == 2, "the refusal is remembered"
    clock.advance(20)
    assert await pool.session(key(hop())) is first
    await settle()
    assert (await pool.session(key(hop()))).access_key_id != first.access_key_id


async def test_an_expired_session_makes_all_wait_for_one_flight(pool: Pool, sts: FakeSts, clock: FakeClock) -> None:
    first = await pool.session(key(hop()))
    clock.advance(3500)
    sessions = await asyncio.gather(*(pool.session(key(hop())) for _ in range(100)))
    assert {session.access_key_id for session in sessions} != {first.access_key_id}
    assert len(sts.assumed) == 2


async def test_a_refusal_is_remembered_for_some_seconds(pool: Pool, sts: FakeSts, clock: FakeClock) -> None:
    del sts.roles[ROLE]

    async def refused() -> Reason:
        with pytest.raises(BrokerError) as caught:
            await pool.session(key(hop()))
        return caught.value.reason

    reasons = await asyncio.gather(*(refused() for _ in range(1000)))
    assert set(reasons) == {Reason.ASSUME_ROLE_DENIED}
    assert len(sts.assumed) == 1
    clock.advance(9)
    await refused()
    assert len(sts.assumed) == 1
    sts.roles[ROLE] = Role()
    clock.advance(2)
    await pool.session(key(hop()))
    assert len(sts.assumed) == 2


async def test_throttling_is_remembered_for_less_long(pool: Pool, sts: FakeSts, clock: FakeClock) -> None:
    sts.faults = [throttled()]
    for _ in range(10):
        with pytest.raises(BrokerError):
            await pool.session(key(hop()))
    assert len(sts.assumed) == 1
    clock.advance(2.1)
    await pool.session(key(hop()))


async def test_a_token_that_needs_more_life_forces_a_refresh_first(pool: Pool, sts: FakeSts, clock: FakeClock) -> None:
    first = await pool.session(key(hop()), need_seconds=900)
    clock.advance(2690)
    assert await pool.session(key(hop()), need_seconds=900) is first
    assert len(sts.assumed) == 1
    sts.faults = [throttled()]
    clock.advance(60)
    assert await pool.session(key(hop()), need_seconds=900) is first, "a failed refresh leaves what there is"
    clock.advance(5)
    assert await pool.session(key(hop()), need_seconds=900) is not first


async def test_a_short_session_is_not_renewed_at_every_issue(pool: Pool, sts: FakeSts, clock: FakeClock) -> None:
    short = key(hop(seconds=900))
    for _ in range(44):
        await pool.session(short, need_seconds=900)
        clock.advance(10)
    assert len(sts.assumed) == 1
    clock.advance(20)
    await pool.session(short, need_seconds=900)
    assert len(sts.assumed) == 2


async def test_base_keys_are_never_forced(pool: Pool, sts: FakeSts, clock: FakeClock) -> None:
    sts.base_life_seconds = 900
    for _ in range(6):
        await pool.session(key(), need_seconds=900)
        clock.advance(100)
    assert sts.base_reads == 1


async def test_first_hops_are_shared_and_the_base_is_one_for_all_regions(pool: Pool, sts: FakeSts) -> None:
    await pool.session(key(hop(), hop(SECOND_ROLE, name="a1")))
    await pool.session(key(hop(), hop(SECOND_ROLE, name="a2")))
    other = ChainKey(partition="aws", sts_region="eu-west-1", hops=(hop(),))
    await pool.session(other)
    assert [called.role_arn for _, called in sts.assumed] == [ROLE, SECOND_ROLE, SECOND_ROLE, ROLE]
    assert sts.base_reads == 1


@pytest.mark.parametrize(
    "other",
    [
        hop(external_id="x"),
        hop(name="n2"),
        hop(seconds=1800),
        Hop(role_arn=ROLE, session_name="tollbridge", duration_seconds=3600, tags=(("a", "b"),)),
        Hop(role_arn=ROLE, session_name="tollbridge", duration_seconds=3600, session_policy="{}"),
    ],
)
async def test_every_input_of_a_session_is_part_of_its_key(pool: Pool, sts: FakeSts, other: Hop) -> None:
    await pool.session(key(hop()))
    sts.roles[ROLE].external_id = other.external_id.reveal()
    await pool.session(key(other))
    assert len(sts.assumed) == 2


async def test_a_role_deleted_and_made_again_is_found_out_once_and_assumed_again(
    pool: Pool, sts: FakeSts, clock: FakeClock
) -> None:
    forgotten: list[str] = []
    pool.when_dead(forgotten.append)
    first = await pool.session(key(hop()))
    assert await pool.reject(key(hop()), first.access_key_id) is Verdict.ALIVE
    sts.recreate(ROLE)
    assert await pool.reject(key(hop()), first.access_key_id) is Verdict.ALIVE, "asked at most once in 30 s"
    assert len(sts.checked) == 1
    clock.advance(31)
    verdicts = await asyncio.gather(*(pool.reject(key(hop()), first.access_key_id) for _ in range(500)))
    assert set(verdicts) == {Verdict.DEAD}
    assert len(sts.checked) == 2
    assert forgotten == [first.access_key_id]
    assert await pool.reject(key(hop()), first.access_key_id) is Verdict.REPLACED
    second = await pool.session(key(hop()))
    assert second.access_key_id != first.access_key_id
    assert await pool.reject(key(hop()), first.access_key_id) is Verdict.REPLACED
    assert len(sts.assumed) == 2


async def test_no_verdict_when_aws_does_not_answer(pool: Pool, sts: FakeSts, clock: FakeClock) -> None:
    first = await pool.session(key(hop()))
    sts.check_faults = [throttled()]
    for _ in range(5):
        with pytest.raises(BrokerError):
            await pool.reject(key(hop()), first.access_key_id)
    assert len(sts.checked) == 1
    clock.advance(3)
    assert await pool.reject(key(hop()), first.access_key_id) is Verdict.ALIVE
    assert await pool.session(key(hop())) is first


async def test_a_dead_parent_is_renewed_once(pool: Pool, sts: FakeSts) -> None:
    base = await pool.base_session()
    sts.kill(base)
    session = await pool.session(key(hop()))
    assert session.account_id == "222222222222"
    assert sts.base_reads == 2
    assert len(sts.assumed) == 2


async def test_a_parent_that_stays_dead_is_said_so(pool: Pool, sts: FakeSts) -> None:
    base = await pool.base_session()
    sts.kill(base)
    real = sts.base_session

    async def dead_again() -> object:
        session = await real()
        sts.kill(session)
        return session

    sts.base_session = dead_again  # type: ignore[method-assign, assignment]
    with pytest.raises(BrokerError) as caught:
        await pool.session(key(hop()))
    assert caught.value.reason is Reason.BASE_CREDENTIALS_MISSING
    assert len(sts.assumed) == 2


async def test_a_role_of_another_partition_is_refused_before_any_call(pool: Pool, sts: FakeSts) -> None:
    with pytest.raises(BrokerError) as caught:
        await pool.session(key(hop("arn:aws-cn:iam::222222222222:role/access")))
    assert caught.value.reason is Reason.PARTITION_MISMATCH
    assert "aws-cn" in caught.value.message
    assert BROKER_ARN in caught.value.message
    assert sts.assumed == []


async def test_idle_chains_are_forgotten_and_the_number_is_bounded(sts: FakeSts, clock: FakeClock) -> None:
    pool = Pool(sts=sts, clock=clock, jitter=half, counters=Counters(), max_chains=10, idle_seconds=100)
    for number in range(50):
        await pool.session(key(hop(name=f"n{number}")))
        assert len(pool) <= 10
    clock.advance(101)
    await pool.session(key(hop(name="last")))
    await pool.session(key(hop(name="very last")))
    assert len(pool) == 2
    await pool.close()


async def test_more_chains_in_flight_than_fit_are_refused_not_cut_off(sts: FakeSts, clock: FakeClock) -> None:
    pool = Pool(sts=sts, clock=clock, jitter=half, counters=Counters(), max_chains=4)
    sts.gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(pool.session(key(hop(name=f"n{number}")))) for number in range(4)]
    await settle()
    with pytest.raises(BrokerError) as caught:
        await pool.session(key(hop(name="one too many")))
    assert caught.value.reason is Reason.BROKER_OVERLOADED
    sts.gate.set()
    assert len(await asyncio.gather(*waiting)) == 4
    await pool.close()


async def test_close_ends_flights_and_tells_who_waits(sts: FakeSts, clock: FakeClock) -> None:
    pool = Pool(sts=sts, clock=clock, jitter=half, counters=Counters())
    sts.gate = asyncio.Event()
    waiting = asyncio.get_running_loop().create_task(pool.session(key(hop())))
    await settle()
    await pool.close()
    with pytest.raises(BrokerError) as caught:
        await waiting
    assert caught.value.reason is Reason.BROKER_UNAVAILABLE
    with pytest.raises(BrokerError):
        await pool.session(key(hop()))
    assert len(asyncio.all_tasks()) == 1


async def test_a_bug_in_a_flight_reaches_every_waiter_and_no_further(pool: Pool, sts: FakeSts) -> None:
    sts.faults = [ZeroDivisionError()]
    outcomes = await asyncio.gather(*(pool.session(key(hop())) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 3
    await pool.session(key(hop()))


async def test_life_is_counted_on_the_clock_of_aws(pool: Pool, sts: FakeSts, clock: FakeClock) -> None:
    sts.skew_seconds = 5000.0
    first = await pool.session(key(hop()))
    clock.advance(2000)
    assert await pool.session(key(hop())) is first
    clock.advance(1600)
    assert await pool.session(key(hop())) is not first
