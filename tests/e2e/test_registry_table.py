"""The store in DynamoDB: against an emulator that checks signatures, policies and conditions."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime

import pytest

from broker.audit import CallCounters
from broker.aws.clients import SkewMeter
from broker.aws.dynamodb import DynamoStore
from broker.model import AccountSession
from broker.registry.store import MAX_CHANGES, Change, StoreError
from deploy.sandbox.world import World
from tests.support.clock import FakeClock
from tests.unit.broker.registry import store_claims as claims
from tollbridge.secret import Secret

KIND = claims.KIND
_numbers: Iterator[int] = itertools.count()

Make = Callable[..., DynamoStore]


@pytest.fixture
def clock() -> FakeClock:
    """Of today: the emulator checks the date of signatures."""
    return FakeClock(datetime.now(UTC))


@pytest.fixture
async def make(world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Makes stores on one table of its own, each with the broker's identity."""
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    made: list[DynamoStore] = []
    own_table = f"tollbridge-test-{next(_numbers)}"

    async def base() -> AccountSession:
        return AccountSession(
            access_key_id=world.broker_access_key_id,
            secret_key=Secret(world.broker_secret_access_key),
            session_token=Secret(""),
            arn=world.broker_user_arn,
            account_id=world.broker_account_id,
            issued_at=clock.now(),
            expires_at=None,
        )

    def store(*, table: str = own_table, create: bool = True) -> DynamoStore:
        made.append(
            DynamoStore(
                table,
                world.region,
                base,
                clock=clock,
                counters=CallCounters(),
                skew=SkewMeter(),
                create=create,
                sleep=_at_once,
            )
        )
        return made[-1]

    yield store
    for store_made in made:
        await store_made.close()


async def _at_once(_seconds: float) -> None:
    """Waits for nothing: the emulator answers quickly."""


@pytest.fixture
async def store(make: Make) -> DynamoStore:
    store = make()
    await store.open()
    return store


@pytest.fixture
async def other(make: Make, store: DynamoStore) -> DynamoStore:
    """Another broker on the same table, which it need not make."""
    other = make(create=False)
    await other.open()
    return other


@pytest.mark.parametrize("claim", [claims.check_revisions, claims.check_conflicts, claims.check_marks])
async def test_what_every_store_keeps(store: DynamoStore, claim: Callable[[DynamoStore], Awaitable[None]]) -> None:
    await claim(store)


async def test_races(store: DynamoStore, other: DynamoStore) -> None:
    await claims.check_races(store, other)


async def test_leases(store: DynamoStore, other: DynamoStore, clock: FakeClock) -> None:
    await claims.check_leases(store, other, clock)


async def test_a_store_is_read_whole_past_the_page_of_a_query(store: DynamoStore, other: DynamoStore) -> None:
    """A page of DynamoDB ends at 1 MB."""
    document = "x" * 16_000
    for start in range(0, 180, MAX_CHANGES):
        changes = [Change(name=f"n{number:03}", document=document) for number in range(start, start + MAX_CHANGES)]
        await store.write(KIND, changes, by="")
    page = await other.changes(KIND, None)
    assert len(page.items) == 180
    assert len((await other.changes(KIND, 1)).items) == 90


async def test_a_table_that_is_not_there_is_named_with_the_way_to_make_it(make: Make) -> None:
    with pytest.raises(
        StoreError, match=r"no table tollbridge-nowhere in us-west-1: set registry\.dynamodb\.create_table"
    ):
        await make(table="tollbridge-nowhere", create=False).open()


async def test_what_the_policy_lacks_is_said(make: Make) -> None:
    with pytest.raises(StoreError, match=r'may not do dynamodb:DescribeTable on table orders: .*"dynamodb:PutItem"'):
        await make(table="orders", create=False).open()
