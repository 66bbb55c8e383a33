"""What people write where a configuration wants a word of ours: both daemons judge it alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from tollbridge.model import Protocol
from tollbridge.names import nearest
from tollbridge.process.settings import Finding, Section

IDENTITY_FORMS: Final = ("spiffe://", "dns:")
IDENTITY_HINT: Final = "spiffe://example.org/ns/shop/sa/checkout, or dns:NAME where allow_dns_identity is set"

_MEANT: Final = {
    "postgresql": Protocol.POSTGRES,
    "pg": Protocol.POSTGRES,
    "aurora-postgresql": Protocol.POSTGRES,
    "redshift": Protocol.POSTGRES,
    "dsql": Protocol.POSTGRES,
    "mariadb": Protocol.MYSQL,
    "aurora": Protocol.MYSQL,
    "aurora-mysql": Protocol.MYSQL,
    "valkey": Protocol.REDIS,
    "elasticache": Protocol.REDIS,
    "memorydb": Protocol.REDIS,
    "dynamo": Protocol.DYNAMODB,
    "elasticsearch": Protocol.OPENSEARCH,
    "keyspaces": Protocol.CASSANDRA,
    "cql": Protocol.CASSANDRA,
    "docdb": Protocol.MONGODB,
    "documentdb": Protocol.MONGODB,
    "mongo": Protocol.MONGODB,
}
"""Products, servers and short names -> what they speak."""

_USUAL_PORTS: Final = {
    5432: Protocol.POSTGRES,
    5439: Protocol.POSTGRES,
    3306: Protocol.MYSQL,
    6379: Protocol.REDIS,
    9142: Protocol.CASSANDRA,
    27017: Protocol.MONGODB,
}


def protocol_hint(word: str) -> str:
    """What a protocol that does not exist was meant to be, as a hint; empty when that is not known."""
    meant = _MEANT.get(word.lower()) or nearest(word.lower(), list(Protocol))
    return f"did you mean {str(meant)!r}?" if meant else ""


def usual_protocol(uri: str) -> Protocol | None:
    """What usually listens at the port of HOST:PORT; None when nothing in particular does."""
    port = uri.rpartition(":")[2]
    return _USUAL_PORTS.get(int(port)) if port.isascii() and port.isdigit() and len(port) <= 5 else None


def may_be_identity(glob: str) -> bool:
    """Whether any caller or workload can have a name like that: certificates say no others."""
    head = re.split(r"[*?]", glob, maxsplit=1)[0]
    return any(head.startswith(form) or (head != glob and form.startswith(head)) for form in IDENTITY_FORMS)


def nobodies(section: Section, key: str, globs: Iterable[str]) -> Iterator[Finding]:
    """Warnings about names that no identity can have."""
    for glob in globs:
        if glob and not may_be_identity(glob):
            message = f"nobody is called {glob!r}: identities are SPIFFE IDs"
            yield Finding(section.at(key), message, IDENTITY_HINT, warning=True)
