"""Messages of the MongoDB wire protocol, as far as a proxy reads or writes them. PURE.

https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/,
https://github.com/mongodb/specifications/blob/master/source/message/OP_MSG.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from proxy.engines.mongodb import bson
from proxy.engines.mongodb.bson import BsonError, Element
from proxy.errors import PeerViolation, Side
from proxy.script import Script, peek, receive

HEADER: Final = struct.Struct("<iiii")
"""Length of the whole message, request id, the id it answers, opcode."""
HEADER_BYTES: Final = 16
OP_REPLY, OP_QUERY, OP_COMPRESSED, OP_MSG = 1, 2004, 2012, 2013
OP_MSG_BYTES: Final = OP_MSG.to_bytes(4, "little")
"""As it stands in a header."""
OPCODES: Final = {1: "OP_REPLY", 2001: "OP_UPDATE", 2002: "OP_INSERT", 2004: "OP_QUERY", 2005: "OP_GET_MORE",
                  2006: "OP_DELETE", 2007: "OP_KILL_CURSORS", 2012: "OP_COMPRESSED", 2013: "OP_MSG"}  # fmt: skip

CHECKSUM, MORE_TO_COME = 1, 2
KNOWN_FLAGS: Final = CHECKSUM | MORE_TO_COME
"""Of the low 16 bits, which a receiver must know or refuse."""

MESSAGE_MAX: Final = 48_000_000
"""What servers say as maxMessageSizeBytes."""
HANDSHAKE_LIMIT: Final = 16_384
"""Bytes of a message that belongs to a login, on either side; a hello has some hundreds."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first sixteen bytes of a message."""

    length: int
    request_id: int
    response_to: int
    opcode: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a login, read whole."""

    header: Header
    body: dict[str, Element]
    """Of its one document."""

    @property
    def command(self) -> str:
        """The command's name, lower case: MongoDB takes the first element for it."""
        return next(iter(self.body), "").lower()


def parse_header(data: bytes, side: Side) -> Header:
    """Sixteen bytes. Raises PeerViolation for a length that no message has."""
    header = Header(*HEADER.unpack(data))
    if not HEADER_BYTES < header.length <= MESSAGE_MAX:
        raise PeerViolation(side, f"a message of {header.length} bytes: is it MongoDB?")
    return header


def peek_header(side: Side) -> Script[Header]:
    """The next message's, left in place."""
    return parse_header((yield from peek(side, HEADER_BYTES)), side)


def read_message(side: Side) -> Script[Message]:
    """The next message, which belongs to the login. Raises PeerViolation."""
    header = yield from peek_header(side)
    if header.length > HANDSHAKE_LIMIT:
        raise PeerViolation(side, f"a message of {header.length} bytes during the login")
    return parse_message(header, (yield from receive(side, header.length)), side)


def parse_message(header: Header, data: bytes, side: Side) -> Message:
    """A whole message of one document, as hello and its like are. Raises PeerViolation."""
    if len(data) > HANDSHAKE_LIMIT:
        raise PeerViolation(side, f"a message of {len(data)} bytes where some hundreds would do")
    try:
        return Message(header, bson.read(_document(data, header, side)))
    except BsonError as error:
        raise PeerViolation(side, f"a message that is no valid BSON: {error}") from error


def _document(data: bytes, header: Header, side: Side) -> bytes:
    """The one document of a login's message."""
    match header.opcode:
        case 2013:  # OP_MSG
            flags = int.from_bytes(data[16:20], "little")
            if flags & 0xFFFF & ~KNOWN_FLAGS or flags & MORE_TO_COME or data[20:21] != b"\0":
                raise PeerViolation(side, "a hello or the like that is more than one question or answer")
            return data[21 : header.length - (4 if flags & CHECKSUM else 0)]
        case 2004 if side is Side.CLIENT:  # OP_QUERY
            name_end = data.find(b"\0", 20)
            if not data[20:name_end].endswith(b".$cmd"):
                raise PeerViolation(side, "an OP_QUERY that is no command")
            document = data[name_end + 9 :]  # behind numberToSkip and numberToReturn
            return document[: int.from_bytes(document[:4], "little")]  # a projection may follow
        case 1 if side is Side.UPSTREAM:  # OP_REPLY
            return data[36:]
    name = OPCODES.get(header.opcode, str(header.opcode))
    raise PeerViolation(side, f"{name}, which tollbridge does not take: use a driver that speaks OP_MSG")


def command(request_id: int, *parts: Element, database: str) -> bytes:
    """A command, as OP_MSG."""
    document = bson.write((*parts, bson.string("$db", database)))
    return HEADER.pack(21 + len(document), request_id, 0, OP_MSG) + b"\0\0\0\0\0" + document


def reply(to: Header, document: bytes) -> bytes:
    """An answer in the form in which its question came."""
    if to.opcode == OP_QUERY:
        head = HEADER.pack(36 + len(document), 0, to.request_id, OP_REPLY)
        return head + struct.pack("<iqii", 8, 0, 0, 1) + document  # 8: AwaitCapable
    return HEADER.pack(21 + len(document), 0, to.request_id, OP_MSG) + b"\0\0\0\0\0" + document
