"""One registered database compared with what AWS says of it. PURE.

The grammar of a host name tells whose service it is, not whose database: a host of ElastiCache may be anybody's. What
AWS answers in the database's own account settles it, and tells the rest: tags, identifiers, the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from broker.discovery import labels
from broker.discovery.model import Item, Listing, TagCall
from broker.discovery.observers.caches import CACHE_TAGS, MEMORYDB_TAGS
from broker.discovery.observers.opensearch import TAGS as DOMAIN_TAGS
from broker.discovery.observers.rds import PROXY_TAGS
from broker.discovery.observers.reading import many, tags, text
from broker.discovery.observers.redshift import SERVERLESS_TAGS
from broker.model import RegisteredDatabase
from broker.registry.endpoints import parse_endpoint
from tollbridge.model import Product


class Verdict(Enum):
    """What became of the comparison."""

    CONFIRMED = "confirmed"
    """AWS lists this endpoint for this resource, in this account and region."""
    BY_GRAMMAR = "by its form alone"
    """AWS could not be asked, or has no call for it."""
    MISMATCH = "another endpoint"
    ABSENT = "no such resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is known of one database beside its registration."""

    verdict: Verdict
    why: str = ""
    """For an operator; empty when confirmed, with its tags."""
    denied: str = ""
    """The permission that is missing, where that is why."""
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    """Labels that AWS's own description fills."""
    ids: Mapping[str, str] = field(default_factory=dict)
    arn: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to ask AWS about one database."""

    listing: Listing
    name: str
    """Of the resource, as it is asked for."""
    row: _Row


Hosts = Callable[[Item], Iterator[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    service: str
    operation: str
    items: str
    parameter: str
    id: str
    """Config name of the identifier it is asked by."""
    hosts: Callable[[Item], Iterator[object]]
    arn: str
    action: str = ""
    several: bool = False
    """The parameter takes a list."""
    inline_tags: str = ""
    tags: TagCall | None = None
    resource_id: tuple[str, str] = ("", "")
    """Member, and the config name it fills."""


def question(database: RegisteredDatabase) -> Question | None:
    """What to ask; None where the product has no such call, or the registration does not say which resource it is."""
    known = parse_endpoint(database.facts.endpoint.host)
    kind = known.kind if known and known.product is database.facts.product else ""
    row = _ROWS.get((database.facts.product, kind)) or _ROWS.get((database.facts.product, ""))
    if row is None:
        return None
    names = {**(known.ids if known else {}), **database.resource_ids}
    name = names.get(row.id, "") or names.get(_ALSO.get(row.id, ""), "")
    if not name:
        return None
    listing = Listing(
        service=row.service,
        operation=row.operation,
        items=row.items,
        page="",
        action=row.action,
        parameters={row.parameter: [name] if row.several else name},
    )
    return Question(listing=listing, name=name, row=row)


def judge(asked: Question, items: Sequence[Item], database: RegisteredDatabase) -> Inspection:
    """What AWS's answer means for the database. Its tags are read apart where `tag_call` says so."""
    if not items:
        return absent(asked, database)
    item, row = items[0], asked.row
    endpoint = database.facts.endpoint
    found = [host.lower() for host in row.hosts(item) if isinstance(host, str) and host]
    arn = text(item, row.arn)
    if not found:
        return Inspection(verdict=Verdict.BY_GRAMMAR, why=f"AWS names no endpoint of {asked.name} yet", arn=arn)
    if endpoint.host not in found:
        shown = ", ".join(labels.clean(host) for host in found[:4])
        why = f"AWS names {shown} as the endpoint of {asked.name!r}, not {endpoint.host}"
        return Inspection(verdict=Verdict.MISMATCH, why=why, arn=arn)
    member, key = row.resource_id
    resource_id = text(item, member) if member else ""
    return Inspection(
        verdict=Verdict.CONFIRMED,
        tags=tags(many(item, row.inline_tags)) if row.inline_tags else {},
        facts={
            labels.ENGINE: text(item, "Engine"),
            labels.ENGINE_VERSION: text(item, "EngineVersion"),
            labels.VPC_ID: text(item, "DBSubnetGroup", "VpcId") or text(item, "VpcId"),
        },
        ids={key: resource_id} if resource_id else {},
        arn=arn,
    )


def tag_call(asked: Question) -> TagCall | None:
    """How its tags are read, where the answer does not hold them."""
    return asked.row.tags


def absent(asked: Question, database: RegisteredDatabase) -> Inspection:
    """AWS has no resource of that name."""
    where = f"account {database.facts.account_id or 'of the broker'}, {database.facts.region}"
    return Inspection(verdict=Verdict.ABSENT, why=f"AWS has no {database.facts.product} {asked.name!r} in {where}")


def enriched(database: RegisteredDatabase, inspection: Inspection) -> RegisteredDatabase:
    """The database with what AWS says of it. What its registration says itself stays."""
    if inspection.verdict is not Verdict.CONFIRMED:
        return database
    facts = {
        **inspection.facts,
        labels.ACCOUNT_ID: database.facts.account_id,
        labels.REGION: database.facts.region,
    }
    found = {**labels.labels(inspection.tags, facts), **database.facts.labels}
    return replace(
        database,
        facts=replace(database.facts, labels=found),
        resource_ids={**inspection.ids, **database.resource_ids},
    )


def _instance(item: Item) -> Iterator[object]:
    yield text(item, "Endpoint", "Address")


def _cluster(item: Item) -> Iterator[object]:
    yield item.get("Endpoint")
    yield item.get("ReaderEndpoint")
    yield from many(item, "CustomEndpoints")


def _one_host(item: Item) -> Iterator[object]:
    yield item.get("Endpoint")


def _workgroup(item: Item) -> Iterator[object]:
    yield text(item, "endpoint", "address")


def _access(item: Item) -> Iterator[object]:
    yield item.get("address")


def _group(item: Item) -> Iterator[object]:
    yield text(item, "ConfigurationEndpoint", "Address")
    for node in many(item, "NodeGroups"):
        yield text(node, "PrimaryEndpoint", "Address")
        yield text(node, "ReaderEndpoint", "Address")
        for member in many(node, "NodeGroupMembers"):
            yield text(member, "ReadEndpoint", "Address")


def _serverless_cache(item: Item) -> Iterator[object]:
    yield text(item, "Endpoint", "Address")
    yield text(item, "ReaderEndpoint", "Address")


def _memorydb(item: Item) -> Iterator[object]:
    yield text(item, "ClusterEndpoint", "Address")
    for shard in many(item, "Shards"):
        for node in many(shard, "Nodes"):
            yield text(node, "Endpoint", "Address")


def _domain(item: Item) -> Iterator[object]:
    yield item.get("Endpoint")
    yield item.get("EndpointV2")
    endpoints: Any = item.get("Endpoints")
    if isinstance(endpoints, Mapping):
        yield from endpoints.values()
    yield text(item, "DomainEndpointOptions", "CustomEndpoint")


_ALSO: Final = {"rdsproxy.name": "rds.proxy_name", "rdsproxy.endpoint_name": "rds.proxy_endpoint_name"}
"""The same identifier under the name that the grammar of hosts gives it."""

_RDS_CLUSTER: Final = _Row(
    service="rds",
    operation="DescribeDBClusters",
    items="DBClusters",
    parameter="DBClusterIdentifier",
    id="rds.cluster_id",
    hosts=_cluster,
    arn="DBClusterArn",
    inline_tags="TagList",
    resource_id=("DbClusterResourceId", "rds.resource_id"),
)
_DOCDB: Final = replace(_RDS_CLUSTER, id="docdb.cluster_id", resource_id=("", ""))
_ROWS: Final[Mapping[tuple[Product, str], _Row]] = {
    (Product.RDS, "instance"): _Row(
        service="rds",
        operation="DescribeDBInstances",
        items="DBInstances",
        parameter="DBInstanceIdentifier",
        id="rds.instance_id",
        hosts=_instance,
        arn="DBInstanceArn",
        inline_tags="TagList",
        resource_id=("DbiResourceId", "rds.resource_id"),
    ),
    (Product.RDS, "cluster"): _RDS_CLUSTER,
    (Product.RDS, "reader"): _RDS_CLUSTER,
    (Product.RDS, "custom"): _RDS_CLUSTER,
    (Product.DOCDB, "cluster"): _DOCDB,
    (Product.DOCDB, "reader"): _DOCDB,
    (Product.RDSPROXY, "proxy"): _Row(
        service="rds",
        operation="DescribeDBProxies",
        items="DBProxies",
        parameter="DBProxyName",
        id="rdsproxy.name",
        hosts=_one_host,
        arn="DBProxyArn",
        tags=PROXY_TAGS,
    ),
    (Product.RDSPROXY, "proxy-endpoint"): _Row(
        service="rds",
        operation="DescribeDBProxyEndpoints",
        items="DBProxyEndpoints",
        parameter="DBProxyEndpointName",
        id="rdsproxy.endpoint_name",
        hosts=_one_host,
        arn="DBProxyEndpointArn",
        tags=PROXY_TAGS,
    ),
    (Product.REDSHIFT, "cluster"): _Row(
        service="redshift",
        operation="DescribeClusters",
        items="Clusters",
        parameter="ClusterIdentifier",
        id="redshift.cluster_id",
        hosts=_instance,
        arn="ClusterNamespaceArn",
        inline_tags="Tags",
    ),
    (Product.REDSHIFT_SERVERLESS, "workgroup"): _Row(
        service="redshift-serverless",
        operation="GetWorkgroup",
        items="workgroup",
        parameter="workgroupName",
        id="redshift_serverless.workgroup_name",
        hosts=_workgroup,
        arn="workgroupArn",
        tags=SERVERLESS_TAGS,
        resource_id=("workgroupId", "redshift_serverless.workgroup_id"),
    ),
    (Product.REDSHIFT_SERVERLESS, "vpc-endpoint"): _Row(
        service="redshift-serverless",
        operation="GetEndpointAccess",
        items="endpoint",
        parameter="endpointName",
        id="redshift_serverless.endpoint_name",
        hosts=_access,
        arn="endpointArn",
    ),
    (Product.ELASTICACHE, ""): _Row(
        service="elasticache",
        operation="DescribeReplicationGroups",
        items="ReplicationGroups",
        parameter="ReplicationGroupId",
        id="elasticache.replication_group_id",
        hosts=_group,
        arn="ARN",
        tags=CACHE_TAGS,
    ),
    (Product.ELASTICACHE_SERVERLESS, ""): _Row(
        service="elasticache",
        operation="DescribeServerlessCaches",
        items="ServerlessCaches",
        parameter="ServerlessCacheName",
        id="elasticache_serverless.cache_name",
        hosts=_serverless_cache,
        arn="ARN",
        tags=CACHE_TAGS,
    ),
    (Product.MEMORYDB, ""): _Row(
        service="memorydb",
        operation="DescribeClusters",
        items="Clusters",
        parameter="ClusterName",
        id="memorydb.cluster_name",
        hosts=_memorydb,
        arn="ARN",
        tags=MEMORYDB_TAGS,
    ),
    (Product.OPENSEARCH, ""): _Row(
        service="opensearch",
        operation="DescribeDomains",
        items="DomainStatusList",
        parameter="DomainNames",
        id="opensearch.domain_name",
        hosts=_domain,
        arn="ARN",
        action="es:DescribeDomains",
        several=True,
        tags=DOMAIN_TAGS,
    ),
}
"""(product, kind of endpoint; empty: any) -> how AWS is asked about it."""
