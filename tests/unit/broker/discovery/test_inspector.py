"""Registered databases against what AWS says of them: endpoints, tags, identifiers; and what is done without it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from broker.discovery.inspection import Inspection, Verdict, enriched, question
from broker.discovery.inspector import FRESH_SECONDS, RETRY_SECONDS, Inspector
from broker.discovery.model import Item
from broker.model import Origin, RegisteredDatabase
from broker.registry.documents import judge
from broker.registry.registry import Registry
from broker.registry.sources import Sources
from tests.support.clock import FakeClock
from tests.support.documents import document
from tests.unit.broker.discovery import answers
from tests.unit.broker.discovery.answers import ACCOUNT, ANSWERS, CLUSTER, GROUP, INSTANCE, REGION, changed, found
from tests.unit.broker.discovery.world import FakeAws, denied, eyes, throttled
from tests.unit.broker.registry.test_documents import TERMS
from tollbridge.model import Product

HOST = "rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com"
LISTED = "master.my-rg.abcdef.usw1.cache.amazonaws.com"
EVIL = "master.my-rg.evil99.usw1.cache.amazonaws.com"


def dynamic(uri: str = f"{HOST}:5432", protocol: str = "postgres") -> RegisteredDatabase:
    """A dynamic database there, within its bounds."""
    judged = judge(document("orders", spec__protocol=protocol, spec__uri=uri), TERMS)
    assert judged.database is not None, judged.problems
    return judged.database


def static(uri: str = f"{HOST}:5432", protocol: str = "postgres") -> RegisteredDatabase:
    return replace(dynamic(uri, protocol), origin=Origin.STATIC)


class Stage:
    def __init__(self, aws: FakeAws, *databases: RegisteredDatabase) -> None:
        self.clock = FakeClock()
        self.sources = Sources(Registry())
        self.databases = databases
        self.inspector = Inspector(
            eyes(aws),
            registered=lambda: self.databases,
            changed=self.sources.refresh,
            clock=self.clock,
            jitter=lambda: 0.5,
        )
        self.sources.enrich = self.inspector.enrich
        self.sources.put_static([each for each in databases if each.origin is Origin.STATIC])
        self.sources.put_dynamic([each for each in databases if each.origin is Origin.DYNAMIC])

    @property
    def served(self) -> list[RegisteredDatabase]:
        return list(self.sources.snapshot.by_name.values())


@pytest.fixture
def aws() -> FakeAws:
    aws = FakeAws()
    aws.put(ACCOUNT, REGION, INSTANCE)
    aws.put(ACCOUNT, REGION, GROUP, operation="DescribeReplicationGroups")
    return aws


ASKED: dict[Product, tuple[str, str]] = {
    Product.RDS: ("DescribeDBInstances", "DescribeDBClusters"),
    Product.RDSPROXY: ("DescribeDBProxies", "DescribeDBProxyEndpoints"),
    Product.REDSHIFT: ("DescribeClusters", ""),
    Product.REDSHIFT_SERVERLESS: ("GetWorkgroup", "GetEndpointAccess"),
    Product.ELASTICACHE: ("DescribeReplicationGroups", ""),
    Product.ELASTICACHE_SERVERLESS: ("DescribeServerlessCaches", ""),
    Product.MEMORYDB: ("DescribeClusters", ""),
    Product.OPENSEARCH: ("DescribeDomains", ""),
    Product.DOCDB: ("DescribeDBClusters", ""),
}


@pytest.mark.parametrize("product", list(ANSWERS))
async def test_every_endpoint_that_discovery_finds_is_confirmed_by_name(product: Product) -> None:
    """With the calls that the cross-account page's policies allow, by one resource's name."""
    aws = FakeAws()
    items: dict[str, list[Item]] = {operation: list(listed) for operation, listed in ANSWERS[product].items()}
    if product is Product.REDSHIFT_SERVERLESS:
        items = {"GetWorkgroup": [answers.WORKGROUP], "GetEndpointAccess": [answers.WORKGROUP_ENDPOINT]}
    if product is Product.OPENSEARCH:
        items = {"DescribeDomains": [answers.DOMAIN]}
    for operation, listed in items.items():
        aws.put(ACCOUNT, REGION, *listed, operation=operation)
    for each in found(product, ANSWERS[product])[0]:
        asked = question(each.database)
        assert asked is not None
        assert asked.listing.operation in ASKED[product]
        inspection = await Stage(aws).inspector.inspect(each.database)
        assert (inspection.verdict, inspection.why) == (Verdict.CONFIRMED, "")


async def test_tags_and_facts_become_labels_and_the_registrations_own_stay(aws: FakeAws) -> None:
    database = static()
    own = replace(database, facts=replace(database.facts, labels={"team": "bank", "tier": "gold"}))
    stage = Stage(aws, own)
    await stage.inspector.round()
    (served,) = stage.served
    assert served.facts.labels == {
        "account-id": ACCOUNT,
        "engine": "postgres",
        "engine-version": "16.4",
        "env": "dev",
        "region": REGION,
        "team": "bank",
        "tier": "gold",
        "vpc-id": "vpc-0a1b2c3d",
    }
    assert served.resource_ids["rds.resource_id"] == "db-ABCDEFGHIJKL012345"


async def test_tags_kept_apart_are_read_and_done_without_where_denied(aws: FakeAws) -> None:
    aws.tagged[GROUP["ARN"]] = {"env": "dev"}
    database = static(f"{LISTED}:6379", "redis")
    assert (await Stage(aws).inspector.inspect(database)).tags == {"env": "dev"}
    aws.denied_tags = True
    inspection = await Stage(aws).inspector.inspect(database)
    assert (inspection.verdict, inspection.tags) == (Verdict.CONFIRMED, {})
    assert inspection.denied == "elasticache:ListTagsForResource"


async def test_somebody_elses_cache_of_the_same_name_is_not_registered(aws: FakeAws) -> None:
    """Its address fits the grammar in every part; the token would be shown to it."""
    stage = Stage(aws)
    assert await stage.inspector.verify(dynamic(f"{LISTED}:6379", "redis")) == ()
    (problem,) = await stage.inspector.verify(dynamic(f"{EVIL}:6379", "redis"))
    assert problem.path == "spec.uri"
    assert LISTED in problem.message
    assert EVIL in problem.message


async def test_a_cache_that_the_account_does_not_have_is_not_registered(aws: FakeAws) -> None:
    aws.put(ACCOUNT, REGION, operation="DescribeReplicationGroups")
    (problem,) = await Stage(aws).inspector.verify(dynamic(f"{LISTED}:6379", "redis"))
    assert "AWS has no elasticache 'my-rg' in account 222222222222" in problem.message


async def test_where_users_log_in_by_host_a_wrong_one_is_only_remarked(
    aws: FakeAws, caplog: pytest.LogCaptureFixture
) -> None:
    """A token of RDS is good at its own host alone; a database may be registered before it is made."""
    other = "other.abcdef012345.us-west-1.rds.amazonaws.com"
    aws.put(ACCOUNT, REGION, changed(INSTANCE, Endpoint={"Address": other, "Port": 5432}))
    with caplog.at_level(logging.WARNING):
        assert await Stage(aws).inspector.verify(dynamic()) == ()
    assert f"AWS names {other} as the endpoint of 'rds-postgres', not {HOST}" in caplog.text


async def test_one_that_turns_out_to_be_somebody_elses_is_no_longer_served(aws: FakeAws) -> None:
    stage = Stage(aws, dynamic(f"{LISTED}:6379", "redis"))
    await stage.inspector.round()
    assert [each.facts.endpoint.host for each in stage.served] == [LISTED]
    primary = {"PrimaryEndpoint": {"Address": EVIL, "Port": 6379}}
    aws.put(ACCOUNT, REGION, changed(GROUP, NodeGroups=[primary]), operation="DescribeReplicationGroups")
    stage.clock.advance(FRESH_SECONDS * 2)
    await stage.inspector.round()
    assert stage.served == []


async def test_static_configuration_is_the_operators_word(aws: FakeAws, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(aws, static(f"{EVIL}:6379", "redis"))
    with caplog.at_level(logging.WARNING):
        await stage.inspector.round()
    assert len(stage.served) == 1
    assert "not master.my-rg.evil99" in caplog.text


@pytest.mark.parametrize("error", [denied("AWS denies elasticache:DescribeReplicationGroups"), throttled()])
async def test_where_aws_cannot_be_asked_the_form_has_to_do(aws: FakeAws, error: Any) -> None:
    aws.broken[ACCOUNT, "*"] = error
    stage = Stage(aws, dynamic(f"{LISTED}:6379", "redis"))
    assert await stage.inspector.verify(stage.databases[0]) == ()
    await stage.inspector.round()
    assert len(stage.served) == 1


async def test_a_missing_permission_is_said_once(aws: FakeAws, caplog: pytest.LogCaptureFixture) -> None:
    aws.broken[ACCOUNT, "*"] = denied("AWS denies elasticache:DescribeReplicationGroups")
    stage = Stage(aws)
    with caplog.at_level(logging.WARNING):
        for host in (LISTED, EVIL, LISTED):
            await stage.inspector.verify(dynamic(f"{host}:6379", "redis"))
    assert caplog.text.count("checked by their form alone") == 1


async def test_denied_tags_are_said_once_and_as_what_they_are(aws: FakeAws, caplog: pytest.LogCaptureFixture) -> None:
    aws.denied_tags = True
    stage = Stage(aws)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await stage.inspector.verify(dynamic(f"{LISTED}:6379", "redis"))
    assert caplog.text.count("without tags: AWS denies elasticache:ListTagsForResource") == 1
    assert "form alone" not in caplog.text


async def test_what_aws_said_before_stands_while_it_cannot_be_asked(aws: FakeAws) -> None:
    stage = Stage(aws, static())
    await stage.inspector.round()
    aws.broken[ACCOUNT, "*"] = throttled()
    stage.clock.advance(FRESH_SECONDS * 2)
    await stage.inspector.round()
    assert stage.served[0].facts.labels["env"] == "dev"


async def test_answers_are_kept_and_failures_asked_again_sooner(aws: FakeAws) -> None:
    stage = Stage(aws, static())
    await stage.inspector.round()
    await stage.inspector.round()
    assert aws.made["DescribeDBInstances"] == 1
    aws.broken[ACCOUNT, "*"] = throttled()
    stage.clock.advance(FRESH_SECONDS * 1.3)
    await stage.inspector.round()
    stage.clock.advance(RETRY_SECONDS * 1.3)
    await stage.inspector.round()
    assert aws.made["DescribeDBInstances"] == 3


async def test_an_aws_that_does_not_answer_keeps_no_operator_waiting() -> None:
    class Hanging(FakeAws):
        async def _called(self, *_: object) -> None:
            await asyncio.Event().wait()

    inspector = Inspector(
        eyes(Hanging()),
        registered=lambda: (),
        changed=lambda: None,
        clock=FakeClock(),
        jitter=lambda: 0.5,
        verify_seconds=0.01,
    )
    assert await inspector.verify(dynamic(f"{LISTED}:6379", "redis")) == ()


def test_products_without_such_a_call_are_not_asked_about() -> None:
    database = static()
    dsql = replace(database, facts=replace(database.facts, product=Product.DSQL))
    assert question(dsql) is None


def test_labels_come_from_nothing_but_a_confirmed_endpoint() -> None:
    for verdict in Verdict:
        made = enriched(static(), Inspection(verdict=verdict, tags={"owner": "somebody"}))
        assert ("owner" in made.facts.labels) == (verdict is Verdict.CONFIRMED)


async def test_a_cluster_asks_for_itself_by_the_id_its_host_names(aws: FakeAws) -> None:
    aws.put(ACCOUNT, REGION, CLUSTER, operation="DescribeDBClusters")
    reader = static("orders.cluster-ro-abcdef012345.us-west-1.rds.amazonaws.com:5432")
    asked = question(reader)
    assert asked is not None
    assert asked.listing.parameters == {"DBClusterIdentifier": "orders"}
    assert (await Stage(aws).inspector.inspect(reader)).verdict is Verdict.CONFIRMED
