"""Describe answers as AWS gives them, trimmed to what anybody might read; tests change or remove members."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from broker.discovery.model import Cell, CellKey, Sighting, Skipped
from broker.discovery.observers import OBSERVERS
from broker.discovery.registration import Registered, register
from broker.policies.statements import Place
from tollbridge.model import Product

ACCOUNT: Final = "222222222222"
REGION: Final = "us-west-1"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/example-role"
PLACE: Final = Place(partition="aws", region=REGION, account_id=ACCOUNT)
EVERYTHING: Final = {"*": ("*",)}
ABSENT: Final = object()
"""In place of a value: the member is left out."""


def _arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


TAGS: Final = [{"Key": "env", "Value": "dev"}, {"Key": "team", "Value": "shop"}]

INSTANCE: Final[dict[str, Any]] = {
    "DBInstanceIdentifier": "rds-postgres",
    "DBInstanceClass": "db.t4g.medium",
    "Engine": "postgres",
    "EngineVersion": "16.4",
    "DBInstanceStatus": "available",
    "MasterUsername": "postgres",
    "Endpoint": {
        "Address": f"rds-postgres.abcdef012345.{REGION}.rds.amazonaws.com",
        "Port": 5432,
        "HostedZoneId": "Z10WI91S59XXQN",
    },
    "DBSubnetGroup": {"DBSubnetGroupName": "default", "VpcId": "vpc-0a1b2c3d"},
    "DbiResourceId": "db-ABCDEFGHIJKL012345",
    "IAMDatabaseAuthenticationEnabled": True,
    "DBInstanceArn": _arn("rds", "db:rds-postgres"),
    "TagList": TAGS,
    "CACertificateIdentifier": "rds-ca-rsa2048-g1",
}
CLUSTER: Final[dict[str, Any]] = {
    "DBClusterIdentifier": "orders",
    "Status": "available",
    "Endpoint": f"orders.cluster-abcdef012345.{REGION}.rds.amazonaws.com",
    "ReaderEndpoint": f"orders.cluster-ro-abcdef012345.{REGION}.rds.amazonaws.com",
    "CustomEndpoints": [f"reports.cluster-custom-abcdef012345.{REGION}.rds.amazonaws.com"],
    "MultiAZ": True,
    "Engine": "aurora-postgresql",
    "EngineVersion": "15.4",
    "EngineMode": "provisioned",
    "Port": 5432,
    "DBSubnetGroup": "default",
    "DBClusterMembers": [
        {"DBInstanceIdentifier": "orders-1", "IsClusterWriter": True},
        {"DBInstanceIdentifier": "orders-2", "IsClusterWriter": False},
    ],
    "DbClusterResourceId": "cluster-ABCDEFGHIJKL012345",
    "DBClusterArn": _arn("rds", "cluster:orders"),
    "IAMDatabaseAuthenticationEnabled": True,
    "TagList": TAGS,
}
PROXY: Final[dict[str, Any]] = {
    "DBProxyName": "pool",
    "DBProxyArn": _arn("rds", "db-proxy:prx-0123456789abcdef0"),
    "Status": "available",
    "EngineFamily": "POSTGRESQL",
    "VpcId": "vpc-0a1b2c3d",
    "Auth": [{"AuthScheme": "SECRETS", "SecretArn": "arn:aws:secretsmanager:::secret:s", "IAMAuth": "REQUIRED"}],
    "Endpoint": f"pool.proxy-abcdef012345.{REGION}.rds.amazonaws.com",
    "RequireTLS": True,
}
PROXY_ENDPOINT: Final[dict[str, Any]] = {
    "DBProxyEndpointName": "reads",
    "DBProxyEndpointArn": _arn("rds", "db-proxy-endpoint:prx-endpoint-0fedcba9876543210"),
    "DBProxyName": "pool",
    "Status": "available",
    "VpcId": "vpc-0f0f0f0f",
    "Endpoint": f"reads.endpoint.proxy-abcdef012345.{REGION}.rds.amazonaws.com",
    "TargetRole": "READ_ONLY",
    "IsDefault": False,
}
REDSHIFT: Final[dict[str, Any]] = {
    "ClusterIdentifier": "wh",
    "NodeType": "ra3.large",
    "ClusterStatus": "available",
    "ClusterAvailabilityStatus": "Available",
    "Endpoint": {"Address": f"wh.abcdef012345.{REGION}.redshift.amazonaws.com", "Port": 5439},
    "VpcId": "vpc-0a1b2c3d",
    "ClusterVersion": "1.0",
    "ClusterNamespaceArn": _arn("redshift", "namespace:11111111-2222-4333-8444-555555555555"),
    "Tags": TAGS,
}
WORKGROUP: Final[dict[str, Any]] = {
    "workgroupName": "default",
    "workgroupId": "11111111-2222-4333-8444-555555555555",
    "workgroupArn": _arn("redshift-serverless", "workgroup/11111111-2222-4333-8444-555555555555"),
    "status": "AVAILABLE",
    "endpoint": {
        "address": f"default.{ACCOUNT}.{REGION}.redshift-serverless.amazonaws.com",
        "port": 5439,
        "vpcEndpoints": [],
    },
    "workgroupVersion": "1.0.70089",
}
WORKGROUP_ENDPOINT: Final[dict[str, Any]] = {
    "endpointName": "inside",
    "endpointArn": _arn("redshift-serverless", "managedvpcendpoint/99999999-2222-4333-8444-555555555555"),
    "endpointStatus": "ACTIVE",
    "workgroupName": "default",
    "address": f"inside-endpoint-abcdef.{ACCOUNT}.{REGION}.redshift-serverless.amazonaws.com",
    "port": 5439,
    "vpcEndpoint": {"vpcEndpointId": "vpce-1", "vpcId": "vpc-0f0f0f0f"},
}
GROUP: Final[dict[str, Any]] = {
    "ReplicationGroupId": "my-rg",
    "Description": "sessions",
    "Status": "available",
    "ClusterEnabled": False,
    "TransitEncryptionEnabled": True,
    "UserGroupIds": ["apps"],
    "Engine": "valkey",
    "ARN": _arn("elasticache", "replicationgroup:my-rg"),
    "NodeGroups": [
        {
            "NodeGroupId": "0001",
            "PrimaryEndpoint": {"Address": "master.my-rg.abcdef.usw1.cache.amazonaws.com", "Port": 6379},
            "ReaderEndpoint": {"Address": "replica.my-rg.abcdef.usw1.cache.amazonaws.com", "Port": 6379},
        }
    ],
}
NODE: Final[dict[str, Any]] = {
    "CacheClusterId": "my-rg-001",
    "ReplicationGroupId": "my-rg",
    "Engine": "valkey",
    "EngineVersion": "8.0.1",
}
SERVERLESS_CACHE: Final[dict[str, Any]] = {
    "ServerlessCacheName": "cache-01",
    "Status": "available",
    "Engine": "valkey",
    "MajorEngineVersion": "8",
    "FullEngineVersion": "8.0",
    "Endpoint": {"Address": "cache-01-abcdef.serverless.usw1.cache.amazonaws.com", "Port": 6379},
    "ReaderEndpoint": {"Address": "cache-01-abcdef.serverless.usw1.cache.amazonaws.com", "Port": 6380},
    "ARN": _arn("elasticache", "serverlesscache:cache-01"),
    "UserGroupId": "apps",
}
MEMORYDB: Final[dict[str, Any]] = {
    "Name": "cluster-01",
    "Status": "available",
    "ClusterEndpoint": {"Address": f"clustercfg.cluster-01.abcdef.memorydb.{REGION}.amazonaws.com", "Port": 6379},
    "Engine": "redis",
    "EngineVersion": "7.1",
    "TLSEnabled": True,
    "ARN": _arn("memorydb", "cluster/cluster-01"),
    "ACLName": "apps",
}
DOMAIN: Final[dict[str, Any]] = {
    "DomainId": f"{ACCOUNT}/logs",
    "DomainName": "logs",
    "ARN": _arn("es", "domain/logs"),
    "Created": True,
    "Deleted": False,
    "Endpoint": f"search-logs-abcdefghijklmnopqrstuvwxyz.{REGION}.es.amazonaws.com",
    "EngineVersion": "OpenSearch_2.17",
}
DOCDB: Final[dict[str, Any]] = {
    "DBClusterIdentifier": "papers",
    "Status": "available",
    "Endpoint": f"papers.cluster-abcdef012345.{REGION}.docdb.amazonaws.com",
    "ReaderEndpoint": f"papers.cluster-ro-abcdef012345.{REGION}.docdb.amazonaws.com",
    "Engine": "docdb",
    "EngineVersion": "5.0.0",
    "Port": 27017,
    "DBClusterArn": _arn("rds", "cluster:papers"),
    "TagList": TAGS,
}

ANSWERS: Final[dict[Product, dict[str, list[dict[str, Any]]]]] = {
    Product.RDS: {"DescribeDBInstances": [INSTANCE], "DescribeDBClusters": [CLUSTER]},
    Product.RDSPROXY: {"DescribeDBProxies": [PROXY], "DescribeDBProxyEndpoints": [PROXY_ENDPOINT]},
    Product.REDSHIFT: {"DescribeClusters": [REDSHIFT]},
    Product.REDSHIFT_SERVERLESS: {"ListWorkgroups": [WORKGROUP], "ListEndpointAccess": [WORKGROUP_ENDPOINT]},
    Product.ELASTICACHE: {"DescribeReplicationGroups": [GROUP], "DescribeCacheClusters": [NODE]},
    Product.ELASTICACHE_SERVERLESS: {"DescribeServerlessCaches": [SERVERLESS_CACHE]},
    Product.MEMORYDB: {"DescribeClusters": [MEMORYDB]},
    Product.OPENSEARCH: {"ListDomainNames": [DOMAIN]},
    Product.DOCDB: {"DescribeDBClusters": [DOCDB]},
}
"""One suitable resource of each kind."""


def changed(item: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A copy with other values; ABSENT leaves a member out."""
    copy = {**deepcopy(item), **members}
    return {key: value for key, value in copy.items() if value is not ABSENT}


def cell(product: Product, *selectors: dict[str, tuple[str, ...]]) -> Cell:
    return Cell(key=CellKey(role_arn=ROLE, region=REGION, product=product), selectors=tuple(selectors) or (EVERYTHING,))


def read(product: Product, answers: dict[str, list[dict[str, Any]]]) -> list[Sighting | Skipped]:
    return list(OBSERVERS[product].read(answers))


def found(product: Product, answers: dict[str, list[dict[str, Any]]]) -> tuple[list[Registered], list[Skipped]]:
    """What an observer reads, registered; tags that would be read by ARN are those of TAGS."""
    outcomes = [outcome if outcome.tags is not None else _tagged(outcome) for outcome in read(product, answers)]
    return register(outcomes, cell(product), PLACE)


def _tagged(outcome: Sighting | Skipped) -> Sighting | Skipped:
    from dataclasses import replace

    return replace(outcome, tags={tag["Key"]: tag["Value"] for tag in TAGS})
