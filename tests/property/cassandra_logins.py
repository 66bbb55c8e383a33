"""CQL logins that end well."""

from __future__ import annotations

from dataclasses import replace

from proxy.script import CLIENT, UPSTREAM
from tests.property.rehearsal import DOOR, Login
from tests.support import cql

_DEFAULT = replace(DOOR, db_user="reader")
_AFTER = (
    (CLIENT, cql.frame(cql.QUERY, b"select", stream=3)),
    (UPSTREAM, cql.answer(cql.RESULT, b"\0\0\0\1", stream=3)),
)

CASSANDRA = (
    Login(
        name="nobody is asked, v4",
        door=_DEFAULT,
        turns=(
            (CLIENT, cql.frame(cql.OPTIONS)),
            (CLIENT, cql.startup(stream=1)),
            (UPSTREAM, cql.authenticate()),
            (UPSTREAM, cql.challenge()),
            (UPSTREAM, cql.success()),
        ),
        after=_AFTER,
    ),
    Login(
        name="PLAIN over TLS, v3",
        turns=(
            (CLIENT, b"\x16"),
            (CLIENT, cql.startup(version=3, stream=7)),
            (CLIENT, cql.plain("reader", version=3, stream=8)),
            (UPSTREAM, cql.authenticate(version=3)),
            (UPSTREAM, cql.challenge(version=3)),
            (UPSTREAM, cql.success(version=3)),
        ),
        after=((CLIENT, cql.frame(cql.OPTIONS, version=3)),),
    ),
    Login(
        name="routed by login name, second credential, warnings",
        door=replace(DOOR, database=None, by_login_name=True),
        turns=(
            (CLIENT, cql.startup() + cql.plain("role/reader@orders", stream=1)),
            (UPSTREAM, cql.authenticate()),
            (UPSTREAM, cql.challenge()),
            (UPSTREAM, cql.error(0x0100, "Authentication failure")),
            (UPSTREAM, cql.authenticate()),
            (UPSTREAM, cql.challenge()),
            (UPSTREAM, cql.answer(cql.AUTH_SUCCESS, b"\0\1" + cql.text("careful") + cql.long(None), flags=0x08)),
        ),
        after=_AFTER,
    ),
    Login(
        name="a server that asks for nothing",
        door=_DEFAULT,
        turns=((CLIENT, cql.startup()), (UPSTREAM, cql.answer(cql.READY))),
        after=_AFTER,
    ),
    Login(name="a version that is not spoken", turns=((CLIENT, cql.frame(cql.OPTIONS, version=5)),)),
    Login(name="a version of old", turns=((CLIENT, b"\x01\0\0\x05" + bytes(4)),)),
)
