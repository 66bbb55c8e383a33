"""Capability flags: which there are, which a proxy may pass on, which it must decide itself. PURE.

https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html; from bit 32 on they are
MariaDB's, and bit 0 says which of the two a peer is.
"""

from __future__ import annotations

from typing import Final

CLIENT_MYSQL: Final = 1 << 0
"""Clear: the peer is MariaDB, and its extended flags are in what is filler otherwise."""
FOUND_ROWS: Final = 1 << 1
LONG_FLAG: Final = 1 << 2
CONNECT_WITH_DB: Final = 1 << 3
NO_SCHEMA: Final = 1 << 4
COMPRESS: Final = 1 << 5
ODBC: Final = 1 << 6
LOCAL_FILES: Final = 1 << 7
IGNORE_SPACE: Final = 1 << 8
PROTOCOL_41: Final = 1 << 9
INTERACTIVE: Final = 1 << 10
SSL: Final = 1 << 11
TRANSACTIONS: Final = 1 << 13
SECURE_CONNECTION: Final = 1 << 15
MULTI_STATEMENTS: Final = 1 << 16
MULTI_RESULTS: Final = 1 << 17
PS_MULTI_RESULTS: Final = 1 << 18
PLUGIN_AUTH: Final = 1 << 19
CONNECT_ATTRS: Final = 1 << 20
PLUGIN_AUTH_LENENC: Final = 1 << 21
EXPIRED_PASSWORDS: Final = 1 << 22
SESSION_TRACK: Final = 1 << 23
DEPRECATE_EOF: Final = 1 << 24
OPTIONAL_METADATA: Final = 1 << 25
ZSTD: Final = 1 << 26
QUERY_ATTRIBUTES: Final = 1 << 27

COM_MULTI: Final = 1 << (33 - 32)
"""MariaDB, extended: several commands in one packet, where a forbidden one could hide."""

HANDSHAKE: Final = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH | PLUGIN_AUTH_LENENC
"""About the login alone: the proxy offers and asks for these itself on each side."""

BASIC: Final = (
    FOUND_ROWS
    | LONG_FLAG
    | CONNECT_WITH_DB
    | NO_SCHEMA
    | ODBC
    | IGNORE_SPACE
    | INTERACTIVE
    | TRANSACTIONS
    | MULTI_STATEMENTS
    | MULTI_RESULTS
    | PS_MULTI_RESULTS
    | CONNECT_ATTRS
)
"""What every server since MySQL 5.6 and MariaDB 10.0 has: offered where nothing is known about the server yet."""

PASSED: Final = BASIC | EXPIRED_PASSWORDS | SESSION_TRACK | DEPRECATE_EOF | OPTIONAL_METADATA | QUERY_ATTRIBUTES
"""What client and server may agree on through the proxy, because it changes nothing the proxy reads. Not among them:
compression, which would hide the packets; LOCAL_FILES, which is policy; second factors, which nobody here has."""

PASSED_EXTENDED: Final = 0b111101
"""Likewise of MariaDB's: progress reports, bulk statements, extended and cached metadata, results per bulk row. A flag
that is made up one day may change what the guard reads, and is not passed on until somebody has looked."""

DISPENSABLE: Final = NO_SCHEMA | ODBC | IGNORE_SPACE | INTERACTIVE | CONNECT_ATTRS | EXPIRED_PASSWORDS
"""A server that lacks one of these does the same otherwise; without any other, the client would misread its answers."""

NAMES: Final = {
    value: name
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, int) and value.bit_count() == 1 and name != "COM_MULTI"
}
"""Single flags of the first 32 by number."""


def name_flags(flags: int) -> str:
    """Flags for people."""
    return ", ".join(name for value, name in sorted(NAMES.items()) if flags & value) or f"{flags:#x}"
