"""The probe of an HTTP engine as a script: one signed request on a connection of its own. PURE.

What `tollbridge-proxy check` and `tollbridge doctor` show step by step: grant, way, TLS, the signature, the answer.
"""

from __future__ import annotations

from typing import Final

from proxy.engine import HttpEngine
from proxy.engines.entry import enter
from proxy.errors import Refused, Side
from proxy.http.bodies import Chunked
from proxy.http.heads import HEAD_LIMIT, BadHttp, ResponseHead, parse_request, parse_response
from proxy.http.model import Verdict
from proxy.model import SealedGrant
from proxy.script import UPSTREAM, Script, buffered, connect, note, now, peek, receive, reveal_key, send, start_tls
from proxy.sigv4 import NoKey, Signer, Stamp, payload_hash
from tollbridge.reasons import Reason

BODY_LIMIT: Final = 64 * 1024
"""Of the answer: it is a few words."""


class _Rejected(Refused):
    """The server was shown the signature and did not take it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(Reason.DATABASE_REFUSED, f"the endpoint refused the signature ({status} {code})")


def probe(engine: HttpEngine, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
    """Grant, connect, TLS, one request. Returns what it saw. Raises Refused."""

    def log_in(grant: SealedGrant) -> Script[str]:
        yield from connect()
        yield from start_tls(UPSTREAM, ("http/1.1",))
        head, body = yield from _ask(engine, grant)
        if engine.judge(head, body) is not Verdict.TAKEN:
            raise _Rejected(head.status, head.phrase.decode("latin-1"))
        yield from note("step", "login")
        return engine.probed(head, body)

    def still_rejected(error: _Rejected, grant: SealedGrant) -> Refused:
        return Refused(
            Reason.DATABASE_REFUSED,
            f"{error.message}, a fresh one too: the endpoint is in another region than the registry says, the role's "
            "session has ended, or the clock of this host is more than five minutes off",
            decision_id=grant.decision_id,
        )

    return (
        yield from enter(
            log_in,
            workload=workload,
            database=database,
            db_user=db_user,
            db_name=db_name,
            rejection=_Rejected,
            still_rejected=still_rejected,
        )
    )


def _ask(engine: HttpEngine, grant: SealedGrant) -> Script[tuple[ResponseHead, bytes]]:
    """The engine's question, signed, and the answer."""
    key = yield from reveal_key(grant)
    if key.service not in engine.services:
        raise Refused(
            Reason.PRODUCT_UNSUPPORTED, f"the broker's key signs for {key.service!r}, which is another service"
        )
    asked = engine.probe()
    head, endpoint = parse_request(asked.head), grant.location.endpoint
    target = engine.plan(head, endpoint.host).target
    authority = endpoint.host if endpoint.port == 443 else str(endpoint)
    try:
        signed = Signer(key, authority).sign(
            Stamp.of((yield from now())),
            head.method,
            target.canonical_path,
            target.canonical_query,
            payload_hash(asked.body),
            content_type=head.content_type,
            amz_target=head.amz_target,
            payload_header=engine.payload_header,
        )
    except NoKey as date:
        raise Refused(Reason.CLOCK_SKEWED, f"the grant has no key for {date}: is this host's clock right?") from date
    framing = b"Content-Length: %d\r\n" % len(asked.body) if asked.body else b""
    yield from send(
        UPSTREAM,
        b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%bConnection: close\r\n\r\n%b"
        % (head.method, target.wire, authority.encode(), signed, head.kept, framing, asked.body),
    )
    return (yield from _answer())


def _answer() -> Script[tuple[ResponseHead, bytes]]:
    while True:
        head = parse_response((yield from _up_to(b"\r\n\r\n", HEAD_LIMIT)))
        if head.status >= 200:
            break
    if head.status in (204, 304):
        return head, b""
    if head.chunked:
        return head, (yield from _chunks())
    if head.length is None or head.length > BODY_LIMIT:
        raise BadHttp(Side.UPSTREAM, "the answer to a short question has no length, or is very long")
    return head, (yield from receive(UPSTREAM, head.length))


def _up_to(mark: bytes, limit: int) -> Script[bytes]:
    """The bytes before a mark, which is taken too."""
    wanted = len(mark)
    while True:
        there = min(max(wanted, (yield from buffered(UPSTREAM))), limit)
        at = (yield from peek(UPSTREAM, there)).find(mark)
        if at >= 0:
            return (yield from receive(UPSTREAM, at + len(mark)))[:at]
        if there >= limit:
            raise BadHttp(Side.UPSTREAM, f"the head of the answer is longer than {limit} bytes")
        wanted = there + 1


def _chunks() -> Script[bytes]:
    chunked, body = Chunked(Side.UPSTREAM), b""
    while not chunked.done and len(body) <= BODY_LIMIT:
        body += b"".join(chunked.feed((yield from receive(UPSTREAM, max(1, (yield from buffered(UPSTREAM)))))))
    return body[:BODY_LIMIT]
