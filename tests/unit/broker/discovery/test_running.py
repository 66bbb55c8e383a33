"""A sweeper that runs: one of several, by lease; stopped, taken over, and through its own bugs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.discovery.plan import cells
from broker.discovery.sweep import LEASE_SECONDS
from tests.support.clock import FakeClock
from tests.unit.broker.discovery.stage import Stage, matcher, until
from tests.unit.broker.discovery.world import FakeAws, FakeStore, instance


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


async def test_one_broker_sweeps_and_another_takes_over_when_it_is_gone(aws: FakeAws, clock: FakeClock) -> None:
    store = FakeStore(clock)
    aws.put("222222222222", "us-west-1", instance("orders"))
    first = Stage(aws, clock, [matcher()], store=store, owner="broker-1")
    second = Stage(aws, clock, [matcher()], store=store, owner="broker-2")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(first.sweeper.run())
        await until(lambda: first.sweeper.sweeps == 1)
        following = group.create_task(second.sweeper.run())
        await until(lambda: second.naps)
        assert (second.sweeper.is_sweeper, second.names) == (False, ["orders"])
        assert aws.made["DescribeDBInstances"] == 1
        running.cancel()
        following.cancel()
    clock.advance(LEASE_SECONDS + 1)
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(second.sweeper.run())
        await until(lambda: second.sweeper.sweeps == 1)
        taking.cancel()
    assert second.sweeper.is_sweeper


async def test_a_broker_that_stops_gives_the_lease_back(aws: FakeAws, clock: FakeClock) -> None:
    store = FakeStore(clock)
    aws.put("222222222222", "us-west-1", instance("orders"))
    first = Stage(aws, clock, [matcher()], store=store, owner="broker-1")
    second = Stage(aws, clock, [matcher()], store=store, owner="broker-2")
    async with asyncio.TaskGroup() as group:
        group.create_task(first.sweeper.run())
        await until(lambda: first.sweeper.sweeps == 1)
        await first.sweeper.close()
        await first.sweeper.close()
        taking = group.create_task(second.sweeper.run())
        await until(lambda: second.sweeper.sweeps == 1)
        taking.cancel()
    assert not first.sweeper.is_sweeper


async def test_a_bug_outside_of_a_look_ends_nothing(
    aws: FakeAws, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    aws.put("222222222222", "us-west-1", instance("orders"))
    stage = Stage(aws, clock, [matcher()])
    published = stage.published.__class__.__call__
    broken = [True]

    def publish(databases: Any) -> None:
        if broken.pop() if broken else False:
            raise ZeroDivisionError("a bug")
        published(stage.published, databases)

    stage.sweeper._publish = publish
    async with asyncio.TaskGroup() as group:
        running = group.create_task(stage.sweeper.run())
        await until(lambda: "a reason nobody foresaw" in caplog.text)
        assert stage.names == []
        stage.sweeper.configure(cells([matcher(), matcher("333333333333")]))
        await until(lambda: stage.sweeper.sweeps >= 1)
        running.cancel()
    assert stage.names == ["orders"]
