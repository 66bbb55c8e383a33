"""RESULT frames that tell drivers where to connect, read and rewritten. PURE.

Every Rows result names its keyspace and table, unless the client asked to leave that out, which `statements` undoes for
these. So no query need be understood:

    system.peers, peers_v2     there are none: the columns stay, the rows go, unread
    system.local               every address is the proxy's, and host_id the same for everybody
    PREPARE of one of them     its id gets a mark

Anything here may be hostile. What cannot be read is a PeerViolation, never passed on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.engines.cassandra import statements, wire
from proxy.engines.cassandra.reading import Partial, opened, whole
from proxy.errors import PeerViolation
from proxy.inbox import Cursor
from proxy.script import UPSTREAM

VOID, ROWS, PREPARED = 1, 2, 4
GLOBAL, MORE_PAGES, NO_METADATA = 1, 2, 4
SYSTEM: Final = b"\0\x06system"
"""The keyspace, as a [string]."""
PEERS: Final = frozenset({b"peers", b"peers_v2"})
LOCAL: Final = b"local"

HEAD_LIMIT: Final = 128 * 1024
"""Bytes of a result before its rows: columns of a system table take 2 KB, a paging state some hundred."""
WHOLE_LIMIT: Final = 2 * 1024 * 1024
"""Bytes of a result that is gathered: system.local has some 10 KB, a statement with 65,535 markers 1.3 MB."""
ID_LIMIT: Final = 1024
"""Bytes of a statement's id; servers' have 16."""
DEPTH_LIMIT: Final = 16
"""Of types within types."""

INT, UUID, INET = 0x09, 0x0C, 0x10
PORTS: Final = frozenset({b"rpc_port", b"listen_port", b"broadcast_port", b"native_port"})
_SIMPLE: Final = frozenset(range(0x01, 0x16))


class What(Enum):
    """What a RESULT is about."""

    OPAQUE = "none of the proxy's business"
    PEERS = "the rows of system.peers or peers_v2"
    LOCAL = "the rows of system.local"
    PREPARED = "a prepared statement about anything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """What clients are told of the cluster: one node, and it is the proxy."""

    address: bytes
    """4 or 16 bytes."""
    port: int
    host_id: bytes
    """16 bytes."""


@dataclass(frozen=True, slots=True)
class Column:
    """One of a result."""

    name: bytes
    kind: int
    """The outermost option of its type."""


def what(body: bytes, flags: int) -> What:
    """What a RESULT's body is about, from its begin. Raises Short and PeerViolation."""
    cursor = opened(body, flags, UPSTREAM)
    kind = cursor.u32()
    if kind == PREPARED:
        return What.PREPARED
    if kind != ROWS:
        return What.OPAQUE
    table = _table(cursor)
    if table in PEERS:
        return What.PEERS
    return What.LOCAL if table == LOCAL else What.OPAQUE


def concerns_nodes(body: bytes, flags: int) -> bool:
    """Whether an EVENT tells of nodes, or of what nobody here knows; the schema's are for drivers. Raises Short."""
    return wire.take_string(opened(body, flags, UPSTREAM)) != b"SCHEMA_CHANGE"


def without_rows(body: bytes, flags: int) -> bytes:
    """The begin of a Rows result, as the whole of one that has none. Raises Short and PeerViolation."""
    cursor = opened(body, flags, UPSTREAM)
    cursor.u32()
    _columns(cursor)
    return body[: cursor.at] + bytes(4)


def as_local(body: bytes, flags: int, here: Whereabouts) -> bytes:
    """The rows of system.local with the proxy in the node's place. Raises PeerViolation."""
    return whole(lambda: _as_local(body, flags, here))


def _as_local(body: bytes, flags: int, here: Whereabouts) -> bytes:
    cursor = opened(body, flags, UPSTREAM)
    cursor.u32()
    instead = [_instead(column, here) for column in _columns(cursor)]
    rows = cursor.i32()
    if not 0 <= rows * max(len(instead), 1) <= cursor.remaining:
        raise PeerViolation(UPSTREAM, f"upstream's system.local has {rows} rows")
    parts = [body[: cursor.at]]
    for _ in range(rows):
        for value in instead:
            said = wire.take_bytes(cursor)
            parts.append(wire.long_bytes(said if value is None else value))
    cursor.finish()
    return b"".join(parts)


def _instead(column: Column, here: Whereabouts) -> bytes | None:
    """What a column of system.local says here; None for what the server says."""
    if column.kind == INET:
        return here.address
    if column.name == b"host_id" and column.kind == UUID:
        return here.host_id
    if column.name in PORTS and column.kind == INT:
        return struct.pack(">i", here.port)
    return None


def marked(body: bytes, flags: int, version: int) -> bytes:
    """A Prepared result; where its rows are to be rewritten, with a mark on its id. Raises PeerViolation."""
    return body if SYSTEM not in body else whole(lambda: _marked(body, flags, version))


def _marked(body: bytes, flags: int, version: int) -> bytes:
    cursor = opened(body, flags, UPSTREAM)
    cursor.u32()
    at = cursor.at
    size = len(wire.take_string(cursor))
    _columns(cursor, keys=version >= wire.V4)
    table = _table(cursor)
    if table not in PEERS and table != LOCAL:
        return body
    if size > ID_LIMIT:
        raise PeerViolation(UPSTREAM, f"upstream gave a statement an id of {size} bytes")
    return statements.marked(body, at)


def one_text(cursor: Cursor) -> bytes:
    """The only value of a result with one row and one column. Raises PeerViolation."""
    rest = Partial(cursor.rest(), UPSTREAM)

    def read() -> bytes:
        if rest.u32() != ROWS or len(_columns(rest)) != 1 or rest.u32() != 1:
            raise PeerViolation(UPSTREAM, "upstream answered with something other than one row of one column")
        return wire.take_bytes(rest) or b""

    return whole(read)


def _table(cursor: Partial) -> bytes | None:
    """The table that the metadata names, if its keyspace is `system`."""
    flags = cursor.u32()
    if flags & NO_METADATA:
        return None
    count = cursor.u32()
    if flags & MORE_PAGES:
        wire.take_bytes(cursor)
    if not (count or flags & GLOBAL):
        return None
    keyspace, table = wire.take_string(cursor), wire.take_string(cursor)
    return table if keyspace == b"system" else None


def _columns(cursor: Partial, *, keys: bool = False) -> list[Column]:
    """The columns that the metadata tells. `keys`: it begins with those of the partition key, as for markers in v4."""
    flags, count = cursor.u32(), cursor.u32()
    if keys:
        for _ in range(cursor.u32()):
            cursor.u16()
    if flags & MORE_PAGES:
        wire.take_bytes(cursor)
    if flags & NO_METADATA:
        return []
    names = 0 if flags & GLOBAL else 2
    if flags & GLOBAL:
        wire.take_string(cursor)
        wire.take_string(cursor)
    columns = []
    for _ in range(count):
        for _ in range(names):
            wire.take_string(cursor)
        columns.append(Column(wire.take_string(cursor), _type(cursor)))
    return columns


def _type(cursor: Partial, depth: int = 0) -> int:
    """Read a type. Returns its outermost option."""
    kind = cursor.u16()
    if depth > DEPTH_LIMIT:
        raise PeerViolation(UPSTREAM, f"upstream sent a type more than {DEPTH_LIMIT} deep")
    if kind in _SIMPLE:
        return kind
    inner = 0
    match kind:
        case 0x00:  # custom
            wire.take_string(cursor)
        case 0x20 | 0x22:  # list, set
            inner = 1
        case 0x21:  # map
            inner = 2
        case 0x31:  # tuple
            inner = cursor.u16()
        case 0x30:  # user-defined
            wire.take_string(cursor)
            wire.take_string(cursor)
            for _ in range(cursor.u16()):
                wire.take_string(cursor)
                _type(cursor, depth + 1)
        case _:
            raise PeerViolation(UPSTREAM, f"upstream sent a column of a type nobody knows ({kind:#06x})")
    for _ in range(inner):
        _type(cursor, depth + 1)
    return kind
