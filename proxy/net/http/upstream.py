"""A connection to a server: answers out of bytes. It does one request at a time and belongs to a pool."""

from __future__ import annotations

import logging
from typing import Final, Protocol

from proxy.errors import PeerViolation, Refused, Side
from proxy.http.bodies import Chunked
from proxy.http.heads import HEAD_LIMIT, BadHttp, ResponseHead, check_beginning, read_response
from proxy.net import crashes
from proxy.net.channel import Channel
from proxy.net.transport import Link
from tollbridge.reasons import Reason

BODILESS_STATUSES: Final = frozenset({204, 304})

INTERIM_LIMIT: Final = 16
"""Answers of 1xx before the real one: 100 Continue, now and then a 103. Whoever sends more means never to answer."""


_log = logging.getLogger(__name__)


class Answered(Protocol):
    """Who sent the request that is being answered."""

    method: bytes

    def answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer at once."""
        ...

    def answer_head(self, head: ResponseHead) -> None:
        """The answer begins; its body follows."""
        ...

    def answer_data(self, data: bytes) -> None: ...

    def answer_end(self) -> None: ...

    def answer_broken(self, refusal: Refused, *, begun: bool) -> None:
        """No answer, or no more of it. `begun`: bytes of it had come."""
        ...

    def crashed(self) -> None:
        """A bug of ours, found in one of these: nothing is known to be right any more."""
        ...


class Home(Protocol):
    """The pool."""

    def put(self, upstream: Upstream) -> None: ...

    def gone(self, upstream: Upstream) -> None: ...


class Upstream:
    """Implements `proxy.net.channel`'s `Owner`."""

    __slots__ = (
        "_begun", "_buffer", "_chunked", "_exchange", "_interim", "_keep", "_left", "_pool", "_reading_body",
        "address", "idle_since", "link", "requests", "retire_at", "uploading",
    )  # fmt: skip

    def __init__(self, link: Link, pool: Home, address: str, *, retire_at: float) -> None:
        self.link = link
        self.address = address
        self.retire_at = retire_at
        """By the loop's clock: from then on it takes no new request."""
        self.idle_since = 0.0
        self.requests = 0
        self.uploading = False
        """A request's body is still being sent: what comes now does not make the connection free."""
        self._pool = pool
        self._exchange: Answered | None = None
        self._buffer = b""
        self._left = 0
        self._chunked: Chunked | None = None
        self._reading_body = False
        self._begun = False
        self._interim = 0
        self._keep = True
        link.serve(self, self.feed)

    def begin(self, exchange: Answered) -> None:
        """A request's bytes follow; its answer goes to `exchange`."""
        self._exchange = exchange
        self._begun = False
        self._interim = 0
        self.requests += 1

    def abandon(self) -> None:
        """Nobody wants the answer any more."""
        self._exchange = None
        self.link.part()
        self._end(keep=False)

    def close(self) -> None:
        """An idle connection is not needed."""
        self.link.close()
        self._pool.gone(self)

    def feed(self, data: bytes) -> None:
        """Bytes of the server."""
        exchange = self._exchange
        if exchange is None:
            self._end(keep=False)  # nobody asked
            return
        try:
            if self._reading_body:
                self._body(exchange, data)
            else:
                self._begun = True
                self._heads(exchange, data)
        except PeerViolation as violation:
            self._break(violation.as_refusal())
        except Exception as fault:  # noqa: BLE001 - a bug of ours: its client must not wait for what never comes
            crashes.report(_log, "an answer", fault)
            if self._exchange is exchange or self._exchange is None:  # else it does somebody else's request already
                self._exchange = None
                self._end(keep=False)
            exchange.crashed()

    def on_eof(self, link: Channel) -> None:
        """The server sends nothing more."""
        self._break(self._closed(link))

    def on_lost(self, link: Channel) -> None:
        """The connection is gone."""
        self._break(self._closed(link))

    def _closed(self, link: Channel) -> Refused:
        if link.failure is not None:
            return link.failure.as_refusal()
        where = "in the middle of its answer" if self._begun else "without an answer"
        return Refused(Reason.UPSTREAM_CLOSED, f"the server closed the connection {where}")

    def _heads(self, exchange: Answered, data: bytes) -> None:
        scanned = 0
        if self._buffer:
            scanned = max(0, len(self._buffer) - 3)
            data, self._buffer = self._buffer + data, b""
        while True:
            head = read_response(data, scanned)
            if head is None:
                if len(data) > HEAD_LIMIT:
                    raise BadHttp(Side.UPSTREAM, f"the head of the answer is longer than {HEAD_LIMIT} bytes")
                check_beginning(data)
                self._buffer = data
                return
            data, scanned = data[head.size :], 0
            if head.status >= 200:
                self._answer(exchange, head, data)
                return
            if head.status == 101:
                raise BadHttp(Side.UPSTREAM, "the server switches to a protocol that nobody asked for")
            self._interim += 1
            if self._interim > INTERIM_LIMIT:
                raise BadHttp(Side.UPSTREAM, f"the server sent {INTERIM_LIMIT} interim answers and more")

    def _answer(self, exchange: Answered, head: ResponseHead, data: bytes) -> None:
        """The head of the real answer, and what came with it."""
        self._keep = head.keep_alive
        size = head.length
        if head.status in BODILESS_STATUSES or exchange.method == b"HEAD":
            size = 0
        if size is None and not head.chunked:
            raise BadHttp(Side.UPSTREAM, "the answer says neither its length nor its end, so a cut would go unseen")
        if size is not None and len(data) >= size:
            self._done(data[size:])
            exchange.answer(head, data[:size])
            return
        self._left, self._chunked = size or 0, Chunked(Side.UPSTREAM) if size is None else None
        self._reading_body = True
        exchange.answer_head(head)
        if data and self._exchange is exchange:
            self._body(exchange, data)

    def _body(self, exchange: Answered, data: bytes) -> None:
        chunked = self._chunked
        if chunked is not None:
            for piece in chunked.feed(data):
                exchange.answer_data(piece)
                if self._exchange is not exchange:
                    return
            if not chunked.done:
                return
            rest = chunked.rest
        else:
            size = len(data)
            if size < self._left:
                self._left -= size
                exchange.answer_data(data)
                return
            rest = data[self._left :]
            exchange.answer_data(data[: self._left] if rest else data)
        if self._exchange is exchange:
            self._done(rest)
            exchange.answer_end()

    def _done(self, rest: bytes) -> None:
        """The answer is complete. The connection goes home first, so that the client's next request finds it."""
        self._exchange = self._chunked = None
        self._reading_body = False
        if self.link._twin is not None:
            self.link.part()
        if self._keep and not rest and not self.uploading and not self.link.ended:
            self._pool.put(self)
        else:
            self._end(keep=True)

    def _break(self, refusal: Refused) -> None:
        exchange, self._exchange = self._exchange, None
        begun = self._begun
        self.link.part()
        self._end(keep=False)
        if exchange is not None:
            exchange.answer_broken(refusal, begun=begun)

    def _end(self, *, keep: bool) -> None:
        """Close; at once, when what may be under way is not wanted."""
        if keep:
            self.link.close()
        else:
            self.link.abort()
        self._pool.gone(self)
