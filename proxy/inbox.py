"""Bounded reading: the only primitives that parsers use. PURE.

`Inbox` holds the bytes that arrived on one side and nobody has taken yet. `Cursor` walks over one message whose length
has been checked. Neither trusts a length: asking for more than is there is a PeerViolation, never an allocation.
"""

from __future__ import annotations

import struct
from typing import Final

from proxy.errors import PeerViolation, Side

INBOX_LIMIT: Final = 128 * 1024
"""Bytes a side may have waiting while a script runs; the transport stops reading above it. No login message of any
engine is near it: PostgreSQL's largest startup packet is 10,000 bytes, an RDS token a few thousand."""

_U16: Final = struct.Struct("!H")
_I32: Final = struct.Struct("!i")
_U32: Final = struct.Struct("!I")


class Inbox:
    """Bytes that arrived and were not taken yet, in order."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data)

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes | memoryview) -> None:
        """Append what arrived. The transport stops reading at INBOX_LIMIT, so one read may pass it, not two."""
        self._data += data

    def peek(self, count: int) -> bytes:
        """Return the first `count` bytes and leave them. The caller has checked that they are there."""
        return bytes(self._data[:count])

    def take(self, count: int) -> bytes:
        """Remove and return the first `count` bytes. The caller has checked that they are there."""
        taken = bytes(self._data[:count])
        del self._data[:count]
        return taken

    def take_all(self) -> bytes:
        """Remove and return everything."""
        return self.take(len(self._data))


class Cursor:
    """Reads fields of one complete message, front to back. Raises PeerViolation when they are not there."""

    __slots__ = ("_at", "_data", "_side")

    def __init__(self, data: bytes, side: Side) -> None:
        self._data = data
        self._side = side
        self._at = 0

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count < 0 or count > self.remaining:
            raise PeerViolation(self._side, f"message from the {self._side} ends {count - self.remaining} bytes early")
        start = self._at
        self._at += count
        return self._data[start : self._at]

    def u8(self) -> int:
        """Unsigned byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Unsigned 16 bits, network order."""
        return int(_U16.unpack(self.take(2))[0])

    def u32(self) -> int:
        """Unsigned 32 bits, network order."""
        return int(_U32.unpack(self.take(4))[0])

    def i32(self) -> int:
        """Signed 32 bits, network order."""
        return int(_I32.unpack(self.take(4))[0])

    def cstring(self) -> bytes:
        """Bytes up to a NUL, which is read too and not returned."""
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise PeerViolation(self._side, f"message from the {self._side} has a string without its end")
        value = self._data[self._at : end]
        self._at = end + 1
        return value

    def peek_rest(self) -> bytes:
        """Everything not read yet, left in place."""
        return self._data[self._at :]

    def rest(self) -> bytes:
        """Everything not read yet."""
        return self.take(self.remaining)

    def finish(self) -> None:
        """Refuse a message that holds more than its fields."""
        if self.remaining:
            raise PeerViolation(self._side, f"message from the {self._side} has {self.remaining} bytes too many")
