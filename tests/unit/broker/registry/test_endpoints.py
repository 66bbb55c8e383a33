"""Each form of AWS endpoint says what it is; near misses say nothing."""

from __future__ import annotations

import pytest

from broker.registry.endpoints import parse_endpoint

H = "abcdef012345"
A = "111122223333"

# host -> product, region, partition, kind, ids, account
GOOD = [
    (f"pg.{H}.us-west-1.rds.amazonaws.com", "rds us-west-1 aws instance rds.instance_id=pg"),
    (f"a.cluster-{H}.eu-west-1.rds.amazonaws.com", "rds eu-west-1 aws cluster rds.cluster_id=a"),
    (f"a.cluster-ro-{H}.us-west-1.rds.amazonaws.com", "rds us-west-1 aws reader rds.cluster_id=a"),
    (f"rep.cluster-custom-{H}.us-west-1.rds.amazonaws.com", "rds us-west-1 aws custom"),
    (f"a.shardgrp-{H}.us-west-1.rds.amazonaws.com", "rds us-west-1 aws shard-group rds.cluster_id=a"),
    (f"p.proxy-{H}.us-west-1.rds.amazonaws.com", "rdsproxy us-west-1 aws proxy rds.proxy_name=p"),
    (
        f"ro.endpoint.proxy-{H}.us-west-1.rds.amazonaws.com",
        "rdsproxy us-west-1 aws proxy-endpoint rds.proxy_endpoint_name=ro",
    ),
    (f"pg.{H}.us-gov-west-1.rds.amazonaws.com", "rds us-gov-west-1 aws-us-gov instance rds.instance_id=pg"),
    (f"pg.{H}.rds.cn-north-1.amazonaws.com.cn", "rds cn-north-1 aws-cn instance rds.instance_id=pg"),
    (f"pg.{H}.cn-north-1.rds.amazonaws.com.cn", "rds cn-north-1 aws-cn instance rds.instance_id=pg"),
    (f"pg.{H}.eusc-de-east-1.rds.amazonaws.eu", "rds eusc-de-east-1 aws-eusc instance rds.instance_id=pg"),
    (f"pg.{H}.us-iso-east-1.rds.c2s.ic.gov", "rds us-iso-east-1 aws-iso instance rds.instance_id=pg"),
    (f"d.cluster-{H}.us-west-1.docdb.amazonaws.com", "docdb us-west-1 aws cluster docdb.cluster_id=d"),
    (f"d.cluster-ro-{H}.us-west-1.docdb.amazonaws.com", "docdb us-west-1 aws reader docdb.cluster_id=d"),
    (f"d1.{H}.us-west-1.docdb.amazonaws.com", "docdb us-west-1 aws instance docdb.instance_id=d1"),
    (f"wh.{H}.us-west-1.redshift.amazonaws.com", "redshift us-west-1 aws cluster redshift.cluster_id=wh"),
    (
        f"ep-endpoint-abc.{H}.us-west-1.redshift.amazonaws.com",
        "redshift us-west-1 aws vpc-endpoint redshift.endpoint_name=ep",
    ),
    (
        f"wg.{A}.us-west-1.redshift-serverless.amazonaws.com",
        f"redshift-serverless us-west-1 aws workgroup redshift_serverless.workgroup_name=wg {A}",
    ),
    (
        f"ep-endpoint-abc.{A}.us-west-1.redshift-serverless.amazonaws.com",
        f"redshift-serverless us-west-1 aws vpc-endpoint redshift_serverless.endpoint_name=ep {A}",
    ),
    (
        "clustercfg.shop.abc123.use1.cache.amazonaws.com",
        "elasticache us-east-1 aws configuration elasticache.replication_group_id=shop",
    ),
    (
        "shop.abc123.clustercfg.use1.cache.amazonaws.com",
        "elasticache us-east-1 aws configuration elasticache.replication_group_id=shop",
    ),
    (
        "master.shop.abc123.apne1.cache.amazonaws.com",
        "elasticache ap-northeast-1 aws primary elasticache.replication_group_id=shop",
    ),
    (
        "replica.shop.abc123.euc1.cache.amazonaws.com",
        "elasticache eu-central-1 aws reader elasticache.replication_group_id=shop",
    ),
    (
        "shop.abc123.ng.0001.usgw1.cache.amazonaws.com",
        "elasticache us-gov-west-1 aws-us-gov primary elasticache.replication_group_id=shop",
    ),
    (
        "shop-ro.abc123.ng.0001.use1.cache.amazonaws.com",
        "elasticache us-east-1 aws reader elasticache.replication_group_id=shop",
    ),
    (
        "shop-0001-001.shop.abc123.use1.cache.amazonaws.com",
        "elasticache us-east-1 aws node elasticache.replication_group_id=shop",
    ),
    (
        "shop-0001-001.abc123.0001.use1.cache.amazonaws.com",
        "elasticache us-east-1 aws node elasticache.replication_group_id=shop",
    ),
    (
        "master.shop.abc123.cnn1.cache.amazonaws.com.cn",
        "elasticache cn-north-1 aws-cn primary elasticache.replication_group_id=shop",
    ),
    (
        "my-cache-abc123.serverless.use1.cache.amazonaws.com",
        "elasticache-serverless us-east-1 aws configuration elasticache_serverless.cache_name=my-cache",
    ),
    (
        "clustercfg.mem.abc123.memorydb.us-east-1.amazonaws.com",
        "memorydb us-east-1 aws configuration memorydb.cluster_name=mem",
    ),
    (
        "mem-0001-001.mem.abc123.memorydb.us-east-1.amazonaws.com",
        "memorydb us-east-1 aws node memorydb.cluster_name=mem",
    ),
    ("dynamodb.us-west-1.amazonaws.com", "dynamodb us-west-1 aws service"),
    ("dynamodb-fips.us-gov-west-1.amazonaws.com", "dynamodb us-gov-west-1 aws-us-gov service"),
    ("streams.dynamodb.us-west-1.amazonaws.com", "dynamodb us-west-1 aws service"),
    ("dynamodb.us-west-1.api.aws", "dynamodb us-west-1 aws service"),
    (f"{A}.ddb.us-west-1.amazonaws.com", f"dynamodb us-west-1 aws account {A}"),
    ("cassandra.us-west-1.amazonaws.com", "keyspaces us-west-1 aws service"),
    ("cassandra-fips.us-west-2.api.aws", "keyspaces us-west-2 aws service"),
    ("cassandra.cn-north-1.amazonaws.com.cn", "keyspaces cn-north-1 aws-cn service"),
    ("search-logs-abc123.us-west-1.es.amazonaws.com", "opensearch us-west-1 aws domain opensearch.domain_name=logs"),
    ("vpc-my-logs-abc123.us-west-1.es.amazonaws.com", "opensearch us-west-1 aws domain opensearch.domain_name=my-logs"),
    ("search-logs-abc123.aos.us-west-1.on.aws", "opensearch us-west-1 aws domain opensearch.domain_name=logs"),
    (
        "abc123.us-west-1.aoss.amazonaws.com",
        "opensearch-serverless us-west-1 aws service opensearch_serverless.collection_id=abc123",
    ),
    ("abc123.dsql.us-west-1.on.aws", "dsql us-west-1 aws cluster dsql.cluster_id=abc123"),
    ("abc123.dsql-fnh4.us-west-1.on.aws", "dsql us-west-1 aws cluster dsql.cluster_id=abc123"),
]


@pytest.mark.parametrize(("host", "said"), GOOD)
def test_endpoint(host: str, said: str) -> None:
    endpoint = parse_endpoint(host)
    assert endpoint is not None
    ids = [f"{key}={value}" for key, value in endpoint.ids.items()]
    account = [endpoint.account_id] if endpoint.account_id else []
    assert " ".join((endpoint.product, endpoint.region, endpoint.partition, endpoint.kind, *ids, *account)) == said


@pytest.mark.parametrize(
    "host",
    [
        "",
        "rds.amazonaws.com",
        "us-west-1.rds.amazonaws.com",
        "pg.us-west-1.rds.amazonaws.com",
        f"pg.{H}.us-west-1.rds.amazonaws.com.evil.example",
        f"pg.{H}.us-west-1.rds.amazonaws.com.",
        f"pg.{H}.us-west-1.rds-amazonaws.com",
        f"pg.{H}.us-west-1.rds.evil-amazonaws.com",
        f"PG.{H}.us-west-1.rds.amazonaws.com",
        f"pg.{H}.us-west-1.rds.amazonaws.com/",
        f"pg.{H}.us-west-1.rds.amazonaws.com@evil.example",
        f"x.pg.{H}.us-west-1.rds.amazonaws.com",
        f"pg.cluster-evil-{H}.us-west-1.rds.amazonaws.com",
        f"pg.{H}.moon-1.rds.amazonaws.com",
        f"pg.{H}.rds.us-west-1.amazonaws.com",
        f"pg.{H}.cn-north-1.rds.amazonaws.com",
        f"pg.{H}.us-west-1.rds.amazonaws.com.cn",
        f"a.global-{H}.global.rds.amazonaws.com",
        f"c-{A}.us-west-1.docdb-elastic.amazonaws.com",
        f"wg.{H}.us-west-1.redshift-serverless.amazonaws.com",
        "master.shop.abc123.xx1.cache.amazonaws.com",
        "other-001.shop.abc123.use1.cache.amazonaws.com",
        "evil.dynamodb.us-west-1.amazonaws.com",
        "12.ddb.us-west-1.amazonaws.com",
        "x.cassandra.us-west-1.amazonaws.com",
        "ec2-1-2-3-4.us-west-1.compute.amazonaws.com",
        "attacker.s3.us-west-1.amazonaws.com",
        "pg..us-west-1.rds.amazonaws.com",
        f"-pg.{H}.us-west-1.rds.amazonaws.com",
        f"{'a' * 64}.{H}.us-west-1.rds.amazonaws.com",
        f"pg.{H}.us-west-1\n.rds.amazonaws.com",
    ],
)
def test_what_is_none_of_them(host: str) -> None:
    assert parse_endpoint(host) is None
