"""MySQL's packets built by hand, without the codec under test. Vectors are from real clients (facts: PyMySQL 1.2,
mysql-connector-python 26.10)."""

from __future__ import annotations

import struct

FOUND_ROWS, LONG_FLAG, WITH_DB, COMPRESS, LOCAL_FILES = 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 7
P41, SSL, TRANSACTIONS, SECURE = 1 << 9, 1 << 11, 1 << 13, 1 << 15
MULTI_STATEMENTS, MULTI_RESULTS, PS_MULTI_RESULTS = 1 << 16, 1 << 17, 1 << 18
PLUGIN_AUTH, ATTRS, LENENC, TRACK, DEPRECATE_EOF = 1 << 19, 1 << 20, 1 << 21, 1 << 23, 1 << 24
ZSTD, QUERY_ATTRIBUTES, MULTI_FACTOR = 1 << 26, 1 << 27, 1 << 28

SERVER = 0xFFFFFFFF
"""A MySQL that has everything."""
MARIADB = 0xFFFFFFFF & ~1 & ~QUERY_ATTRIBUTES & ~(1 << 25) & ~ZSTD & ~MULTI_FACTOR & ~(7 << 29)
MARIADB_EXTENDED = 0b11111
"""PROGRESS, COM_MULTI, STMT_BULK, EXTENDED_METADATA, CACHE_METADATA."""
CLIENT = 1 | LONG_FLAG | P41 | TRANSACTIONS | SECURE | MULTI_RESULTS | PLUGIN_AUTH | LENENC

SALT = bytes(33 + byte % 94 for byte in range(20))
"""What the proxy makes of the random bytes 0, 1, 2..."""

GREETING = bytes.fromhex(
    "0a382e302e34300007000000010203040506070800dfafff0200ff0b1500000000000000000000"
    "090a0b0c0d0e0f10111213140063616368696e675f736861325f70617373776f726400"
)
"""A greeting of 8.0.40 (payload)."""
PYMYSQL_SSL = bytes.fromhex("05aa3a00ffffff002d") + bytes(23)
CONNECTOR_SSL = bytes.fromhex("0daa3b0800000040ff") + bytes(23)
ASKS_TOKEN = b"\xfemysql_clear_password\0" + bytes(range(1, 21)) + b"\0"


def packet(payload: bytes, sequence: int) -> bytes:
    """Framed."""
    return struct.pack("<I", len(payload))[:3] + bytes((sequence,)) + payload


def greeting(
    version: str = "8.0.40",
    flags: int = SERVER,
    extended: int = 0,
    plugin: str = "caching_sha2_password",
    thread: int = 7,
    salt: bytes = bytes(range(1, 21)),
    charset: int = 255,
) -> bytes:
    """HandshakeV10, payload."""
    return (
        b"\x0a" + version.encode() + b"\0" + struct.pack("<I", thread) + salt[:8] + b"\0"
        + struct.pack("<HBHHB", flags & 0xFFFF, charset, 2, flags >> 16, 21) + bytes(6) + struct.pack("<I", extended)
        + salt[8:] + b"\0" + plugin.encode() + b"\0"
    )  # fmt: skip


def response(
    user: str = "app",
    flags: int = CLIENT,
    *,
    auth: bytes = b"",
    schema: str | None = None,
    plugin: str = "caching_sha2_password",
    attributes: bytes | None = None,
    extended: int = 0,
    charset: int = 45,
) -> bytes:
    """HandshakeResponse41, payload."""
    flags |= (WITH_DB if schema is not None else 0) | (ATTRS if attributes is not None else 0)
    data = struct.pack("<IIB", flags, 1 << 24, charset) + bytes(19) + struct.pack("<I", extended)
    data += user.encode() + b"\0" + bytes((len(auth),)) + auth
    data += schema.encode() + b"\0" if schema is not None else b""
    data += plugin.encode() + b"\0" if flags & PLUGIN_AUTH else b""
    return data + (bytes((len(attributes),)) + attributes if attributes is not None else b"")


def ssl_request(flags: int = CLIENT | SSL, charset: int = 45) -> bytes:
    """SSLRequest, payload."""
    return struct.pack("<IIB", flags | SSL, 1 << 24, charset) + bytes(23)


def error(code: int, text: str, state: str = "28000") -> bytes:
    """ERR, payload."""
    return b"\xff" + struct.pack("<H", code) + (f"#{state}" if state else "").encode() + text.encode()


OK = bytes.fromhex("00000002000000")
"""The answer to a login or to a statement that changed nothing."""
FAST = b"\x01\x03"
EOF_PACKET = bytes.fromhex("fe00000200")


def facts(version: str = "8.0.40", flags: int = SERVER, extended: int = 0, charset: int = 255) -> bytes:
    """What the engine keeps of a greeting."""
    return struct.pack("<IIB", flags, extended, charset) + version.encode()
