"""RDS instances and Aurora clusters, and RDS Proxies. PURE.

https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeDBInstances.html
https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeDBClusters.html

Engines are told apart here and not by a filter of the call: AWS refuses a whole call whose filter names an engine that
the region does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.discovery.labels import ENGINE, ENGINE_VERSION, VPC_ID
from broker.discovery.model import Cause, Item, Listing, Sighting, Skipped, TagCall, Target
from broker.discovery.observers.reading import Answers, Observer, Outcome, many, number, older, tags, text, unavailable
from tollbridge.model import Product, Protocol

INSTANCES: Final = Listing(service="rds", operation="DescribeDBInstances", items="DBInstances")
CLUSTERS: Final = Listing(service="rds", operation="DescribeDBClusters", items="DBClusters")
PROXIES: Final = Listing(service="rds", operation="DescribeDBProxies", items="DBProxies")
PROXY_ENDPOINTS: Final = Listing(service="rds", operation="DescribeDBProxyEndpoints", items="DBProxyEndpoints")
PROXY_TAGS: Final = TagCall(
    service="rds",
    operation="ListTagsForResource",
    parameter="ResourceName",
    items="TagList",
    action="rds:ListTagsForResource",
)

_ENGINES: Final = {
    "postgres": Protocol.POSTGRES,
    "aurora-postgresql": Protocol.POSTGRES,
    "mysql": Protocol.MYSQL,
    "mariadb": Protocol.MYSQL,
    "aurora-mysql": Protocol.MYSQL,
}
_OTHER_PRODUCTS: Final = frozenset({"docdb", "neptune"})
"""They answer to the same calls and are no databases of RDS."""
_MARIADB_LEAST: Final = (10, 6)
"""https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.RDS_Fea_Regions_DB-eng.Feature.IamDatabaseAuthentication.html"""
_FAMILIES: Final = {"POSTGRESQL": (Protocol.POSTGRES, 5432), "MYSQL": (Protocol.MYSQL, 3306)}


def _read(answers: Answers) -> Iterator[Outcome]:
    for instance in answers.get(INSTANCES.operation, ()):
        # A cluster's member is reached through its cluster.
        if not text(instance, "DBClusterIdentifier") and text(instance, "Engine") not in _OTHER_PRODUCTS:
            yield _instance(instance)
    for cluster in answers.get(CLUSTERS.operation, ()):
        if text(cluster, "Engine") not in _OTHER_PRODUCTS:
            yield from _cluster(cluster)


def _instance(item: Item) -> Outcome:
    name, arn = text(item, "DBInstanceIdentifier"), text(item, "DBInstanceArn")
    unsuitable = _unsuitable(item, name, arn, text(item, "DBInstanceStatus"), Target.INSTANCE)
    if unsuitable:
        return unsuitable
    return Sighting(
        name=name,
        protocol=_ENGINES[text(item, "Engine")],
        host=text(item, "Endpoint", "Address"),
        port=number(item, "Endpoint", "Port"),
        arn=arn,
        kind="instance",
        ids=_known({"rds.instance_id": name, "rds.resource_id": text(item, "DbiResourceId")}),
        facts={**_facts(item), VPC_ID: text(item, "DBSubnetGroup", "VpcId")},
        tags=tags(many(item, "TagList")),
    )


def _cluster(item: Item) -> Iterator[Outcome]:
    name, arn = text(item, "DBClusterIdentifier"), text(item, "DBClusterArn")
    unsuitable = _unsuitable(item, name, arn, text(item, "Status"), Target.CLUSTER)
    members = many(item, "DBClusterMembers") if "DBClusterMembers" in item else None
    if unsuitable is None and members is not None and not members:
        unsuitable = Skipped(
            product=Product.RDS,
            name=name,
            arn=arn,
            cause=Cause.NOT_AVAILABLE,
            why="the cluster has no instance",
            tags=tags(many(item, "TagList")),
        )
    if unsuitable:
        yield unsuitable
        return
    writers = members is None or any(isinstance(member, dict) and member.get("IsClusterWriter") for member in members)
    if writers:
        yield _endpoint(item, name, arn, text(item, "Endpoint"), "cluster", "")
    if has_reader(item) and (reader := text(item, "ReaderEndpoint")):
        yield _endpoint(item, name, arn, reader, "reader", "reader")
    for host in many(item, "CustomEndpoints"):
        if isinstance(host, str) and host:
            yield _endpoint(item, name, arn, host, "custom", f"custom-{host.partition('.')[0]}")


def has_reader(cluster: Item) -> bool:
    """Whether some member of a cluster only reads, or AWS does not say: without one the reader endpoint leads to the
    writer."""
    if "DBClusterMembers" not in cluster:
        return True
    members = many(cluster, "DBClusterMembers")
    return any(isinstance(member, dict) and not member.get("IsClusterWriter") for member in members)


def _endpoint(item: Item, name: str, arn: str, host: str, kind: str, suffix: str) -> Sighting:
    return Sighting(
        name=name,
        protocol=_ENGINES[text(item, "Engine")],
        host=host,
        port=number(item, "Port"),
        arn=arn,
        kind=kind,
        suffix=suffix,
        ids=_known({"rds.cluster_id": name, "rds.resource_id": text(item, "DbClusterResourceId")}),
        facts=_facts(item),
        tags=tags(many(item, "TagList")),
    )


def _unsuitable(item: Item, name: str, arn: str, status: str, target: Target) -> Skipped | None:
    engine, engine_version = text(item, "Engine"), text(item, "EngineVersion")
    tagged = tags(many(item, "TagList"))

    def skipped(cause: Cause, why: str, about: Target | None = None) -> Skipped:
        return Skipped(product=Product.RDS, name=name, arn=arn, cause=cause, why=why, target=about, tags=tagged)

    if gone := unavailable(Product.RDS, name, arn, status, tagged):
        return gone
    if engine not in _ENGINES:
        return skipped(Cause.ENGINE, f"engine {engine or 'unknown'!r}: served are {', '.join(_ENGINES)}")
    if engine == "mariadb" and older(engine_version, *_MARIADB_LEAST):
        return skipped(Cause.VERSION, f"MariaDB {engine_version}: IAM authentication needs 10.6 or later")
    if text(item, "EngineMode") == "serverless":
        return skipped(Cause.VERSION, "Aurora Serverless v1 has no IAM authentication: move it to v2")
    if not item.get("IAMDatabaseAuthenticationEnabled"):
        why = f"IAM authentication is off for this {target}: `tollbridge discovery plan` shows what would turn it on"
        return skipped(Cause.IAM_AUTH_OFF, why, target)
    return None


def _facts(item: Item) -> dict[str, str]:
    return {ENGINE: text(item, "Engine"), ENGINE_VERSION: text(item, "EngineVersion")}


def _known(ids: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in ids.items() if value}


def _read_proxies(answers: Answers) -> Iterator[Outcome]:
    suitable: dict[str, Sighting] = {}
    for proxy in answers.get(PROXIES.operation, ()):
        outcome = _proxy(proxy)
        if isinstance(outcome, Sighting):
            suitable[outcome.name] = outcome
        yield outcome
    for endpoint in answers.get(PROXY_ENDPOINTS.operation, ()):
        # The default endpoint is the proxy itself; one of a proxy that was skipped is skipped with it.
        owner = suitable.get(text(endpoint, "DBProxyName"))
        if owner is not None and not endpoint.get("IsDefault"):
            yield _proxy_endpoint(endpoint, owner)


def _proxy(item: Item) -> Outcome:
    name, arn = text(item, "DBProxyName"), text(item, "DBProxyArn")
    if gone := unavailable(Product.RDSPROXY, name, arn, text(item, "Status")):
        return gone
    family = text(item, "EngineFamily")
    if family not in _FAMILIES:
        why = f"engine family {family or 'unknown'!r}: served are {', '.join(_FAMILIES)}"
        return Skipped(product=Product.RDSPROXY, name=name, arn=arn, cause=Cause.ENGINE, why=why)
    asked = [text(auth, "IAMAuth") for auth in many(item, "Auth")]
    if "REQUIRED" not in asked and text(item, "DefaultAuthScheme") != "IAM_AUTH":
        why = "no authentication of this proxy asks for IAM: set IAM authentication to required"
        return Skipped(product=Product.RDSPROXY, name=name, arn=arn, cause=Cause.IAM_AUTH_OFF, why=why)
    protocol, port = _FAMILIES[family]
    return Sighting(
        name=name,
        protocol=protocol,
        host=text(item, "Endpoint"),
        port=port,
        arn=arn,
        kind="proxy",
        ids=_known({"rdsproxy.name": name, "rdsproxy.resource_id": arn.rpartition(":")[2]}),
        facts={ENGINE: family.lower(), VPC_ID: text(item, "VpcId")},
    )


def _proxy_endpoint(item: Item, owner: Sighting) -> Outcome:
    name, arn = text(item, "DBProxyEndpointName"), text(item, "DBProxyEndpointArn")
    if gone := unavailable(Product.RDSPROXY, name, arn, text(item, "Status")):
        return gone
    return Sighting(
        name=owner.name,
        protocol=owner.protocol,
        host=text(item, "Endpoint"),
        port=owner.port,
        arn=arn,
        kind="proxy-endpoint",
        suffix=name,
        ids=owner.ids,
        facts={**owner.facts, VPC_ID: text(item, "VpcId")},
    )


RDS: Final = Observer(product=Product.RDS, listings=(INSTANCES, CLUSTERS), read=_read)
RDSPROXY: Final = Observer(
    product=Product.RDSPROXY, listings=(PROXIES, PROXY_ENDPOINTS), read=_read_proxies, tags=PROXY_TAGS
)
