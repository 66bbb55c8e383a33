"""Turning IAM authentication on: planned from what was found off, asked for by name, checked again, reported."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.discovery.changes import MAX_AT_ONCE, Outcome, Result, apply, plan
from broker.errors import BrokerError
from tests.support.clock import FakeClock
from tests.unit.broker.discovery.answers import CLUSTER, changed
from tests.unit.broker.discovery.stage import Stage, matcher
from tests.unit.broker.discovery.world import FakeAws, denied, instance
from tollbridge.reasons import Reason

ORDERS = "arn:aws:rds:us-west-1:222222222222:db:orders"
AURORA = CLUSTER["DBClusterArn"]


@pytest.fixture
def aws() -> FakeAws:
    aws = FakeAws()
    off: dict[str, Any] = {"IAMDatabaseAuthenticationEnabled": False}
    aws.put("222222222222", "us-west-1", instance("orders", **off), instance("users"))
    aws.put("222222222222", "us-west-1", changed(CLUSTER, **off), operation="DescribeDBClusters")
    return aws


@pytest.fixture
async def stage(aws: FakeAws) -> Stage:
    stage = Stage(aws, FakeClock(), [matcher()])
    await stage.sweeper.sweep()
    return stage


async def applied(stage: Stage, *arns: str) -> tuple[list[Outcome], list[Outcome]]:
    noted: list[Outcome] = []
    sweeper = stage.sweeper
    outcomes = await apply(
        arns,
        table=sweeper.table,
        cells=sweeper.cells,
        eyes=sweeper.eyes,
        may=lambda planned: "forbidden" not in planned.labels.values(),
        note=noted.append,
    )
    return outcomes, noted


async def test_the_plan_lists_each_call_that_would_be_made(stage: Stage, aws: FakeAws) -> None:
    planned = plan(stage.sweeper.table)
    assert [(each.change.arn, each.call) for each in planned] == [
        (AURORA, "rds:ModifyDBCluster"),
        (ORDERS, "rds:ModifyDBInstance"),
    ]
    assert planned[1].parameters == {
        "DBInstanceIdentifier": "orders",
        "EnableIAMDatabaseAuthentication": "true",
        "ApplyImmediately": "true",
    }
    assert aws.turned_on == []


async def test_a_sweep_changes_nothing(stage: Stage, aws: FakeAws) -> None:
    assert aws.made["Modify"] == 0


async def test_what_is_named_is_changed_and_nothing_else(stage: Stage, aws: FakeAws) -> None:
    outcomes, noted = await applied(stage, ORDERS)
    assert outcomes == noted == [Outcome(arn=ORDERS, result=Result.CHANGED)]
    assert aws.turned_on == [ORDERS]


async def test_who_leaves_before_the_answer_changes_nothing_unseen(stage: Stage, aws: FakeAws) -> None:
    """A call that AWS has goes on when nobody waits for it any more."""
    aws.gate = asyncio.Event()
    noted: list[Outcome] = []
    sweeper = stage.sweeper

    async def leave() -> None:
        while len(aws.turned_on) < 2:  # noqa: ASYNC110 - the loop's own turns are what is waited for
            await asyncio.sleep(0)
        asking.cancel()

    async with asyncio.TaskGroup() as group:
        work = apply(
            [ORDERS, AURORA],
            table=sweeper.table,
            cells=sweeper.cells,
            eyes=sweeper.eyes,
            may=lambda _planned: True,
            note=noted.append,
        )
        asking = group.create_task(work)
        group.create_task(leave())
    assert asking.cancelled()
    assert {(each.arn, each.result) for each in noted} == {(ORDERS, Result.UNKNOWN), (AURORA, Result.UNKNOWN)}


async def test_what_somebody_turned_on_since_is_left_alone(stage: Stage, aws: FakeAws) -> None:
    aws.iam_on.add(ORDERS)
    outcomes, _ = await applied(stage, ORDERS, AURORA)
    assert [each.result for each in outcomes] == [Result.ALREADY_ON, Result.CHANGED]
    assert aws.turned_on == [AURORA]


@pytest.mark.parametrize("arn", ["arn:aws:rds:us-west-1:222222222222:db:users", "arn:aws:rds:::db:x", ""])
async def test_what_is_not_in_the_plan_is_never_touched(stage: Stage, aws: FakeAws, arn: str) -> None:
    outcomes, noted = await applied(stage, arn)
    assert [(each.result, each.reason) for each in outcomes] == [(Result.FAILED, Reason.INVALID_REQUEST)]
    assert (noted, aws.turned_on) == (outcomes, [])


async def test_what_the_operators_row_does_not_cover_is_not_touched(aws: FakeAws) -> None:
    tags = [{"Key": "team", "Value": "forbidden"}]
    aws.put("222222222222", "us-west-1", instance("orders", IAMDatabaseAuthenticationEnabled=False, TagList=tags))
    stage = Stage(aws, FakeClock(), [matcher()])
    await stage.sweeper.sweep()
    outcomes, _ = await applied(stage, ORDERS)
    assert [(each.result, each.reason) for each in outcomes] == [(Result.FAILED, Reason.CALLER_NOT_ALLOWED)]
    assert aws.turned_on == []


async def test_one_that_fails_stops_no_other(stage: Stage, aws: FakeAws) -> None:
    original = aws.turn_iam_auth_on

    async def turn_on(session: object, change: object) -> None:
        if getattr(change, "arn", "") == ORDERS:
            raise denied("AWS denies rds:ModifyDBInstance")
        await original(session, change)  # type: ignore[arg-type]

    aws.turn_iam_auth_on = turn_on  # type: ignore[method-assign]
    outcomes, _ = await applied(stage, ORDERS, AURORA)
    assert [each.result for each in outcomes] == [Result.FAILED, Result.CHANGED]
    assert "rds:ModifyDBInstance" in outcomes[0].message


@pytest.mark.parametrize("arns", [[], [f"arn:{n}" for n in range(MAX_AT_ONCE + 1)]])
async def test_none_and_too_many_are_refused(stage: Stage, arns: list[str]) -> None:
    with pytest.raises(BrokerError) as raised:
        await applied(stage, *arns)
    assert raised.value.reason is Reason.INVALID_REQUEST
