"""Prepared statements about the cluster: the client gets their ids with a mark. PURE.

A client may ask for rows without their metadata, as most drivers do for what they have prepared, and then nothing in
the answer says which table it is of. So the id of a statement about system.local or system.peers carries a mark; an
EXECUTE with the mark goes to the server without it and asks for the metadata; and when the server has forgotten the
statement, its error names the id that the client knows. The mark is the same everywhere: an id may be used on another
connection, or through another proxy.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from proxy.engines.cassandra import wire
from proxy.engines.cassandra.reading import opened
from proxy.script import CLIENT, UPSTREAM

MARK: Final = hashlib.sha256(b"tollbridge: the rows of this statement are rewritten").digest()[:16]
UNPREPARED: Final = 0x2500
_SKIP_METADATA: Final = 0x02


@dataclass(frozen=True, slots=True)
class Execution:
    """An EXECUTE of a marked statement."""

    statement: bytes
    """The server's id."""
    read: int
    """Bytes of the body that `instead` stands for."""
    instead: bytes


def marked(body: bytes, at: int) -> bytes:
    """A Prepared result whose id, a [short bytes] at `at`, gets the mark."""
    size = int.from_bytes(body[at : at + 2], "big")
    return body[:at] + struct.pack(">H", size + len(MARK)) + MARK + body[at + 2 :]


def parse_execute(body: bytes, flags: int) -> Execution | None:
    """An EXECUTE from its begin; None for a statement without the mark. Raises Short."""
    cursor = opened(body, flags, CLIENT)
    before = cursor.at
    name = wire.take_string(cursor)
    if not name.startswith(MARK):
        return None
    consistency, options = cursor.take(2), cursor.u8()
    statement = name[len(MARK) :]
    instead = wire.string(statement) + consistency + bytes((options & ~_SKIP_METADATA,))
    return Execution(statement, cursor.at, body[:before] + instead)


def remarked(body: bytes, flags: int, known: Collection[bytes]) -> bytes:
    """An ERROR; where it says that one of these statements is not prepared, with the id that the client knows.

    Raises Short.
    """
    cursor = opened(body, flags, UPSTREAM)
    if cursor.u32() != UNPREPARED:
        return body
    wire.take_string(cursor)
    at = cursor.at
    return marked(body, at) if wire.take_string(cursor) in known else body
