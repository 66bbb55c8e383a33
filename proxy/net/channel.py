"""What a link is in either mode: its state, writing, holding, closing cleanly. `transport.Link` adds reading."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from proxy.errors import PeerViolation, Side
from proxy.inbox import Inbox
from proxy.model import SocketAddress

LINGER_SECONDS: Final = 2.0
"""How long a closed link may take to hand over its last bytes."""

# Why reading stands still; it goes on when no bit is left. Whoever serves a link has the bits from 8 to 64.
HOLD_INBOX, HOLD_PEER, HOLD_GUARD = 1, 2, 4
HOLD_UNREAD: Final = 128
"""It has not taken what was said to it: what it asks next would only be answered with more."""


class Owner(Protocol):
    """What a link in push mode tells its relay."""

    def on_eof(self, link: Channel) -> None:
        """The peer has finished sending; it may still read."""
        ...

    def on_lost(self, link: Channel) -> None:
        """The connection is gone. `link.failure` says why, when it was not in order."""
        ...


class Source(Protocol):
    """What is read no faster than another side takes: a channel, or what several have in common."""

    def hold(self, why: int) -> None:
        """Stop reading for a reason (HOLD_*)."""
        ...

    def release(self, why: int) -> None:
        """Drop a reason not to read; read again when none is left."""
        ...


class Channel(asyncio.BufferedProtocol):
    """A connection to one side. Methods that write never fail: a side that has gone is told by the next read."""

    __slots__ = (
        "_clogged", "_discarding", "_drained", "_fin", "_handshake", "_holds", "_incoming", "_linger", "_made",
        "_on_closed", "_outgoing", "_owner", "_passes", "_peer", "_sink", "_tls", "_transport", "_twin", "_waiter",
        "_write_ended", "ended", "failure", "inbox", "lost", "relayed", "side", "tail",
    )  # fmt: skip

    def __init__(self, side: Side, made: Callable[[Any], None] | None = None) -> None:
        self.side = side
        self.inbox = Inbox()
        self.ended = False
        """The peer will send nothing more."""
        self.lost = False
        """The connection is gone in both directions."""
        self.failure: PeerViolation | None = None
        """What the peer did wrong at the TLS layer, if it did."""
        self.relayed = 0
        """Bytes from this side that push mode has passed on."""
        self.tail = b""
        """The last of them."""
        self._made = made
        self._transport = cast("asyncio.Transport", None)
        self._tls: ssl.SSLObject | None = None
        self._incoming = cast("ssl.MemoryBIO", None)
        self._outgoing = cast("ssl.MemoryBIO", None)
        self._handshake: asyncio.Future[None] | None = None
        self._peer: Channel | None = None
        self._twin: Source | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._passes: Callable[[bytes], object] | None = None
        self._owner: Owner | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._on_closed: Callable[[], None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._holds = 0
        self._clogged = False
        self._discarding = False
        self._fin = False
        self._write_ended = False

    def pause_writing(self) -> None:
        self._clogged = True
        if self._twin is not None:
            self._twin.hold(HOLD_PEER)

    def resume_writing(self) -> None:
        self._clogged = False
        self.release(HOLD_UNREAD)
        if self._twin is not None:
            self._twin.release(HOLD_PEER)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    @property
    def encrypted(self) -> bool:
        """Whether TLS is up."""
        return self._tls is not None and self._handshake is None and self.failure is None

    @property
    def clogged(self) -> bool:
        """More was written than the peer has taken: wait with `drained` before writing more."""
        return self._clogged

    @property
    def unsent_bytes(self) -> int:
        """What was written and the peer has not taken, beyond what its kernel and ours hold."""
        return self._transport.get_write_buffer_size()

    @property
    def closing(self) -> bool:
        """Nothing can be written any more."""
        return self._write_ended or self.lost

    @property
    def tls_object(self) -> ssl.SSLObject | None:
        """For reading facts about the peer, also after a handshake that failed."""
        return self._tls

    def socket_info(self, name: str) -> object:
        """What the event loop knows of the socket: `peername`, `sockname`."""
        return self._transport.get_extra_info(name)

    def own_address(self) -> SocketAddress | None:
        """This end of the connection; None on a unix socket."""
        name = self.socket_info("sockname")
        if not isinstance(name, tuple):
            return None
        ip = ipaddress.ip_address(name[0].partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return SocketAddress(host=str(ip), packed=ip.packed, port=name[1])

    async def drained(self) -> None:
        """Wait until the peer has taken enough of what was written."""
        if self._clogged and not self.lost:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back once, when the connection is gone."""
        self._on_closed = callback

    def write(self, data: bytes) -> None:
        """Send to this side. Dropped when the side is gone, its TLS is broken, or its TLS is not up yet."""
        if self._write_ended or self.lost or self.failure is not None or self._handshake is not None or not data:
            return
        if self._tls is None:
            self._transport.write(data)
        else:
            self._tls.write(data)
            self._transport.write(self._outgoing.read())

    def write_eof(self) -> None:
        """Say that we send nothing more: close_notify on TLS, then FIN. Reading goes on."""
        if self._write_ended or self.lost:
            return
        self._write_ended = True
        if self._tls is not None and self._handshake is None:
            # It wants the peer's close_notify, or TLS is broken: ours is in `outgoing` if it can be sent.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        if not self._transport.is_closing():
            with contextlib.suppress(OSError):  # asyncio's, not uvloop's: the peer has reset, `connection_lost` follows
                self._transport.write_eof()

    def close(self, linger_seconds: float = LINGER_SECONDS) -> None:
        """Clean end: what was written, close_notify, FIN; then discard what comes until the peer closes too.

        Closing with bytes unread would send a reset, which can destroy our last words before the peer reads them.
        """
        if self.lost or self._discarding:
            return
        self.write_eof()
        self._detach()
        self._discarding = True
        self._handshake = None
        if self.ended and not self._transport.get_write_buffer_size():
            self._transport.close()
            return
        self.release(self._holds)
        loop = asyncio.get_running_loop()
        self._linger = loop.call_later(linger_seconds, self._transport.abort)
        if self.ended:
            self._transport.close()

    def abort(self) -> None:
        """End at once; what was not sent is lost."""
        if not self.lost:
            self._detach()
            self._discarding = True
            self._transport.abort()

    def join(self, source: Source) -> None:
        """From now on `source` is read no faster than this side takes."""
        self.part()
        self._twin = source
        if self._clogged:
            source.hold(HOLD_PEER)

    def part(self) -> None:
        """No side's reading depends on this one's taking any more."""
        source, self._twin = self._twin, None
        if source is not None:
            source.release(HOLD_PEER)

    def pull(self, first: bytes) -> None:
        """Back from `Link.serve` to pull mode: bytes pile up in `inbox`, behind `first`, which nobody took."""
        self._detach()
        self.inbox.feed(first)
        self.release(self._holds)

    def hold(self, why: int) -> None:
        """Stop reading for a reason (HOLD_*)."""
        if not self._holds and not self.lost and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds |= why

    def release(self, why: int) -> None:
        """Drop a reason not to read; read again when none is left."""
        if not self._holds & why:
            return
        self._holds &= ~why
        if not self._holds and not self.lost and not self._transport.is_closing():
            self._transport.resume_reading()

    def _flush(self) -> None:
        if self._outgoing.pending and not self.lost and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    def _detach(self) -> None:
        """Leave the relay: no byte of this side goes anywhere any more, and the twin is not held up by it."""
        twin = self._twin
        self._peer = self._twin = self._owner = self._sink = self._passes = None
        if twin is not None:
            twin.release(HOLD_PEER)
