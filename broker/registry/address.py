"""A database's `uri` to a host and port. PURE."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from broker.registry.arns import PARTITIONS
from tollbridge.model import Endpoint, Protocol

HINT: Final = "HOST:PORT, such as rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com:5432"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, and what else its URI asked for."""

    endpoint: Endpoint
    query: str = ""


@dataclass(frozen=True, slots=True)
class Derived:
    """An endpoint that follows from the region alone."""

    title: str
    label: str
    port: int


DERIVED: Final = {
    Protocol.CASSANDRA: Derived("AWS Keyspaces", "cassandra", 9142),
    Protocol.DYNAMODB: Derived("DynamoDB", "dynamodb", 443),
}
"""Regional services: their URI may be left out."""

_SCHEMES: Final = {
    Protocol.REDIS: ({"redis", "rediss"}, 6379),
    Protocol.MONGODB: ({"mongodb"}, 27017),
    Protocol.OPENSEARCH: ({"https"}, 443),
    Protocol.DYNAMODB: ({"https"}, 443),
    Protocol.POSTGRES: (set[str](), 0),
    Protocol.MYSQL: (set[str](), 0),
    Protocol.CASSANDRA: (set[str](), 0),
}
"""Schemes Teleport takes, and the port a scheme implies. Without a scheme the port must be written."""

_HOST: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)


def parse(uri: str, protocol: Protocol | None) -> Address:
    """Host and port of a URI. Raises ValueError."""
    if "@" in uri:
        raise ValueError("it may not hold a user or password")
    schemes, default_port = _SCHEMES[protocol] if protocol else (set[str](), 0)
    if "://" in uri:
        scheme = uri.partition("://")[0].lower()
        if scheme not in schemes:
            raise ValueError(f"{scheme}:// is not taken here")
        parts = urlsplit(uri)
        text, query = parts.netloc, "&".join(filter(None, (parts.path.strip("/"), parts.query)))
        if ":" not in text:
            text = f"{text}:{default_port}"
    else:
        text, query = uri, ""
    host, colon, port_text = text.rpartition(":")
    if not colon or not host:
        raise ValueError("missing port in address" if not colon else "missing host in address")
    port = int(port_text) if port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 else 0
    if not 1 <= port <= 65535:
        raise ValueError(f"port must be a number from 1 to 65535, not {port_text!r}")
    return Address(Endpoint(host=_checked_host(host.lower()), port=port), query)


def shown(uri: str) -> str:
    """For messages: without the user and password that somebody may have written into it."""
    before, at, after = uri.rpartition("@")
    return f"{before.partition('://')[0]}://***@{after}" if at and "://" in before else f"***@{after}" if at else uri


def derive(protocol: Protocol | None, region: str) -> Endpoint | None:
    """The regional endpoint of DynamoDB or Keyspaces; None for other protocols or what is no region."""
    row = DERIVED.get(protocol) if protocol else None
    suffix = next((p.dns_suffix for p in PARTITIONS if p.regions.fullmatch(region)), "")
    return Endpoint(host=f"{row.label}.{region}.{suffix}", port=row.port) if row and suffix else None


def _checked_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError as error:
            raise ValueError("its host is not an IPv6 address") from error
    if ":" in host:
        raise ValueError("too many colons in address")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError("its host is not a host name")
    return host
