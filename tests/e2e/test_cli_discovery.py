"""`tollbridge discovery` and `forget` against a broker that discovers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.sandbox import estate, topology
from deploy.sandbox.control import Control
from tests.e2e.conftest import Workshop
from tests.e2e.discovering import MATCHERS, attempted, broker_only, discovering, swept
from tests.e2e.test_cli import Terminal

REGION = "us-east-2"


@pytest.fixture
def closed(control: Control) -> Iterator[str]:
    """An instance whose IAM authentication is off. Its ARN."""
    account = topology.EXAMPLE_ACCOUNT
    item = estate.instance("closed", account, region=REGION, iam_auth=False)
    control.put_resources([estate.resource(account, REGION, "rds", "DescribeDBInstances", item)])
    yield item["DBInstanceArn"]
    control.remove_resources(account, REGION, "rds", "DescribeDBInstances")


async def at_work(workshop: Workshop, folder: Path, **more: Any) -> Terminal:
    """A person in front of a broker that has looked at one region."""
    change = discovering(folder, {"aws": [{**MATCHERS[1], "regions": [REGION]}]}, **more)
    bridge = broker_only(workshop, change)
    await swept(bridge, attempted)
    return Terminal(bridge, folder)


async def test_what_was_found_and_what_is_not_served_is_shown(
    workshop: Workshop, tmp_path: Path, closed: str
) -> None:  # fmt: skip
    terminal = await at_work(workshop, tmp_path)
    status = terminal.run("discovery", "status", "--problems")
    assert status.returncode == 0, status.stderr
    assert "this broker sweeps" in status.stdout
    cell = next(line for line in status.stdout.splitlines() if REGION in line)
    assert cell.split()[:3] == [topology.EXAMPLE_ACCOUNT, REGION, "rds"]
    assert "IAM authentication is off" in status.stdout
    (listed,) = terminal.value("discovery", "status")["cells"]
    assert [each["arn"] for each in listed["skipped"]] == [closed]


async def test_changes_are_planned_confirmed_and_reported(workshop: Workshop, tmp_path: Path, closed: str) -> None:
    terminal = await at_work(workshop, tmp_path, iam_auth_changes=True)
    plan = terminal.run("discovery", "plan")
    line = next(line for line in plan.stdout.splitlines() if closed in line)
    assert "rds:ModifyDBInstance" in line
    unasked = terminal.run("discovery", "apply", closed)
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    assert terminal.run("discovery", "plan").stdout == plan.stdout
    applied = terminal.run("discovery", "apply", closed, "--yes")
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout.splitlines()[1].split() == [closed, "changed"]


async def test_a_broker_that_may_not_change_aws_says_how_it_would(
    workshop: Workshop, tmp_path: Path, closed: str
) -> None:  # fmt: skip
    terminal = await at_work(workshop, tmp_path)
    refused = terminal.run("discovery", "apply", "--all", "--yes")
    assert refused.returncode == 4
    assert "discovery.iam_auth_changes" in refused.stderr
    assert "discovery.iam_auth_changes" in terminal.run("discovery", "plan").stdout


async def test_what_fails_is_shown_and_exits_1(workshop: Workshop, tmp_path: Path, control: Control) -> None:
    control.inject_fault("throttle", service="rds", action="*")
    try:
        terminal = await at_work(workshop, tmp_path)
        status = terminal.run("discovery", "status", "-o", "json")
        text = terminal.run("discovery", "status").stdout
    finally:
        control.clear_faults()
    assert status.returncode == 1
    (cell,) = json.loads(status.stdout)["cells"]
    assert cell["failure"] == "AWS_THROTTLED"
    assert cell["last_success_at"] is None
    line = next(line for line in text.splitlines() if REGION in line)
    assert "never" in line
    assert "FAILED" in line
    assert "AWS_THROTTLED" in line
