"""Engines: one folder per protocol, pure. An engine is a handshake script, its refusals, and sometimes a guard.

`entry` is what they share: permission, login, and both once more when the credential was rejected.

`ENGINES` and `HTTP_ENGINES` are the registry: adding a protocol is a folder and a line here. Nothing in `proxy.net`
knows one by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.engine import Engine, HttpEngine
from proxy.engines.cassandra import CassandraEngine
from proxy.engines.dynamodb import DynamodbEngine
from proxy.engines.mongodb import MongoEngine
from proxy.engines.mysql import MysqlEngine
from proxy.engines.opensearch import OpensearchEngine
from proxy.engines.postgres import PostgresEngine
from proxy.engines.redis import RedisEngine

ENGINES: Final[Mapping[str, Engine]] = MappingProxyType(
    {
        "cassandra": CassandraEngine(),
        "mongodb": MongoEngine(),
        "mysql": MysqlEngine(),
        "postgres": PostgresEngine(),
        "redis": RedisEngine(),
    }
)
"""Protocol name -> engine."""

HTTP_ENGINES: Final[Mapping[str, HttpEngine]] = MappingProxyType(
    {"dynamodb": DynamodbEngine(), "opensearch": OpensearchEngine()}
)
"""Protocol name -> engine, for what is spoken over HTTP: each request is signed, and nobody logs in."""

PROTOCOLS: Final = tuple(sorted((*ENGINES, *HTTP_ENGINES)))
"""What listeners can speak."""
