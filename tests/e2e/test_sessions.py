"""Account sessions that end, die or are renewed while logins go on: nobody notices, and AWS is hardly asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import CONNECT_POLICY, Accounts, broker_trust_policy, rds_policy
from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.load import (
    REFUSAL_SECONDS,
    crowd,
    decisions,
    enter,
    issue_workloads,
    make_role,
    mtls,
    refusal,
    role,
    state,
    traffic,
    until,
    until_let_in,
    with_roles,
)
from tollbridge.client import Client, Identity

ROLES: Final = (
    "reborn",
    "reborn-in-a-crowd",
    "gone",
    "timed-out",
    "renewed",
    "not-renewed",
    "powerless",
    "quarter-hour",
    "named",
)
WORKLOADS: Final = 10

QUARTER_HOUR: Final = {
    "name": "quarter-hour",
    "role_arns": [role("quarter-hour")],
    "external_id": topology.EXAMPLE_EXTERNAL_ID,
    "session_duration_seconds": 900,
}


@pytest.fixture(scope="module")
def bridge(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A role and a database for each test."""
    for name in ROLES:
        make_role(world, name)
    directory: Path = tmp_path_factory.mktemp("sessions") / "bridge"

    def change(document: Document) -> None:
        with_roles(ROLES, account_links=[QUARTER_HOUR])(document)
        for database in document["db_service"]["databases"]:
            if database["name"] == "named":
                database["attribution"] = "workload"

    with Bridge(world, directory, change) as bridge:
        issue_workloads(bridge, WORKLOADS)
        yield bridge


@pytest.fixture
def accounts(world: World) -> Accounts:
    """The other accounts' owner."""
    return Accounts(world.aws_endpoint)


@pytest.fixture
def aws(control: Control) -> Iterator[Control]:
    """The sandbox's levers; sessions have their usual life again after a test, and no fault outlives it."""
    yield control
    control.shorten_sessions(None)
    control.clear_faults()


def sts_calls(aws: Control) -> tuple[int, int]:
    """AssumeRole and GetCallerIdentity since the last reset."""
    calls = aws.counters().calls
    return calls.get("sts:AssumeRole", 0), calls.get("sts:GetCallerIdentity", 0)


async def test_after_a_role_was_deleted_and_made_again_the_next_login_succeeds(
    bridge: Bridge, aws: Control, accounts: Accounts
) -> None:
    door = mtls(bridge, "app@reborn")
    await enter(door)
    accounts.recreate_role(role("reborn"))
    aws.reset_counters()
    assert await enter(door) == "app"
    assert sts_calls(aws) == (1, 1)
    first, again = decisions(bridge, database="reborn", allowed=True)
    assert again["rejected_credential_id"] == first["credential_id"]
    assert again["access_key_id"] != first["access_key_id"]


async def test_a_crowd_that_finds_its_role_made_again_asks_once_and_all_get_in(
    bridge: Bridge, aws: Control, accounts: Accounts
) -> None:
    doors = [mtls(bridge, "app@reborn-in-a-crowd", f"worker-{number % WORKLOADS:02}") for number in range(100)]
    async with crowd(doors[:WORKLOADS]) as before:
        assert before.refused == []
    accounts.recreate_role(role("reborn-in-a-crowd"))
    aws.reset_counters()
    async with crowd(doors) as logins:
        assert logins.refused == []
    assumed, identified = sts_calls(aws)
    assert assumed == 1
    assert identified <= 1


async def test_a_role_that_is_gone_refuses_until_it_is_back_and_disturbs_nobody(
    bridge: Bridge, aws: Control, accounts: Accounts
) -> None:
    door = mtls(bridge, "app@gone")
    await enter(door)
    accounts.delete_role(role("gone"))
    aws.reset_counters()
    async with traffic(lambda: mtls(bridge)) as others:
        began = time.monotonic()
        told = await refusal(door)
        assert role("gone") in told
        assert "trust policy" in told
        for _ in range(10):
            await refusal(door)
        took = time.monotonic() - began
        assert 1 <= aws.counters().assume_role[role("gone")] <= 1 + took // REFUSAL_SECONDS
        assert sts_calls(aws)[1] == 1
        accounts.create_role(
            role("gone"),
            trust=broker_trust_policy(topology.EXAMPLE_EXTERNAL_ID),
            permissions=rds_policy(topology.RDS_POSTGRES),
        )
        await until_let_in(door)
    assert others.failures == []


async def test_a_session_that_ended_early_is_replaced_during_the_login(bridge: Bridge, aws: Control) -> None:
    door = mtls(bridge, "app@timed-out")
    await enter(door)
    assert aws.expire_session(role_arn=role("timed-out")) == 1
    aws.reset_counters()
    assert await enter(door) == "app"
    assert sts_calls(aws) == (1, 1)


async def test_sessions_are_renewed_again_and_again_and_no_login_fails(
    bridge: Bridge, aws: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.shorten_sessions(5)
    aws.reset_counters()
    door = mtls(bridge, "app@renewed")
    async with traffic(lambda: door, lambda: door) as logins:
        await until(lambda: aws.counters().assume_role.get(role("renewed"), 0) >= 4)
    assert logins.failures == []
    assert len({line["access_key_id"] for line in decisions(bridge, database="renewed")}) >= 3
    assert sts_calls(aws)[1] == 0, "a renewal needs no check"
    state(capsys, f"{logins.logins} logins over 4 sessions of 5 s, slowest {logins.slowest:.2f} s")


async def test_a_session_that_cannot_be_renewed_serves_to_its_end_and_not_beyond(bridge: Bridge, aws: Control) -> None:
    aws.shorten_sessions(8)
    door = mtls(bridge, "app@not-renewed")
    await enter(door)
    ends_at = datetime.fromisoformat(decisions(bridge, database="not-renewed")[0]["expires_at"])
    aws.inject_fault("throttle", role_arn=role("not-renewed"))
    aws.reset_counters()
    async with traffic(lambda: door) as logins:
        await until(lambda: datetime.now(UTC) > ends_at - timedelta(seconds=1))
        assert logins.failures == []
    assert aws.counters().errors.get("sts:AssumeRole", 0) >= 1, "a renewal was tried"
    await until(lambda: datetime.now(UTC) > ends_at)
    assert "throttles" in await refusal(door)
    aws.clear_faults()
    await until_let_in(door)


async def test_a_policy_without_connect_is_named_and_the_session_stays(
    bridge: Bridge, aws: Control, accounts: Accounts
) -> None:
    door = mtls(bridge, "app@powerless")
    await enter(door)
    accounts.remove_role_policy(role("powerless"))
    aws.reset_counters()
    told = await refusal(door)
    assert "rds-db:connect" in told
    assert "rds_iam" in told
    for number in range(WORKLOADS):
        assert "rds-db:connect" in await refusal(mtls(bridge, "app@powerless", f"worker-{number:02}"))
    assert sts_calls(aws) == (0, 1), "one question in 30 s, and no session was thrown away"
    refused = decisions(bridge, database="powerless", reason="DATABASE_REFUSED")
    assert len(refused) == 1 + WORKLOADS
    accounts.put_role_policy(role("powerless"), CONNECT_POLICY, rds_policy(topology.RDS_POSTGRES))
    await until_let_in(door)
    assert sts_calls(aws) == (0, 1)


async def test_a_credential_ends_with_its_session_of_a_quarter_of_an_hour(bridge: Bridge, aws: Control) -> None:
    aws.reset_counters()
    await enter(mtls(bridge, "app@quarter-hour"))
    await enter(mtls(bridge, "readonly@quarter-hour"))
    assert sts_calls(aws)[0] == 1, "it serves more than one login"
    lines = decisions(bridge, database="quarter-hour")
    lives = [
        (datetime.fromisoformat(line["expires_at"]) - datetime.fromisoformat(line["time"])).total_seconds()
        for line in lines
    ]
    assert len(lives) == 2
    assert all(850 < life <= 900.5 for life in lives), lives


async def test_the_brokers_own_account_is_entered_with_its_own_keys(bridge: Bridge, aws: Control, world: World) -> None:
    aws.reset_counters()
    assert await enter(mtls(bridge, "app@local")) == "app"
    assert sts_calls(aws) == (0, 0)
    (line,) = decisions(bridge, database="local")
    assert line["access_key_id"] == world.broker_access_key_id
    assert "role_chain" not in line


async def test_another_account_is_entered_by_its_own_role_and_external_id(bridge: Bridge, aws: Control) -> None:
    aws.reset_counters()
    assert await enter(mtls(bridge, "app@analytics")) == "app"
    assert aws.counters().assume_role == {topology.ANALYTICS_ROLE_ARN: 1}
    (line,) = decisions(bridge, database="analytics")
    assert line["role_chain"] == [topology.ANALYTICS_ROLE_ARN]


async def test_where_sessions_carry_the_workloads_name_each_workload_has_one(bridge: Bridge, aws: Control) -> None:
    aws.reset_counters()
    doors = [mtls(bridge, "app@named", f"worker-{number % 4:02}") for number in range(20)]
    async with crowd(doors) as logins:
        assert logins.refused == []
    assert sts_calls(aws)[0] == 4
    keys = {(line["workload"], line["access_key_id"]) for line in decisions(bridge, database="named")}
    assert len(keys) == 4
    assert len({key for _, key in keys}) == 4


async def test_a_service_that_asks_the_broker_itself_gets_in_with_its_grant(bridge: Bridge) -> None:
    files = {name: Path(bridge.file(file)) for name, file in (("cert_file", "client.crt"), ("key_file", "client.key"))}
    identity = Identity(**files, ca_file=Path(bridge.file("mesh-ca.crt")))
    async with Client(f"localhost:{bridge.ports['broker']}", identity) as broker:
        grant = await broker.issue_credential("rds-postgres", "app", "app")
    world = bridge.world
    direct = (
        f"host={grant.endpoint.host} hostaddr=127.0.0.1 port={world.database('rds-postgres').local_port} dbname=app "
        f"user={grant.token.user} sslmode=verify-full sslrootcert={world.ca_cert_file}"
    )
    assert await enter(f"{direct} password='{grant.token.password.reveal()}'") == "app"
