"""MySQL logins that end well."""

from __future__ import annotations

from dataclasses import replace

from proxy.script import CLIENT, UPSTREAM
from tests.property.rehearsal import DOOR, Login
from tests.support import mysql_bytes as my

_HELLO = my.packet(my.greeting(), 0)
_ASKS = my.packet(my.ASKS_TOKEN, 3)
_OK = my.packet(my.OK, 5)
_REFUSED = my.packet(my.error(1045, "Access denied"), 5)
_QUERY = my.packet(b"\x03select 1", 0)
_AFTER = ((CLIENT, _QUERY), (UPSTREAM, my.packet(my.OK, 1)))

MYSQL = (
    Login(
        name="cold, plaintext client without a password",
        turns=(
            (UPSTREAM, _HELLO),
            (CLIENT, my.packet(my.response(schema="shop", attributes=b"\x03_os\x05Linux"), 1)),
            (UPSTREAM, _ASKS),
            (UPSTREAM, _OK),
        ),
        after=_AFTER,
    ),
    Login(
        name="warm, TLS client with a scramble",
        facts=my.facts(),
        turns=(
            (CLIENT, my.packet(my.PYMYSQL_SSL, 1)),
            (CLIENT, my.packet(my.response(flags=my.CLIENT | my.SSL | my.TRACK, auth=b"x" * 32), 2)),
            (UPSTREAM, _HELLO),
            (UPSTREAM, _ASKS),
            (UPSTREAM, _OK),
        ),
        after=_AFTER,
    ),
    Login(
        name="native client of MariaDB, second credential",
        facts=my.facts("5.5.5-10.11.8-MariaDB", my.MARIADB, my.MARIADB_EXTENDED),
        turns=(
            (CLIENT, my.packet(my.response(flags=my.CLIENT & ~1, plugin="mysql_native_password", extended=4), 1)),
            (CLIENT, my.packet(b"y" * 20, 3)),
            (UPSTREAM, my.packet(my.greeting("5.5.5-10.11.8-MariaDB", my.MARIADB, my.MARIADB_EXTENDED), 0)),
            (UPSTREAM, _ASKS),
            (UPSTREAM, _REFUSED),
            (UPSTREAM, my.packet(my.greeting("5.5.5-10.11.8-MariaDB", my.MARIADB, my.MARIADB_EXTENDED), 0)),
            (UPSTREAM, _ASKS),
            (UPSTREAM, _OK),
        ),
    ),
    Login(
        name="routed by login name",
        door=replace(DOOR, database=None, by_login_name=True, server_version="8.0.36"),
        turns=(
            (CLIENT, my.packet(my.response("app@orders", auth=b"x" * 32), 1)),
            (UPSTREAM, _HELLO),
            (UPSTREAM, _ASKS),
            (UPSTREAM, _OK),
        ),
        after=_AFTER,
    ),
)
