"""One socket of a proxied connection: plain or TLS, pull or push.

*Pull* serves the login: bytes pile up in `inbox` and wake the driver; reading stops at INBOX_LIMIT. *Push* serves the
relay: every chunk goes straight from this link's buffer to its peer's socket, and nothing else happens per message: no
coroutine, task, queue, log line or metric call. `TAIL` and two plain counters are all that is kept.

TLS is done here with ssl.MemoryBIO because the same object then serves both modes and half-close works over TLS, which
asyncio's own TLS cannot do.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from proxy.errors import LocalFault, PeerClosed, PeerViolation, Side
from proxy.inbox import INBOX_LIMIT, Inbox
from proxy.net.channel import HOLD_INBOX, HOLD_PEER, Channel, Owner

RECEIVE_BYTES: Final = 64 * 1024
"""One receive buffer for the whole process: get_buffer, recv and buffer_updated run back to back, with no callback
between. A larger one is no faster, and each session's MemoryBIO keeps the size it once grew to."""

RECORD_BYTES: Final = 16 * 1024
"""SSLObject.read returns one TLS record at most, and this is the largest."""

TAIL_BYTES: Final = 128
"""Kept of what was relayed last: enough for the end of most answers (a MySQL OK packet with its text)."""

_SHARED: Final = memoryview(bytearray(RECEIVE_BYTES))


class Link(Channel):
    """A connection to one side. Methods that write never fail: a side that has gone is told by the next read."""

    __slots__ = ()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._made is not None:
            made, self._made = self._made, None
            made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _SHARED

    def buffer_updated(self, nbytes: int) -> None:
        peer = self._peer
        if peer is None:
            if self._sink is None:
                self._collect(nbytes)
            elif not self.ended:
                self._hand_over(self._sink, nbytes)
        elif self._tls is not None:
            self._incoming.write(_SHARED[:nbytes])
            if self._pump(peer):
                self._read_tls()
        else:
            # The copy is needed: uvloop writes at the end of the iteration, when the buffer may hold another's bytes.
            data = bytes(_SHARED[:nbytes])
            if self._passes is not None and not self._passes(data):
                self._show(data)
                return
            self.relayed += nbytes
            if self.side is Side.UPSTREAM:
                self.tail = data[-TAIL_BYTES:] if nbytes >= TAIL_BYTES else (self.tail + data)[-TAIL_BYTES:]
            if peer._tls is None:
                peer._transport.write(data)
            else:
                peer._tls.write(data)
                peer._transport.write(peer._outgoing.read())

    def eof_received(self) -> bool:
        if self._discarding:
            self._transport.close()
        elif self._handshake is not None:
            self._incoming.write_eof()
            self._read_tls()
        else:
            # OpenSSL is not told: after an end without close_notify, which many clients leave out, it would refuse to
            # write, and the other direction may still have much to say. Truncation is the database protocol's to see.
            self._fin = True
            self._end_if_fin()
        return True  # the write side stays open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.ended = True
        if self._linger is not None:
            self._linger.cancel()
        if self._handshake is not None:
            _fail(self._handshake, PeerClosed(self.side, f"the {self.side} closed the connection in the TLS handshake"))
        self._wake()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._owner is not None:
            self._owner.on_lost(self)
        if self._on_closed is not None:
            self._on_closed()
            self._on_closed = None
        self._detach()
        self._tls = None

    # Pull: the driver's side

    async def fill(self, count: int) -> None:
        """Wait until `count` bytes are in the inbox. Raises PeerClosed, or what the peer did wrong."""
        while len(self.inbox) < count:
            if self.failure is not None:
                raise self.failure
            if self.ended:
                raise PeerClosed(self.side)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def take(self, count: int) -> bytes:
        """Remove and return bytes that `fill` has waited for."""
        data = self.inbox.take(count)
        if self._holds & HOLD_INBOX and len(self.inbox) < INBOX_LIMIT:
            self.release(HOLD_INBOX)
            if self._tls is not None:
                self._read_tls()
            self._end_if_fin()
        return data

    async def discard_to_end(self) -> None:
        """Throw away what the peer sends until it closes."""
        while not self.ended:
            self.take(len(self.inbox))
            if not self.ended:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        self.inbox.take_all()

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str | None = None) -> ssl.SSLObject:
        """Handshake: as the server on the client's side, as the client upstream. Unread bytes go into the TLS engine.

        Raises ssl.SSLError as OpenSSL tells it, and PeerClosed. The alert for the peer is written in every case.
        """
        if self._tls is not None:
            raise LocalFault(f"TLS is started twice on the {self.side} side")
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming.write(self.inbox.take_all())
        self.release(HOLD_INBOX)
        if self.ended:
            self._incoming.write_eof()
        tls = self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=self.side is Side.CLIENT,
            server_hostname=server_hostname,
        )
        handshake = self._handshake = asyncio.get_running_loop().create_future()
        self._shake_hands(handshake)
        await handshake
        return tls

    # Push: the relay's side

    def push_to(self, peer: Channel, owner: Owner, sink: Callable[[bytes], None] | None = None) -> None:
        """From now on bytes go to `peer` (or to `sink`, for a guard), beginning with those nobody took."""
        if self.lost or peer.lost:
            raise LocalFault("push mode needs two living links")
        ended = self.ended
        self._owner = owner
        self._twin = peer
        if peer.clogged:
            self.hold(HOLD_PEER)
        if len(self.inbox):
            first = self.inbox.take_all()
            if sink is None:
                self.relayed += len(first)
                self.tail = first[-TAIL_BYTES:]
                peer.write(first)
            else:
                sink(first)
        self.inbox = Inbox()
        self._sink = sink
        if sink is None:
            self._peer = peer
        self.release(HOLD_INBOX)
        if self._tls is not None and self._incoming.pending:
            self._read_tls()
        self._end_if_fin()
        if ended:
            owner.on_eof(self)

    def serve(self, owner: Owner, sink: Callable[[bytes], None]) -> None:
        """From now on give this side's bytes to `sink`, beginning with those nobody took. There is no peer."""
        self._owner = owner
        ended = self.ended
        if first := self.inbox.take_all():
            sink(first)
        self._sink = sink
        self.release(HOLD_INBOX)
        if self._tls is not None and self._incoming.pending:
            self._read_tls()
        self._end_if_fin()
        if ended and self._owner is not None:
            owner.on_eof(self)

    def tap(self, sink: Callable[[bytes], None] | None, passes: Callable[[bytes], object] | None = None) -> None:
        """In push mode, from the next byte on: what `passes` goes straight to the peer and the rest to `sink`; without
        `passes` all of it to `sink`, and without `sink` all of it to the peer. `passes` raises nothing. A link that is
        closed or closing stays so."""
        if self._discarding:
            return
        self._sink, self._passes = sink, passes
        through = (sink is None or passes is not None) and not self.ended
        self._peer = cast("Channel | None", self._twin) if through else None

    def _hand_over(self, sink: Callable[[bytes], None], count: int) -> None:
        """What has arrived, to who serves this side or guards it. The hot path of HTTP and of shared connections."""
        if self._tls is None:
            sink(bytes(_SHARED[:count]))
            return
        self._incoming.write(_SHARED[:count])
        data, _, end = self._records()
        if data:
            sink(data)
        if self._outgoing.pending:
            self._flush()
        if end is not None:
            self._end_of_records(end)

    def _pump(self, peer: Channel) -> bool:
        """Decrypt what has arrived and pass it on. The hot path of every TLS session.

        True when it stopped at what had to be shown to the sink: more may have arrived behind it.
        """
        data, shown, end = self._records(self._passes)
        if data:
            size = len(data)
            self.relayed += size
            self.tail = data[-TAIL_BYTES:] if size >= TAIL_BYTES else (self.tail + data)[-TAIL_BYTES:]
            if peer._tls is None:
                peer._transport.write(data)
            else:
                peer._tls.write(data)
                peer._transport.write(peer._outgoing.read())
        if self._outgoing.pending:  # reading can answer: KeyUpdate, no_renegotiation
            self._transport.write(self._outgoing.read())
        if shown:
            self._show(shown)
        elif end is not None:
            self._end_of_records(end)
        return bool(shown)

    def _records(self, passes: Callable[[bytes], object] | None = None) -> tuple[bytes, bytes, ssl.SSLError | None]:
        """Decrypt what has arrived: what may go on, the record that `passes` stopped at, and why no more will come.

        Of a long message several records have come. They go on as one: a write costs more than all that is done here.
        """
        read, incoming = self._tls.read, self._incoming  # type: ignore[union-attr]  # a cast is a call, and this is hot
        records: list[bytes] = []
        shown = b""
        end: ssl.SSLError | None = None
        try:
            while True:
                data = read(RECORD_BYTES)
                size = len(data)
                if not size:
                    end = ssl.SSLZeroReturnError()
                    break
                if passes is not None and not passes(data):
                    shown = data
                    break
                if size < RECORD_BYTES and not incoming.pending:  # asking once more would cost an exception
                    if not records:
                        return data, b"", None
                    records.append(data)
                    break
                records.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            end = error
        return (records[0] if len(records) == 1 else b"".join(records)), shown, end

    def _end_of_records(self, why: ssl.SSLError) -> None:
        self._end() if isinstance(why, ssl.SSLZeroReturnError | ssl.SSLEOFError) else self._break(why)

    # Everything that is not the hot path

    def _collect(self, count: int) -> None:
        if self._discarding or self.ended or self.failure is not None:
            return
        if self._tls is not None:
            self._incoming.write(_SHARED[:count])
            self._read_tls()
        else:
            self.inbox.feed(_SHARED[:count])
            if len(self.inbox) >= INBOX_LIMIT:
                self.hold(HOLD_INBOX)
            self._wake()

    def _show(self, data: bytes) -> None:
        if data and self._sink is not None:
            self._sink(data)

    def _read_tls(self) -> None:
        if self._handshake is not None:
            self._shake_hands(self._handshake)
        elif self._tls is not None and not self.ended:
            self._decrypt(self._tls)

    def _decrypt(self, tls: ssl.SSLObject) -> None:
        """All modes, as they change. Above INBOX_LIMIT what is left stays encrypted in `incoming`."""
        ended = False
        try:
            while not self._discarding:
                if self._peer is not None:
                    if self._pump(self._peer):
                        continue
                    return
                if self._sink is None and len(self.inbox) >= INBOX_LIMIT:
                    self.hold(HOLD_INBOX)
                    break
                data = tls.read(RECORD_BYTES)
                if not data:
                    ended = True
                    break
                if self._sink is None:
                    self.inbox.feed(data)
                else:
                    self._sink(data)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            ended = True
        except ssl.SSLError as error:
            self._break(error)
        self._flush()
        if ended:
            self._end()
        else:
            self._wake()

    def _shake_hands(self, handshake: asyncio.Future[None]) -> None:
        tls = cast("ssl.SSLObject", self._tls)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert
            closed = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
            message = f"the {self.side} closed the connection in the TLS handshake"
            self.failure = PeerClosed(self.side, message) if closed else PeerViolation(self.side, str(error))
            self._handshake = None
            _fail(handshake, self.failure if closed else error)
        else:
            self._flush()
            self._handshake = None
            if not handshake.done():
                handshake.set_result(None)
            self._decrypt(tls)  # the first data often comes with the end of the handshake

    def _break(self, error: ssl.SSLError) -> None:
        """The peer's records do not decrypt: nothing it sent or sends can be trusted."""
        self.failure = PeerViolation(
            self.side, f"TLS with the {self.side} broke: {error.reason or 'unreadable record'}"
        )
        self._flush()
        if self._owner is not None:
            self._owner.on_lost(self)
            self.abort()

    def _end_if_fin(self) -> None:
        if self._fin and not (self._tls is not None and self._holds & HOLD_INBOX):
            self._end()  # nothing is left in `incoming` that could be decrypted

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._peer = None  # whatever still comes goes through _collect, which drops it
        self._wake()
        if self._owner is not None:
            self._owner.on_eof(self)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
