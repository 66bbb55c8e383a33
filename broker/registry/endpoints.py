"""The grammar of AWS database endpoints: what a host name says about the database behind it. PURE.

A host is `REST.REGION.SERVICE.SUFFIX` or `REST.SERVICE.REGION.SUFFIX`; a table says which, per service, and who reads
REST. What does not fit is None: a CNAME, a private link name, a database that is not AWS's, or somebody's imitation.
The grammar alone proves nothing about the account; it keeps a credential from being signed for `rds.evil.example`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from broker.registry.arns import PARTITIONS, Partition, is_account_id, partition_of_region
from tollbridge.model import Product


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsEndpoint:
    """What a host name says."""

    host: str
    product: Product
    partition: str
    region: str
    kind: str
    """instance, cluster, reader, custom, proxy, proxy-endpoint, shard-group, workgroup, vpc-endpoint, configuration,
    primary, node, domain, service or account."""
    ids: Mapping[str, str] = field(default_factory=dict, hash=False)
    """AWS identifiers by their config names, such as rds.instance_id."""
    account_id: str = ""
    """Where the name holds it (Redshift Serverless, account-based DynamoDB)."""


@dataclass(frozen=True, slots=True)
class _Reading:
    kind: str
    ids: Mapping[str, str] = field(default_factory=dict)
    account_id: str = ""
    product: Product | None = None


_Reader = Callable[[list[str]], _Reading | None]


@dataclass(frozen=True, slots=True)
class _Service:
    product: Product
    region_first: bool
    read: _Reader
    short_region: bool = False


_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_HASH: Final = re.compile(r"[a-z0-9]+", re.ASCII)
_MAX_HOST_CHARS: Final = 253


def parse_endpoint(host: str) -> AwsEndpoint | None:
    """What AWS says with this host name (lower case, no port); None when it is not one of AWS's database endpoints."""
    if len(host) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        return None
    for partition in PARTITIONS:
        zones = (("dns", partition.dns_suffix), ("api", partition.api_suffix), ("on", partition.on_suffix))
        for zone, suffix in zones:
            if host.endswith("." + suffix):
                labels = host[: -len(suffix) - 1].split(".")
                if found := _read(host, labels, partition, zone):
                    return found
    return None


def _read(host: str, labels: list[str], partition: Partition, zone: str) -> AwsEndpoint | None:
    if len(labels) < 2:
        return None
    for region_first, written, name in ((True, labels[-2], labels[-1]), (False, labels[-1], labels[-2])):
        service = _SERVICES.get((zone, _DSQL_LINK.sub("dsql", name)))
        if service is None or (service.region_first != region_first and partition.name != "aws-cn"):
            continue
        region = _long_region(written) if service.short_region else written
        if partition_of_region(region) != partition.name:
            continue
        reading = service.read(labels[:-2])
        if reading is not None:
            return AwsEndpoint(
                host=host,
                product=reading.product or service.product,
                partition=partition.name,
                region=region,
                kind=reading.kind,
                ids=reading.ids,
                account_id=reading.account_id,
            )
    return None


_SHORT_REGION: Final = re.compile(r"(usg|us|eu|ap|sa|ca|me|af|il|mx|cn)(ne|nw|se|sw|n|e|s|w|c)(\d)", re.ASCII)
_AREA: Final = {"usg": "us-gov"}
_DIRECTION: Final = {
    "n": "north",
    "e": "east",
    "s": "south",
    "w": "west",
    "c": "central",
    "ne": "northeast",
    "nw": "northwest",
    "se": "southeast",
    "sw": "southwest",
}


def _long_region(short: str) -> str:
    """`use1` -> `us-east-1`; empty when it is no such code."""
    match = _SHORT_REGION.fullmatch(short)
    if match is None:
        return ""
    area, direction, number = match.groups()
    return f"{_AREA.get(area, area)}-{_DIRECTION[direction]}-{number}"


_CLUSTER_KINDS: Final = {
    "cluster": "cluster",
    "cluster-ro": "reader",
    "cluster-custom": "custom",
    "proxy": "proxy",
    "shardgrp": "shard-group",
}


def _split_kind(label: str) -> tuple[str, str]:
    """`cluster-ro-abc` -> (`reader`, `abc`); a bare hash is an instance."""
    prefix, dash, rest = label.rpartition("-")
    if not dash:
        return "instance", label
    return _CLUSTER_KINDS.get(prefix, ""), rest


def _rds(rest: list[str]) -> _Reading | None:
    if len(rest) == 3 and rest[1] == "endpoint":
        kind, mark = _split_kind(rest[2])
        if kind != "proxy" or not _HASH.fullmatch(mark):
            return None
        return _Reading("proxy-endpoint", {"rds.proxy_endpoint_name": rest[0]}, product=Product.RDSPROXY)
    if len(rest) != 2:
        return None
    kind, mark = _split_kind(rest[1])
    if not kind or not _HASH.fullmatch(mark):
        return None
    if kind == "proxy":
        return _Reading(kind, {"rds.proxy_name": rest[0]}, product=Product.RDSPROXY)
    if kind == "instance":
        return _Reading(kind, {"rds.instance_id": rest[0]})
    # A custom endpoint's name is not its cluster's.
    return _Reading(kind, {} if kind == "custom" else {"rds.cluster_id": rest[0]})


def _docdb(rest: list[str]) -> _Reading | None:
    if len(rest) != 2:
        return None
    kind, mark = _split_kind(rest[1])
    if kind not in {"instance", "cluster", "reader"} or not _HASH.fullmatch(mark):
        return None
    return _Reading(kind, {"docdb.instance_id" if kind == "instance" else "docdb.cluster_id": rest[0]})


def _redshift(rest: list[str]) -> _Reading | None:
    if len(rest) != 2 or not _HASH.fullmatch(rest[1]):
        return None
    name, mark, _ = rest[0].partition("-endpoint-")
    if mark:
        return _Reading("vpc-endpoint", {"redshift.endpoint_name": name})
    return _Reading("cluster", {"redshift.cluster_id": rest[0]})


def _redshift_serverless(rest: list[str]) -> _Reading | None:
    if len(rest) != 2 or not is_account_id(rest[1]):
        return None
    name, mark, _ = rest[0].partition("-endpoint-")
    if mark:
        return _Reading("vpc-endpoint", {"redshift_serverless.endpoint_name": name}, rest[1])
    return _Reading("workgroup", {"redshift_serverless.workgroup_name": rest[0]}, rest[1])


_CACHE_ROLES: Final = {"clustercfg": "configuration", "master": "primary", "replica": "reader"}


def _elasticache(rest: list[str]) -> _Reading | None:
    """Eight forms: (serverless, with TLS, without) x (configuration, primary, reader, node)."""
    key = "elasticache.replication_group_id"
    if len(rest) == 2 and rest[1] == "serverless":
        name, dash, mark = rest[0].rpartition("-")
        if not dash or not _HASH.fullmatch(mark):
            return None
        ids = {"elasticache_serverless.cache_name": name}
        return _Reading("configuration", ids, product=Product.ELASTICACHE_SERVERLESS)
    if len(rest) == 3 and rest[2] == "clustercfg":
        return _Reading("configuration", {key: rest[0]})
    if len(rest) == 3 and rest[0] in _CACHE_ROLES:
        return _Reading(_CACHE_ROLES[rest[0]], {key: rest[1]})
    if len(rest) == 4 and rest[2:] == ["ng", "0001"]:
        reader = rest[0].endswith("-ro")
        return _Reading("reader" if reader else "primary", {key: rest[0].removesuffix("-ro")})
    if len(rest) == 3 and rest[0].startswith(rest[1] + "-"):
        return _Reading("node", {key: rest[1]})
    if len(rest) == 3 and rest[2].isdigit():
        return _Reading("node", {key: _NODE_NUMBER.sub("", rest[0])})
    return None


_NODE_NUMBER: Final = re.compile(r"(-\d{4})?-\d{3}$", re.ASCII)


def _memorydb(rest: list[str]) -> _Reading | None:
    if len(rest) != 3 or not _HASH.fullmatch(rest[2]):
        return None
    if rest[0] == "clustercfg":
        return _Reading("configuration", {"memorydb.cluster_name": rest[1]})
    if rest[0].startswith(rest[1] + "-"):
        return _Reading("node", {"memorydb.cluster_name": rest[1]})
    return None


def _nothing_more(rest: list[str]) -> _Reading | None:
    return None if rest else _Reading("service")


def _dynamodb(rest: list[str]) -> _Reading | None:
    return _Reading("service") if rest in ([], ["streams"]) else None


def _dynamodb_of_account(rest: list[str]) -> _Reading | None:
    return _Reading("account", account_id=rest[0]) if len(rest) == 1 and is_account_id(rest[0]) else None


def _opensearch(rest: list[str]) -> _Reading | None:
    if len(rest) != 1:
        return None
    name, dash, mark = rest[0].rpartition("-")
    for prefix in ("search-", "vpc-"):
        name = name.removeprefix(prefix)
    return _Reading("domain", {"opensearch.domain_name": name}) if dash and name and _HASH.fullmatch(mark) else None


def _aoss(rest: list[str]) -> _Reading | None:
    return _Reading("service", {"opensearch_serverless.collection_id": rest[0]}) if len(rest) == 1 else None


def _dsql(rest: list[str]) -> _Reading | None:
    return _Reading("cluster", {"dsql.cluster_id": rest[0]}) if len(rest) == 1 and _HASH.fullmatch(rest[0]) else None


_DSQL_LINK: Final = re.compile(r"dsql-[a-z0-9]+", re.ASCII)
"""Private link names carry a mark of the service: dsql-fnh4."""

_SERVICES: Final[Mapping[tuple[str, str], _Service]] = {
    ("dns", "rds"): _Service(Product.RDS, True, _rds),
    ("dns", "docdb"): _Service(Product.DOCDB, True, _docdb),
    ("dns", "redshift"): _Service(Product.REDSHIFT, True, _redshift),
    ("dns", "redshift-serverless"): _Service(Product.REDSHIFT_SERVERLESS, True, _redshift_serverless),
    ("dns", "cache"): _Service(Product.ELASTICACHE, True, _elasticache, short_region=True),
    ("dns", "memorydb"): _Service(Product.MEMORYDB, False, _memorydb),
    ("dns", "es"): _Service(Product.OPENSEARCH, True, _opensearch),
    ("on", "aos"): _Service(Product.OPENSEARCH, False, _opensearch),
    ("dns", "aoss"): _Service(Product.OPENSEARCH_SERVERLESS, True, _aoss),
    ("on", "dsql"): _Service(Product.DSQL, False, _dsql),
    **{
        (zone, name): _Service(Product.DYNAMODB, False, _dynamodb)
        for zone in ("dns", "api")
        for name in ("dynamodb", "dynamodb-fips", "streams-dynamodb")
    },
    **{
        (zone, name): _Service(Product.DYNAMODB, False, _dynamodb_of_account)
        for zone in ("dns", "api")
        for name in ("ddb", "streams-ddb")
    },
    **{
        (zone, name): _Service(Product.KEYSPACES, False, _nothing_more)
        for zone in ("dns", "api")
        for name in ("cassandra", "cassandra-fips")
    },
}
"""(which of the partition's suffixes, service label) -> what it is, where its region stands, and who reads the rest."""
