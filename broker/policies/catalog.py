"""What each product needs of IAM, statement by statement, and what stops without it. PURE.

Statement IDs and actions are those of the AWS cross-account page, so that policies made from it keep their names.
DSQL and OpenSearch Serverless are not on that page; their statements are named alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from tollbridge.model import Product


class Purpose(StrEnum):
    """What a statement is for: what stops when it is taken away."""

    LOGIN = "login"
    METADATA = "metadata"
    AUTO_ENABLE = "auto-enable"
    TAGS = "tags"


class Grain(StrEnum):
    """What a statement's resources can be narrowed to."""

    ANYTHING = "*"
    """AWS takes no narrower resource, or narrowing it would hide what is to be found."""
    USER_ROLES = "user roles"
    """The IAM roles that are database users."""
    RDS_USERS = "users of RDS databases"
    RDS_RESOURCES = "RDS instances and clusters"
    CACHE = "caches and their users"
    SERVERLESS_CACHE = "serverless caches and their users"
    MEMORYDB = "MemoryDB clusters and their users"
    REDSHIFT_USERS = "users and databases of Redshift clusters"
    REDSHIFT_GROUPS = "groups of Redshift clusters"
    DSQL_CLUSTERS = "DSQL clusters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One statement that some product needs."""

    sid: str
    purpose: Purpose
    actions: tuple[str, ...]
    enables: str
    """For people, one line."""
    grain: Grain = Grain.ANYTHING
    by_default: bool = True
    """False: only where a configuration asks for it (tags, groups, the user admin, discovery)."""
    discovery: bool = False
    """Only what discovery calls beside the page's own statements."""


def _connect_as_role(prefix: str, what: str) -> Need:
    return Need(
        sid=f"{prefix}ConnectAsIAMRole",
        purpose=Purpose.LOGIN,
        actions=("sts:AssumeRole",),
        enables=f"logins to {what} as an IAM role: the role that is the db_user can be assumed",
        grain=Grain.USER_ROLES,
    )


def _session_tagging(prefix: str, *, by_default: bool = False) -> Need:
    return Need(
        sid=f"{prefix}SessionTagging",
        purpose=Purpose.TAGS,
        actions=("sts:TagSession",),
        enables="tags on the sessions of those roles: session_tags, attribution: workload",
        by_default=by_default,
    )


def _describe_users(prefix: str, service: str) -> Need:
    return Need(
        sid=f"{prefix}DescribeUsers",
        purpose=Purpose.METADATA,
        actions=(f"{service}:DescribeUsers",),
        enables="doctor can say whether a user of the cache logs in with IAM",
    )


def _discover(prefix: str, *actions: str) -> Need:
    return Need(
        sid=f"{prefix}Discover",
        purpose=Purpose.METADATA,
        actions=actions,
        enables="discovery: what the statement above does not list, and tags",
        by_default=False,
        discovery=True,
    )


NEEDS: Final[Mapping[Product, tuple[Need, ...]]] = MappingProxyType(
    {
        Product.DOCDB: (
            _connect_as_role("DocumentDB", "DocumentDB"),
            Need(
                sid="DocumentDBCheckDomainURL",
                purpose=Purpose.METADATA,
                actions=("rds:DescribeDBClusters",),
                enables="the endpoint of a cluster is checked against what AWS says; discovery",
            ),
            _session_tagging("DocumentDB"),
            _discover("DocumentDB", "rds:DescribeDBInstances"),
        ),
        Product.DYNAMODB: (
            _connect_as_role("DynamoDB", "DynamoDB"),
            _session_tagging("DynamoDB", by_default=True),
        ),
        Product.ELASTICACHE: (
            Need(
                sid="ElastiCacheFetchMetadata",
                purpose=Purpose.METADATA,
                actions=("elasticache:DescribeReplicationGroups",),
                enables="discovery; missing region and ids are looked up",
            ),
            _describe_users("ElastiCache", "elasticache"),
            Need(
                sid="ElastiCacheConnect",
                purpose=Purpose.LOGIN,
                actions=("elasticache:Connect",),
                enables="logins to replication groups",
                grain=Grain.CACHE,
            ),
            _discover("ElastiCache", "elasticache:DescribeCacheClusters", "elasticache:ListTagsForResource"),
        ),
        Product.ELASTICACHE_SERVERLESS: (
            Need(
                sid="ElastiCacheServerlessFetchMetadata",
                purpose=Purpose.METADATA,
                actions=("elasticache:DescribeServerlessCaches",),
                enables="discovery; missing facts are looked up",
            ),
            _describe_users("ElastiCacheServerless", "elasticache"),
            Need(
                sid="ElastiCacheServerlessConnect",
                purpose=Purpose.LOGIN,
                actions=("elasticache:Connect",),
                enables="logins to serverless caches",
                grain=Grain.SERVERLESS_CACHE,
            ),
            _discover("ElastiCacheServerless", "elasticache:ListTagsForResource"),
        ),
        Product.KEYSPACES: (_connect_as_role("Keyspaces", "Keyspaces"), _session_tagging("Keyspaces")),
        Product.MEMORYDB: (
            Need(
                sid="MemoryDBFetchMetadata",
                purpose=Purpose.METADATA,
                actions=("memorydb:DescribeClusters",),
                enables="discovery; missing region and ids are looked up",
            ),
            _describe_users("MemoryDB", "memorydb"),
            Need(
                sid="MemoryDBConnect",
                purpose=Purpose.LOGIN,
                actions=("memorydb:Connect",),
                enables="logins to MemoryDB clusters",
                grain=Grain.MEMORYDB,
            ),
            _discover("MemoryDB", "memorydb:ListTags"),
        ),
        Product.OPENSEARCH: (
            Need(
                sid="OpenSearchCheckDomainURL",
                purpose=Purpose.METADATA,
                actions=("es:DescribeDomains",),
                enables="the endpoint of a domain is checked against what AWS says; discovery",
            ),
            _connect_as_role("OpenSearch", "OpenSearch"),
            _session_tagging("OpenSearch"),
            _discover("OpenSearch", "es:ListDomainNames", "es:ListTags"),
        ),
        Product.OPENSEARCH_SERVERLESS: (
            _connect_as_role("OpenSearchServerless", "OpenSearch Serverless"),
            _session_tagging("OpenSearchServerless"),
        ),
        Product.RDS: (
            Need(
                sid="RDSAutoEnableIAMAuth",
                purpose=Purpose.AUTO_ENABLE,
                actions=("rds:ModifyDBCluster", "rds:ModifyDBInstance"),
                enables="discovery apply can turn IAM authentication on; never needed for logins",
                grain=Grain.RDS_RESOURCES,
            ),
            Need(
                sid="RDSConnect",
                purpose=Purpose.LOGIN,
                actions=("rds-db:connect",),
                enables="logins to RDS instances and Aurora clusters",
                grain=Grain.RDS_USERS,
            ),
            Need(
                sid="RDSFetchMetadata",
                purpose=Purpose.METADATA,
                actions=("rds:DescribeDBClusters", "rds:DescribeDBInstances"),
                enables="discovery; missing region and ids are looked up; AWS tags become labels",
            ),
        ),
        Product.RDSPROXY: (
            Need(
                sid="RDSProxyConnect",
                purpose=Purpose.LOGIN,
                actions=("rds-db:connect",),
                enables="logins through RDS Proxy",
                grain=Grain.RDS_USERS,
            ),
            Need(
                sid="RDSProxyFetchMetadata",
                purpose=Purpose.METADATA,
                actions=("rds:DescribeDBProxies", "rds:DescribeDBProxyEndpoints"),
                enables="discovery; missing region and ids are looked up",
            ),
            _discover("RDSProxy", "rds:ListTagsForResource"),
        ),
        Product.REDSHIFT: (
            Need(
                sid="RedshiftConnectAsDBUser",
                purpose=Purpose.LOGIN,
                actions=("redshift:GetClusterCredentials",),
                enables="logins to Redshift as a database user that exists",
                grain=Grain.REDSHIFT_USERS,
            ),
            _connect_as_role("Redshift", "Redshift"),
            Need(
                sid="RedshiftFetchMetadata",
                purpose=Purpose.METADATA,
                actions=("redshift:DescribeClusters",),
                enables="discovery; missing region and ids are looked up; AWS tags become labels",
            ),
            Need(
                sid="RedshiftJoinGroups",
                purpose=Purpose.LOGIN,
                actions=("redshift:JoinGroup",),
                enables="database users join the groups of redshift.db_groups",
                grain=Grain.REDSHIFT_GROUPS,
                by_default=False,
            ),
            _session_tagging("Redshift"),
        ),
        Product.REDSHIFT_SERVERLESS: (
            _connect_as_role("RedshiftServerless", "Redshift Serverless"),
            Need(
                sid="RedshiftServerlessFetchMetadata",
                purpose=Purpose.METADATA,
                actions=("redshift-serverless:GetEndpointAccess", "redshift-serverless:GetWorkgroup"),
                enables="discovery; missing facts are looked up",
            ),
            _session_tagging("RedshiftServerless"),
            _discover(
                "RedshiftServerless",
                "redshift-serverless:ListEndpointAccess",
                "redshift-serverless:ListTagsForResource",
                "redshift-serverless:ListWorkgroups",
            ),
        ),
        Product.DSQL: (
            Need(
                sid="DSQLConnect",
                purpose=Purpose.LOGIN,
                actions=("dsql:DbConnect",),
                enables="logins to DSQL clusters",
                grain=Grain.DSQL_CLUSTERS,
            ),
            Need(
                sid="DSQLConnectAsAdmin",
                purpose=Purpose.LOGIN,
                actions=("dsql:DbConnectAdmin",),
                enables="logins to DSQL clusters as the user admin",
                grain=Grain.DSQL_CLUSTERS,
                by_default=False,
            ),
        ),
    }
)


def needs_of(product: Product, purposes: frozenset[Purpose], *, discovery: bool = False) -> tuple[Need, ...]:
    """The page's statements of a product for some purposes, and with `discovery` what that calls beside."""
    return tuple(
        need
        for need in NEEDS[product]
        if need.purpose in purposes and (need.by_default or (discovery and need.discovery))
    )


def all_needs_of(product: Product, purposes: frozenset[Purpose]) -> tuple[Need, ...]:
    """Those, and what only some configurations need of them: groups, tags, the user admin. Not what discovery does."""
    return tuple(need for need in NEEDS[product] if need.purpose in purposes and not need.discovery)
