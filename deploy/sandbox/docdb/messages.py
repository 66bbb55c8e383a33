"""MongoDB's wire messages, as far as a front needs them."""

import asyncio
import itertools
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import bson

OP_REPLY, OP_QUERY, OP_COMPRESSED, OP_MSG = 1, 2004, 2012, 2013
CHECKSUM_PRESENT, MORE_TO_COME, EXHAUST_ALLOWED = 1, 2, 1 << 16
MAX_MESSAGE_BYTES = 48_000_000
MAX_BEFORE_LOGIN_BYTES = 65_536
_HEADER = struct.Struct("<iiii")
_COMPRESSED = struct.Struct("<iiB")
_ZLIB = 2
_ids = itertools.count(1)


class Broken(Exception):
    """What came is no message; the connection ends."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, header included in ``whole``."""

    request_id: int
    opcode: int
    whole: bytes

    @property
    def flags(self) -> int:
        """Of an OP_MSG."""
        return int.from_bytes(self.whole[16:20], "little") if self.opcode == OP_MSG else 0

    def document(self) -> dict[str, Any]:
        """Of an OP_MSG its body; of an OP_QUERY the query. Raises Broken."""
        try:
            if self.opcode == OP_MSG and self.whole[20] == 0:
                start = 21
            elif self.opcode == OP_QUERY:
                start = self.whole.index(b"\0", 20) + 1 + 8
            else:
                raise Broken(f"opcode {self.opcode}")
            length = int.from_bytes(self.whole[start : start + 4], "little")
            return dict(bson.decode(self.whole[start : start + length]))
        except (IndexError, ValueError, bson.errors.InvalidBSON) as error:
            raise Broken("no document in it") from error

    def name(self) -> str:
        """The command's name, without reading further."""
        if self.opcode != OP_MSG:
            return next(iter(self.document()), "")
        end = self.whole.find(b"\0", 26, 90)
        return self.whole[26:end].decode("latin-1") if self.whole[20] == 0 and end > 0 else ""

    def reply(self, document: dict[str, Any], *, more_to_come: bool = False, response_to: int | None = None) -> bytes:
        """An answer in the protocol that asked."""
        return answer(
            document,
            opcode=self.opcode,
            response_to=self.request_id if response_to is None else response_to,
            flags=MORE_TO_COME if more_to_come else 0,
        )[1]


def answer(document: dict[str, Any], *, opcode: int, response_to: int, flags: int = 0) -> tuple[int, bytes]:
    """Its request id, and the whole message."""
    body, request_id = bson.encode(document), next(_ids)
    if opcode == OP_QUERY:
        content, opcode = struct.pack("<iqii", 8, 0, 0, 1) + body, OP_REPLY
    else:
        content, opcode = struct.pack("<IB", flags, 0) + body, OP_MSG
    return request_id, _HEADER.pack(16 + len(content), request_id, response_to, opcode) + content


async def read(reader: asyncio.StreamReader, limit: int) -> Message | None:
    """None at the end. Decompressed, if it came so. Raises Broken."""
    try:
        header = await reader.readexactly(16)
    except asyncio.IncompleteReadError:
        return None
    length, request_id, response_to, opcode = _HEADER.unpack(header)
    if not 16 < length <= limit:
        raise Broken(f"a message of {length} bytes")
    try:
        whole = header + await reader.readexactly(length - 16)
    except asyncio.IncompleteReadError as error:
        raise Broken("an end within a message") from error
    if opcode != OP_COMPRESSED:
        return Message(request_id, opcode, whole)
    original, size, compressor = _COMPRESSED.unpack_from(whole, 16)
    if compressor != _ZLIB or not 0 <= size <= limit:
        raise Broken("a compressor that was not offered")
    content = zlib.decompressobj().decompress(whole[25:], size + 1)
    if len(content) != size:
        raise Broken("a compressed message of another length")
    return Message(request_id, original, _HEADER.pack(16 + size, request_id, response_to, original) + content)
