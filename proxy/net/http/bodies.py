"""Request bodies on their way in: in memory within a bound, above it in a file, or straight through.

All bodies in memory together stay within one budget, those in files within another. A body whose length is known takes
its room before its first byte is read, or waits for it unread, so that bodies half read never wait for each other.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol

from proxy.http.bodies import LAST_CHUNK, chunk
from proxy.net.http.upstream import Upstream
from proxy.sigv4 import UNSIGNED_PAYLOAD

FIRST_STEP_BYTES: Final = 64 * 1024
STEP_BYTES: Final = 1024 * 1024
"""Room taken at once for a body whose length nobody has said: at first this little, because most are small, then as
much again as it has, up to this much."""

SPOOL_BYTES: Final = 256 * 1024
"""Written to, and read from, a file at once; a body being spooled has about twice as much in memory."""


PIECE_BYTES: Final = 4096
"""Pieces smaller than this are put together: a client may send two bytes at a time, and each would be an object."""

GATHERED_BYTES: Final = 64 * 1024
"""Of what was put together so, in one piece."""


class Budget:
    """Bytes that bodies may have together."""

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
    """A body, for sending."""

    size: int
    """Bytes of it that have come."""
    payload: bytes
    """Its hash, as it is signed."""
    replayable: bool
    """It can be sent a second time."""

    @property
    def framing(self) -> bytes:
        """The header that says its length, and the empty line."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """From the start. Raises OSError."""
        ...

    def close(self) -> None:
        """It is not needed any more. Twice is once."""
        ...


class Room:
    """What one body has taken of a budget."""

    def __init__(self, budget: Budget, taken: int) -> None:
        self._budget = budget
        self._taken = taken

    def reach(self, size: int) -> bool:
        """Make it enough for so many bytes; False when the budget has no more."""
        while size > self._taken:
            step = min(max(self._taken, FIRST_STEP_BYTES), STEP_BYTES)
            if not self._budget.take(step):
                return False
            self._taken += step
        return True

    def give_back(self) -> None:
        """All of it. Twice is once."""
        taken, self._taken = self._taken, 0
        if taken:
            self._budget.give(taken)


class MemoryBody:
    """Pieces as they came, hashed as they came."""

    replayable: bool = True

    def __init__(self, room: Room) -> None:
        self.size = 0
        self.payload = b""
        self._parts: list[bytes] = []
        self._crumbs = bytearray()
        self._hash = hashlib.sha256()
        self._room = room

    @property
    def framing(self) -> bytes:
        """See Body."""
        return b"Content-Length: %d\r\n\r\n" % self.size

    def add(self, data: bytes) -> bool:
        """Keep a piece; False when there is no room."""
        self.size += len(data)
        if not self._room.reach(self.size):
            return False
        self._hash.update(data)
        if len(data) < PIECE_BYTES:
            self._crumbs += data
            if len(self._crumbs) >= GATHERED_BYTES:
                self._gather()
        else:
            self._gather()
            self._parts.append(data)
        return True

    @property
    def parts(self) -> list[bytes]:
        """What has come, in order."""
        self._gather()
        return self._parts

    def _gather(self) -> None:
        if self._crumbs:
            self._parts.append(bytes(self._crumbs))
            self._crumbs.clear()

    def finish(self, then: Callable[[], None]) -> None:
        """No more comes."""
        self.payload = self._hash.hexdigest().encode()
        then()

    async def pieces(self) -> AsyncIterator[bytes]:
        """See Body."""
        for part in self.parts:
            yield part

    def close(self) -> None:
        """See Body."""
        self._parts = []
        self._crumbs = bytearray()
        self._room.give_back()


class SpoolBody:
    """A file without a name, written and hashed on a thread while its client is held up."""

    replayable: bool = True

    def __init__(
        self,
        directory: Path,
        room: Room,
        *,
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]], str], None],
        hold: Callable[[bool], None],
        failed: Callable[[OSError], None],
    ) -> None:
        """`hold`: read no more of the client, or go on. Raises OSError."""
        self.size = 0
        self.payload = b""
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - `close` closes it
        self._room = room
        self._spawn = spawn
        self._hold = hold
        self._failed = failed
        self._hash = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._writing = False
        self._closed = False
        self._then: Callable[[], None] | None = None
        self.when_written: Callable[[], None] | None = None
        """Called once, when what was added first is in the file."""

    @property
    def framing(self) -> bytes:
        """See Body."""
        return b"Content-Length: %d\r\n\r\n" % self.size

    def add(self, data: bytes) -> bool:
        """Keep a piece; False when there is no room."""
        self.size += len(data)
        if not self._room.reach(self.size):
            return False
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= SPOOL_BYTES:
            self._hold(True)
            self._write()
        return True

    def finish(self, then: Callable[[], None]) -> None:
        """No more comes; call back when all of it is written."""
        self._then = then
        self._write()

    async def pieces(self) -> AsyncIterator[bytes]:
        """See Body."""
        loop, at = asyncio.get_running_loop(), 0
        while at < self.size and not self._closed:
            data = await loop.run_in_executor(None, os.pread, self._file.fileno(), SPOOL_BYTES, at)
            if not data:
                raise OSError("the file is shorter than what was written")
            at += len(data)
            yield data

    def close(self) -> None:
        """See Body."""
        if self._closed:
            return
        self._closed = True
        self._room.give_back()
        self._written()
        if not self._writing:
            self._file.close()

    def _write(self) -> None:
        if not self._writing:
            self._writing = True
            self._spawn(self._write_all, "spool")

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        error: OSError | None = None
        try:
            while self._waiting and not self._closed:
                parts, self._waiting, self._waiting_bytes = self._waiting, [], 0
                await loop.run_in_executor(None, self._store, parts)
                del parts
                self._written()
        except OSError as failed:
            error = failed
        self._writing = False
        if self._closed:
            self._file.close()
        elif error is not None:
            self._failed(error)
        elif self._then is not None:
            self.payload = self._hash.hexdigest().encode()
            self._then()
        else:
            self._hold(False)

    def _written(self) -> None:
        then, self.when_written = self.when_written, None
        if then is not None:
            then()

    def _store(self, parts: list[bytes]) -> None:
        """On a thread: one at a time, so the hash has one writer."""
        data = memoryview(b"".join(parts))
        self._hash.update(data)
        while data:
            data = data[self._file.write(data) :]


class StreamBody:
    """Straight through, unsigned: pieces go on as they come, no faster than upstream takes them."""

    replayable: bool = False
    payload: bytes = UNSIGNED_PAYLOAD

    def __init__(self, length: int | None, first: list[bytes]) -> None:
        """`length`: None for a chunked one. `first`: what has come already."""
        self.size = sum(map(len, first))
        self._length = length
        self._first = first
        self._upstream: Upstream | None = None
        self._ended = False
        self._closed = False
        self.when_attached: Callable[[Upstream], None] = lambda _: None

    @property
    def framing(self) -> bytes:
        """See Body."""
        if self._length is None:
            return b"Transfer-Encoding: chunked\r\n\r\n"
        return b"Content-Length: %d\r\n\r\n" % self._length

    def attach(self, upstream: Upstream) -> None:
        """The head is sent: the body goes here."""
        self._upstream = upstream
        first, self._first = self._first, []
        for data in first:
            self._send(data)
        if self._ended:
            self._end()
        self.when_attached(upstream)

    def add(self, data: bytes) -> bool:
        """The next piece."""
        self.size += len(data)
        if self._closed:
            return True
        if self._upstream is None:
            self._first.append(data)
        else:
            self._send(data)
        return True

    def finish(self, then: Callable[[], None]) -> None:
        """No more comes."""
        self._ended = True
        if self._upstream is not None:
            self._end()
        then()

    async def pieces(self) -> AsyncIterator[bytes]:
        """It is gone."""
        return
        yield b""

    def close(self) -> None:
        """See Body."""
        self._closed = True
        self._first = []
        self._upstream = None

    def _send(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.link.write(chunk(data) if self._length is None else data)

    def _end(self) -> None:
        if self._upstream is not None:
            if self._length is None:
                self._upstream.link.write(LAST_CHUNK)
            self._upstream.uploading = False
