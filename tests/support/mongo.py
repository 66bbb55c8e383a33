"""MongoDB's messages, put together by PyMongo's own BSON and not by ours."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions

Document = Mapping[str, Any]

_OPTIONS: Final = CodecOptions(document_class=dict, tz_aware=True)
STS: Final = "sts.us-west-1.amazonaws.com"


def op_msg(
    body: Document, request_id: int = 1, to: int = 0, flags: int = 0, *sequences: tuple[str, Sequence[Document]]
) -> bytes:
    """A command or its answer; `sequences` are sections of documents behind the body."""
    sections = b"\0" + bson.encode(body)
    for name, documents in sequences:
        items = name.encode() + b"\0" + b"".join(bson.encode(document) for document in documents)
        sections += b"\1" + struct.pack("<i", len(items) + 4) + items
    checksum = b"\xc5\xc5\xc5\xc5" if flags & 1 else b""
    return struct.pack("<iiiiI", 20 + len(sections) + len(checksum), request_id, to, 2013, flags) + sections + checksum


def op_query(body: Document, request_id: int = 1, collection: str = "admin.$cmd") -> bytes:
    """A command as old drivers say their first one."""
    content = struct.pack("<i", 4) + collection.encode() + b"\0" + struct.pack("<ii", 0, -1) + bson.encode(body)
    return struct.pack("<iiii", 16 + len(content), request_id, 0, 2004) + content


def op_reply(body: Document, to: int, request_id: int = 9) -> bytes:
    """An answer to op_query."""
    content = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(body)
    return struct.pack("<iiii", 16 + len(content), request_id, to, 1) + content


def split(data: bytes) -> list[bytes]:
    """Whole messages, one by one."""
    found = []
    while data:
        length = int.from_bytes(data[:4], "little")
        assert 16 < length <= len(data), data
        found.append(data[:length])
        data = data[length:]
    return found


def read(message: bytes) -> dict[str, Any]:
    """The document of a message in any form."""
    opcode = int.from_bytes(message[12:16], "little")
    if opcode == 2013:
        return dict(bson.decode(message[21:], _OPTIONS))
    if opcode == 1:
        return dict(bson.decode(message[36:], _OPTIONS))
    start = message.index(b"\0", 20) + 9
    return dict(bson.decode(message[start:], _OPTIONS))


def response_to(message: bytes) -> int:
    """Whose answer it is."""
    return int.from_bytes(message[8:12], "little")


def hello_answer(**more: Any) -> dict[str, Any]:
    """What a DocumentDB cluster says."""
    return {
        "ismaster": True,
        "isWritablePrimary": True,
        "helloOk": True,
        "hosts": ["docdb-1.abc.us-west-1.docdb.amazonaws.com:27017", "docdb-2.abc.us-west-1.docdb.amazonaws.com:27017"],
        "setName": "rs0",
        "setVersion": 4,
        "me": "docdb-1.abc.us-west-1.docdb.amazonaws.com:27017",
        "primary": "docdb-1.abc.us-west-1.docdb.amazonaws.com:27017",
        "topologyVersion": {"processId": bson.ObjectId(b"0" * 12), "counter": bson.Int64(6)},
        "compression": ["zlib"],
        "maxBsonObjectSize": 16777216,
        "maxMessageSizeBytes": 48000000,
        "maxWriteBatchSize": 100000,
        "logicalSessionTimeoutMinutes": 30,
        "minWireVersion": 0,
        "maxWireVersion": 13,
        "ok": 1.0,
        **more,
    }


def sasl_answer(nonce: bytes, host: str = STS, tail: bytes = b"\x64" * 32) -> dict[str, Any]:
    """What a server says to saslStart."""
    return {
        "conversationId": 1,
        "done": False,
        "payload": bson.encode({"s": bson.Binary(nonce + tail), "h": host}),
        "ok": 1.0,
    }


SASL_DONE: Final = {"conversationId": 1, "done": True, "payload": b"", "ok": 1.0}
SASL_FAILED: Final = {"ok": 0.0, "errmsg": "Authentication failed.", "code": 18, "codeName": "AuthenticationFailed"}
