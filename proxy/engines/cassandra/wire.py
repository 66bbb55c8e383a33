"""The bytes of the native protocol, versions 3 and 4: frames, and the bodies that a login needs. PURE.

Nothing here trusts a length: a login's frames are bounded by LOGIN_LIMIT, those of a session are never gathered.
Parsers raise PeerViolation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.errors import PeerViolation, Side
from proxy.inbox import Cursor
from proxy.script import Script, receive

V3, V4 = 3, 4
SPOKEN: Final = (V3, V4)
RESPONSE: Final = 0x80
"""In the version byte of what servers say."""

HEADER_BYTES: Final = 9
OLD_HEADER_BYTES: Final = 8
"""Versions 1 and 2 had stream ids of one byte."""
FRAME_LIMIT: Final = 256 * 1024 * 1024
"""The protocol's own bound on a body. Sessions relay bodies as they come, so nothing is set aside for one."""
LOGIN_LIMIT: Final = 16 * 1024
"""Bytes of a body during a login. A session token from STS, the largest part of any, has 1 to 3 KB."""
OPTIONS_LIMIT: Final = 64
"""Entries of a STARTUP. Drivers send four or five."""

HEADER: Final = struct.Struct(">BBhBI")
"""Version, flags, stream, opcode, length of the body."""

COMPRESSED: Final = 0x01
"""Flag of frames. Compression is never agreed on here."""
TRACING, PAYLOAD, WARNING = 0x02, 0x04, 0x08
"""Flags of frames that put something before the body proper."""

ERROR, STARTUP, READY, AUTHENTICATE, OPTIONS, SUPPORTED = 0x00, 0x01, 0x02, 0x03, 0x05, 0x06
QUERY, RESULT, PREPARE, EXECUTE, REGISTER, EVENT, BATCH = 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D
AUTH_CHALLENGE, AUTH_RESPONSE, AUTH_SUCCESS = 0x0E, 0x0F, 0x10

COMPRESSION: Final = b"COMPRESSION"


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame of a login."""

    version: int
    """Without the bit that marks responses."""
    flags: int
    stream: int
    opcode: int
    body: bytes


def encode_frame(version: int, stream: int, opcode: int, body: bytes = b"") -> bytes:
    """A frame without flags. `version` has RESPONSE in it when a server says it."""
    return HEADER.pack(version, 0, stream, opcode, len(body)) + body


def read_frame(side: Side, version: int) -> Script[Frame]:
    """The next frame of a login, which has to speak this version."""
    header = yield from receive(side, HEADER_BYTES)
    said, flags, stream, opcode, length = HEADER.unpack(header)
    if said != version | (RESPONSE if side is Side.UPSTREAM else 0):
        raise PeerViolation(
            side, f"a frame from the {side} begins with {said:#04x}; protocol version {version} is spoken"
        )
    if flags & COMPRESSED:
        raise PeerViolation(side, f"a frame from the {side} is compressed, which nobody agreed on")
    if length > LOGIN_LIMIT:
        raise PeerViolation(side, f"a frame from the {side} has {length} bytes; a login needs {LOGIN_LIMIT} at most")
    return Frame(version, flags, stream, opcode, (yield from receive(side, length)))


def content(frame: Frame, side: Side) -> Cursor:
    """The body behind what the flags put before it."""
    cursor = Cursor(frame.body, side)
    skip_extras(cursor, frame.flags, side)
    return cursor


def skip_extras(cursor: Cursor, flags: int, side: Side) -> None:
    """Read what the flags put before the body proper."""
    if side is Side.UPSTREAM:
        if flags & TRACING:
            cursor.take(16)
        if flags & WARNING:
            for _ in range(cursor.u16()):
                take_string(cursor)
    if flags & PAYLOAD:
        for _ in range(cursor.u16()):
            take_string(cursor)
            take_bytes(cursor)


def take_string(cursor: Cursor) -> bytes:
    """[string]."""
    return cursor.take(cursor.u16())


def take_bytes(cursor: Cursor) -> bytes | None:
    """[bytes]; None for null."""
    length = cursor.i32()
    return None if length < 0 else cursor.take(length)


def string(value: bytes) -> bytes:
    """[string]."""
    return struct.pack(">H", len(value)) + value


def long_bytes(value: bytes | None) -> bytes:
    """[bytes]; None is null."""
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def parse_startup(body: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """STARTUP's options, in the client's order."""
    cursor = Cursor(body, Side.CLIENT)
    count = cursor.u16()
    if count > OPTIONS_LIMIT:
        raise PeerViolation(Side.CLIENT, f"STARTUP with {count} options; {OPTIONS_LIMIT} at most")
    options = tuple((take_string(cursor), take_string(cursor)) for _ in range(count))
    cursor.finish()
    return options


def startup(options: Iterable[tuple[bytes, bytes]]) -> bytes:
    """STARTUP's body."""
    pairs = [string(name) + string(value) for name, value in options]
    return struct.pack(">H", len(pairs)) + b"".join(pairs)


def supported(options: Iterable[tuple[bytes, tuple[bytes, ...]]]) -> bytes:
    """SUPPORTED's body."""
    lists = [string(name) + struct.pack(">H", len(values)) + b"".join(map(string, values)) for name, values in options]
    return struct.pack(">H", len(lists)) + b"".join(lists)


def error(code: int, text: bytes) -> bytes:
    """ERROR's body, for codes that carry nothing but a text."""
    return struct.pack(">I", code) + string(text)


def parse_error(cursor: Cursor) -> tuple[int, bytes]:
    """ERROR's code and text; what some codes put behind is not looked at."""
    return cursor.u32(), take_string(cursor)


def parse_token(body: bytes, side: Side) -> bytes:
    """The token of AUTH_RESPONSE, AUTH_CHALLENGE or AUTH_SUCCESS; null counts as empty."""
    cursor = Cursor(body, side)
    token = take_bytes(cursor)
    cursor.finish()
    return token or b""
