"""PostgreSQL's messages as bytes: startup packets, typed messages, and the few bodies a login needs. PURE.

Parsing raises PeerViolation and nothing else. A length is compared with its limit before a byte behind it is asked for.
Format: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.errors import LocalFault, PeerViolation, Side
from proxy.inbox import Cursor
from proxy.script import CLIENT, Script, receive

CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104
VERSION_3_0: Final = 0x0003_0000

SSL_REQUEST_PACKET: Final = struct.pack("!II", 8, SSL_REQUEST)
TLS_ACCEPTED: Final = b"S"
ENCRYPTION_DECLINED: Final = b"N"
TLS_RECORD_HANDSHAKE: Final = b"\x16"
"""First byte of a ClientHello. As the first byte of a length it would announce 369 MB, so it is never a startup."""

STARTUP_LIMIT: Final = 10_000
"""MAX_STARTUP_PACKET_LENGTH of PostgreSQL's pqcomm.h."""
CANCEL_KEY_LIMITS: Final = (4, 256)
"""Protocol 3.2; 3.0 has exactly 4. The process id before it is not counted."""

AUTH_LIMIT: Final = 2_000
"""Length of 'R' and 'v' messages: what libpq's fe-connect.c accepts while it logs in."""
SHORT_MESSAGE_LIMIT: Final = 30_000
"""Any other message of a login: libpq's limit for messages that are not data (VALID_LONG_MESSAGE_TYPE)."""
KEY_DATA_LIMIT: Final = 4 + 4 + CANCEL_KEY_LIMITS[1]
READY_LENGTH: Final = 5
GREETING_LIMIT: Final = 64 * 1024
"""All messages from AuthenticationOk to ReadyForQuery. PostgreSQL 18 sends about 500 bytes; a login trigger's notices
may add some."""

ERROR, NOTICE, AUTHENTICATION, NEGOTIATE = b"E", b"N", b"R", b"v"
PARAMETER_STATUS, KEY_DATA, READY = b"S", b"K", b"Z"

AUTH_PHASE: Final[Mapping[bytes, int]] = {
    AUTHENTICATION: AUTH_LIMIT,
    NEGOTIATE: AUTH_LIMIT,
    ERROR: SHORT_MESSAGE_LIMIT,
}
"""What a server may say before AuthenticationOk, with the largest length field of each."""
GREETING_PHASE: Final[Mapping[bytes, int]] = {
    PARAMETER_STATUS: SHORT_MESSAGE_LIMIT,
    KEY_DATA: KEY_DATA_LIMIT,
    NOTICE: SHORT_MESSAGE_LIMIT,
    ERROR: SHORT_MESSAGE_LIMIT,
    READY: READY_LENGTH,
}
"""What it may say between AuthenticationOk and the first ReadyForQuery."""
QUERY_PHASE: Final[Mapping[bytes, int]] = {
    PARAMETER_STATUS: SHORT_MESSAGE_LIMIT,
    NOTICE: SHORT_MESSAGE_LIMIT,
    ERROR: SHORT_MESSAGE_LIMIT,
    READY: READY_LENGTH,
    b"T": SHORT_MESSAGE_LIMIT,
    b"D": SHORT_MESSAGE_LIMIT,
    b"C": SHORT_MESSAGE_LIMIT,
}
"""What may answer the probe's query."""


def _packet(code: int, body: bytes) -> bytes:
    return struct.pack("!II", 8 + len(body), code) + body


def _length(body: bytes) -> bytes:
    return struct.pack("!I", 4 + len(body))


def _cstring(value: bytes) -> bytes:
    if b"\0" in value:
        raise LocalFault("a NUL inside a string for the wire")
    return value + b"\0"


@dataclass(frozen=True, slots=True)
class SslRequest:
    """May we use TLS?"""


@dataclass(frozen=True, slots=True)
class GssEncRequest:
    """May we use GSSAPI encryption?"""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Stop the query of the session that holds this key."""

    key: bytes
    """Process id (4 bytes) and secret key, as in BackendKeyData."""

    def encoded(self) -> bytes:
        """The packet."""
        return _packet(CANCEL_REQUEST, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """A StartupMessage: a protocol version and named parameters in the order they were sent."""

    version: int
    parameters: tuple[tuple[bytes, bytes], ...]

    def values(self, name: bytes) -> list[bytes]:
        """Every value a parameter was given."""
        return [value for key, value in self.parameters if key == name]

    def encoded(self) -> bytes:
        """The packet."""
        body = b"".join(_cstring(name) + _cstring(value) for name, value in self.parameters)
        return _packet(self.version, body + b"\0")


StartupPacket = SslRequest | GssEncRequest | CancelRequest | Startup


def parse_startup(body: bytes) -> StartupPacket:
    """A startup packet without its length field."""
    cursor = Cursor(body, CLIENT)
    code = cursor.u32()
    if code == SSL_REQUEST:
        cursor.finish()
        return SslRequest()
    if code == GSSENC_REQUEST:
        cursor.finish()
        return GssEncRequest()
    if code == CANCEL_REQUEST:
        key = cursor.rest()
        shortest, longest = CANCEL_KEY_LIMITS
        if not shortest <= len(key) - 4 <= longest:
            raise PeerViolation(CLIENT, f"a cancel request with {len(key)} bytes of process id and key")
        return CancelRequest(key)
    if code >> 16 == 1234:
        raise PeerViolation(CLIENT, f"unknown startup request {code:#010x}")
    if code >> 16 != 3:  # its fields are not ours to read: only the version is needed to refuse it
        return Startup(version=code, parameters=())
    parameters = []
    while name := cursor.cstring():
        parameters.append((name, cursor.cstring()))
    cursor.finish()
    return Startup(version=code, parameters=tuple(parameters))


def read_startup() -> Script[StartupPacket]:
    """The client's next startup packet."""
    length = int.from_bytes((yield from receive(CLIENT, 4)), "big")
    if not 8 <= length <= STARTUP_LIMIT:
        raise PeerViolation(CLIENT, f"a startup packet of {length} bytes; PostgreSQL allows 8 to {STARTUP_LIMIT}")
    return parse_startup((yield from receive(CLIENT, length - 4)))


@dataclass(frozen=True, slots=True)
class Message:
    """A typed message."""

    kind: bytes
    body: bytes

    def encoded(self) -> bytes:
        """As on the wire."""
        return self.kind + _length(self.body) + self.body


def read_message(side: Side, phase: Mapping[bytes, int]) -> Script[Message]:
    """The next message of a side. Raises PeerViolation for a kind or a length that this phase does not have."""
    head = yield from receive(side, 5)
    kind, length = head[:1], int.from_bytes(head[1:], "big")
    limit = phase.get(kind)
    if limit is None:
        raise PeerViolation(side, f"the {side} sent a message of kind {kind!r} where PostgreSQL sends none")
    if not 4 <= length <= limit:
        raise PeerViolation(side, f"the {side} sent a {kind!r} message of {length} bytes; the limit here is {limit}")
    body = yield from receive(side, length - 4)
    return Message(kind, body)


def error_fields(body: bytes, side: Side) -> dict[str, str]:
    """Fields of an ErrorResponse or NoticeResponse by their letter."""
    cursor = Cursor(body, side)
    fields = {}
    while letter := cursor.take(1).rstrip(b"\0"):
        fields[letter.decode("latin-1")] = cursor.cstring().decode("utf-8", "replace")
    cursor.finish()
    return fields


def error_response(fields: Iterable[tuple[str, str]]) -> bytes:
    """An ErrorResponse. NULs in a value, which would end it early, become blanks."""
    body = b"".join(
        letter.encode() + value.replace("\0", " ").encode("utf-8", "replace") + b"\0" for letter, value in fields
    )
    return Message(ERROR, body + b"\0").encoded()


@dataclass(frozen=True, slots=True)
class Negotiation:
    """NegotiateProtocolVersion: the newest version a server speaks, and the `_pq_.` options it does not know."""

    version: int
    unknown_options: tuple[bytes, ...] = ()

    def encoded(self) -> bytes:
        """As on the wire."""
        body = struct.pack("!II", self.version, len(self.unknown_options))
        return Message(NEGOTIATE, body + b"".join(map(_cstring, self.unknown_options))).encoded()


def parse_negotiation(body: bytes, side: Side) -> Negotiation:
    """Body of a NegotiateProtocolVersion."""
    cursor = Cursor(body, side)
    version, count = cursor.u32(), cursor.u32()
    if count > cursor.remaining:  # each name takes a byte at least
        raise PeerViolation(side, f"the {side} announces {count} options in {cursor.remaining} bytes")
    options = tuple(cursor.cstring() for _ in range(count))
    cursor.finish()
    return Negotiation(version, options)


def authentication(code: int, data: bytes = b"") -> bytes:
    """An Authentication message."""
    return Message(AUTHENTICATION, struct.pack("!I", code) + data).encoded()


AUTHENTICATION_OK: Final = authentication(0)


def password_message(secret: bytes) -> bytes:
    """PasswordMessage: a password, or what MD5 made of it."""
    return Message(b"p", _cstring(secret)).encoded()


def sasl_initial_response(mechanism: bytes, data: bytes) -> bytes:
    """SASLInitialResponse: the mechanism chosen and its first message."""
    return Message(b"p", _cstring(mechanism) + struct.pack("!I", len(data)) + data).encoded()


def sasl_response(data: bytes) -> bytes:
    """SASLResponse."""
    return Message(b"p", data).encoded()


def digest_response(digest: bytes, nonce: bytes) -> bytes:
    """Redshift's answer to a digest request: what was computed, and the client's nonce."""
    fields = struct.pack("!I", len(digest)) + digest + struct.pack("!I", len(nonce)) + nonce
    return Message(b"d", fields).encoded()


def query(text: str) -> bytes:
    """A simple query."""
    return Message(b"Q", _cstring(text.encode())).encoded()


TERMINATE: Final = Message(b"X", b"").encoded()


def ends_with_ready(tail: bytes) -> bool:
    """Whether bytes end with ReadyForQuery, or nothing was sent at all."""
    return not tail or (tail[-6:-1] == b"Z\0\0\0\5" and tail[-1:] in (b"I", b"T", b"E"))
