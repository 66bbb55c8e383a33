"""Databases that nobody registered: found in three accounts, entered with psql, kept through what AWS refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.sandbox import estate, topology
from deploy.sandbox.accounts import (
    CONNECT_POLICY,
    DISCOVERY_POLICY,
    Accounts,
    allow,
    discovery_policy,
    policy,
    rds_policy,
)
from deploy.sandbox.bridge import Document
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.clients import PATIENCE_SECONDS, psql
from tests.e2e.conftest import Workshop
from tests.e2e.discovering import MATCHERS, attempted, broker_only, discovering, swept, the_pages
from tests.e2e.load import until
from tests.e2e.registering import login, operator
from tollbridge.client import RpcFailed
from tollbridge.model import Product
from tollbridge.reasons import Reason


@pytest.fixture
def accounts(world: World) -> Accounts:
    return Accounts(world.aws_endpoint)


async def test_the_pages_example_gives_a_psql_login(workshop: Workshop, tmp_path: Path) -> None:
    bridge = workshop.bridge(change_broker=the_pages(tmp_path))
    found = await swept(bridge, attempted)
    assert [(each.databases, each.failure) for each in found.cells] == [(1, None)]
    result = psql(login(bridge, "mtls", "app@rds-postgres"), "select current_user, 42")
    assert (result.returncode, result.stdout.strip()) == (0, "app|42")


async def test_tags_and_facts_are_the_labels_that_rules_see(workshop: Workshop, tmp_path: Path) -> None:
    bridge = broker_only(workshop, the_pages(tmp_path))
    await swept(bridge, attempted)
    async with operator(bridge) as client:
        (registration,) = await client.list_registrations()
    assert registration.database is not None
    assert registration.database.labels == {
        "account-id": "222222222222",
        "endpoint-type": "instance",
        "engine": "postgres",
        "engine-version": "15.8",
        "env": "dev",
        "region": "us-west-1",
        "team": "shop",
        "vpc-id": "vpc-222222222222",
    }


async def test_logins_and_sweeps_share_a_session(workshop: Workshop, tmp_path: Path, control: Control) -> None:
    control.reset_counters()
    bridge = workshop.bridge(change_broker=the_pages(tmp_path))
    await swept(bridge, attempted)
    assert psql(login(bridge, "mtls", "app@rds-postgres"), "select 1").returncode == 0
    assert control.counters().assume_role == {topology.EXAMPLE_ROLE_ARN: 1}


async def test_a_restarted_broker_serves_what_it_knew_while_aws_does_not_answer(
    workshop: Workshop, tmp_path: Path, control: Control
) -> None:
    bridge = workshop.bridge(change_broker=the_pages(tmp_path))
    await swept(bridge, attempted)
    control.inject_fault("error500", service="rds", action="*")
    try:
        bridge.broker.stop()
        bridge.broker.start()
        found = await swept(bridge, lambda table: bool(table.cells[0].failures))
        assert (found.cells[0].failure, found.cells[0].databases) == (Reason.AWS_UNAVAILABLE, 1)
        await until(lambda: psql(login(bridge, "mtls", "app@rds-postgres"), "select 1").returncode == 0)
    finally:
        control.clear_faults()


async def test_forget_drops_what_failed_sweeps_keep_and_nothing_else(
    workshop: Workshop, tmp_path: Path, control: Control
) -> None:
    bridge = broker_only(workshop, the_pages(tmp_path))
    await swept(bridge, attempted)
    async with operator(bridge) as client:
        with pytest.raises(RpcFailed, match="still lists it"):
            await client.forget_database("rds-postgres")
        control.inject_fault("throttle", service="rds", action="*")
        try:
            await swept(bridge, lambda table: bool(table.cells[0].failures))
            await client.forget_database("rds-postgres")
            assert (await client.discovery_status()).cells[0].databases == 0
            with pytest.raises(RpcFailed) as raised:
                await client.forget_database("rds-postgres")
        finally:
            control.clear_faults()
        assert raised.value.reason is Reason.DATABASE_UNKNOWN
        await swept(bridge, lambda table: table.cells[0].databases == 1)


@pytest.fixture
def closed(control: Control) -> Iterator[str]:
    """An instance whose IAM authentication is off. Its ARN."""
    account = topology.EXAMPLE_ACCOUNT
    item = estate.instance("closed", account, region="us-east-2", iam_auth=False)
    control.put_resources([estate.resource(account, "us-east-2", "rds", "DescribeDBInstances", item)])
    yield item["DBInstanceArn"]
    control.remove_resources(account, "us-east-2", "rds", "DescribeDBInstances")


@pytest.fixture
def closed_cluster(control: Control) -> Iterator[str]:
    """The same for an Aurora cluster."""
    account = topology.EXAMPLE_ACCOUNT
    item = estate.cluster("closed-too", account, "", "cluster-CLOSED", region="us-east-2", iam_auth=False)
    control.put_resources([estate.resource(account, "us-east-2", "rds", "DescribeDBClusters", item)])
    yield item["DBClusterArn"]
    control.remove_resources(account, "us-east-2", "rds", "DescribeDBClusters")


def in_ohio(folder: Path, **more: Any) -> Callable[[Document], None]:
    return discovering(folder, {"aws": [{**MATCHERS[1], "regions": ["us-east-2"]}]}, **more)


async def test_iam_authentication_is_turned_on_when_asked_for_by_name(
    workshop: Workshop, tmp_path: Path, closed: str
) -> None:
    bridge = broker_only(workshop, in_ohio(tmp_path, iam_auth_changes=True))
    found = await swept(bridge, attempted)
    assert [(each.name, each.cause) for each in found.cells[0].skipped] == [("closed", "IAM authentication is off")]
    async with operator(bridge) as client:
        plan = await client.discovery_plan()
        assert [(each.arn, each.call) for each in plan.changes] == [(closed, "rds:ModifyDBInstance")]
        outcomes = await client.discovery_apply([closed])
        assert [(each.result.value, each.message) for each in outcomes] == [("changed", "")]
        await swept(bridge, lambda table: table.cells[0].databases == 1)
        assert (await client.discovery_plan()).changes == ()
    lines = [line for line in bridge.audit("broker") if line["event"] == "aws_change"]
    assert [(line["action"], line["resource"], line["result"]) for line in lines] == [
        ("rds:ModifyDBInstance", closed, "changed")
    ]


async def test_it_is_off_by_default_and_a_missing_permission_is_named(
    workshop: Workshop, tmp_path: Path, closed: str, closed_cluster: str, accounts: Accounts
) -> None:
    """Without RDSAutoEnableIAMAuth the plan is shown all the same; what is not allowed is said by who would do it."""
    calls = {closed: "rds:ModifyDBInstance", closed_cluster: "rds:ModifyDBCluster"}
    bridge = broker_only(workshop, in_ohio(tmp_path))
    await swept(bridge, attempted)
    async with operator(bridge) as client:
        assert not (await client.discovery_plan()).apply_allowed
        with pytest.raises(RpcFailed, match="iam_auth_changes") as raised:
            await client.discovery_apply([closed])
        assert raised.value.reason is Reason.FEATURE_REFUSED
    allowing = broker_only(workshop, in_ohio(tmp_path / "allowing", iam_auth_changes=True))
    without = policy(allow(["rds:DescribeDBInstances", "rds:DescribeDBClusters"], "*"))
    accounts.put_role_policy(topology.EXAMPLE_ROLE_ARN, CONNECT_POLICY, without)
    try:
        await swept(allowing, attempted)
        async with operator(allowing) as client:
            plan = await client.discovery_plan()
            outcomes = await client.discovery_apply(list(calls))
        assert {each.arn: each.call for each in plan.changes} == calls
        assert [each.arn for each in outcomes] == list(calls)
        for outcome in outcomes:
            assert outcome.reason is Reason.CREDENTIAL_DENIED
            needed = allow(calls[outcome.arn], outcome.arn)
            assert json.dumps(needed, separators=(",", ":")) in outcome.message
    finally:
        accounts.put_role_policy(topology.EXAMPLE_ROLE_ARN, CONNECT_POLICY, rds_policy(topology.RDS_POSTGRES))


async def test_only_operators_may_look_and_only_appliers_may_apply(workshop: Workshop, tmp_path: Path) -> None:
    bridge = broker_only(workshop, the_pages(tmp_path))
    async with operator(bridge, name="client") as client:
        for call in (client.discovery_status(), client.discovery_plan(), client.discovery_apply(["x"])):
            with pytest.raises(RpcFailed) as raised:
                await call
            assert raised.value.reason is Reason.CALLER_NOT_ALLOWED
        with pytest.raises(RpcFailed):
            await client.forget_database("rds-postgres")


PRODUCTS: Final = (
    topology.RDS_PROXY,
    topology.REDSHIFT,
    topology.REDSHIFT_SERVERLESS,
    topology.CACHE,
    topology.SERVERLESS_CACHE,
    topology.MEMORYDB,
    topology.OPENSEARCH,
    topology.DOCUMENTDB,
)
TYPES: Final = [spec.product for spec in PRODUCTS]


async def test_every_service_is_found_and_denied_tags_are_a_note(
    workshop: Workshop, tmp_path: Path, control: Control, accounts: Accounts
) -> None:
    for spec in PRODUCTS:
        control.put_resources(list(estate.resources(spec)))
    matcher = {**MATCHERS[1], "types": TYPES, "regions": [topology.REGION]}
    bridge = broker_only(workshop, discovering(tmp_path, {"aws": [matcher]}))
    found = await swept(bridge, attempted)
    assert {each.product: (each.databases, each.failure, each.notes) for each in found.cells} == {
        Product(product): (1, None, ()) for product in TYPES
    }
    async with operator(bridge) as client:
        databases = [registration.database for registration in await client.list_registrations()]
    assert {database.labels["team"] for database in databases if database} == {"shop"}
    lists = ["rds:DescribeDBProxies", "rds:DescribeDBProxyEndpoints", "elasticache:DescribeReplicationGroups"]
    accounts.put_role_policy(topology.EXAMPLE_ROLE_ARN, DISCOVERY_POLICY, policy(allow(lists, "*")))
    try:
        later = await swept(bridge, lambda table: any(each.notes for each in table.cells))
        by_product = {each.product: each for each in later.cells}
        assert "rds:ListTagsForResource" in by_product[Product.RDSPROXY].notes[0]
        later = await swept(bridge, lambda table: sum(bool(each.failure) for each in table.cells) == 4)
        assert {each.databases for each in later.cells} == {1}
    finally:
        accounts.put_role_policy(topology.EXAMPLE_ROLE_ARN, DISCOVERY_POLICY, discovery_policy())
        for spec in PRODUCTS:
            for resource in estate.resources(spec):
                place = {key: resource[key] for key in ("account_id", "region", "service", "operation")}
                if place["operation"] != "DescribeDBInstances":
                    control.remove_resources(**place)


async def test_tags_of_a_static_database_become_labels_and_logins_do_not_need_them(
    workshop: Workshop, tmp_path: Path, accounts: Accounts
) -> None:
    def change(document: Document) -> None:
        document["discovery"] = {"fetch_metadata": True}

    bridge = broker_only(workshop, change)

    async def labels(name: str) -> dict[str, str]:
        async with operator(bridge) as client:
            found = await client.list_registrations()
        return {each.name: dict(each.database.labels) for each in found if each.database}[name]

    async with asyncio.timeout(PATIENCE_SECONDS):
        while "team" not in await labels("rds-postgres"):  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.2)
    assert (await labels("rds-postgres"))["engine-version"] == "15.8"
    connect = topology.RDS_POSTGRES.connect_arn("*")
    accounts.put_role_policy(topology.EXAMPLE_ROLE_ARN, CONNECT_POLICY, policy(allow("rds-db:connect", connect)))
    try:
        bridge.broker.stop()
        bridge.broker.start()
        bridge.proxy.start()
        said = "endpoints are checked by their form alone"
        await until(lambda: said in bridge.broker.log())
        assert psql(login(bridge, "mtls", "app@rds-postgres"), "select 1").returncode == 0
        assert "team" not in await labels("rds-postgres")
        assert bridge.broker.log().count(said) == 1
    finally:
        accounts.put_role_policy(topology.EXAMPLE_ROLE_ARN, CONNECT_POLICY, rds_policy(topology.RDS_POSTGRES))
