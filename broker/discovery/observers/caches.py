"""ElastiCache replication groups and serverless caches, and MemoryDB clusters. PURE.

https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html
https://docs.aws.amazon.com/memorydb/latest/devguide/auth-iam.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from broker.discovery.labels import ENGINE, ENGINE_VERSION
from broker.discovery.model import Cause, Item, Listing, Sighting, Skipped, TagCall
from broker.discovery.observers.reading import Answers, Observer, Outcome, many, number, older, text, unavailable
from tollbridge.model import Product, Protocol

GROUPS: Final = Listing(service="elasticache", operation="DescribeReplicationGroups", items="ReplicationGroups")
NODES: Final = Listing(service="elasticache", operation="DescribeCacheClusters", items="CacheClusters", optional=True)
"""Nodes tell the engine's version, which groups do not."""
SERVERLESS: Final = Listing(
    service="elasticache", operation="DescribeServerlessCaches", items="ServerlessCaches", page="NextToken"
)
MEMORYDB_CLUSTERS: Final = Listing(service="memorydb", operation="DescribeClusters", items="Clusters", page="NextToken")
CACHE_TAGS: Final = TagCall(
    service="elasticache",
    operation="ListTagsForResource",
    parameter="ResourceName",
    items="TagList",
    action="elasticache:ListTagsForResource",
)
MEMORYDB_TAGS: Final = TagCall(
    service="memorydb", operation="ListTags", parameter="ResourceArn", items="TagList", action="memorydb:ListTags"
)

_LEAST: Final = (7, 0)
"""Redis OSS; every Valkey is later."""
_ENGINES: Final = frozenset({"redis", "valkey"})
_OPEN_ACCESS: Final = "open-access"
"""MemoryDB's list of users that asks nobody for anything: no IAM user can be on it."""


def _read_groups(answers: Answers) -> Iterator[Outcome]:
    versions: dict[str, str] = {}
    for node in answers.get(NODES.operation, ()):
        versions.setdefault(text(node, "ReplicationGroupId"), text(node, "EngineVersion"))
    for item in answers.get(GROUPS.operation, ()):
        yield from _group(item, versions)


def _group(item: Item, versions: Mapping[str, str]) -> Iterator[Outcome]:
    name, arn = text(item, "ReplicationGroupId"), text(item, "ARN")
    engine, engine_version = text(item, "Engine") or "redis", versions.get(name, "")
    judge = _Judge(Product.ELASTICACHE, name, arn)
    unsuitable = (
        unavailable(Product.ELASTICACHE, name, arn, text(item, "Status"))
        or judge.engine(engine, engine_version)
        or judge.tls(item.get("TransitEncryptionEnabled"))
        or judge.users(many(item, "UserGroupIds"), "no user group is attached")
    )
    if unsuitable:
        yield unsuitable
        return
    for endpoint, kind, suffix in _group_endpoints(item):
        yield Sighting(
            name=name,
            protocol=Protocol.REDIS,
            host=text(endpoint, "Address"),
            port=number(endpoint, "Port"),
            arn=arn,
            kind=kind,
            suffix=suffix,
            ids={"elasticache.replication_group_id": name},
            facts={ENGINE: engine, ENGINE_VERSION: engine_version},
        )


def _group_endpoints(item: Item) -> Iterator[tuple[object, str, str]]:
    if item.get("ClusterEnabled"):
        yield item.get("ConfigurationEndpoint"), "configuration", ""
        return
    nodes = many(item, "NodeGroups")
    first = nodes[0] if nodes and isinstance(nodes[0], Mapping) else {}
    yield first.get("PrimaryEndpoint"), "primary", ""
    if reader := first.get("ReaderEndpoint"):
        yield reader, "reader", "reader"


def _read_serverless(answers: Answers) -> Iterator[Outcome]:
    for item in answers.get(SERVERLESS.operation, ()):
        name, arn = text(item, "ServerlessCacheName"), text(item, "ARN")
        engine = text(item, "Engine")
        engine_version = text(item, "FullEngineVersion") or text(item, "MajorEngineVersion")
        judge = _Judge(Product.ELASTICACHE_SERVERLESS, name, arn)
        # TLS cannot be turned off here.
        yield (
            unavailable(Product.ELASTICACHE_SERVERLESS, name, arn, text(item, "Status"))
            or judge.engine(engine, "")
            or judge.users(text(item, "UserGroupId"), "no user group is attached")
            or Sighting(
                name=name,
                protocol=Protocol.REDIS,
                host=text(item, "Endpoint", "Address"),
                port=number(item, "Endpoint", "Port"),
                arn=arn,
                kind="configuration",
                ids={"elasticache_serverless.cache_name": name},
                facts={ENGINE: engine, ENGINE_VERSION: engine_version},
            )
        )


def _read_memorydb(answers: Answers) -> Iterator[Outcome]:
    for item in answers.get(MEMORYDB_CLUSTERS.operation, ()):
        name, arn = text(item, "Name"), text(item, "ARN")
        engine, engine_version = text(item, "Engine") or "redis", text(item, "EngineVersion")
        judge = _Judge(Product.MEMORYDB, name, arn)
        users = text(item, "ACLName")
        yield (
            unavailable(Product.MEMORYDB, name, arn, text(item, "Status"))
            or judge.engine(engine, engine_version)
            or judge.tls(item.get("TLSEnabled"))
            or judge.users(users != _OPEN_ACCESS, "its ACL is open-access, which has no users")
            or Sighting(
                name=name,
                protocol=Protocol.REDIS,
                host=text(item, "ClusterEndpoint", "Address"),
                port=number(item, "ClusterEndpoint", "Port"),
                arn=arn,
                kind="configuration",
                ids={"memorydb.cluster_name": name},
                facts={ENGINE: engine, ENGINE_VERSION: engine_version},
            )
        )


class _Judge:
    """What keeps a cache from being served."""

    def __init__(self, product: Product, name: str, arn: str) -> None:
        self._product, self._name, self._arn = product, name, arn

    def engine(self, engine: str, engine_version: str) -> Skipped | None:
        if engine not in _ENGINES:
            return self._skipped(Cause.ENGINE, f"engine {engine or 'unknown'!r}: served are redis and valkey")
        if engine == "redis" and older(engine_version, *_LEAST):
            return self._skipped(Cause.VERSION, f"Redis {engine_version}: IAM authentication needs 7.0 or later")
        return None

    def tls(self, enabled: object) -> Skipped | None:
        if enabled:
            return None
        return self._skipped(Cause.NO_TLS, "encryption in transit is off: IAM authentication needs it")

    def users(self, there: object, why_not: str) -> Skipped | None:
        if there:
            return None
        return self._skipped(Cause.IAM_AUTH_OFF, f"{why_not}: IAM authentication needs a user of type IAM in one")

    def _skipped(self, cause: Cause, why: str) -> Skipped:
        return Skipped(product=self._product, name=self._name, arn=self._arn, cause=cause, why=why)


ELASTICACHE: Final = Observer(product=Product.ELASTICACHE, listings=(GROUPS, NODES), read=_read_groups, tags=CACHE_TAGS)
ELASTICACHE_SERVERLESS: Final = Observer(
    product=Product.ELASTICACHE_SERVERLESS, listings=(SERVERLESS,), read=_read_serverless, tags=CACHE_TAGS
)
MEMORYDB: Final = Observer(
    product=Product.MEMORYDB, listings=(MEMORYDB_CLUSTERS,), read=_read_memorydb, tags=MEMORYDB_TAGS
)
