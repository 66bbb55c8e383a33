"""What each service's answers are read as: what is served, and what is skipped and why."""

from __future__ import annotations

from typing import Any

import pytest

from broker.discovery.model import Cause, Skipped, Target
from broker.discovery.observers import OBSERVERS
from broker.teleport import MATCHER_TYPES
from tests.unit.broker.discovery.answers import (
    ABSENT,
    ANSWERS,
    CLUSTER,
    DOCDB,
    DOMAIN,
    GROUP,
    INSTANCE,
    MEMORYDB,
    NODE,
    PROXY,
    PROXY_ENDPOINT,
    REDSHIFT,
    SERVERLESS_CACHE,
    WORKGROUP,
    changed,
    found,
    read,
)
from tollbridge.model import Product, Protocol, TlsMode, TrustStore

SERVED = {
    Product.RDS: [
        ("orders", "cluster", "orders.cluster-abcdef012345.us-west-1.rds.amazonaws.com:5432"),
        ("orders-reader", "reader", "orders.cluster-ro-abcdef012345.us-west-1.rds.amazonaws.com:5432"),
        ("rds-postgres", "instance", "rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com:5432"),
        ("orders-custom-reports", "custom", "reports.cluster-custom-abcdef012345.us-west-1.rds.amazonaws.com:5432"),
    ],
    Product.RDSPROXY: [
        ("pool", "proxy", "pool.proxy-abcdef012345.us-west-1.rds.amazonaws.com:5432"),
        ("pool-reads", "proxy-endpoint", "reads.endpoint.proxy-abcdef012345.us-west-1.rds.amazonaws.com:5432"),
    ],
    Product.REDSHIFT: [("wh", "cluster", "wh.abcdef012345.us-west-1.redshift.amazonaws.com:5439")],
    Product.REDSHIFT_SERVERLESS: [
        ("default", "workgroup", "default.222222222222.us-west-1.redshift-serverless.amazonaws.com:5439"),
        (
            "default-inside",
            "vpc-endpoint",
            "inside-endpoint-abcdef.222222222222.us-west-1.redshift-serverless.amazonaws.com:5439",
        ),
    ],
    Product.ELASTICACHE: [
        ("my-rg", "primary", "master.my-rg.abcdef.usw1.cache.amazonaws.com:6379"),
        ("my-rg-reader", "reader", "replica.my-rg.abcdef.usw1.cache.amazonaws.com:6379"),
    ],
    Product.ELASTICACHE_SERVERLESS: [
        ("cache-01", "configuration", "cache-01-abcdef.serverless.usw1.cache.amazonaws.com:6379")
    ],
    Product.MEMORYDB: [
        ("cluster-01", "configuration", "clustercfg.cluster-01.abcdef.memorydb.us-west-1.amazonaws.com:6379")
    ],
    Product.OPENSEARCH: [("logs", "domain", "search-logs-abcdefghijklmnopqrstuvwxyz.us-west-1.es.amazonaws.com:443")],
    Product.DOCDB: [
        ("papers", "cluster", "papers.cluster-abcdef012345.us-west-1.docdb.amazonaws.com:27017"),
        ("papers-reader", "reader", "papers.cluster-ro-abcdef012345.us-west-1.docdb.amazonaws.com:27017"),
    ],
}


def test_every_type_a_matcher_may_name_has_its_observer() -> None:
    assert {product.value for product in OBSERVERS} == set(MATCHER_TYPES)


@pytest.mark.parametrize("product", list(OBSERVERS))
def test_a_suitable_resource_is_served_with_all_of_its_endpoints(product: Product) -> None:
    databases, skipped = found(product, ANSWERS[product])
    assert skipped == []
    seen = {
        (each.database.name, each.database.facts.labels["endpoint-type"], str(each.database.facts.endpoint))
        for each in databases
    }
    assert seen == set(SERVED[product])


@pytest.mark.parametrize("product", list(OBSERVERS))
def test_what_is_served_has_the_place_the_role_and_the_labels(product: Product) -> None:
    for each in found(product, ANSWERS[product])[0]:
        database, access = each.database.facts, each.database.access
        assert (database.product, database.region, database.account_id) == (product, "us-west-1", "222222222222")
        assert database.tls.mode is TlsMode.VERIFY_FULL
        assert access.role_arn == "arn:aws:iam::222222222222:role/example-role"
        assert database.labels["env"] == "dev"
        assert database.labels["account-id"] == "222222222222"
        assert database.labels["region"] == "us-west-1"
        assert database.labels["engine"]


@pytest.mark.parametrize("product", list(OBSERVERS))
def test_answers_without_any_member_break_nothing_and_serve_nothing(product: Product) -> None:
    empty: dict[str, list[dict[str, Any]]] = {operation: [{}] for operation in ANSWERS[product]}
    assert found(product, empty)[0] == []


@pytest.mark.parametrize("product", list(OBSERVERS))
def test_each_missing_member_leaves_what_is_left_readable(product: Product) -> None:
    for operation, items in ANSWERS[product].items():
        for member in items[0]:
            answers = {**ANSWERS[product], operation: [changed(items[0], **{member: ABSENT})]}
            databases, _ = found(product, answers)
            for each in databases:
                assert each.database.facts.endpoint.host.endswith("amazonaws.com")


@pytest.mark.parametrize("product", list(OBSERVERS))
@pytest.mark.parametrize("nonsense", [None, "", 0, [], {}, [None], {"Address": None}, "a" * 5000])
def test_members_of_another_kind_break_nothing(product: Product, nonsense: object) -> None:
    for operation, items in ANSWERS[product].items():
        for member in items[0]:
            found(product, {**ANSWERS[product], operation: [changed(items[0], **{member: nonsense})]})


@pytest.mark.parametrize(
    ("change", "cause", "word"),
    [
        ({"DBInstanceStatus": "creating"}, Cause.NOT_AVAILABLE, "creating"),
        ({"DBInstanceStatus": "Deleting"}, Cause.NOT_AVAILABLE, "Deleting"),
        ({"DBInstanceStatus": "stopped"}, Cause.NOT_AVAILABLE, "stopped"),
        ({"Engine": "oracle-ee"}, Cause.ENGINE, "oracle-ee"),
        ({"Engine": ABSENT}, Cause.ENGINE, "unknown"),
        ({"Engine": "mariadb", "EngineVersion": "10.5.20"}, Cause.VERSION, "10.6"),
        ({"IAMDatabaseAuthenticationEnabled": False}, Cause.IAM_AUTH_OFF, "instance"),
        ({"IAMDatabaseAuthenticationEnabled": ABSENT}, Cause.IAM_AUTH_OFF, "instance"),
        ({"Endpoint": ABSENT}, Cause.ENDPOINT, "no endpoint"),
        ({"Endpoint": {"Address": "db.evil.example", "Port": 5432}}, Cause.ENDPOINT, "db.evil.example"),
        (
            {"Endpoint": {"Address": "x.abcdef012345.eu-west-1.rds.amazonaws.com", "Port": 5432}},
            Cause.ENDPOINT,
            "eu-west-1",
        ),
        ({"DBInstanceArn": "arn:aws:rds:us-west-1:999999999999:db:x"}, Cause.ACCOUNT, "999999999999"),
    ],
)
def test_an_instance_that_does_not_fit_is_skipped_with_the_reason(
    change: dict[str, Any], cause: Cause, word: str
) -> None:
    databases, skipped = found(Product.RDS, {"DescribeDBInstances": [changed(INSTANCE, **change)]})
    assert databases == []
    assert [(each.cause, word in each.why) for each in skipped] == [(cause, True)]


@pytest.mark.parametrize("status", ["available", "backing-up", "modifying", "storage-optimization", "some-new-state"])
def test_states_that_take_logins_and_states_of_tomorrow_are_served(status: str) -> None:
    databases, skipped = found(Product.RDS, {"DescribeDBInstances": [changed(INSTANCE, DBInstanceStatus=status)]})
    assert (len(databases), skipped) == (1, [])


@pytest.mark.parametrize(
    ("engine", "version", "protocol"),
    [
        ("postgres", "16.4", Protocol.POSTGRES),
        ("mysql", "8.0.39", Protocol.MYSQL),
        ("mariadb", "10.6.14", Protocol.MYSQL),
        ("mariadb", "11.4.3", Protocol.MYSQL),
        ("mariadb", "", Protocol.MYSQL),
    ],
)
def test_engines_are_told_by_what_they_speak(engine: str, version: str, protocol: Protocol) -> None:
    databases, _ = found(
        Product.RDS, {"DescribeDBInstances": [changed(INSTANCE, Engine=engine, EngineVersion=version)]}
    )
    assert [each.database.facts.protocol for each in databases] == [protocol]


def test_members_of_clusters_and_engines_of_other_products_are_not_listed_at_all() -> None:
    answers = {
        "DescribeDBInstances": [
            changed(INSTANCE, DBClusterIdentifier="orders"),
            changed(INSTANCE, Engine="docdb"),
            changed(INSTANCE, Engine="neptune"),
        ],
        "DescribeDBClusters": [DOCDB, changed(CLUSTER, Engine="neptune")],
    }
    assert read(Product.RDS, answers) == []
    assert read(Product.DOCDB, {"DescribeDBClusters": [CLUSTER]}) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"Status": "creating"}, Cause.NOT_AVAILABLE),
        ({"DBClusterMembers": []}, Cause.NOT_AVAILABLE),
        ({"EngineMode": "serverless"}, Cause.VERSION),
        ({"Engine": "aurora"}, Cause.ENGINE),
        ({"IAMDatabaseAuthenticationEnabled": False}, Cause.IAM_AUTH_OFF),
    ],
)
def test_a_cluster_that_does_not_fit_is_skipped_once_for_all_its_endpoints(
    change: dict[str, Any], cause: Cause
) -> None:
    databases, skipped = found(Product.RDS, {"DescribeDBClusters": [changed(CLUSTER, **change)]})
    assert databases == []
    assert [each.cause for each in skipped] == [cause]


def test_a_cluster_of_one_writer_has_no_reader_and_a_secondary_no_writer() -> None:
    writer, reader = CLUSTER["DBClusterMembers"]
    for members, kinds in (([writer], {"cluster", "custom"}), ([reader], {"reader", "custom"})):
        databases, _ = found(Product.RDS, {"DescribeDBClusters": [changed(CLUSTER, DBClusterMembers=members)]})
        assert {each.database.facts.labels["endpoint-type"] for each in databases} == kinds


def test_only_instances_and_clusters_with_iam_off_can_be_changed() -> None:
    off = {"IAMDatabaseAuthenticationEnabled": False}
    answers = {
        "DescribeDBInstances": [changed(INSTANCE, **off), changed(INSTANCE, **off, Engine="oracle-ee")],
        "DescribeDBClusters": [changed(CLUSTER, **off)],
    }
    skipped = [each for each in read(Product.RDS, answers) if isinstance(each, Skipped)]
    assert [each.target for each in skipped] == [Target.INSTANCE, None, Target.CLUSTER]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"Status": "deleting"}, Cause.NOT_AVAILABLE),
        ({"EngineFamily": "SQLSERVER"}, Cause.ENGINE),
        ({"Auth": [{"IAMAuth": "DISABLED"}]}, Cause.IAM_AUTH_OFF),
        ({"Auth": []}, Cause.IAM_AUTH_OFF),
    ],
)
def test_a_proxy_that_does_not_fit_takes_its_endpoints_with_it(change: dict[str, Any], cause: Cause) -> None:
    answers = {"DescribeDBProxies": [changed(PROXY, **change)], "DescribeDBProxyEndpoints": [PROXY_ENDPOINT]}
    databases, skipped = found(Product.RDSPROXY, answers)
    assert databases == []
    assert [each.cause for each in skipped] == [cause]


def test_a_proxy_of_end_to_end_iam_needs_no_secret_and_its_default_endpoint_is_itself() -> None:
    answers = {
        "DescribeDBProxies": [changed(PROXY, Auth=[], DefaultAuthScheme="IAM_AUTH")],
        "DescribeDBProxyEndpoints": [changed(PROXY_ENDPOINT, IsDefault=True)],
    }
    assert [each.database.name for each in found(Product.RDSPROXY, answers)[0]] == ["pool"]


def test_a_mysql_proxy_listens_on_mysqls_port() -> None:
    databases, _ = found(Product.RDSPROXY, {"DescribeDBProxies": [changed(PROXY, EngineFamily="MYSQL")]})
    assert [(each.database.facts.protocol, each.database.facts.endpoint.port) for each in databases] == [
        (Protocol.MYSQL, 3306)
    ]


def test_policies_name_a_proxy_by_its_resource_id() -> None:
    databases, _ = found(Product.RDSPROXY, ANSWERS[Product.RDSPROXY])
    assert {each.database.resource_ids["rdsproxy.resource_id"] for each in databases} == {"prx-0123456789abcdef0"}


@pytest.mark.parametrize(
    ("change", "node", "cause"),
    [
        ({"Status": "creating"}, {}, Cause.NOT_AVAILABLE),
        ({"Engine": "memcached"}, {}, Cause.ENGINE),
        ({"Engine": "redis"}, {"EngineVersion": "6.2.6"}, Cause.VERSION),
        ({"TransitEncryptionEnabled": False}, {}, Cause.NO_TLS),
        ({"TransitEncryptionEnabled": ABSENT}, {}, Cause.NO_TLS),
        ({"UserGroupIds": []}, {}, Cause.IAM_AUTH_OFF),
    ],
)
def test_a_group_that_does_not_fit_is_skipped(change: dict[str, Any], node: dict[str, Any], cause: Cause) -> None:
    answers = {
        "DescribeReplicationGroups": [changed(GROUP, **change)],
        "DescribeCacheClusters": [changed(NODE, **node)],
    }
    databases, skipped = found(Product.ELASTICACHE, answers)
    assert databases == []
    assert [each.cause for each in skipped] == [cause]


def test_a_group_whose_version_nobody_tells_is_served_without_it() -> None:
    databases, _ = found(Product.ELASTICACHE, {"DescribeReplicationGroups": [changed(GROUP, Engine="redis")]})
    assert ["engine-version" in each.database.facts.labels for each in databases] == [False, False]


def test_a_sharded_group_is_reached_by_its_configuration_endpoint() -> None:
    host = "clustercfg.my-rg.abcdef.usw1.cache.amazonaws.com"
    group = changed(GROUP, ClusterEnabled=True, ConfigurationEndpoint={"Address": host, "Port": 6379})
    databases, _ = found(Product.ELASTICACHE, {"DescribeReplicationGroups": [group]})
    assert [each.database.facts.endpoint.host for each in databases] == [host]


@pytest.mark.parametrize(
    ("product", "operation", "item", "change", "cause"),
    [
        (
            Product.ELASTICACHE_SERVERLESS,
            "DescribeServerlessCaches",
            SERVERLESS_CACHE,
            {"Engine": "memcached"},
            "engine",
        ),
        (Product.ELASTICACHE_SERVERLESS, "DescribeServerlessCaches", SERVERLESS_CACHE, {"UserGroupId": ABSENT}, "IAM"),
        (Product.MEMORYDB, "DescribeClusters", MEMORYDB, {"TLSEnabled": False}, "no TLS"),
        (Product.MEMORYDB, "DescribeClusters", MEMORYDB, {"EngineVersion": "6.2"}, "engine version"),
        (Product.MEMORYDB, "DescribeClusters", MEMORYDB, {"ACLName": "open-access"}, "IAM"),
        (Product.MEMORYDB, "DescribeClusters", MEMORYDB, {"Status": "creating"}, "not available"),
        (Product.REDSHIFT, "DescribeClusters", REDSHIFT, {"ClusterStatus": "paused"}, "not available"),
        (Product.REDSHIFT_SERVERLESS, "ListWorkgroups", WORKGROUP, {"status": "CREATING"}, "not available"),
        (Product.OPENSEARCH, "ListDomainNames", DOMAIN, {"Deleted": True}, "not available"),
        (Product.OPENSEARCH, "ListDomainNames", DOMAIN, {"Endpoint": ABSENT}, "not available"),
        (Product.DOCDB, "DescribeDBClusters", DOCDB, {"EngineVersion": "4.0.0"}, "engine version"),
        (Product.DOCDB, "DescribeDBClusters", DOCDB, {"Status": "deleting"}, "not available"),
    ],
)
def test_others_that_do_not_fit_are_skipped(
    product: Product, operation: str, item: dict[str, Any], change: dict[str, Any], cause: str
) -> None:
    databases, skipped = found(product, {operation: [changed(item, **change)]})
    assert databases == []
    assert [each.cause.value.startswith(cause) for each in skipped] == [True]


def test_a_domain_inside_a_vpc_is_reached_there() -> None:
    host = "vpc-logs-abcdefghijklmnopqrstuvwxyz.us-west-1.es.amazonaws.com"
    domain = changed(DOMAIN, Endpoint=ABSENT, Endpoints={"vpc": host}, VPCOptions={"VPCId": "vpc-1"})
    databases, _ = found(Product.OPENSEARCH, {"ListDomainNames": [domain]})
    assert [(each.database.facts.endpoint.host, each.database.facts.labels["vpc-id"]) for each in databases] == [
        (host, "vpc-1")
    ]


def test_certificates_are_checked_against_the_cas_of_the_product() -> None:
    stores = {product: found(product, ANSWERS[product])[0][0].database.facts.tls.trust_store for product in OBSERVERS}
    assert stores[Product.RDS] is TrustStore.AWS_RDS
    assert stores[Product.RDSPROXY] is TrustStore.SYSTEM
    assert stores[Product.REDSHIFT] is TrustStore.AWS_REDSHIFT
