"""Sweeps: one cell's trouble is its own, nothing known is lost, one broker sweeps, what is stored is found again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.discovery.plan import cells
from broker.discovery.stored import RegistryStore
from broker.discovery.sweep import Rhythm
from broker.discovery.table import NotForgotten
from broker.model import Hop, Origin
from broker.registry.sqlite import SqliteStore
from tests.support.clock import FakeClock
from tests.unit.broker.discovery.answers import GROUP, NODE, changed
from tests.unit.broker.discovery.stage import ACCOUNTS, REGIONS, Stage, matcher, role, until
from tests.unit.broker.discovery.world import FakeAws, FakeStore, denied, instance, throttled
from tollbridge.model import Product
from tollbridge.reasons import Reason
from tollbridge.secret import Secret


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


async def test_what_is_found_is_served_by_the_role_that_found_it(aws: FakeAws, clock: FakeClock) -> None:
    aws.put("222222222222", "us-west-1", instance("orders"))
    stage = Stage(aws, clock, [matcher()])
    await stage.sweeper.sweep()
    (database,) = stage.published.databases
    assert (database.name, database.origin) == ("orders", Origin.DISCOVERED)
    assert database.access.role_arn == role("222222222222")
    assert database.access.external_id.reveal() == "example-external-id"
    hop = Hop(
        role_arn=role("222222222222"),
        session_name="tollbridge-broker",
        duration_seconds=3600,
        external_id=Secret("example-external-id"),
    )
    assert [key.hops for key in aws.assumed] == [(hop,)]


async def test_without_a_role_the_broker_looks_at_its_own_account(aws: FakeAws, clock: FakeClock) -> None:
    aws.put("111111111111", "us-west-1", instance("local", account="111111111111"))
    stage = Stage(aws, clock, [matcher("")])
    await stage.sweeper.sweep()
    (database,) = stage.published.databases
    assert (database.facts.account_id, database.access.role_arn) == ("111111111111", "")


async def test_one_account_denied_and_one_region_throttled_harm_no_other(aws: FakeAws, clock: FakeClock) -> None:
    for account in ACCOUNTS:
        for region in REGIONS:
            aws.put(account, region, instance("orders", region=region, account=account))
    stage = Stage(aws, clock, [matcher(account, regions=REGIONS) for account in ACCOUNTS])
    aws.broken["333333333333", "*"] = denied()
    aws.broken["444444444444", "us-east-2"] = throttled()
    await stage.sweeper.sweep()
    assert len(stage.published.databases) == 3
    assert stage.state("333333333333").failure.reason is Reason.CREDENTIAL_DENIED
    assert stage.state("444444444444", "us-east-2").failure.reason is Reason.AWS_THROTTLED
    assert stage.state("444444444444").failure is None


@pytest.mark.parametrize("error", [denied(), throttled()])
async def test_a_failed_look_removes_nothing(aws: FakeAws, clock: FakeClock, error: Any) -> None:
    aws.put("222222222222", "us-west-1", instance("orders"))
    stage = Stage(aws, clock, [matcher()])
    await stage.sweeper.sweep()
    seen_at = clock.now()
    clock.advance(300)
    aws.broken["222222222222", "*"] = error
    await stage.sweeper.sweep()
    state = stage.state()
    assert stage.names == ["orders"]
    assert (state.last_success_at, state.last_attempt_at, state.failures) == (seen_at, clock.now(), 1)
    assert state.failure.message == error.message


async def test_a_role_that_cannot_be_assumed_is_a_failed_look(aws: FakeAws, clock: FakeClock) -> None:
    aws.broken["222222222222", "sts"] = denied("AWS denies to assume")
    stage = Stage(aws, clock, [matcher()])
    await stage.sweeper.sweep()
    assert stage.state().failure.message == "AWS denies to assume"


async def test_a_bug_in_one_cell_is_that_cells_failure(aws: FakeAws, clock: FakeClock) -> None:
    aws.put("222222222222", "us-west-1", instance("orders"))
    stage = Stage(aws, clock, [matcher(regions=REGIONS)])

    class Bug(Exception):
        reason = Reason.INTERNAL
        message = "boom"

        def __init__(self, *_: object) -> None:
            super().__init__("boom")

    aws.broken["222222222222", "us-east-2"] = Bug()  # type: ignore[assignment]
    await stage.sweeper.sweep()
    assert stage.names == ["orders"]
    assert stage.state(region="us-east-2").failure.reason is Reason.INTERNAL
    assert "boom" not in stage.state(region="us-east-2").failure.message


async def test_a_database_goes_away_when_aws_no_longer_lists_it(aws: FakeAws, clock: FakeClock) -> None:
    aws.put("222222222222", "us-west-1", instance("orders"), instance("users"))
    stage = Stage(aws, clock, [matcher()])
    await stage.sweeper.sweep()
    aws.put("222222222222", "us-west-1", instance("users"))
    clock.advance(300)
    await stage.sweeper.sweep()
    assert stage.names == ["users"]


async def test_an_older_database_keeps_its_place_before_a_newer_one(aws: FakeAws, clock: FakeClock) -> None:
    aws.put("333333333333", "us-west-1", instance("orders", account="333333333333"))
    stage = Stage(aws, clock, [matcher(), matcher("333333333333")])
    await stage.sweeper.sweep()
    clock.advance(300)
    aws.put("222222222222", "us-west-1", instance("orders"))
    await stage.sweeper.sweep()
    assert [database.facts.account_id for database in stage.published.databases] == ["333333333333", "222222222222"]


async def test_matchers_that_meet_in_a_cell_are_one_look(aws: FakeAws, clock: FakeClock) -> None:
    tags = [{"Key": "team", "Value": "bank"}]
    aws.put("222222222222", "us-west-1", instance("orders"), instance("users", TagList=tags), instance("x", TagList=[]))
    both = [matcher(tags={"env": ("dev",)}), matcher(tags={"team": ("bank",)})]
    stage = Stage(aws, clock, both)
    await stage.sweeper.sweep()
    assert stage.names == ["orders", "users"]
    assert aws.made["DescribeDBInstances"] == 1


async def test_a_session_that_turns_out_dead_is_replaced_once(aws: FakeAws, clock: FakeClock) -> None:
    aws.put("222222222222", "us-west-1", instance("orders"))
    aws.dead.add("ASIA2222222222220")
    stage = Stage(aws, clock, [matcher()])
    await stage.sweeper.sweep()
    assert stage.names == ["orders"]
    assert aws.rejected == ["ASIA2222222222220"]


async def test_denied_tags_are_a_note_and_asked_for_once(aws: FakeAws, clock: FakeClock) -> None:
    groups = [
        changed(
            GROUP,
            ReplicationGroupId=f"g{n}",
            ARN=f"arn:aws:elasticache:us-west-1:222222222222:replicationgroup:g{n}",
            NodeGroups=[{"PrimaryEndpoint": {"Address": f"master.g{n}.abcdef.usw1.cache.amazonaws.com", "Port": 6379}}],
        )
        for n in range(50)
    ]
    aws.put("222222222222", "us-west-1", *groups, operation="DescribeReplicationGroups")
    aws.put("222222222222", "us-west-1", NODE, operation="DescribeCacheClusters")
    aws.denied_tags = True
    stage = Stage(aws, clock, [matcher(products=(Product.ELASTICACHE,))])
    await stage.sweeper.sweep()
    state = stage.state(product=Product.ELASTICACHE)
    assert (len(state.known), state.failure) == (50, None)
    assert "elasticache:ListTagsForResource" in state.notes[0]
    assert aws.made["ListTagsForResource"] <= 4


async def test_tags_that_are_read_one_by_one_become_labels(aws: FakeAws, clock: FakeClock) -> None:
    aws.put("222222222222", "us-west-1", GROUP, operation="DescribeReplicationGroups")
    aws.tagged[GROUP["ARN"]] = {"env": "dev", "region": "moon"}
    stage = Stage(aws, clock, [matcher(products=(Product.ELASTICACHE,), tags={"env": ("dev",)})])
    await stage.sweeper.sweep()
    labels = stage.published.databases[0].facts.labels
    assert (labels["env"], labels["region"]) == ("dev", "us-west-1")


async def test_a_restarted_broker_knows_its_databases_while_aws_is_away(aws: FakeAws, clock: FakeClock) -> None:
    store = FakeStore(clock)
    aws.put("222222222222", "us-west-1", instance("orders"))
    await Stage(aws, clock, [matcher()], store=store).sweeper.sweep()
    aws.broken["222222222222", "sts"] = throttled()
    again = Stage(aws, clock, [matcher()], store=store)
    await again.sweeper.load()
    await again.sweeper.sweep()
    assert again.names == ["orders"]


async def test_a_store_that_is_away_stops_no_sweep(aws: FakeAws, clock: FakeClock) -> None:
    store = FakeStore(clock, away=True)
    aws.put("222222222222", "us-west-1", instance("orders"))
    stage = Stage(aws, clock, [matcher()], store=store)
    await stage.sweeper.load()
    await stage.sweeper.sweep()
    assert stage.names == ["orders"]
    store.away = False
    await stage.sweeper.sweep()
    assert len(store.cells) == 1


async def test_the_store_does_not_decide_about_access(aws: FakeAws, clock: FakeClock) -> None:
    store = FakeStore(clock)
    aws.put("222222222222", "us-west-1", instance("orders"))
    await Stage(aws, clock, [matcher()], store=store).sweeper.sweep()
    again = Stage(aws, clock, [matcher(external_id=Secret("another-one"))], store=store)
    await again.sweeper.load()
    assert again.published.databases[0].access.external_id.reveal() == "another-one"
    assert all(b"external" not in document for document in store.cells.values())


async def test_cells_of_removed_matchers_leave_the_table_and_the_store(aws: FakeAws, clock: FakeClock) -> None:
    store = FakeStore(clock)
    aws.put("222222222222", "us-west-1", instance("orders"))
    aws.put("333333333333", "us-west-1", instance("users", account="333333333333"))
    await Stage(aws, clock, [matcher(), matcher("333333333333")], store=store).sweeper.sweep()
    again = Stage(aws, clock, [matcher()], store=store)
    await again.sweeper.load()
    assert again.names == ["orders"]
    await again.sweeper.sweep()
    assert len(store.cells) == 1


async def test_a_reload_changes_access_at_once_and_drops_what_nobody_asks_for(aws: FakeAws, clock: FakeClock) -> None:
    aws.put("222222222222", "us-west-1", instance("orders"))
    aws.put("333333333333", "us-west-1", instance("users", account="333333333333"))
    stage = Stage(aws, clock, [matcher(), matcher("333333333333")])
    await stage.sweeper.sweep()
    stage.sweeper.configure(cells([matcher(external_id=Secret("another-one"))]))
    (database,) = stage.published.databases
    assert (database.name, database.access.external_id.reveal()) == ("orders", "another-one")


async def test_sweeps_are_jittered_around_the_interval(aws: FakeAws, clock: FakeClock) -> None:
    pauses = [Rhythm(clock=clock, jitter=lambda part=part: part).pause() for part in (0.0, 0.5, 0.999)]  # type: ignore[misc]
    assert pauses[0] == pytest.approx(270)
    assert pauses[1] == pytest.approx(300)
    assert pauses[2] < 330


async def test_a_reload_ends_the_pause(aws: FakeAws, clock: FakeClock) -> None:
    aws.put("222222222222", "us-west-1", instance("orders"))
    stage = Stage(aws, clock, [])
    async with asyncio.TaskGroup() as group:
        running = group.create_task(stage.sweeper.run())
        await asyncio.sleep(0)
        stage.sweeper.configure(cells([matcher()]))
        await until(lambda: stage.sweeper.sweeps == 1)
        stage.sweeper.configure(cells([matcher(regions=REGIONS)]))
        await until(lambda: stage.sweeper.sweeps == 2)
        running.cancel()
    assert stage.names == ["orders"]


async def test_forget_drops_what_only_failed_sweeps_keep(aws: FakeAws, clock: FakeClock) -> None:
    store = FakeStore(clock)
    aws.put("222222222222", "us-west-1", instance("orders"), instance("users"))
    stage = Stage(aws, clock, [matcher()], store=store)
    await stage.sweeper.sweep()
    host = stage.published.databases[0].facts.endpoint.host
    with pytest.raises(NotForgotten, match="still lists it"):
        await stage.sweeper.forget(host)
    aws.broken["222222222222", "*"] = denied()
    await stage.sweeper.sweep()
    await stage.sweeper.forget(host)
    with pytest.raises(NotForgotten, match="no such"):
        await stage.sweeper.forget(host)
    again = Stage(aws, clock, [matcher()], store=store)
    await again.sweeper.load()
    assert again.names == stage.names == ["users"]


async def test_what_was_forgotten_at_another_broker_stays_forgotten(
    aws: FakeAws, clock: FakeClock, tmp_path: Path
) -> None:
    """The broker that sweeps takes over what others stored before it sweeps again."""
    file = SqliteStore(tmp_path / "registry.db", clock)
    await file.open()
    aws.put("222222222222", "us-west-1", instance("orders"), instance("users"))
    first = Stage(aws, clock, [matcher()], store=RegistryStore(file, broker="1"), owner="broker-1")
    second = Stage(aws, clock, [matcher()], store=RegistryStore(file, broker="2"), owner="broker-2")
    await first.sweeper.sweep()
    aws.broken["222222222222", "*"] = denied()
    await first.sweeper.sweep()
    await second.sweeper.load()
    await second.sweeper.forget(second.published.databases[0].facts.endpoint.host)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(first.sweeper.run())
        await until(lambda: first.sweeper.sweeps == 3)
        running.cancel()
    assert first.names == second.names == ["users"]
    again = Stage(aws, clock, [matcher()], store=RegistryStore(file, broker="3"))
    await again.sweeper.load()
    assert again.names == ["users"]
    await file.close()


async def test_staleness_is_three_intervals_without_a_success(aws: FakeAws, clock: FakeClock) -> None:
    stage = Stage(aws, clock, [matcher()])
    sweeper = stage.sweeper
    assert not sweeper.is_stale(stage.state())
    await sweeper.sweep()
    clock.advance(900)
    assert not sweeper.is_stale(stage.state())
    clock.advance(1)
    assert sweeper.is_stale(stage.state())
    never = replace(stage.state(), last_success_at=None)
    assert sweeper.is_stale(never)


async def test_few_looks_go_on_at_once(aws: FakeAws, clock: FakeClock) -> None:
    stage = Stage(aws, clock, [matcher(f"{n:012d}") for n in range(100)])
    await stage.sweeper.sweep()
    assert aws.most_at_once <= 8
