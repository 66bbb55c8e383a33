"""Takes in one request's body that did not come whole with its head.

    up to 64 KiB           put together, and sent with the head in one piece
    up to `body_bytes`     in memory: hashed, signed, and there for a second try
    above it               streamed unsigned, where the service takes that;
                           else spooled, where the operator gave a directory; else refused

Nothing but the first of them is read before its sender is let in.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from proxy.errors import Refused, Side
from proxy.http.bodies import Chunked
from proxy.http.heads import BadHttp
from proxy.net import crashes
from proxy.net.http.bodies import Budget, MemoryBody, Room, SpoolBody, StreamBody
from proxy.net.http.exchange import Exchange
from proxy.net.http.upstream import Upstream
from tollbridge.reasons import Reason

if TYPE_CHECKING:
    from proxy.net.http.inbound import Inbound

SMALL_BYTES: Final = 64 * 1024
"""Put together first: it is no more than what the socket may bring in one read."""

UNSIGNED_BYTES: Final = 256 * 1024
"""A chunked body that can be streamed is, from here on: what has come is sent in one go then."""

MINIMUM_RATE: Final = 4096
"""Bytes a second below which a body is too slow, after the first `stall_seconds`."""

_log = logging.getLogger(__name__)

HOLD_ROOM, HOLD_SPOOL, HOLD_UPSTREAM = 16, 32, 64
HOLD_BODY: Final = HOLD_ROOM | HOLD_SPOOL | HOLD_UPSTREAM
"""Whatever a body stops its sender for."""


class Intake:
    """One body's. `feed` until it says what follows the body."""

    def __init__(self, client: Inbound, exchange: Exchange) -> None:
        head = exchange.head
        self.small = 0 < head.length <= SMALL_BYTES and not head.expects_continue
        self._client = client
        self._exchange = exchange
        self._left = head.length
        self._chunked = Chunked(Side.CLIENT) if head.chunked else None
        self._early = bytearray()
        """Read before there was a place for it: a small body, or what one read brought with the head."""
        self._body: MemoryBody | SpoolBody | StreamBody | None = None
        self._room: Room | None = None
        self._waits = False
        self._unsigned = False
        self.ended = False
        if not self.small:
            client.link.hold(HOLD_ROOM)

    def feed(self, data: bytes) -> bytes | None:
        """Bytes of the client; what follows the body, once it has ended. Raises BadHttp and Refused."""
        pieces, rest = self._content(data)
        for piece in pieces:
            self._keep(piece)
        if rest is not None:
            self.ended = True
            self._finish()
        return rest

    def admitted(self, *, unsigned: bool) -> None:
        """The client is let in: find a place. Raises BadHttp and Refused."""
        self._unsigned = unsigned
        house, head = self._client.house, self._exchange.head
        limits = house.limits
        if head.length <= limits.body_bytes:
            self._reserve(house.budget, head.length)
        elif unsigned:
            self._stream([])
        elif limits.spool_dir is not None and head.length <= limits.spool_bytes:
            self._reserve(house.spool, head.length)
        else:
            raise self._too_large()

    def leave(self) -> None:
        """The body is not read to its end."""
        if self._waits:
            self._budget.forget(self._room_came)
        if self._body is not None:
            self._body.close()
        elif self._room is not None:
            self._room.give_back()

    @property
    def _budget(self) -> Budget:
        house = self._client.house
        return house.budget if self._exchange.head.length <= house.limits.body_bytes else house.spool

    def _content(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        chunked = self._chunked
        if chunked is not None:
            pieces = chunked.feed(data)
            return pieces, chunked.rest if chunked.done else None
        size = len(data)
        if size < self._left:
            self._left -= size
            return [data], None
        rest, piece = data[self._left :], data[: self._left]
        self._left = 0
        return ([piece] if piece else []), rest

    def _keep(self, piece: bytes) -> None:
        body = self._body
        if body is None:
            self._early += piece
            return
        limits = self._client.house.limits
        bound = min(limits.body_bytes, UNSIGNED_BYTES) if self._unsigned and self._chunked else limits.body_bytes
        if isinstance(body, MemoryBody) and body.size + len(piece) > bound:
            self._overflow(body, piece)
        elif isinstance(body, SpoolBody) and body.size + len(piece) > limits.spool_bytes:
            raise self._too_large()
        elif not body.add(piece):
            raise Refused(
                Reason.TOO_MANY_CONNECTIONS, "this proxy has no room for another large body: send it again in a moment"
            )
        self._client.deadline += len(piece) / MINIMUM_RATE

    def _reserve(self, budget: Budget, size: int) -> None:
        if budget.take(size):
            self._room = Room(budget, size)
            self._ready()
        else:
            self._waits = True
            budget.wait(size, self._room_came)

    def _room_came(self) -> None:
        """Called by whoever gave the room back: what is wrong here is nothing to him."""
        try:
            self._ready()
        except BadHttp as violation:
            self._client.violated(violation)
        except Refused as refusal:
            self._client.refuse(refusal)
        except Exception as fault:  # noqa: BLE001 - as above
            crashes.report(_log, "a body with room", fault)
            self._client.crashed()

    def _ready(self) -> None:
        """There is room."""
        budget, size = self._budget, self._exchange.head.length
        room = self._room or Room(budget, size)
        self._room, self._waits = room, False
        if budget is self._client.house.budget:
            self._begin(MemoryBody(room))
        else:
            self._begin(self._spooled(room))

    def _begin(self, body: MemoryBody | SpoolBody | StreamBody) -> None:
        self._body = body
        early, self._early = bytes(self._early), bytearray()
        if early:
            self._keep(early)
        if self.ended:
            self._finish()
            return
        client = self._client
        if self._exchange.head.expects_continue and not early:
            client.link.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.reads_body()
        client.link.release(HOLD_ROOM)

    def _finish(self) -> None:
        if self.small:
            self._client.whole(self._exchange)
            self._exchange.run(bytes(self._early))
        elif self._body is not None:
            self._body.finish(self._done)

    def _done(self) -> None:
        body = self._body
        if body is None or self._exchange.ended:
            return
        self._client.whole(self._exchange)
        if not isinstance(body, StreamBody):
            self._exchange.complete(body)

    def _stream(self, first: list[bytes]) -> None:
        head, client = self._exchange.head, self._client
        body = StreamBody(None if head.chunked else head.length, first)

        def attached(upstream: Upstream) -> None:
            upstream.link.join(client.link)
            client.link.release(HOLD_UPSTREAM)

        body.when_attached = attached
        client.link.hold(HOLD_UPSTREAM)
        self._begin(body)
        self._exchange.complete(body)

    def _overflow(self, body: MemoryBody, piece: bytes) -> None:
        """A chunked body turns out to be large."""
        limits = self._client.house.limits
        parts = [*body.parts, piece]
        if self._unsigned:
            body.close()
            self._stream(parts)
        elif limits.spool_dir is not None:
            spooled = self._spooled(Room(self._client.house.spool, 0))
            spooled.when_written = body.close  # until then it is in memory, and counts there
            self._body = spooled
            for part in parts:
                self._keep(part)
        else:
            raise self._too_large()

    def _spooled(self, room: Room) -> SpoolBody:
        house, link = self._client.house, self._client.link

        def hold(on: bool) -> None:
            link.hold(HOLD_SPOOL) if on else link.release(HOLD_SPOOL)

        if house.limits.spool_dir is None:
            raise self._too_large()
        try:
            return SpoolBody(
                house.limits.spool_dir, room, spawn=house.pools.spawn, hold=hold, failed=self._client.spool_failed
            )
        except OSError as error:
            room.give_back()
            raise Refused(Reason.INTERNAL, f"the proxy's `spool_dir` cannot be used ({error.strerror})") from error

    def _too_large(self) -> BadHttp:
        limit = self._client.house.limits.body_bytes
        return BadHttp(
            Side.CLIENT,
            f"the request's body is larger than the {limit} bytes that this proxy keeps in memory "
            "(`http.max_body_bytes`): send less at once, or have the operator raise it or set `http.spool_dir`",
            413,
        )
