"""Request bodies on their way in: in memory within a bound, above it in a file, or straight through.

    up to `body_bytes`     in memory: hashed, signed, and there for a second try
    above it, in order     streamed unsigned, where the service takes that
                           spooled to a file without a name, where the operator gave a directory
                           refused

All bodies in memory together stay within one budget. A body whose length is known takes its room before its first byte
is read, or waits for it unread, so that bodies half read never wait for each other.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from proxy.errors import Side
from proxy.http.bodies import Chunked
from proxy.http.heads import BadHttp

STEP_BYTES: Final = 1024 * 1024
"""Room taken at once for a body whose length nobody has said."""

MINIMUM_RATE: Final = 4096
"""Bytes a second below which a body is too slow, after the first `stall_seconds`."""


class Budget:
    """Bytes that bodies in memory may have together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def take(self, size: int) -> bool:
        """Take room, if there is and nobody waits for it."""
        if self._waiting or self.used + size > self.limit:
            return False
        self.used += size
        return True

    def wait(self, size: int, then: Callable[[], None]) -> None:
        """Take room when it is there, and call back."""
        self._waiting.append((size, then))

    def forget(self, then: Callable[[], None]) -> None:
        """Somebody does not wait any more."""
        self._waiting = deque(entry for entry in self._waiting if entry[1] != then)
        self.give(0)

    def give(self, size: int) -> None:
        """Room is free again."""
        self.used -= size
        while self._waiting and self.used + self._waiting[0][0] <= self.limit:
            wanted, then = self._waiting.popleft()
            self.used += wanted
            then()


class Body(Protocol):
    """A whole body, for sending as often as need be."""

    size: int
    payload: bytes
    """Its hash, as it is signed."""

    def pieces(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None:
        """It is not needed any more. Twice is once."""
        ...


class MemoryBody:
    """Pieces as they came, and their hash as far as they have."""

    def __init__(self, budget: Budget, reserved: int) -> None:
        self.size = 0
        self.payload = b""
        self.parts: list[bytes] = []
        self._hash = hashlib.sha256()
        self._budget = budget
        self._reserved = reserved

    def add(self, data: bytes) -> bool:
        """Keep a piece; False when there is no room."""
        self.size += len(data)
        while self.size > self._reserved:
            if not self._budget.take(STEP_BYTES):
                return False
            self._reserved += STEP_BYTES
        self._hash.update(data)
        self.parts.append(data)
        return True

    def finish(self) -> None:
        """No more comes."""
        self.payload = self._hash.hexdigest().encode()

    async def pieces(self) -> AsyncIterator[bytes]:
        """From the start."""
        for part in self.parts:
            yield part

    def close(self) -> None:
        """See Body."""
        reserved, self._reserved = self._reserved, 0
        self.parts = []
        if reserved:
            self._budget.give(reserved)


class Framing:
    """Where a body ends in a client's bytes."""

    __slots__ = ("_chunked", "_left")

    def __init__(self, length: int, *, chunked: bool) -> None:
        self._left = length
        self._chunked = Chunked(Side.CLIENT) if chunked else None

    def feed(self, data: bytes) -> tuple[list[bytes], bool, bytes]:
        """Content, whether that was the end, and what follows it. Raises BadHttp."""
        chunked = self._chunked
        if chunked is not None:
            pieces = chunked.feed(data)
            return pieces, chunked.done, chunked.rest
        size = len(data)
        if size < self._left:
            self._left -= size
            return [data], False, b""
        rest = data[self._left :]
        piece = data[: self._left] if rest else data
        self._left = 0
        return ([piece] if piece else []), True, rest


def too_large(limit: int) -> BadHttp:
    """The refusal of a body that has no place."""
    return BadHttp(
        Side.CLIENT,
        f"the request's body is larger than the {limit} bytes that this proxy keeps in memory (`http.max_body_bytes`): "
        "send less at once, or have the operator raise it or set `http.spool_dir`",
        413,
    )
