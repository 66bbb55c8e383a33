"""A client's connection: requests out of bytes, one at a time, and their answers.

What a client sends while its request is under way waits, up to a limit; then it is read no further. A connection that
broke its protocol, or whose request was not read to its end, is closed behind the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.errors import PeerViolation, Refused, Side
from proxy.http.heads import HEAD_LIMIT, BadHttp, RequestHead, ResponseHead, parse_request
from proxy.http.replies import encode, user_of
from proxy.model import PeerFacts
from proxy.net.channel import Channel
from proxy.net.events import LoginFacts
from proxy.net.http.bodies import MINIMUM_RATE, Framing, MemoryBody, too_large
from proxy.net.http.exchange import Exchange
from proxy.net.http.house import House
from proxy.net.http.passes import Pass
from proxy.net.http.visit import Visit
from proxy.net.transport import Link
from tollbridge.reasons import Reason

PIPELINE_LIMIT: Final = 64 * 1024
"""Bytes of requests that wait for the one under way."""

SMALL_BYTES: Final = 64 * 1024
"""A body up to this is put together first: it is less than what the socket may bring in one read."""

HOLD_PIPELINE: Final = 8

INF: Final = float("inf")


class Inbound:
    """Implements `proxy.net.channel`'s `Owner`."""

    __slots__ = (
        "_body", "_closed", "_closing", "_exchange", "_framing", "_holder", "_known", "_pending", "_reading",
        "_scanned", "_short", "_turning", "_waits_for_room", "_who", "deadline", "house", "link", "peer", "visit",
        "why",
    )  # fmt: skip

    def __init__(self, house: House, link: Link, facts: LoginFacts, peer: PeerFacts | None) -> None:
        self.house = house
        self.link = link
        self.visit = Visit(house, facts)
        self.peer = peer
        self.deadline = house.now() + house.limits.idle_seconds
        """When the client, or upstream, has taken too long with what it is at; by the loop's clock."""
        self.why: Callable[[], None] = self.close
        """What happens then."""
        self._exchange: Exchange | None = None
        self._reading = False
        self._body: MemoryBody | None = None
        self._framing: Framing | None = None
        self._short = 0
        """Bytes of a small body that is still coming."""
        self._waits_for_room = False
        self._pending = bytearray()
        self._scanned = 0
        self._turning = False
        self._closed = False
        self._closing = False
        self._who = b""
        self._known = b""
        self._holder: Pass | None = None

    def feed(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._closed:
            return
        if self._exchange is None:
            if self._pending:
                self._pending += data
                self._advance()
            elif not self._turning:
                self._turning = True
                try:
                    self._request(data)
                finally:
                    self._turning = False
                if self._pending and self._exchange is None:
                    self._advance()
            else:
                self._pending += data
        elif self._reading:
            self._take(self._exchange, data)
        else:
            self._pending += data
            if len(self._pending) >= PIPELINE_LIMIT:
                self.link.hold(HOLD_PIPELINE)

    def on_eof(self, link: Channel) -> None:
        """The client sends nothing more. What it has asked for is still answered."""
        if self._exchange is None or self._reading:
            self.close()
        else:
            self._closing = True

    def on_lost(self, link: Channel) -> None:
        """The client has gone."""
        self._end()

    # What an exchange asks for

    def holder_of(self, head: RequestHead) -> Pass:
        """Whose pass a request goes with. Raises Refused."""
        comma = head.authorization.find(b",")
        credential = head.authorization[:comma] if comma > 0 else head.authorization
        if self._holder is not None and credential == self._who and head.host == self._known:
            return self._holder
        house = self.house
        workload = house.door.workload_of(self.peer)
        target = house.door.route_http(user_of(head.authorization), head.host.decode("latin-1"), self.peer)
        holder = house.passes.of(workload, target.database, target.db_user)
        self._holder, self._who, self._known = holder, credential, head.host
        return holder

    def awaits_answer(self) -> None:
        """The request is on its way."""
        self.deadline = self.house.now() + self.house.limits.answer_seconds
        self.why = self._unanswered

    def answer_lines(self, head: ResponseHead, *, ends_with_connection: bool = False) -> list[bytes]:
        """The head of an answer as far as it is the same for every framing."""
        self.deadline = INF
        parts = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.phrase)]
        for line in head.kept:
            parts.append(line)
            parts.append(b"\r\n")
        exchange = self._exchange
        if ends_with_connection or self.house.draining or exchange is None or not exchange.head.keep_alive:
            self._closing = True
        if self._closing:
            parts.append(b"Connection: close\r\n")
        elif exchange is not None and not exchange.head.minor:
            parts.append(b"Connection: keep-alive\r\n")
        return parts

    def finished(self) -> None:
        """The answer is written."""
        exchange, self._exchange = self._exchange, None
        house = self.house
        if exchange is not None:
            exchange.close()
            self.visit.answered(exchange)
        self.link.part()
        if self._closing or self._reading:
            self.close()
            return
        self.deadline = house.now() + house.limits.idle_seconds
        self.why = self.close
        if self._pending and not self._turning:
            self._advance()

    def refuse(self, refusal: Refused, status: int | None = None) -> None:
        """Answer a request ourselves."""
        exchange, house = self._exchange, self.house
        self.visit.refused(refusal, exchange.holder if exchange is not None else None)
        reply = house.engine.refuse(refusal, status)
        if exchange is not None:
            exchange.status = reply.status
            exchange.answering = True
            if not exchange.head.keep_alive:
                self._closing = True
        if exchange is None or self._reading or house.draining:
            self._closing = True
        self.link.write(
            encode(reply, closing=self._closing, bodiless=exchange is not None and exchange.method == b"HEAD")
        )
        if exchange is not None:
            exchange.abandon()
        self._leave_body()
        self.finished()

    def violated(self, violation: PeerViolation) -> None:
        """The client broke the rules: an answer, and the end of its connection."""
        self._closing = True
        status = violation.status if isinstance(violation, BadHttp) else None
        self.refuse(violation.as_refusal(), status)

    def abort(self) -> None:
        """The answer cannot be finished, and the client must see that."""
        self.house.http.aborted += 1
        self.link.abort()
        self._end()

    def close(self) -> None:
        """Finish what is written, and close."""
        self.link.close()
        self._end()

    def drain(self) -> None:
        """Close when nothing is under way; else behind the answer."""
        if self._exchange is None:
            self.close()
        else:
            self._closing = True

    def end(self, refusal: Refused) -> None:
        """Close now: with an answer where none has begun."""
        if self._exchange is not None and self._exchange.answering:
            self.abort()
        elif self._exchange is not None:
            self.refuse(refusal)
        else:
            self.close()

    def overdue(self) -> None:
        """The deadline is over."""
        self.deadline = INF
        self.why()

    def crashed(self) -> None:
        """A bug of ours: nothing is known to be right any more."""
        self.link.abort()
        self._end()

    # Requests

    def _advance(self) -> None:
        """The requests that wait, until one is under way or the rest is not whole."""
        if self._turning:
            return
        self._turning = True
        try:
            while self._exchange is None and self._pending and not self._closed:
                data = bytes(self._pending)
                self._pending.clear()
                if not self._request(data):
                    break
        finally:
            self._turning = False
        if len(self._pending) < PIPELINE_LIMIT:
            self.link.release(HOLD_PIPELINE)

    def _request(self, data: bytes) -> bool:
        """One request, if its head is whole."""
        if not self._scanned and data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112 2.2: an empty line before a request is no harm
        end = data.find(b"\r\n\r\n", self._scanned)
        if end < 0 or end > HEAD_LIMIT:
            self._begun(data, too_long=len(data) > HEAD_LIMIT)
            return False
        self._scanned = 0
        try:
            head = parse_request(data[:end])
        except PeerViolation as violation:
            self.violated(violation)
            return False
        rest = data[end + 4 :]
        exchange = self._exchange = Exchange(self, head)
        size = head.length
        if head.chunked or size > len(rest):
            self._open(exchange, rest)
            return False
        if size < len(rest):
            self._pending += rest[size:]
            rest = rest[:size]
        exchange.run(rest)
        return True

    # Bodies

    def _open(self, exchange: Exchange, first: bytes) -> None:
        """A body that has not come whole with its head: nothing of a large one is read before its sender is let in."""
        self._reading = True
        head = exchange.head
        if head.length <= SMALL_BYTES and not head.chunked and not head.expects_continue:
            self._short = head.length
            self._pending += first
            self.deadline = self.house.now() + self.house.limits.stall_seconds
            self.why = self._slow
            return
        self._framing = Framing(exchange.head.length, chunked=exchange.head.chunked)
        self._pending += first
        self.link.hold(HOLD_PIPELINE)
        exchange.open()

    def take_body(self, *, unsigned: bool) -> None:
        """The client is let in: find a place for its request's body."""
        exchange, house = self._exchange, self.house
        if exchange is None:
            return
        head, limit = exchange.head, house.limits.body_bytes
        if head.length > limit:
            self.violated(too_large(limit))
        elif head.chunked:
            self._receive(MemoryBody(house.budget, 0))
        elif house.budget.take(head.length):
            self._room()
        else:
            self._waits_for_room = True
            house.budget.wait(head.length, self._room)

    def _room(self) -> None:
        exchange = self._exchange
        self._waits_for_room = False
        if exchange is not None:
            self._receive(MemoryBody(self.house.budget, exchange.head.length))

    def _receive(self, body: MemoryBody) -> None:
        exchange = self._exchange
        if exchange is None:
            body.close()
            return
        self._body = body
        limits = self.house.limits
        self.deadline = self.house.now() + limits.stall_seconds
        self.why = self._slow
        first = bytes(self._pending)
        self._pending.clear()
        if exchange.head.expects_continue and not first:
            self.link.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.link.release(HOLD_PIPELINE)
        if first:
            self._take(exchange, first)

    def _take(self, exchange: Exchange, data: bytes) -> None:
        """A piece of the body, and perhaps its end."""
        if self._short:
            self._pending += data
            if len(self._pending) >= self._short:
                small = bytes(self._pending[: self._short])
                del self._pending[: self._short]
                self._short, self._reading, self.deadline = 0, False, INF
                exchange.run(small)
            return
        body, framing = self._body, self._framing
        if body is None or framing is None:  # it waits for its turn: what comes was read before reading stopped
            self._pending += data
            return
        try:
            pieces, ended, rest = framing.feed(data)
            for piece in pieces:
                if body.size + len(piece) > self.house.limits.body_bytes:
                    raise too_large(self.house.limits.body_bytes)
                if not body.add(piece):
                    self.refuse(Refused(Reason.TOO_MANY_CONNECTIONS, "this proxy has no room for another large body"))
                    return
        except BadHttp as violation:
            self.violated(violation)
            return
        if not ended:
            self.deadline += len(data) / MINIMUM_RATE
            return
        self._reading = False
        self._body = self._framing = None
        self._pending += rest
        body.finish()
        self.deadline = INF
        exchange.complete(body)

    def _begun(self, data: bytes, *, too_long: bool) -> None:
        if too_long:
            self.violated(BadHttp(Side.CLIENT, f"the head of the request is longer than {HEAD_LIMIT} bytes", 431))
            return
        if not self._pending and self.why != self._slow:
            self.deadline = self.house.now() + self.house.limits.head_seconds
            self.why = self._slow
        self._scanned = max(0, len(data) - 3)
        self._pending += data

    # Deadlines

    def _slow(self) -> None:
        self.violated(BadHttp(Side.CLIENT, "the request takes too long to arrive", 408))

    def _unanswered(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        message = f"no answer came within {self.house.limits.answer_seconds:g} s"
        exchange.abandon()
        exchange.ended = False
        self.refuse(Refused(Reason.UPSTREAM_TIMEOUT, message))

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        self._leave_body()
        self._pending.clear()
        self.visit.over("client")

    def _leave_body(self) -> None:
        """A body that is not read to its end."""
        body, self._body = self._body, None
        if body is not None:
            body.close()
        if self._waits_for_room:
            self._waits_for_room = False
            self.house.budget.forget(self._room)
