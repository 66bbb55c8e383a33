"""A client's connection: requests out of bytes, one at a time, and their answers.

What a client sends while its request is under way waits, up to a limit; then it is read no further. A connection that
broke its protocol, or whose request was not read to its end, is closed behind the answer.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import PeerViolation, Refused, Side
from proxy.http.heads import HEAD_LIMIT, BadHttp, RequestHead, read_request
from proxy.http.pages import may_be_a_pages
from proxy.http.replies import encode, user_of
from proxy.model import PeerFacts
from proxy.net.channel import Channel
from proxy.net.events import LoginFacts
from proxy.net.http.exchange import Exchange
from proxy.net.http.house import House
from proxy.net.http.intake import HOLD_BODY, Intake
from proxy.net.http.passes import Pass
from proxy.net.http.visit import Visit
from proxy.net.transport import Link
from tollbridge.reasons import Reason

PIPELINE_LIMIT: Final = 64 * 1024
"""Bytes of requests that wait for the one under way."""

HOLD_PIPELINE: Final = 8

INF: Final = float("inf")

# What a connection is at, and so what it means when that takes too long. IDLE: between two requests.
IDLE, HEAD, BODY, ANSWER, STREAM, OVER = range(6)


class Inbound:
    """Implements `proxy.net.channel`'s `Owner`."""

    __slots__ = (
        "_closed", "_exchange", "_holder", "_host", "_intake", "_last", "_pending", "_progress", "_scanned",
        "_turning", "_unread", "_user", "deadline", "house", "link", "peer", "phase", "visit",
    )  # fmt: skip

    def __init__(self, house: House, link: Link, facts: LoginFacts, peer: PeerFacts | None) -> None:
        self.house = house
        self.link = link
        self.visit = Visit(house, facts)
        self.peer = peer
        self.deadline = house.tick + house.limits.head_seconds
        """When the client, or upstream, has taken too long with what it is at; by the loop's clock."""
        self.phase = HEAD
        self._exchange: Exchange | None = None
        self._intake: Intake | None = None
        self._last = False
        """The connection ends behind the answer under way."""
        self._pending = bytearray()
        self._scanned = 0
        self._turning = False
        self._unread = False
        """Requests wait until the client has read the answers before them."""
        self._closed = False
        self._progress = 0
        self._holder: Pass | None = None
        """Of the request before: of `_user`, the beginning of its Authorization, and `_host`."""
        self._user = self._host = b""

    def feed(self, data: bytes) -> None:
        """Bytes of the client. Raises nothing: a bug of ours ends this connection and no other."""
        try:
            intake = self._intake
            if self.phase == IDLE and not self._pending and not self.link.clogged:
                self._turning = True
                self._request(data)
                self._turning = False
                if self._pending:
                    self._advance()
            elif intake is not None and not intake.ended:
                self._body(intake, data)
            elif not self._closed:
                self._pending += data
                if self._exchange is None:
                    self._advance()
                if len(self._pending) >= PIPELINE_LIMIT:
                    self.link.hold(HOLD_PIPELINE)
        except Exception as fault:  # noqa: BLE001 - as above
            self.house.crashed(fault)
            self.crashed()

    def on_eof(self, link: Channel) -> None:
        """The client sends nothing more. All that it has asked for is still answered."""
        self._wind_up()

    def on_lost(self, link: Channel) -> None:
        """The client has gone."""
        self._end()

    # What an exchange asks for

    def holder_of(self, head: RequestHead) -> Pass:
        """Whose pass a request goes with. Raises Refused."""
        user, _, _ = head.authorization.partition(b",")
        holder = self._holder
        if holder is not None and user == self._user and head.host == self._host and not head.browser:
            return holder
        door = self.house.door
        if door.workload is not None and (why := may_be_a_pages(head, named=bool(door.hosts) or self.peer is not None)):
            # Any page that its user has open can send requests to this machine, under any name (DNS rebinding).
            message = (
                f"listener {door.name!r} takes every client for one workload, and so takes no requests of web pages"
            )
            raise Refused(Reason.FEATURE_REFUSED, f"{message}: {why}")
        workload = door.workload_of(self.peer)
        target = door.route_http(user_of(head.authorization), head.host.decode("latin-1"), self.peer)
        holder = self._holder = self.house.passes.of(workload, target.database, target.db_user)
        self._user, self._host = user, head.host
        return holder

    def awaits_answer(self) -> None:
        """The request is on its way."""
        if self._exchange is not None and self._exchange.answering:
            return  # the answer has begun before the request's end, and says itself how long it may take
        self.deadline = self.house.tick + self.house.limits.answer_seconds
        self.phase = ANSWER

    def streams_answer(self) -> None:
        """The answer has begun and goes on."""
        self.deadline = self.house.tick + self.house.limits.stall_seconds
        self.phase = STREAM

    def last_request(self) -> None:
        """The connection ends behind the answer under way."""
        self._last = True

    def connection_line(self, head: RequestHead) -> bytes:
        """What the answer says of the connection."""
        if self._last or self.house.draining or not head.keep_alive or self._intake is not None:
            self._last = True
            return b"Connection: close\r\n"
        return b"" if head.minor else b"Connection: keep-alive\r\n"

    def finished(self) -> None:
        """The answer is written."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self.visit.answered(exchange)
            exchange.ended = True
            if exchange.body is not None:
                exchange.body.close()
        if self.link._twin is not None:
            self.link.part()
        if self._last or self._intake is not None:
            self.close()
            return
        self.deadline = self.house.tick + self.house.limits.idle_seconds
        self.phase = IDLE
        if self._pending and not self._turning:
            self._advance()

    def refuse(self, refusal: Refused, status: int | None = None) -> None:
        """Answer a request ourselves."""
        exchange, house = self._exchange, self.house
        if exchange is not None and exchange.answering:
            self.abort()  # what we say would pass for the rest of the answer that has begun
            return
        self.visit.refused(refusal, exchange.holder if exchange is not None else None)
        reply = house.engine.refuse(refusal, status)
        if exchange is None or self._intake is not None or house.draining or not exchange.head.keep_alive:
            self._last = True
        bodiless = exchange is not None and exchange.method == b"HEAD"
        self.link.write(encode(reply, closing=self._last, bodiless=bodiless))
        if exchange is not None:
            exchange.status = reply.status
            exchange.answering = True
            exchange.leave()
        self.finished()

    def violated(self, violation: PeerViolation) -> None:
        """The client broke the rules: an answer, and the end of its connection."""
        self._last = True
        status = violation.status if isinstance(violation, BadHttp) else None
        self.refuse(violation.as_refusal(), status)

    def abort(self) -> None:
        """The answer cannot be finished, and the client must see that."""
        self.house.http.aborted += 1
        self.crashed()

    def close(self) -> None:
        """Finish what is written, and close."""
        self.link.close()
        self._end()

    def drain(self) -> None:
        """Close when nothing is under way; else behind the answer."""
        if self._exchange is None and not self._pending:
            self.close()
        else:
            self._last = True

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
        exchange, limits = self._exchange, self.house.limits
        self.deadline = INF
        if self.phase == ANSWER and exchange is not None:
            message = f"no answer came within {limits.answer_seconds:g} s"
            self.refuse(Refused(Reason.UPSTREAM_TIMEOUT, message))
        elif self.phase == STREAM and exchange is not None:
            if exchange.sent != self._progress:
                self._progress = exchange.sent
                self.streams_answer()
            else:
                self.abort()
        elif exchange is not None and self.phase != BODY:
            self.awaits_answer()  # what it waits for, a grant or a connection, has an end of its own
        elif self.phase == BODY or (self._exchange is None and self._pending):
            self.violated(BadHttp(Side.CLIENT, "the request takes too long to arrive", 408))
        else:
            self.close()

    def crashed(self) -> None:
        """Nothing is known to be right any more."""
        self.link.abort()
        self._end()

    # Requests

    def _advance(self) -> None:
        """The requests that wait, until one is under way or the rest is not whole.

        None begins while the client has not taken the answers before: it could ask without end and never read.
        """
        if self._turning:
            return
        self._turning = True
        try:
            while self._exchange is None and self._pending and not self._closed:
                if self.link.clogged:
                    self._await_reader()
                    break
                data = bytes(self._pending)
                self._pending.clear()
                if not self._request(data):
                    break
        finally:
            self._turning = False
        if len(self._pending) < PIPELINE_LIMIT:
            self.link.release(HOLD_PIPELINE)
        if self.link.ended:
            self._wind_up()

    def _wind_up(self) -> None:
        """The client has said all that it will: close, as soon as all that is whole is answered."""
        intake = self._intake
        if intake is not None and not intake.ended:
            self.close()
        elif self._exchange is None:
            if not self._unread:
                self.close()
        elif not self._pending:
            self._last = True

    def _await_reader(self) -> None:
        if not self._unread:
            self._unread = True
            self.deadline = self.house.tick + self.house.limits.stall_seconds
            self.house.pools.spawn(self._read, "a client that does not read")

    async def _read(self) -> None:
        await self.link.drained()
        self._unread = False
        try:
            self._advance()
        except Exception:
            self.crashed()
            raise

    def _request(self, data: bytes) -> bool:
        """One request, if its head is whole."""
        if not self._scanned and data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112 2.2: an empty line before a request is no harm
        try:
            head = read_request(data, self._scanned)
        except PeerViolation as violation:
            self.violated(violation)
            return False
        if head is None:
            self._begun(data)
            return False
        self._scanned = 0
        rest = data[head.size :]
        exchange = self._exchange = Exchange(self, head)
        if head.upgrade and b"websocket" in head.upgrade:
            self._last = True
            message = "websockets are not for services that sign each request"
            self.refuse(Refused(Reason.FEATURE_REFUSED, message))
            return False
        more = head.length - len(rest)
        if more > 0 or head.chunked:
            self._open(exchange, rest)
            return self._exchange is None
        if more:
            self._pending += rest[more:]
            rest = rest[:more]
        exchange.run(rest)
        return True

    def _begun(self, data: bytes) -> None:
        """A head that is not whole yet."""
        if len(data) > HEAD_LIMIT:
            self.violated(BadHttp(Side.CLIENT, f"the head of the request is longer than {HEAD_LIMIT} bytes", 431))
            return
        if self.phase != HEAD:
            self.deadline = self.house.tick + self.house.limits.head_seconds
            self.phase = HEAD
        self._scanned = max(0, len(data) - 3)
        self._pending += data

    # Bodies

    def _open(self, exchange: Exchange, first: bytes) -> None:
        """The body of a request has not come whole with its head."""
        intake = self._intake = Intake(self, exchange)
        self.reads_body()
        if not intake.small:
            exchange.open()
        if first and self._intake is intake:
            self._body(intake, first)

    def reads_body(self) -> None:
        """A body is under way from the client."""
        self.deadline = self.house.tick + self.house.limits.stall_seconds
        self.phase = BODY

    def take_body(self, *, unsigned: bool) -> None:
        """The client is let in: find a place for its request's body."""
        if self._intake is not None:
            self.deadline = INF
            try:
                self._intake.admitted(unsigned=unsigned)
            except BadHttp as violation:
                self.violated(violation)
            except Refused as refusal:
                self.refuse(refusal)

    def whole(self, exchange: Exchange) -> None:
        """A request's body has ended, and holds up nothing behind it any more."""
        if self._exchange is exchange:
            self._intake = None
            self.deadline = INF
            self.link.release(HOLD_BODY)

    def spool_failed(self, error: OSError) -> None:
        """The disk is full, or worse."""
        message = f"the proxy's `spool_dir` cannot be written ({error.strerror})"
        self.refuse(Refused(Reason.INTERNAL, message))

    def _body(self, intake: Intake, data: bytes) -> None:
        try:
            rest = intake.feed(data)
        except BadHttp as violation:
            self.violated(violation)
        except Refused as refusal:
            self.refuse(refusal)
        else:
            if rest:
                self._pending += rest
                if self._exchange is None:
                    self._advance()

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.phase = OVER
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.leave()
        self._pending.clear()
        self.visit.over("client")
