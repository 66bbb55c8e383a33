"""`register`: what static entries and `kind: db` documents share, where their rules differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.issuers.chain import account_hops
from broker.model import Attribution, Origin
from broker.registry.bounds import Head
from broker.registry.links import AccountLink, AccountLinks
from broker.registry.static import Registration, register
from broker.teleport import DatabaseCore, StaticDatabase
from tests.support.ca import TestCa
from tests.unit.broker.issuers.databases import request
from tollbridge.model import Product, TlsMode, TrustStore
from tollbridge.secret import Secret

ROLE = "arn:aws:iam::222222222222:role/example-role"
LINK = AccountLink(name="shop", role_arns=frozenset({ROLE}), external_id=Secret("linked"))
URI = "rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com:5432"


def registered(*, origin: Origin = Origin.STATIC, links: tuple[AccountLink, ...] = (), **core: Any) -> Registration:
    attribution = core.pop("attribution", Attribution.BROKER)
    head = Head(name="db", name_at=("name",), labels={"env": "dev"}, labels_at=("labels",), attribution=attribution)
    core = {"protocol": "postgres", "uri": URI, **core}
    model = StaticDatabase if origin is Origin.STATIC else DatabaseCore
    return register(head, model(**core), origin=origin, links=AccountLinks(links))


def errors(made: Registration) -> list[str]:
    return [finding.message for finding in made.findings if not finding.warning]


def warnings(made: Registration) -> list[str]:
    return [finding.message for finding in made.findings if finding.warning]


def test_a_dynamic_database_needs_an_account_id_and_a_linked_role() -> None:
    made = registered(origin=Origin.DYNAMIC, aws={"assume_role_arn": ROLE})
    assert made.database is None
    assert errors(made) == [
        f"database 'db' may not use {ROLE}: no account link names it for dynamic databases",
        "database 'db' missing AWS account ID",
    ]


def test_a_dynamic_database_within_a_link_is_registered_with_the_links_external_id() -> None:
    aws = {"assume_role_arn": ROLE, "account_id": "222222222222"}
    made = registered(origin=Origin.DYNAMIC, links=(LINK,), aws=aws)
    assert errors(made) == []
    assert made.database is not None
    assert made.database.access.external_id == Secret("linked")
    assert made.database.origin is Origin.DYNAMIC


def test_a_dynamic_database_may_not_send_a_credential_elsewhere() -> None:
    made = registered(
        origin=Origin.DYNAMIC,
        links=(LINK,),
        uri="attacker.example:5432",
        tls={"mode": "insecure", "server_name": "x"},
        aws={"assume_role_arn": ROLE, "account_id": "222222222222", "region": "us-west-1"},
    )
    said = errors(made)
    assert "'attacker.example' is not an endpoint name of AWS, and only static configuration may name others" in said
    assert "database 'db' may not bring its own tls settings: only static configuration may" in said


def test_an_operators_own_host_is_a_warning() -> None:
    made = registered(uri="db.internal.example:5432", aws={"region": "us-west-1"})
    assert errors(made) == []
    assert warnings(made) == ["'db.internal.example' is not an endpoint name of AWS: taken for rds"]


@pytest.mark.parametrize(
    ("protocol", "uri", "aws", "product", "store"),
    [
        ("postgres", URI, {}, Product.RDS, TrustStore.AWS_RDS),
        ("mysql", "m.abc.us-west-1.rds.amazonaws.com:3306", {}, Product.RDS, TrustStore.AWS_RDS),
        ("mysql", "p.proxy-abc.us-west-1.rds.amazonaws.com:3306", {}, Product.RDSPROXY, TrustStore.SYSTEM),
        ("postgres", "w.abc.us-west-1.redshift.amazonaws.com:5439", {}, Product.REDSHIFT, TrustStore.AWS_REDSHIFT),
        ("postgres", "abc.dsql.us-west-1.on.aws:5432", {}, Product.DSQL, TrustStore.SYSTEM),
        ("mongodb", "d.cluster-abc.us-west-1.docdb.amazonaws.com:27017", {}, Product.DOCDB, TrustStore.AWS_RDS),
        ("redis", "rediss://master.r.abc.use1.cache.amazonaws.com", {}, Product.ELASTICACHE, TrustStore.SYSTEM),
        ("cassandra", "", {"region": "us-west-1"}, Product.KEYSPACES, TrustStore.SYSTEM),
        ("dynamodb", "", {"region": "cn-north-1"}, Product.DYNAMODB, TrustStore.SYSTEM),
        ("opensearch", "https://search-x-abc.us-west-1.es.amazonaws.com", {}, Product.OPENSEARCH, TrustStore.SYSTEM),
        (
            "postgres",
            "cname.example:5439",
            {"region": "us-west-1", "redshift": {"cluster_id": "w"}},
            Product.REDSHIFT,
            TrustStore.AWS_REDSHIFT,
        ),
    ],
)
def test_product_and_trust_follow(
    protocol: str, uri: str, aws: dict[str, Any], product: Product, store: TrustStore
) -> None:
    made = registered(protocol=protocol, uri=uri, aws=aws)
    assert errors(made) == []
    assert made.database is not None
    assert (made.database.facts.product, made.database.facts.tls.trust_store) == (product, store)


def test_chinas_endpoints_and_roles_agree() -> None:
    aws = {"assume_role_arn": "arn:aws-cn:iam::222222222222:role/x"}
    made = registered(uri="pg.abc.rds.cn-north-1.amazonaws.com.cn:5432", aws=aws)
    assert errors(made) == []
    assert made.database is not None
    assert (made.database.access.partition, made.database.facts.region) == ("aws-cn", "cn-north-1")


def test_where_roles_are_users_an_external_id_needs_no_role() -> None:
    made = registered(protocol="dynamodb", uri="", aws={"region": "us-west-1", "external_id": "agreed"})
    assert errors(made) == []
    assert made.database is not None
    assert made.database.access.external_id == Secret("agreed")


def test_a_ca_file_replaces_the_store_or_joins_the_systems(tmp_path: Path) -> None:
    ca = TestCa(tmp_path)
    alone = registered(tls={"ca_cert_file": str(ca.file)}).database
    joined = registered(tls={"ca_cert_file": str(ca.file), "trust_system_cert_pool": True}).database
    assert alone is not None
    assert joined is not None
    assert (alone.facts.tls.trust_store, alone.facts.tls.ca_pem) == (TrustStore.INLINE, ca.pem)
    assert (joined.facts.tls.trust_store, joined.facts.tls.ca_pem) == (TrustStore.SYSTEM, ca.pem)


def test_the_system_pool_alone_does_not_weaken_an_aws_store() -> None:
    made = registered(tls={"trust_system_cert_pool": True})
    assert made.database is not None
    assert made.database.facts.tls.trust_store is TrustStore.AWS_RDS
    assert any("has no effect" in message for message in warnings(made))


def test_weaker_tls_is_named() -> None:
    made = registered(tls={"mode": "verify-ca", "server_name": "Real.Example"})
    assert made.database is not None
    assert (made.database.facts.tls.mode, made.database.facts.tls.server_name) == (TlsMode.VERIFY_CA, "real.example")
    assert any("'verify-ca'" in message for message in warnings(made))


def test_ids_from_the_host_fill_what_is_not_written() -> None:
    made = registered(aws={"rds": {"instance_id": "other", "cluster_id": "c"}})
    assert made.database is not None
    assert made.database.resource_ids == {"rds.instance_id": "other", "rds.cluster_id": "c"}
    assert any("differs from 'rds-postgres'" in message for message in warnings(made))


def test_session_tags_are_kept_in_order_of_their_keys() -> None:
    made = registered(aws={"session_tags": {"team": "shop", "env": "dev"}})
    assert made.database is not None
    assert made.database.access.session_tags == (("env", "dev"), ("team", "shop"))


@pytest.mark.parametrize(("attribution", "room"), [(Attribution.BROKER, 50), (Attribution.WORKLOAD, 49)])
def test_as_many_session_tags_as_aws_takes_the_workloads_among_them(attribution: Attribution, room: int) -> None:
    """One more is told when the file is checked and not at the first login."""
    for count in (room, room + 1):
        tags = {f"tag-{number}": "x" for number in range(count)}
        made = registered(attribution=attribution, aws={"session_tags": tags, "assume_role_arn": ROLE})
        assert (made.database is None) == (count > room)
        if made.database is not None:
            hops = account_hops(made.database, request(), broker_name="tollbridge")
            assert len(hops[0].tags) == 50


def test_a_host_is_lower_cased() -> None:
    made = registered(uri=URI.upper())
    assert made.database is not None
    assert str(made.database.facts.endpoint) == URI


@pytest.mark.parametrize(
    "uri",
    [
        "shop.proxy-abc.us-west-1.rds.amazonaws.com:5432",
        "reading.endpoint.proxy-abc.us-west-1.rds.amazonaws.com:5432",
    ],
)
def test_endpoints_of_an_rds_proxy_have_public_certificates(uri: str) -> None:
    made = registered(uri=uri)
    assert errors(made) == warnings(made) == []
    assert made.database is not None
    assert made.database.facts.product is Product.RDSPROXY
    assert made.database.facts.tls.trust_store is TrustStore.SYSTEM


@pytest.mark.parametrize(
    ("protocol", "uri", "aws", "missing"),
    [
        (
            "postgres",
            "ep-endpoint-abc.222222222222.us-west-1.redshift-serverless.amazonaws.com:5439",
            {},
            "redshift_serverless.workgroup_name",
        ),
        ("postgres", "ep-endpoint-abc.def.us-west-1.redshift.amazonaws.com:5439", {}, "redshift.cluster_id"),
        ("redis", "cache.example:6379", {"region": "us-west-1"}, "elasticache.replication_group_id"),
        (
            "redis",
            "cache.example:6379",
            {"region": "us-west-1", "memorydb": {"cluster_name": ""}},
            "elasticache.replication_group_id",
        ),
    ],
)
def test_a_name_that_credentials_are_made_for_must_be_known(
    protocol: str, uri: str, aws: dict[str, Any], missing: str
) -> None:
    made = registered(protocol=protocol, uri=uri, aws=aws)
    assert len(errors(made)) == 1
    assert f"has no {missing}, and its URI does not name it" in errors(made)[0]
    block, key = missing.split(".")
    named = registered(protocol=protocol, uri=uri, aws={**aws, block: {key: "given"}})
    assert errors(named) == []
    assert named.database is not None
    assert named.database.resource_ids[missing] == "given"


def test_groups_are_joined_on_redshift_only_and_have_names_that_aws_takes() -> None:
    uri = "wh.abc.us-west-1.redshift.amazonaws.com:5439"
    made = registered(uri=uri, aws={"redshift": {"db_groups": ["etl", "r_1+x"]}})
    assert errors(made) == []
    assert made.database is not None
    assert made.database.db_groups == ("etl", "r_1+x")
    assert dict(made.database.resource_ids) == {"redshift.cluster_id": "wh"}
    assert "is no group name that AWS takes" in errors(registered(uri=uri, aws={"redshift": {"db_groups": ["Etl"]}}))[0]
    assert "is no Redshift cluster" in errors(registered(aws={"redshift": {"db_groups": ["etl"]}}))[0]
