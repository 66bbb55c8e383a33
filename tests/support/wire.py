"""A link without a socket: what is written to it is kept, and what it hears is what the test says."""

from __future__ import annotations

import asyncio
from typing import cast

from proxy.errors import Side
from proxy.net.transport import Link


class Wire:
    """A transport that keeps what is written, and a link over it."""

    def __init__(self, side: Side) -> None:
        self.link = Link(side)
        self.link.connection_made(cast("asyncio.BaseTransport", self))
        self.written = bytearray()
        self.paused = self.closed = False
        self.unread = 0
        """Bytes that the peer has not taken."""

    def hear(self, data: bytes) -> None:
        """The peer says something."""
        while data and not self.closed:
            part, data = data[:65536], data[65536:]
            self.link.get_buffer(-1)[: len(part)] = part
            self.link.buffer_updated(len(part))

    def lose(self) -> None:
        """The peer is gone."""
        if not self.closed:
            self.closed = True
            self.link.connection_lost(None)

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        asyncio.get_running_loop().call_soon(self.link.connection_lost, None)

    abort = close
