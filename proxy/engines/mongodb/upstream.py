"""The upstream half: TLS at once, hello, MONGODB-AWS, a second try when the proof was rejected, the probe. PURE.

https://github.com/mongodb/specifications/blob/master/source/auth/auth.md#mongodb-aws
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.engines import entry
from proxy.engines.mongodb import bson, greeting
from proxy.engines.mongodb.bson import BsonError, Element
from proxy.engines.mongodb.refusals import CredentialRejected, ServerError, still_rejected
from proxy.engines.mongodb.wire import Message, command, read_message
from proxy.errors import PeerViolation
from proxy.model import SealedGrant
from proxy.script import UPSTREAM, Script, connect, note, random_bytes, request_grant, send, sign_challenge, start_tls

NONCE_BYTES: Final = 32
NO_CHANNEL_BINDING: Final = 110
"""'n', for gs2-cb-flag."""
HOST_MAX: Final = 255
EXTERNAL: Final = "$external"
SIGNATURE_CHARACTERS: Final = 64
"""The signature, which ends an Authorization header."""
AUTHENTICATION_FAILED: Final = frozenset({18, 11, 13})
"""AuthenticationFailed, UserNotFound, Unauthorized: what a server says of a proof it did not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants to be whom, where, and how it greeted."""

    workload: str
    database: str
    db_user: str
    hello: tuple[Element, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """A login that succeeded."""

    hello: dict[str, Element]
    """The server's answer."""
    limits: greeting.Limits


def enter(request: Request) -> Script[Entered]:
    """Grant, connect, TLS, hello, login. Raises Refused.

    No logical database is asked for: each message names one, and the guard has it allowed.
    """
    return entry.enter(
        lambda grant: log_in(request, grant),
        workload=request.workload,
        database=request.database,
        db_user=request.db_user,
        db_name="",
        rejection=CredentialRejected,
        still_rejected=still_rejected,
    )


def log_in(request: Request, grant: SealedGrant) -> Script[Entered]:
    """One login with one grant. Raises CredentialRejected when the proof was what was wrong."""
    yield from connect()
    yield from start_tls(UPSTREAM)
    said = yield from ask(1, *request.hello, database="admin")
    if not _ok(said):
        raise ServerError(said)
    limits = greeting.limits(said)
    greeting.is_primary(said)
    nonce = yield from random_bytes(NONCE_BYTES)
    first = bson.write((bson.binary("r", nonce), bson.int32("p", NO_CHANNEL_BINDING)))
    started = yield from ask(
        2,
        bson.int32("saslStart", 1),
        bson.string("mechanism", "MONGODB-AWS"),
        bson.binary("payload", first),
        database=EXTERNAL,
    )
    if not _ok(started):
        raise _rejection(started)
    server_nonce, host = _challenge(started, nonce)
    proof = yield from sign_challenge(grant, nonce=server_nonce, host=host)
    parts = [bson.string("a", proof.authorization.reveal()), bson.string("d", proof.date)]
    if proof.session_token:
        parts.append(bson.string("t", proof.session_token.reveal()))
    done = yield from ask(
        3,
        bson.int32("saslContinue", 1),
        started.get("conversationId", bson.int32("conversationId", 1)),
        bson.binary("payload", bson.write(parts)),
        database=EXTERNAL,
    )
    if not _ok(done):
        raise _rejection(done, proof.authorization.reveal()[-SIGNATURE_CHARACTERS:], proof.session_token.reveal())
    if "done" not in done or not _truth(done["done"]):
        raise PeerViolation(UPSTREAM, "a login that goes on after its last step")
    return Entered(hello=said, limits=limits)


def ask(request_id: int, *parts: Element, database: str) -> Script[dict[str, Element]]:
    """One command of the login and its answer."""
    yield from send(UPSTREAM, command(request_id, *parts, database=database))
    answer: Message = yield from read_message(UPSTREAM)
    if answer.header.response_to != request_id:
        raise PeerViolation(UPSTREAM, "an answer to a question that was not asked")
    return answer.body


def probe(request: Request, db_name: str) -> Script[str]:
    """The upstream half alone, and a ping. Returns what it saw."""
    if db_name:
        yield from request_grant(
            workload=request.workload, database=request.database, db_user=request.db_user, db_name=db_name
        )
    entered = yield from enter(request)
    yield from note("step", "login")
    answer = yield from ask(4, bson.int32("ping", 1), database="admin")
    if not _ok(answer):
        raise ServerError(answer)
    role = "primary" if greeting.is_primary(entered.hello) else "no primary: a reader endpoint, or a failover under way"
    return f"DocumentDB answered ping ({role})"


def _challenge(answer: dict[str, Element], nonce: bytes) -> tuple[bytes, str]:
    """The server's nonce, which must begin with ours, and the STS host it names."""
    try:
        said = bson.read(answer["payload"].binary())
        server_nonce, host = said["s"].binary(), said["h"].text()
    except (KeyError, BsonError) as error:
        raise PeerViolation(UPSTREAM, "a login that does not follow MONGODB-AWS") from error
    if len(server_nonce) != 2 * NONCE_BYTES or server_nonce[:NONCE_BYTES] != nonce:
        raise PeerViolation(UPSTREAM, "the server's nonce does not begin with ours: its answer may be an old one")
    if not 1 <= len(host) <= HOST_MAX:
        raise PeerViolation(UPSTREAM, f"the server names an STS host of {len(host)} characters")
    return server_nonce, host


def _rejection(answer: dict[str, Element], *secrets: str) -> ServerError:
    error = ServerError(answer, *secrets)
    return CredentialRejected(answer, *secrets) if error.code in AUTHENTICATION_FAILED else error


def _ok(answer: dict[str, Element]) -> bool:
    return "ok" in answer and _truth(answer["ok"])


def _truth(element: Element) -> bool:
    try:
        return element.truth()
    except BsonError as error:
        raise PeerViolation(UPSTREAM, f"an answer that makes no sense: {error}") from error
