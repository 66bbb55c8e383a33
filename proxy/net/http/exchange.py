"""One request: whose it is, where it goes, signed at the moment of sending, its answer, and once more if need be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from proxy.errors import PeerViolation, Refused
from proxy.http.bodies import LAST_CHUNK, chunk
from proxy.http.heads import RequestHead, ResponseHead
from proxy.http.model import HttpRefused, Plan, Verdict
from proxy.net.http.bodies import Body
from proxy.net.http.passes import Lane, Pass
from proxy.net.http.stamps import SKEW_LIMIT
from proxy.net.http.upstream import Upstream
from proxy.sigv4 import NoKey, payload_hash
from tollbridge.reasons import Reason

if TYPE_CHECKING:
    from proxy.net.http.inbound import Inbound

SUSPECT: Final = frozenset({400, 401, 403})
"""Statuses with which AWS refuses a signature."""

JUDGED_BYTES: Final = 16 * 1024
"""A body longer than this is no such refusal."""

BODILESS: Final = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})
"""Methods whose requests have no Content-Length when they have no body."""

_log = logging.getLogger(__name__)


class Exchange:
    """Implements `upstream.Answered`, `pool.Waiter` and `passes.Waiter`."""

    __slots__ = (
        "_body", "_chunks", "_complete", "_held", "_held_head", "_lane", "_renewed", "_repeated", "_skewed", "_small",
        "_upstream", "answering", "client", "ended", "head", "holder", "method", "payload", "plan", "received", "sent",
        "started_at", "status", "wait_until",
    )  # fmt: skip

    def __init__(self, client: Inbound, head: RequestHead) -> None:
        self.client = client
        self.head = head
        self.method = head.method
        self.holder: Pass | None = None
        self.plan: Plan | None = None
        self.payload = b""
        self.received = 0
        self.sent = 0
        self.status = 0
        self.started_at = 0.0
        self.wait_until = 0.0
        self.answering = False
        """The client has seen the beginning of an answer."""
        self.ended = False
        self._small = b""
        self._body: Body | None = None
        self._complete = False
        self._chunks = False
        self._lane: Lane | None = None
        self._upstream: Upstream | None = None
        self._repeated = self._skewed = self._renewed = False
        self._held: list[bytes] | None = None
        self._held_head: ResponseHead | None = None

    def run(self, body: bytes) -> None:
        """The request is complete, and small."""
        self._small = body
        self.received = len(body)
        self._complete = True
        self._enter()

    def open(self) -> None:
        """The request's body is still to come: who is let in may send it."""
        self._enter()

    def complete(self, body: Body) -> None:
        """The body is there."""
        self._body = body
        self.received = body.size
        self.payload = body.payload
        self._complete = True
        self._enter()

    def close(self) -> None:
        """Nothing of the request is needed any more."""
        self.ended = True
        if self._body is not None:
            self._body.close()

    def granted(self) -> None:
        """There is a pass: plan, and find a connection."""
        if self.ended:
            return
        house, holder = self.client.house, self.holder
        if holder is None or holder.grant is None:
            self.refused(Refused(Reason.INTERNAL, "a request was granted nothing"))
            return
        try:
            plan = self.plan
            if plan is None:
                plan = self.plan = house.engine.plan(self.head, holder.grant.location.endpoint.host)
            lane = self._lane = holder.lanes.get(plan.host) or house.passes.lane(holder, plan.host)
        except Refused as refusal:
            self.refused(refusal)
            return
        except PeerViolation as violation:
            self.client.violated(violation)
            return
        self.client.visit.let_in(holder)
        if not self._complete:
            self.client.take_body(unsigned=lane.unsigned)
            return
        upstream = lane.pool.take()
        if upstream is None:
            lane.pool.wait(self)
        else:
            self.connected(upstream)

    def _enter(self) -> None:
        """A pass, or a question for one."""
        try:
            holder = self.holder = self.holder or self.client.holder_of(self.head)
        except Refused as refusal:
            self.refused(refusal)
            return
        if holder.fresh_until > self.client.house.now():
            self.granted()
        else:
            self.client.house.passes.want(holder, self)

    def connected(self, upstream: Upstream) -> bool:
        """Sign now, and send."""
        lane, plan, head = self._lane, self.plan, self.head
        if self.ended or lane is None or plan is None:
            return False
        payload = self.payload or self._hashed()
        target = plan.target
        try:
            signed = lane.signer.sign(
                lane.stamps.now(),
                head.method,
                target.canonical_path,
                target.canonical_query,
                payload,
                content_type=head.content_type,
                amz_target=head.amz_target,
                payload_header=self.client.house.engine.payload_header,
            )
        except NoKey as date:
            self.refused(
                Refused(Reason.CLOCK_SKEWED, f"the grant has no key for {date}: is the clock of the proxy right?")
            )
            return False
        self._upstream = upstream
        small, body = self._small, self._body
        parts = [head.method, b" ", target.wire, b" HTTP/1.1\r\nHost: ", lane.host, b"\r\n", signed]
        for line in head.kept:
            parts.append(line)
            parts.append(b"\r\n")
        if body is not None:
            parts.append(b"Content-Length: %d\r\n\r\n" % body.size)
        elif small or head.method not in BODILESS:
            parts.append(b"Content-Length: %d\r\n\r\n" % len(small))
            parts.append(small)
        else:
            parts.append(b"\r\n")
        upstream.begin(self)
        upstream.link.write(b"".join(parts))
        self.client.awaits_answer()
        if body is not None:
            upstream.uploading = True
            self.client.house.pools.spawn(lambda: self._upload(upstream, body), "upload")
        return True

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
            upstream.link.abort()
            return
        if self._upstream is upstream:
            upstream.uploading = False
            self.client.awaits_answer()

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
        status = refusal.status if isinstance(refusal, HttpRefused) else None
        self.client.refuse(refusal, status)

    # The answer

    def answer(self, head: ResponseHead, body: bytes) -> None:
        self._upstream = None
        if head.status in SUSPECT and self._rejected(head, body):
            return
        self.status = head.status
        self.sent = len(body)
        client = self.client
        parts = client.answer_lines(head)
        if self.method == b"HEAD" and head.length is not None:
            parts.append(b"Content-Length: %d\r\n\r\n" % head.length)
        elif head.status in (204, 304) or (self.method == b"HEAD"):
            parts.append(b"\r\n")
        else:
            parts.append(b"Content-Length: %d\r\n\r\n" % len(body))
            parts.append(body)
        self.answering = True
        client.link.write(b"".join(parts))
        client.finished()

    def answer_head(self, head: ResponseHead) -> None:
        if head.status in SUSPECT and (head.length is None or head.length <= JUDGED_BYTES):
            self._held, self._held_head = [], head
            return
        self._begin_answer(head)

    def answer_data(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
            if sum(map(len, self._held)) > JUDGED_BYTES:
                self._release_held()
            return
        self.sent += len(data)
        self.client.link.write(chunk(data) if self._chunks else data)

    def answer_end(self) -> None:
        self._upstream = None
        if self._held is not None and self._held_head is not None:
            head, body = self._held_head, b"".join(self._held)
            self._held = self._held_head = None
            self.answer(head, body)
            return
        if self._chunks:
            self.client.link.write(LAST_CHUNK)
        self.client.finished()

    def answer_broken(self, refusal: Refused, *, begun: bool) -> None:
        upstream, self._upstream = self._upstream, None
        if self.ended:
            return
        if self.answering:
            self.client.abort()  # a complete end would be a lie
            return
        self._held = self._held_head = None
        reused = upstream is not None and upstream.requests > 1
        if reused and not begun and not self._repeated and self.plan is not None and self.plan.repeatable:
            self._repeated = True
            self.client.house.http.repeated += 1
            self.granted()
            return
        self.refused(refusal)

    def abandon(self) -> None:
        """Nobody wants the answer any more."""
        self.close()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()

    def _begin_answer(self, head: ResponseHead) -> None:
        self.status = head.status
        self.answering = True
        client = self.client
        self._chunks = head.chunked and self.head.minor == 1
        parts = client.answer_lines(head, ends_with_connection=head.chunked and not self._chunks)
        if self._chunks:
            parts.append(b"Transfer-Encoding: chunked\r\n\r\n")
        elif head.length is not None:
            parts.append(b"Content-Length: %d\r\n\r\n" % head.length)
        else:
            parts.append(b"\r\n")
        client.link.write(b"".join(parts))
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
        house, lane, holder = self.client.house, self._lane, self.holder
        verdict = house.engine.judge(head, body)
        if verdict is Verdict.TAKEN or lane is None or holder is None:
            return False
        skew = lane.stamps.learn(head.value(b"date"))
        if skew is not None and abs(skew) > SKEW_LIMIT:
            self.refused(
                Refused(
                    Reason.CLOCK_SKEWED,
                    f"the clock of the proxy is {abs(skew).total_seconds():.0f} s off what {lane.host.decode()} says",
                )
            )
        elif skew is not None and not self._skewed:
            self._skewed = True
            house.http.resigned += 1
            self.granted()
        elif not self._renewed:
            self._renewed = True
            house.http.resigned += 1
            house.passes.want(holder, self, lane.credential_id)
        else:
            self.refused(
                Refused(
                    Reason.DATABASE_REFUSED,
                    f"{lane.host.decode()} refused a fresh signature for {holder.db_user!r} too: its region is another "
                    "one than the broker's registry says, or the role's session has ended",
                )
            )
        return True

    def _hashed(self) -> bytes:
        self.payload = payload_hash(self._small)
        return self.payload
