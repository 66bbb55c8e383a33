"""One request: whose it is, where it goes, signed at the moment of sending, its answer, and once more if need be."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from proxy.errors import PeerViolation, Refused
from proxy.http.bodies import LAST_CHUNK, chunk, uncoded
from proxy.http.heads import RequestHead, ResponseHead
from proxy.http.model import HttpRefused, Verdict
from proxy.net.http.bodies import Body, StreamBody
from proxy.net.http.passes import Pass, Way
from proxy.net.http.stamps import SKEW_LIMIT
from proxy.net.http.upstream import BODILESS_STATUSES, Upstream
from proxy.sigv4 import NoKey, payload_hash
from tollbridge.reasons import Reason

if TYPE_CHECKING:
    from proxy.net.http.inbound import Inbound

SUSPECT: Final = frozenset({400, 401, 403})
"""Statuses with which AWS refuses a signature."""

JUDGED_BYTES: Final = 256 * 1024
"""A body longer than this is no such refusal. One can quote all that was signed, in JSON: target, content type, and the
session's token, which is for no client to see."""

BODILESS: Final = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})
"""Methods whose requests have no Content-Length when they have no body."""

_log = logging.getLogger(__name__)


class Exchange:
    """Implements `upstream.Answered`, `pool.Waiter` and `passes.Waiter`."""

    # Defaults of the class are for what most requests never touch: one of these is made for each.
    way: Way | None = None
    sent: int = 0
    status: int = 0
    wait_until: float = 0.0
    began_at: float = 0.0
    small: bytes = b""
    """The body, where it is small."""
    _complete: bool = False
    _chunks: bool = False
    _upstream: Upstream | None = None
    _repeated: bool = False
    _skewed: bool = False
    _renewed: bool = False
    _held: list[bytes] | None = None
    _held_head: ResponseHead | None = None
    _held_bytes: int = 0

    def __init__(self, client: Inbound, head: RequestHead) -> None:
        self.client = client
        self.head = head
        self.method = head.method
        self.holder: Pass | None = None
        self.body: Body | None = None
        self.payload = b""
        """The body's hash, as it is signed."""
        self.answering = False
        """The client has seen the beginning of an answer."""
        self.ended = False

    def run(self, body: bytes) -> None:
        """The request is complete, and small."""
        self.small = body
        self._complete = True
        self.open()

    def open(self) -> None:
        """A pass, or a question for one. A large body is still to come: who is let in may send it."""
        house = self.client.house
        holder = self.holder
        if holder is None:
            try:
                holder = self.holder = self.client.holder_of(self.head)
            except Refused as refusal:
                self.refused(refusal)
                return
        if holder.audited and not self.began_at:
            self.began_at = asyncio.get_running_loop().time()
        if holder.fresh_until > house.tick:
            self.granted()
        else:
            self.client.awaits_answer()
            house.passes.want(holder, self)

    def complete(self, body: Body) -> None:
        """The body is there, or can be streamed."""
        self.body = body
        self.payload = body.payload
        self._complete = True
        self.open()

    def close(self) -> None:
        """Nothing of the request is needed any more."""
        self.ended = True
        if self.body is not None:
            self.body.close()

    def granted(self) -> None:
        """There is a pass: plan, and find a connection."""
        client, holder = self.client, self.holder
        if self.ended or holder is None or holder.grant is None:
            return
        house = client.house
        try:
            way = self.way = house.passes.way(holder, self.head)
        except Refused as refusal:
            self.refused(refusal)
            return
        except PeerViolation as violation:
            client.violated(violation)
            return
        if client.visit.holder is not holder:
            client.visit.let_in(holder)
        if not self._complete:
            client.take_body(unsigned=way.lane.unsigned)
            return
        pool = way.pool
        upstream = pool.take()
        if upstream is None:
            client.awaits_answer()
            pool.wait(self)
        elif not self.connected(upstream):
            pool.put(upstream)

    def connected(self, upstream: Upstream) -> bool:
        """Sign now, and send."""
        way, head = self.way, self.head
        if self.ended or way is None:
            return False
        small, body = self.small, self.body
        payload = self.payload = self.payload or payload_hash(small)
        try:
            envelope = way.envelope(head, payload)
        except NoKey as date:
            self.refused(
                Refused(Reason.CLOCK_SKEWED, f"the grant has no key for {date}: is the clock of the proxy right?")
            )
            return False
        if body is not None:
            framing = body.framing
        elif small or head.method not in BODILESS:
            framing = b"Content-Length: %d\r\n\r\n" % len(small)
        else:
            framing = b"\r\n"
        self._upstream = upstream
        upstream.begin(self)
        upstream.link.write(b"".join((envelope.head, envelope.signature(payload), b"\r\n", head.kept, framing, small)))
        self.client.awaits_answer()
        if body is not None:
            self._send(body, upstream)
        return True

    def _send(self, body: Body, upstream: Upstream) -> None:
        """A body that is too large to go with its head."""
        upstream.uploading = True
        if isinstance(body, StreamBody):
            body.attach(upstream)
        else:
            self.client.house.pools.spawn(lambda: self._upload(upstream, body), "upload")

    def unconnected(self, refusal: Refused) -> None:
        """There is no way to the host."""
        self.refused(refusal)

    def refused(self, refusal: Refused) -> None:
        """The proxy itself answers."""
        if self.ended:
            return
        holder = self.holder
        if not refusal.decision_id and holder is not None and holder.grant is not None:
            refusal.decision_id = holder.grant.decision_id
        self.client.refuse(refusal, refusal.status if isinstance(refusal, HttpRefused) else None)

    def crashed(self) -> None:
        """A bug of ours: the client sees its connection end."""
        self.client.crashed()

    async def _upload(self, upstream: Upstream, body: Body) -> None:
        """Send a body no faster than it is taken, and no further than it is wanted."""
        link = upstream.link
        try:
            async for piece in body.pieces():
                if self._upstream is not upstream:
                    return
                link.write(piece)
                if link.clogged:
                    await link.drained()
        except OSError as error:
            _log.error("a spooled body cannot be read: %s", error.strerror)
            if self._upstream is upstream:
                self._upstream = None
                upstream.abandon()
                self.refused(Refused(Reason.INTERNAL, "the request's body was lost in the proxy's `spool_dir`"))
            return
        if self._upstream is upstream:
            upstream.uploading = False
            self.client.awaits_answer()

    # The answer

    def answer(self, head: ResponseHead, body: bytes) -> None:
        """See Answered."""
        self._upstream = None
        if head.status in SUSPECT and self._rejected(head, body):
            return
        self.status = head.status
        self.sent = len(body)
        self.answering = True
        client = self.client
        if head.length is None or head.status in BODILESS_STATUSES:
            framing = b"\r\n"
        else:  # of the body that a HEAD would have got, too
            framing = b"Content-Length: %d\r\n\r\n" % head.length
        client.link.write(b"".join((head.line, head.kept, client.connection_line(self.head), framing, body)))
        client.finished()

    def answer_head(self, head: ResponseHead) -> None:
        """See Answered."""
        if head.status in SUSPECT and (head.length is None or head.length <= JUDGED_BYTES):
            self._held, self._held_head, self._held_bytes = [], head, 0
        else:
            self._begin_answer(head)

    def answer_data(self, data: bytes) -> None:
        """See Answered."""
        if self._held is not None:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > JUDGED_BYTES:
                self._release_held()
            return
        self.sent += len(data)
        self.client.link.write(chunk(data) if self._chunks else data)

    def answer_end(self) -> None:
        """See Answered."""
        self._upstream = None
        if self._held is not None and self._held_head is not None:
            head, body = self._held_head, b"".join(self._held)
            head.length = len(body)
            self._held = self._held_head = None
            self.answer(head, body)
            return
        if self._chunks:
            self.client.link.write(LAST_CHUNK)
        self.client.finished()

    def answer_broken(self, refusal: Refused, *, begun: bool) -> None:
        """See Answered."""
        upstream, self._upstream = self._upstream, None
        if self.ended:
            return
        if self.answering:
            self.client.abort()  # a complete end would be a lie
            return
        self._held = self._held_head = None
        reused = upstream is not None and upstream.requests > 1
        again = reused and not begun and not self._repeated and self.way is not None and self.way.plan.repeatable
        if again and (self.body is None or self.body.replayable):
            self._repeated = True
            self.client.house.http.repeated += 1
            self.open()
            return
        self.refused(refusal)

    def leave(self) -> None:
        """Nobody wants the answer any more."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()

    def abandon(self) -> None:
        """Nobody wants anything of this any more."""
        self.close()
        self.leave()

    def _begin_answer(self, head: ResponseHead) -> None:
        self.status = head.status
        self.answering = True
        client = self.client
        self._chunks = head.chunked and self.head.minor == 1
        if head.chunked and not self._chunks:
            client.last_request()
        if self._chunks:
            framing = b"Transfer-Encoding: chunked\r\n\r\n"
        elif head.length is not None:
            framing = b"Content-Length: %d\r\n\r\n" % head.length
        else:
            framing = b"\r\n"
        client.link.write(head.line + head.kept + client.connection_line(self.head) + framing)
        client.streams_answer()
        if self._upstream is not None:
            client.link.join(self._upstream.link)

    def _release_held(self) -> None:
        """Too long for a refusal of the signature: the client's after all."""
        head, held = self._held_head, self._held
        self._held = self._held_head = None
        if head is not None and held is not None:
            self._begin_answer(head)
            for data in held:
                self.answer_data(data)

    def _rejected(self, head: ResponseHead, body: bytes) -> bool:
        """Whether the answer is for us: our signature was not taken. Then the request is sent again, or refused."""
        house, way, holder = self.client.house, self.way, self.holder
        verdict = house.engine.judge(head, uncoded(body, head.value(b"content-encoding"), JUDGED_BYTES))
        if verdict is Verdict.TAKEN or way is None or holder is None:
            return False
        lane = way.lane
        skew = lane.pool.stamps.learn(head.value(b"date"))
        where = lane.pool.authority
        if skew is not None and abs(skew) > SKEW_LIMIT:
            message = f"the clock of the proxy is {abs(skew).total_seconds():.0f} s off what {where} says"
            self.refused(Refused(Reason.CLOCK_SKEWED, message))
        elif self.body is not None and not self.body.replayable:
            house.passes.renew(holder, lane.credential_id)
            message = f"{where} refused the role's session in the middle of a streamed request: send it again"
            self.refused(HttpRefused(Reason.UPSTREAM_CLOSED, message, 503))
        elif skew is not None and not self._skewed:
            self._skewed = True
            house.http.resigned += 1
            self.open()
        elif not self._renewed:
            self._renewed = True
            house.http.resigned += 1
            house.passes.want(holder, self, lane.credential_id)
        else:
            message = (
                f"{where} refused a fresh signature for {holder.db_user!r} too: its region is another one than the "
                "broker's registry says, or the role's session has ended"
            )
            self.refused(Refused(Reason.DATABASE_REFUSED, message))
        return True
