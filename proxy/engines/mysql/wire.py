"""MySQL's packets as bytes: the greeting, the handshake response, and the few answers a login needs. PURE.

Parsing raises PeerViolation and nothing else. A length is compared with its limit before a byte behind it is asked for.
Format: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html; MariaDB's additions:
https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final, Self

from proxy.engines.mysql import capabilities as caps
from proxy.errors import PeerViolation, Side
from proxy.inbox import Cursor
from proxy.script import CLIENT, UPSTREAM, Script, receive, send

HEADER_BYTES: Final = 4
MAX_PAYLOAD: Final = 0xFFFFFF
"""A packet this long goes on in the next one."""

GREETING_LIMIT: Final = 1024
"""MySQL's greeting is about 100 bytes; its version is at most 60."""
LOGIN_PACKET_LIMIT: Final = 32 * 1024
"""Any other packet of a login. Servers start with buffers of 16 KiB (net_buffer_length)."""
VERSION_LIMIT: Final = 128
SALT_BYTES: Final = 20
SSL_REQUEST_BYTES: Final = 32

OK, MORE_DATA, EOF, ERR = 0x00, 0x01, 0xFE, 0xFF
MORE_RESULTS: Final = 0x0008
"""Server status: this answer is not the last one."""
AUTOCOMMIT: Final = 0x0002

NATIVE: Final = b"mysql_native_password"
CACHING_SHA2: Final = b"caching_sha2_password"
CLEARTEXT: Final = b"mysql_clear_password"

SCRAMBLE_BYTES: Final = {NATIVE: 20, CACHING_SHA2: 32}
"""What a client proves itself with, by method."""

FAST_AUTH_OK: Final = b"\x01\x03"
FULL_AUTH: Final = b"\x01\x04"

_LENENC: Final = {0xFC: 2, 0xFD: 3, 0xFE: 8}


def little(cursor: Cursor, count: int) -> int:
    """An unsigned number of so many bytes."""
    return int.from_bytes(cursor.take(count), "little")


def lenenc(cursor: Cursor, side: Side) -> int:
    """A length-encoded number."""
    first = cursor.u8()
    if first < 0xFB:
        return first
    if first not in _LENENC:
        raise PeerViolation(side, f"a packet from the {side} has a length that begins with {first:#x}")
    return little(cursor, _LENENC[first])


def as_lenenc(number: int) -> bytes:
    """A length-encoded number; nothing here is longer than a packet."""
    if number < 0xFB:
        return bytes((number,))
    return b"\xfc" + number.to_bytes(2, "little") if number <= 0xFFFF else b"\xfd" + number.to_bytes(3, "little")


def frame(payload: bytes, sequence: int) -> bytes:
    """A packet."""
    return len(payload).to_bytes(3, "little") + bytes((sequence & 0xFF,)) + payload


class Leg:
    """One side's numbering of packets during the login: both directions share one count."""

    __slots__ = ("reading", "sequence", "side")

    def __init__(self, side: Side, sequence: int = 0) -> None:
        self.side = side
        self.sequence = sequence
        """Of the next packet, whoever sends it."""
        self.reading = False
        """The next packet is the peer's."""

    def read(self, limit: int = LOGIN_PACKET_LIMIT, *, least: int = 1) -> Script[bytes]:
        """The next packet's payload. Raises PeerViolation for one that is too long or out of turn."""
        self.reading = True
        head = yield from receive(self.side, HEADER_BYTES)
        length, sequence = int.from_bytes(head[:3], "little"), head[3]
        if not least <= length <= limit:
            raise PeerViolation(
                self.side, f"the {self.side} sent a packet of {length} bytes where MySQL has {least} to {limit}"
            )
        if sequence != self.sequence & 0xFF:
            raise PeerViolation(
                self.side, f"the {self.side} sent packet {sequence} and packet {self.sequence & 0xFF} was due"
            )
        payload = yield from receive(self.side, length)
        self.sequence += 1
        self.reading = False
        return payload

    def framed(self, payload: bytes) -> bytes:
        """The next packet of ours."""
        packet = frame(payload, self.sequence)
        self.sequence += 1
        return packet

    def send(self, payload: bytes) -> Script[None]:
        """Write the next packet."""
        yield from send(self.side, self.framed(payload))


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """HandshakeV10: what a server says first."""

    version: bytes
    capabilities: int
    extended: int
    """MariaDB's capabilities from bit 32 on; 0 for MySQL."""
    charset: int
    salt: bytes
    plugin: bytes
    thread_id: int = 0
    status: int = AUTOCOMMIT

    def encoded(self) -> bytes:
        """The payload."""
        low, high = self.capabilities & 0xFFFF, self.capabilities >> 16
        head = b"\x0a" + self.version + b"\0" + struct.pack("<I8sx", self.thread_id, self.salt[:8])
        middle = struct.pack("<HBHHB6xI", low, self.charset, self.status, high, SALT_BYTES + 1, self.extended)
        return head + middle + self.salt[8:] + b"\0" + self.plugin + b"\0"


def parse_greeting(payload: bytes) -> Greeting:
    """Upstream's HandshakeV10."""
    cursor = Cursor(payload, UPSTREAM)
    if (protocol := cursor.u8()) != 10:
        raise PeerViolation(UPSTREAM, f"upstream greets with protocol {protocol}: MySQL and MariaDB speak 10")
    version = cursor.cstring()
    if len(version) > VERSION_LIMIT:
        raise PeerViolation(UPSTREAM, f"upstream's version is over {VERSION_LIMIT} bytes")
    thread_id, salt = little(cursor, 4), cursor.take(8)
    cursor.take(1)
    low, charset, status, high = little(cursor, 2), cursor.u8(), little(cursor, 2), little(cursor, 2)
    flags = low | high << 16
    salt_length = cursor.u8()
    cursor.take(6)
    extended = little(cursor, 4)
    if flags & caps.SECURE_CONNECTION:
        salt += cursor.take(max(13, salt_length - 8))
    plugin = _last_string(cursor) if flags & caps.PLUGIN_AUTH else b""
    return Greeting(
        version=version,
        capabilities=flags,
        extended=0 if flags & caps.CLIENT_MYSQL else extended,
        charset=charset,
        salt=salt[:SALT_BYTES],
        plugin=plugin,
        thread_id=thread_id,
        status=status,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """HandshakeResponse41: what a client answers, and what we answer a server."""

    capabilities: int
    extended: int = 0
    max_packet: int = MAX_PAYLOAD
    charset: int = 45
    user: bytes = b""
    auth: bytes = b""
    schema: bytes = b""
    """The database to start in; empty for none."""
    plugin: bytes = b""
    attributes: bytes = b""
    """Connection attributes as they are on the wire, without the length of them all."""

    def ssl_request(self) -> bytes:
        """Its first 32 bytes, which ask for TLS."""
        return struct.pack("<IIB19xI", self.capabilities, self.max_packet, self.charset, self.extended)

    def encoded(self) -> bytes:
        """The payload."""
        flags = self.capabilities
        length = as_lenenc(len(self.auth)) if flags & caps.PLUGIN_AUTH_LENENC else bytes((len(self.auth),))
        parts = [self.ssl_request(), self.user, b"\0", length, self.auth]
        if flags & caps.CONNECT_WITH_DB:
            parts += [self.schema, b"\0"]
        if flags & caps.PLUGIN_AUTH:
            parts += [self.plugin, b"\0"]
        if flags & caps.CONNECT_ATTRS:
            parts += [as_lenenc(len(self.attributes)), self.attributes]
        return b"".join(parts)

    def agreeing_on(self, offered: int, extended: int) -> Self:
        """With nothing but what was offered: a server, too, ignores flags that it did not offer."""
        mask = offered | caps.CLIENT_MYSQL
        return replace(self, capabilities=self.capabilities & mask, extended=self.extended & extended)


def parse_response(payload: bytes) -> Response:
    """A client's HandshakeResponse41, or the SSLRequest that is its first 32 bytes."""
    cursor = Cursor(payload, CLIENT)
    flags, max_packet, charset = little(cursor, 4), little(cursor, 4), cursor.u8()
    cursor.take(19)
    extended = little(cursor, 4)
    head = Response(
        capabilities=flags,
        extended=0 if flags & caps.CLIENT_MYSQL else extended,
        max_packet=max_packet,
        charset=charset,
    )
    if not cursor.remaining:
        return head
    user = cursor.cstring()
    auth = _auth(cursor, flags)
    # What is missing at the end is empty: servers read it so, and some clients rely on it.
    schema = _last_string(cursor) if flags & caps.CONNECT_WITH_DB else b""
    plugin = _last_string(cursor) if flags & caps.PLUGIN_AUTH else b""
    attributes = b""
    if flags & caps.CONNECT_ATTRS and cursor.remaining:
        attributes = cursor.take(lenenc(cursor, CLIENT))
    return replace(head, user=user, auth=auth, schema=schema, plugin=plugin, attributes=attributes)


def attributes_of(data: bytes) -> dict[bytes, bytes]:
    """A client's connection attributes by name."""
    cursor, found = Cursor(data, CLIENT), {}
    while cursor.remaining:
        name = cursor.take(lenenc(cursor, CLIENT))
        found[name] = cursor.take(lenenc(cursor, CLIENT))
    return found


def auth_switch(plugin: bytes, salt: bytes) -> bytes:
    """AuthSwitchRequest: prove yourself by another method."""
    return bytes((EOF,)) + plugin + b"\0" + salt + b"\0"


def error_packet(code: int, sqlstate: str, text: bytes) -> bytes:
    """ERR. Without `sqlstate`, as before the client has said that it speaks protocol 4.1."""
    state = b"#" + sqlstate.encode() if sqlstate else b""
    return struct.pack("<BH", ERR, code) + state + text


@dataclass(frozen=True, slots=True)
class ServerError:
    """An ERR packet's fields."""

    code: int
    sqlstate: str
    text: str


def parse_error(payload: bytes) -> ServerError:
    """Upstream's ERR packet."""
    cursor = Cursor(payload, UPSTREAM)
    cursor.take(1)
    code = little(cursor, 2)
    text = cursor.rest()
    state = ""
    if text[:1] == b"#" and len(text) >= 6:
        state, text = text[1:6].decode("latin-1"), text[6:]
    return ServerError(code, state, text.decode("utf-8", "replace"))


def ends_an_answer(tail: bytes) -> bool:
    """Whether bytes end with a whole packet that is the last of an answer: OK, ERR or the end of rows."""
    if not tail:
        return True
    for total in range(HEADER_BYTES + 3, len(tail) + 1):
        packet = tail[-total:]
        if int.from_bytes(packet[:3], "little") == total - HEADER_BYTES and _ends_answer(packet[HEADER_BYTES:]):
            return True
    return False


def _ends_answer(payload: bytes) -> bool:
    if payload[0] == ERR:
        return True
    if payload[0] not in (OK, EOF):
        return False
    if payload[0] == EOF and len(payload) == 5:
        return not int.from_bytes(payload[3:5], "little") & MORE_RESULTS
    cursor = Cursor(payload[1:], UPSTREAM)
    try:
        lenenc(cursor, UPSTREAM), lenenc(cursor, UPSTREAM)
        status, _warnings = little(cursor, 2), little(cursor, 2)
    except PeerViolation:
        return False
    return not status & MORE_RESULTS


def _auth(cursor: Cursor, flags: int) -> bytes:
    if flags & caps.PLUGIN_AUTH_LENENC:
        return cursor.take(lenenc(cursor, CLIENT))
    if flags & caps.SECURE_CONNECTION:
        return cursor.take(cursor.u8())
    return cursor.cstring()


def _last_string(cursor: Cursor) -> bytes:
    """A string up to its NUL, or to the end of the packet."""
    rest = cursor.peek_rest()
    return cursor.cstring() if b"\0" in rest else cursor.rest()
