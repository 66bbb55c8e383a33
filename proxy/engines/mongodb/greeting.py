"""The greeting, both ways, rewritten so that a driver stays here: what it may ask for, and what it is told. PURE.

A driver connects to whatever `hosts`, `me` and `primary` name, so they name the proxy; `setName` stays, for URIs of
DocumentDB carry replicaSet=rs0. Without `topologyVersion` drivers poll instead of asking for a stream; without
`compression` nobody compresses. What a server says about elections would only be compared with other servers' word.
https://github.com/mongodb/specifications/blob/master/source/server-discovery-and-monitoring/server-discovery-and-monitoring.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.engines.mongodb import bson
from proxy.engines.mongodb.bson import BsonError, Element
from proxy.engines.mongodb.wire import MESSAGE_MAX
from proxy.errors import PeerViolation
from proxy.script import UPSTREAM

NAMES: Final = frozenset({"hello", "ismaster"})

_NOT_ASKED: Final = frozenset(
    {
        "$db", "compression", "saslSupportedMechs", "speculativeAuthenticate", "topologyVersion", "maxAwaitTimeMS",
        "loadBalanced", "$readPreference", "$clusterTime", "lsid", "backpressure",
    }
)  # fmt: skip
"""What does not go on of a client's hello: of the login, of compression, of streams, of its view of a cluster."""
_NOT_TOLD: Final = frozenset(
    {
        "hosts", "passives", "arbiters", "me", "primary", "topologyVersion", "compression", "saslSupportedMechs",
        "speculativeAuthenticate", "serviceId", "electionId", "setVersion", "$clusterTime", "operationTime",
        "connectionId",
    }
)  # fmt: skip
"""What does not go on of a server's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server takes, as it said."""

    message_bytes: int


def question(body: Mapping[str, Element]) -> list[Element]:
    """A client's hello as it goes to the server, without `$db`."""
    return [element for name, element in body.items() if name not in _NOT_ASKED]


def plain_question() -> list[Element]:
    """The hello of a client that sent none."""
    return [bson.int32("hello", 1)]


def answer(body: Mapping[str, Element], address: str) -> bytes:
    """A server's answer as it goes to the client: the proxy at `address` (HOST:PORT) is the only member there is."""
    told = [element for name, element in body.items() if name not in _NOT_TOLD and name != "ok"]
    if "setName" in body:
        told += [bson.strings("hosts", [address]), bson.string("me", address)]
        if is_primary(body):
            told.append(bson.string("primary", address))
    return bson.write((*told, body["ok"] if "ok" in body else bson.double("ok", 1.0)))


def is_primary(body: Mapping[str, Element]) -> bool:
    """Whether the server takes writes."""
    try:
        return any(name in body and body[name].truth() for name in ("isWritablePrimary", "ismaster"))
    except BsonError as error:
        raise PeerViolation(UPSTREAM, f"a hello that makes no sense: {error}") from error


def limits(body: Mapping[str, Element]) -> Limits:
    """What the server takes. Raises PeerViolation for what no server says."""
    said = body.get("maxMessageSizeBytes")
    try:
        size = MESSAGE_MAX if said is None else int(said.number())
    except (BsonError, ValueError, OverflowError) as error:
        raise PeerViolation(UPSTREAM, f"a hello that makes no sense: {error}") from error
    return Limits(message_bytes=min(max(size, 1_048_576), MESSAGE_MAX))
