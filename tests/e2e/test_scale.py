"""A thousand logins at once, with AWS well and unwell: what they cost at STS, and that they end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest

from deploy.sandbox import Sandbox, topology
from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.load import (
    LOGIN_SECONDS,
    REFUSAL_SECONDS,
    crowd,
    decisions,
    enter,
    issue_workloads,
    make_role,
    mtls,
    role,
    state,
    until_let_in,
    with_roles,
)

LOGINS: Final = 1000
WORKLOADS: Final = 50
ROLES: Final = ("throttle", "error500", "throttled-long", "slow", "hanging")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def spacious(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A sandbox whose databases take a thousand sessions. Where engines are missing, `world` has skipped already."""
    assert world.databases
    with Sandbox(tmp_path_factory.mktemp("spacious"), max_connections=LOGINS + 200) as spacious:
        yield spacious


def roomy(document: Document) -> None:
    """Doors for a thousand at once, and time for two busy cores."""
    for listener in document["listeners"]:
        listener["limits"] = {"max_connections": 2 * LOGINS, "handshake_seconds": LOGIN_SECONDS}


@pytest.fixture(scope="module")
def bridge(spacious: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Fifty workloads in front of the spacious sandbox, and databases for the faults."""
    for name in ROLES:
        make_role(spacious, name)
    directory: Path = tmp_path_factory.mktemp("scale") / "bridge"

    def change(document: Document) -> None:
        with_roles(ROLES)(document)
        example = next(entry for entry in document["db_service"]["databases"] if entry["name"] == "rds-postgres")
        aws = {**example["aws"], "assume_role_arn": topology.NO_TRUST_ROLE_ARN}
        document["db_service"]["databases"].append({**example, "name": "denied", "aws": aws})

    with Bridge(spacious, directory, change, roomy) as bridge:
        issue_workloads(bridge, WORKLOADS)
        yield bridge


@pytest.fixture
def aws(spacious: World) -> Iterator[Control]:
    """The sandbox's levers, counters at zero; no fault outlives a test."""
    control = Control(spacious.aws_endpoint)
    control.reset_counters()
    yield control
    control.clear_faults()


def logins_of_all(bridge: Bridge, database: str, count: int) -> list[str]:
    """So many logins, the workloads taking turns."""
    workloads = itertools.cycle(f"worker-{number:02}" for number in range(WORKLOADS))
    return [mtls(bridge, f"app@{database}", next(workloads)) for _ in range(count)]


def assumed(aws: Control, role_arn: str) -> int:
    """AssumeRole calls for a role."""
    return aws.counters().assume_role.get(role_arn, 0)


async def test_a_thousand_logins_of_fifty_workloads_cost_one_assume_role(
    bridge: Bridge, aws: Control, spacious: World, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    async with crowd(logins_of_all(bridge, "rds-postgres", LOGINS), at_once=LOGINS) as logins:
        took = time.monotonic() - began
        assert logins.refused == []
        with psycopg.connect(spacious.postgres_superuser_dsn) as superuser:
            row = superuser.execute(
                "select count(*) from pg_stat_activity join pg_stat_ssl using (pid) where usename = 'app' and ssl"
            )
            assert row.fetchone() == (LOGINS,)
    assert aws.counters().calls.get("sts:AssumeRole") == 1
    asked = Counter(line["workload"] for line in decisions(bridge, database="rds-postgres", allowed=True))
    assert len(asked) == WORKLOADS
    rechecks = int(took // 45)  # a decision stands for 45 s at least
    assert max(asked.values()) <= 1 + rechecks
    slowest = max(logins.seconds)
    state(capsys, f"{LOGINS} logins in {took:.1f} s, slowest {slowest:.2f} s, {sum(asked.values())} IssueCredential")


async def test_a_thousand_logins_through_a_role_that_denies_us_cost_one_call(
    bridge: Bridge, aws: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    async with crowd(logins_of_all(bridge, "denied", LOGINS), at_once=LOGINS) as logins:
        took = time.monotonic() - began
    assert logins.let_in == []
    assert all(topology.NO_TRUST_ROLE_ARN in told and "trust policy" in told for told in logins.refused)
    assert 1 <= assumed(aws, topology.NO_TRUST_ROLE_ARN) <= 1 + took // REFUSAL_SECONDS
    state(capsys, f"{LOGINS} refusals in {took:.1f} s, {assumed(aws, topology.NO_TRUST_ROLE_ARN)} AssumeRole")


@pytest.mark.parametrize("mode", ["throttle", "error500"])
async def test_a_burst_does_not_notice_that_sts_failed_twice(bridge: Bridge, aws: Control, mode: str) -> None:
    aws.inject_fault(mode, count=2, role_arn=role(mode))
    async with crowd(logins_of_all(bridge, mode, 200)) as logins:
        assert logins.refused == []
    assert assumed(aws, role(mode)) == 3


async def test_while_sts_throttles_a_burst_makes_few_calls_and_then_recovers(
    bridge: Bridge, aws: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.inject_fault("throttle", role_arn=role("throttled-long"))
    began = time.monotonic()
    async with crowd(logins_of_all(bridge, "throttled-long", 200)) as logins:
        took = time.monotonic() - began
    assert logins.let_in == []
    assert all("throttle" in told.lower() for told in logins.refused), logins.refused[0]
    calls = assumed(aws, role("throttled-long"))
    assert calls <= 4 * (1 + took / 1.5), "a few attempts for each time the refusal is forgotten"
    aws.clear_faults()
    recovered = await until_let_in(mtls(bridge, "app@throttled-long", "worker-00"))
    state(capsys, f"{calls} calls in {took:.1f} s, recovered {recovered:.1f} s later")


async def test_logins_wait_for_slow_sts_and_share_its_answer(bridge: Bridge, aws: Control) -> None:
    aws.inject_fault("delay", delay_seconds=2.0, role_arn=role("slow"))
    async with crowd(logins_of_all(bridge, "slow", 100)) as logins:
        assert logins.refused == []
    assert assumed(aws, role("slow")) == 1
    assert max(logins.seconds) < 15


async def test_while_sts_hangs_logins_end_in_an_error_and_other_databases_stay_open(
    bridge: Bridge, aws: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    await enter(mtls(bridge, "app@rds-postgres", "worker-00"))
    aws.inject_fault("hang", role_arn=role("hanging"))

    async def meanwhile() -> int:
        for number in range(20):
            await enter(mtls(bridge, "app@rds-postgres", f"worker-{number:02}"))
        return 20

    async with asyncio.TaskGroup() as group:
        others = group.create_task(meanwhile())
        async with crowd(logins_of_all(bridge, "hanging", 100)) as logins:
            pass
    assert others.result() == 20
    assert logins.let_in == []
    assert max(logins.seconds) < 15
    assert all("AWS STS" in told and "does not answer" in told for told in logins.refused), logins.refused[0]
    calls = assumed(aws, role("hanging"))
    assert calls <= 4
    aws.clear_faults()
    recovered = await until_let_in(mtls(bridge, "app@hanging", "worker-00"))
    state(capsys, f"errors after {max(logins.seconds):.1f} s, {calls} calls, recovered {recovered:.1f} s later")
