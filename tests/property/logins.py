"""Logins that end well, by engine."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import replace

from proxy.engines.postgres import scram
from proxy.engines.redis.wire import encode_command
from proxy.script import CLIENT, UPSTREAM
from tests.property.cassandra_logins import CASSANDRA
from tests.property.mongodb_logins import MONGODB
from tests.property.mysql_logins import MYSQL
from tests.property.rehearsal import DOOR, PASSWORD, Login, Turn, random_bytes


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _asks(code: int, data: bytes = b"") -> bytes:
    return _message(b"R", struct.pack("!I", code) + data)


def _startup(minor: int = 0) -> bytes:
    body = b"user\0app\0database\0shop\0options\0-c a=b\0application_name\0me\0\0"
    return struct.pack("!II", len(body) + 8, 0x30000 + minor) + body


def _scram() -> tuple[Turn, ...]:
    nonce = base64.b64encode(random_bytes(scram.NONCE_BYTES))
    first = b"r=" + nonce + b"more,s=c2FsdA==,i=64"
    _, signature = scram.Exchange(nonce).answer(first, PASSWORD)
    return (
        (UPSTREAM, _asks(10, b"SCRAM-SHA-256\0\0")),
        (UPSTREAM, _asks(11, first)),
        (UPSTREAM, _asks(12, b"v=" + base64.b64encode(signature)) + _GREETING),
    )


_SSL = struct.pack("!II", 8, 80877103)
_GSSENC = struct.pack("!II", 8, 80877104)
_CANCEL = struct.pack("!II", 16, 80877102) + b"pidXkeyX"
_READY = _message(b"Z", b"I")
_GREETING = _asks(0) + _message(b"S", b"a\0b\0") + _message(b"N", b"Mx\0\0") + _message(b"K", b"pidXkeyX") + _READY
_REJECTED = _message(b"E", b"SFATAL\0C28000\0MPAM authentication failed\0\0")
_NEGOTIATE = _message(b"v", struct.pack("!II", 0x30000, 0))
_YES = (UPSTREAM, b"S")
_AFTER = ((CLIENT, _message(b"Q", b"select 1\0")), (UPSTREAM, _message(b"A", b"news")))

POSTGRES = (
    Login(
        name="plaintext client, cleartext password",
        turns=((CLIENT, _startup()), _YES, (UPSTREAM, _asks(3)), (UPSTREAM, _GREETING)),
        after=_AFTER,
    ),
    Login(
        name="TLS client behind a GSSAPI question, MD5",
        turns=(
            (CLIENT, _GSSENC),
            (CLIENT, _SSL),
            (CLIENT, _startup()),
            _YES,
            (UPSTREAM, _asks(5, b"salt") + _GREETING),
        ),
        after=_AFTER,
    ),
    Login(name="direct TLS, SCRAM", turns=((CLIENT, b"\x16"), (CLIENT, _startup()), _YES, *_scram()), after=_AFTER),
    Login(
        name="3.2 negotiated down, second credential",
        turns=(
            (CLIENT, _startup(2)),
            _YES,
            (UPSTREAM, _asks(3) + _REJECTED),
            _YES,
            (UPSTREAM, _NEGOTIATE + _asks(3) + _GREETING),
        ),
    ),
    Login(
        name="Redshift's digest",
        turns=(
            (CLIENT, _startup()),
            _YES,
            (UPSTREAM, _asks(13, struct.pack("!II", 0, 4) + b"salt" + struct.pack("!I", 5) + b"nonce") + _GREETING),
        ),
        after=_AFTER,
    ),
    Login(name="cancel request", turns=((CLIENT, _CANCEL), _YES)),
)

_DEFAULT = replace(DOOR, db_user="app")
_HELLO_REPLY = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"
_AUTH = encode_command(b"AUTH", b"app", b"whatever")
_LATER = ((CLIENT, encode_command(b"GET", b"a")), (UPSTREAM, b">2\r\n+news\r\n:1\r\n"))

REDIS = (
    Login(name="the first command of any kind", door=_DEFAULT, turns=((CLIENT, b"PING\r\n"), (UPSTREAM, b"+OK\r\n"))),
    Login(
        name="AUTH with a user, TLS", turns=((CLIENT, b"\x16"), (CLIENT, _AUTH), (UPSTREAM, b"+OK\r\n")), after=_LATER
    ),
    Login(
        name="AUTH with any password after a command without, inline",
        door=_DEFAULT,
        turns=((CLIENT, b"\r\nauth 'any thing'\r\n"), (UPSTREAM, b"+OK\r\n")),
        after=_LATER,
    ),
    Login(
        name="NOAUTH, HELLO 3, second credential",
        turns=(
            (CLIENT, b"GET a\r\n" + encode_command(b"HELLO", b"9")),
            (CLIENT, encode_command(b"hello", b"3", b"AUTH", b"app", b"x", b"SETNAME", b"me")),
            (UPSTREAM, b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
            (UPSTREAM, _HELLO_REPLY),
        ),
        after=_LATER,
    ),
    Login(name="QUIT", turns=((CLIENT, b"PING\r\nQUIT\r\n"),)),
)

LOGINS: Mapping[str, tuple[Login, ...]] = {
    "cassandra": CASSANDRA,
    "mongodb": MONGODB,
    "mysql": MYSQL,
    "postgres": POSTGRES,
    "redis": REDIS,
}
"""Engine name -> logins. Every engine has some."""
