"""The upstream half: TLS at once, STARTUP, the SigV4 exchange, a second try when it was rejected, the probe. PURE."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from proxy.engines import entry
from proxy.engines.cassandra import proof, wire
from proxy.engines.cassandra.refusals import (
    BAD_CREDENTIALS,
    UNAUTHORIZED,
    CredentialRejected,
    UpstreamError,
    still_rejected,
    unasked,
    without_secret,
)
from proxy.engines.cassandra.results import one_text
from proxy.engines.cassandra.wire import Frame, content
from proxy.errors import PeerViolation, Refused
from proxy.model import SealedGrant
from proxy.script import UPSTREAM, Script, connect, note, now, reveal_key, send, start_tls
from tollbridge.reasons import Reason

STREAM: Final = 0
"""Of our own requests: one at a time."""
PROBE_QUERY: Final = b"SELECT release_version FROM system.local"
LOCAL_ONE: Final = 0x000A


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants to be whom, where."""

    workload: str
    database: str
    db_user: str
    version: int
    options: tuple[tuple[bytes, bytes], ...]
    """STARTUP's, as the client sent them; no compression among them."""


def enter(request: Request) -> Script[SealedGrant]:
    """Grant, connect, TLS, login. Returns the grant that was taken. Raises Refused."""
    return entry.enter(
        lambda grant: log_in(request, grant),
        workload=request.workload,
        database=request.database,
        db_user=request.db_user,
        db_name="",
        rejection=CredentialRejected,
        still_rejected=still_rejected,
    )


def log_in(request: Request, grant: SealedGrant) -> Script[SealedGrant]:
    """One login with one grant. Raises CredentialRejected when that is what was wrong."""
    yield from connect()
    yield from start_tls(UPSTREAM)
    first = yield from _ask(request.version, wire.STARTUP, wire.startup(request.options))
    if first.opcode == wire.READY:
        return grant  # a server that asks nobody for anything
    if first.opcode != wire.AUTHENTICATE:
        raise _unexpected(first, "STARTUP", grant)
    second = yield from _ask(request.version, wire.AUTH_RESPONSE, wire.long_bytes(proof.MECHANISM))
    if second.opcode != wire.AUTH_CHALLENGE:
        raise _unexpected(second, "the name of the mechanism", grant)
    nonce = proof.parse_nonce(_token(second))
    key = yield from reveal_key(grant)
    answer = proof.answer(key, nonce, (yield from now()))
    third = yield from _ask(request.version, wire.AUTH_RESPONSE, wire.long_bytes(answer))
    if third.opcode == wire.ERROR:
        code, text = wire.parse_error(content(third, UPSTREAM))
        text = without_secret(text, key.session_token.reveal(), answer.decode().removeprefix("signature="))
        raise CredentialRejected(code, text) if code == BAD_CREDENTIALS else UpstreamError(code, text)
    if third.opcode != wire.AUTH_SUCCESS:
        raise PeerViolation(UPSTREAM, f"upstream answered the proof with opcode {third.opcode:#04x}")
    return grant


def probe(request: Request) -> Script[str]:
    """The upstream half alone, and a query that every driver begins with. Returns what it saw."""
    yield from enter(request)
    yield from note("step", "login")
    query = struct.pack(">I", len(PROBE_QUERY)) + PROBE_QUERY + struct.pack(">HB", LOCAL_ONE, 0)
    answer = yield from _ask(request.version, wire.QUERY, query)
    if answer.opcode == wire.ERROR:
        code, text = wire.parse_error(content(answer, UPSTREAM))
        raise _unreadable(code, text)
    if answer.opcode != wire.RESULT:
        raise PeerViolation(UPSTREAM, f"upstream answered a query with opcode {answer.opcode:#04x}")
    version = one_text(content(answer, UPSTREAM)).decode("utf-8", "replace")
    return f"CQL release {version[:64]} answered `{PROBE_QUERY.decode()}`"


def _ask(version: int, opcode: int, body: bytes) -> Script[Frame]:
    yield from send(UPSTREAM, wire.encode_frame(version, STREAM, opcode, body))
    frame = yield from wire.read_frame(UPSTREAM, version)
    if frame.stream != STREAM:
        raise PeerViolation(UPSTREAM, f"upstream answers stream {frame.stream}; it was asked on {STREAM}")
    return frame


def _token(frame: Frame) -> bytes:
    cursor = content(frame, UPSTREAM)
    return wire.take_bytes(cursor) or b""


def _unexpected(frame: Frame, asked: str, grant: SealedGrant) -> Refused | PeerViolation:
    """What an answer means that is not the one to go on with; no credential has been shown."""
    if frame.opcode == wire.ERROR:
        return unasked(*wire.parse_error(content(frame, UPSTREAM)), grant)
    return PeerViolation(UPSTREAM, f"upstream answered {asked} with opcode {frame.opcode:#04x}")


def _unreadable(code: int, text: bytes) -> Refused:
    error = UpstreamError(code, text)
    if code != UNAUTHORIZED:
        return error
    return Refused(
        Reason.DATABASE_REFUSED,
        f"the login is good, but the role may not read system.local ({error.quote}), with which every driver begins: "
        "allow it cassandra:Select on arn:aws:cassandra:REGION:ACCOUNT:/keyspace/system*",
    )
