"""Reading a frame's body from its begin, as far as it is there. PURE."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from proxy.engines.cassandra import wire
from proxy.errors import PeerViolation, Side
from proxy.inbox import Cursor

T = TypeVar("T")


class Short(Exception):
    """More bytes of the frame are needed to say anything."""


class Partial(Cursor):
    """A Cursor over the first bytes of a body: what is not there yet is Short."""

    __slots__ = ()

    def take(self, count: int) -> bytes:
        if count > self.remaining:
            raise Short
        return super().take(count)

    @property
    def at(self) -> int:
        """Bytes read."""
        return self._at


def opened(body: bytes, flags: int, side: Side) -> Partial:
    """Behind what the frame's flags put first. Raises Short."""
    cursor = Partial(body, side)
    wire.skip_extras(cursor, flags, side)
    return cursor


def whole(read: Callable[[], T]) -> T:
    """Read an answer that is all there. Raises PeerViolation."""
    try:
        return read()
    except Short:
        raise PeerViolation(Side.UPSTREAM, "upstream sent an answer that ends early") from None
