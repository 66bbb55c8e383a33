"""CQL frames as clients and servers say them, written apart from the engine's own codec."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

ERROR, STARTUP, READY, AUTHENTICATE, OPTIONS, SUPPORTED, QUERY, RESULT = 0, 1, 2, 3, 5, 6, 7, 8
PREPARE, EXECUTE, REGISTER, EVENT, BATCH, AUTH_CHALLENGE, AUTH_RESPONSE, AUTH_SUCCESS = 9, 10, 11, 12, 13, 14, 15, 16

NONCE = b"91703fdc2ef562e19fbdab0f58e42fe5"
SIGV4 = b"SigV4\0\0"
TEXT, INT, UUID, INET = b"\0\x0d", b"\0\x09", b"\0\x0c", b"\0\x10"
SET_OF_TEXT = b"\0\x22" + TEXT
MAP_OF_UUID = b"\0\x21" + UUID + b"\0\x03"


def frame(opcode: int, body: bytes = b"", *, stream: int = 0, version: int = 4, flags: int = 0) -> bytes:
    """A request."""
    return bytes([version, flags]) + stream.to_bytes(2, "big", signed=True) + bytes([opcode]) + long(body)


def answer(opcode: int, body: bytes = b"", *, stream: int = 0, version: int = 4, flags: int = 0) -> bytes:
    """A response."""
    return frame(opcode, body, stream=stream, version=version | 0x80, flags=flags)


def text(value: str | bytes) -> bytes:
    """[string]."""
    said = value.encode() if isinstance(value, str) else value
    return len(said).to_bytes(2, "big") + said


def long(value: bytes | None) -> bytes:
    """[bytes], and what a frame's header ends in."""
    return b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value


def startup(options: Mapping[str, str] | None = None, **how: int) -> bytes:
    """STARTUP, as drivers say it."""
    said = {"CQL_VERSION": "3.4.4", "DRIVER_NAME": "test"} if options is None else options
    body = len(said).to_bytes(2, "big") + b"".join(text(k) + text(v) for k, v in said.items())
    return frame(STARTUP, body, **how)


def plain(user: str, password: str = "anything", **how: int) -> bytes:
    """AUTH_RESPONSE with a PLAIN token."""
    return frame(AUTH_RESPONSE, long(b"\0" + user.encode() + b"\0" + password.encode()), **how)


def authenticate(**how: int) -> bytes:
    """AUTHENTICATE."""
    return answer(AUTHENTICATE, text("org.apache.cassandra.auth.PasswordAuthenticator"), **how)


def challenge(nonce: bytes = NONCE, **how: int) -> bytes:
    """AUTH_CHALLENGE."""
    return answer(AUTH_CHALLENGE, long(b"nonce=" + nonce), **how)


def success(**how: int) -> bytes:
    """AUTH_SUCCESS."""
    return answer(AUTH_SUCCESS, long(None), **how)


def error(code: int, message: str, **how: int) -> bytes:
    """ERROR."""
    return answer(ERROR, code.to_bytes(4, "big") + text(message), **how)


def read_error(said: bytes) -> tuple[int, str]:
    """The code and text of an ERROR frame, which has to be whole and alone."""
    version, flags, _, opcode, length = struct.unpack(">BBhBI", said[:9])
    assert (version, flags, opcode, length) in {(v, 0, ERROR, len(said) - 9) for v in (0x83, 0x84)}
    code, size = struct.unpack(">IH", said[9:15])
    assert len(said) == 15 + size
    return code, said[15:].decode()


def metadata(
    table: str, columns: Sequence[tuple[str, bytes]], *, keyspace: str = "system", paging: bytes | None = None,
    one_table: bool = True,
) -> bytes:  # fmt: skip
    """Of rows, or of what prepared rows will be."""
    where = text(keyspace) + text(table)
    flags = one_table | (2 if paging is not None else 0)
    said = struct.pack(">II", flags, len(columns)) + (b"" if paging is None else long(paging))
    specs = b"".join((b"" if one_table else where) + text(name) + kind for name, kind in columns)
    return said + (where if one_table else b"") + specs


def rows(metadata: bytes, *cells: Sequence[bytes | None]) -> bytes:
    """The body of a Rows result."""
    return (
        b"\0\0\0\2" + metadata + len(cells).to_bytes(4, "big") + b"".join(long(cell) for row in cells for cell in row)
    )


def prepared(
    result: bytes, *, version: int = 4, markers: Sequence[tuple[str, bytes]] = (), id_: bytes = b"i" * 16
) -> bytes:
    """The body of a Prepared result."""
    keys = struct.pack(">I", 0) if version >= 4 else b""
    flags = struct.pack(">II", 1 if markers else 0, len(markers))
    where = text("shop") + text("orders") if markers else b""
    return b"\0\0\0\4" + text(id_) + flags + keys + where + b"".join(text(n) + k for n, k in markers) + result


def execute(statement: bytes, *, options: int = 0x01, payload: bytes | None = None, **how: int) -> bytes:
    """EXECUTE with one value. Of the options, 0x02 asks for rows without their metadata."""
    extra = b"" if payload is None else b"\0\1" + text("key") + long(payload)
    flags = 0 if payload is None else 4
    return frame(
        EXECUTE, extra + text(statement) + b"\0\x06" + bytes([options]) + b"\0\1" + long(b"v"), flags=flags, **how
    )


def unprepared(statement: bytes, **how: int) -> bytes:
    """ERROR: prepare this again."""
    return answer(ERROR, b"\0\0\x25\0" + text("unprepared") + text(statement), **how)


PEER_COLUMNS = (("peer", INET), ("rpc_address", INET), ("host_id", UUID), ("tokens", SET_OF_TEXT))
LOCAL_COLUMNS = (
    ("key", TEXT), ("rpc_address", INET), ("broadcast_address", INET), ("listen_address", INET), ("host_id", UUID),
    ("rpc_port", INT), ("tokens", SET_OF_TEXT), ("truncated_at", MAP_OF_UUID), ("release_version", TEXT),
)  # fmt: skip
TOKENS = b"\0\0\0\1" + long(b"-42")
LOCAL_ROW = (b"local", b"\x0a\0\0\1", b"\x0a\0\0\2", None, b"h" * 16, b"\0\0\x23\x52", TOKENS, None, b"3.11.2")
PEER_ROW = (b"\x0a\0\0\3", b"\x0a\0\0\4", b"p" * 16, TOKENS)
