"""The upstream half of a login: permission, connection, TLS, proof, greeting. PURE."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from proxy.engines import entry
from proxy.engines.postgres.auth import METHODS, refuse_method
from proxy.engines.postgres.refusals import CredentialRejected, still_rejected, upstream_error
from proxy.engines.postgres.wire import (
    AUTH_PHASE,
    AUTHENTICATION_OK,
    ERROR,
    GREETING_LIMIT,
    GREETING_PHASE,
    KEY_DATA,
    NEGOTIATE,
    PARAMETER_STATUS,
    QUERY_PHASE,
    READY,
    READY_LENGTH,
    SSL_REQUEST_PACKET,
    STARTUP_LIMIT,
    TERMINATE,
    TLS_ACCEPTED,
    VERSION_3_0,
    Message,
    Startup,
    parse_negotiation,
    query,
    read_message,
)
from proxy.errors import PeerViolation, Refused
from proxy.inbox import Cursor
from proxy.model import SealedGrant
from proxy.script import UPSTREAM, Script, connect, note, receive, send, start_tls
from tollbridge.reasons import Reason

ALPN: Final = ("postgresql",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants to enter what, and how the client put it."""

    workload: str
    database: str
    db_user: str
    db_name: str
    startup: Startup
    """Version and parameters for upstream, without user and database."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the server said from the accepted login to its first ReadyForQuery."""

    negotiation: bytes
    """Its NegotiateProtocolVersion, or nothing."""
    messages: tuple[Message, ...]

    def encoded(self) -> bytes:
        """All of it, for the client."""
        return self.negotiation + AUTHENTICATION_OK + b"".join(message.encoded() for message in self.messages)

    @property
    def cancel_key(self) -> bytes | None:
        """Process id and secret key; None when the server gave none."""
        return next((message.body for message in self.messages if message.kind == KEY_DATA), None)

    def parameter(self, name: bytes) -> str:
        """The value of a ParameterStatus, or nothing."""
        prefix = name + b"\0"
        for message in self.messages:
            if message.kind == PARAMETER_STATUS and message.body.startswith(prefix):
                return message.body[len(prefix) :].rstrip(b"\0").decode("utf-8", "replace")
        return ""


def enter(request: Request) -> Script[Greeting]:
    """From the question whether this workload may enter to the server's ReadyForQuery. Raises Refused."""
    return entry.enter(
        lambda grant: log_in(request, grant),
        workload=request.workload,
        database=request.database,
        db_user=request.db_user,
        db_name=request.db_name,
        rejection=CredentialRejected,
        still_rejected=still_rejected,
    )


def log_in(request: Request, grant: SealedGrant) -> Script[Greeting]:
    """One login with one grant. Raises CredentialRejected when that is what was wrong."""
    startup = _startup(request, grant)
    yield from connect()
    yield from secure()
    yield from send(UPSTREAM, startup.encoded())
    negotiation = yield from authenticate(grant, startup.version)
    return Greeting(negotiation, (yield from collect_greeting()))


def secure() -> Script[None]:
    """Put upstream on verified TLS, or refuse.

    An ErrorResponse in place of the answer is not shown to anybody: nobody has proved yet that it is the server's
    (CVE-2024-10977).
    """
    yield from send(UPSTREAM, SSL_REQUEST_PACKET)
    answer = yield from receive(UPSTREAM, 1)
    if answer != TLS_ACCEPTED:
        raise Refused(
            Reason.UPSTREAM_TLS_REFUSED,
            f"the database answered {answer!r} when asked for TLS, and no credential is sent without it: set "
            "`ssl = on` with a certificate there (RDS has both), and check that the endpoint is a PostgreSQL server; "
            "b'E' is a server that cannot start another session",
        )
    yield from start_tls(UPSTREAM, ALPN)


def authenticate(grant: SealedGrant, version: int) -> Script[bytes]:
    """From StartupMessage to AuthenticationOk. Returns the server's NegotiateProtocolVersion, if it sent one."""
    negotiation = b""
    shown = False
    while True:
        message = yield from read_message(UPSTREAM, AUTH_PHASE)
        if message.kind == ERROR:
            raise upstream_error(message, credential_shown=shown)
        if message.kind == NEGOTIATE:
            if negotiation or shown:
                raise PeerViolation(UPSTREAM, "upstream negotiated the protocol version out of turn")
            negotiation = _checked_negotiation(message, version)
            continue
        body = Cursor(message.body, UPSTREAM)
        code = body.u32()
        if code == 0:
            body.finish()
            return negotiation
        if shown:
            raise PeerViolation(UPSTREAM, f"upstream asked for a second proof (authentication code {code})")
        method = METHODS.get(code)
        if method is None:
            raise refuse_method(code, grant)
        shown = True
        yield from method(body, grant)


def collect_greeting() -> Script[tuple[Message, ...]]:
    """Every message from AuthenticationOk to ReadyForQuery, within GREETING_LIMIT."""
    messages: list[Message] = []
    size = 0
    while True:
        message = yield from read_message(UPSTREAM, GREETING_PHASE)
        if message.kind == ERROR:
            raise upstream_error(message, credential_shown=False)
        messages.append(message)
        size += len(message.body) + 5
        if size > GREETING_LIMIT:
            raise PeerViolation(UPSTREAM, f"upstream's greeting is over {GREETING_LIMIT} bytes")
        if message.kind == READY:
            _check_ready(message)
            return tuple(messages)


def probe(request: Request) -> Script[str]:
    """The upstream half alone, `select 1`, and goodbye. Returns what it saw."""
    greeting = yield from enter(request)
    yield from note("step", "login")
    yield from send(UPSTREAM, query("select 1"))
    rows = 0
    while True:
        message = yield from read_message(UPSTREAM, QUERY_PHASE)
        if message.kind == ERROR:
            raise upstream_error(message, credential_shown=False)
        rows += message.kind == b"D"
        if message.kind == READY:
            break
    yield from send(UPSTREAM, TERMINATE)
    if rows != 1:
        raise PeerViolation(UPSTREAM, f"upstream answered `select 1` with {rows} rows")
    return f"PostgreSQL {greeting.parameter(b'server_version') or '(version not said)'} answered `select 1`"


def _startup(request: Request, grant: SealedGrant) -> Startup:
    named = ((b"user", grant.user.encode()), (b"database", request.db_name.encode()))
    startup = replace(request.startup, parameters=named + request.startup.parameters)
    if len(startup.encoded()) > STARTUP_LIMIT:
        raise Refused(
            Reason.INVALID_REQUEST,
            f"the startup parameters take more than PostgreSQL's {STARTUP_LIMIT} bytes: shorten `options`",
            decision_id=grant.decision_id,
        )
    return startup


def _checked_negotiation(message: Message, asked: int) -> bytes:
    answer = parse_negotiation(message.body, UPSTREAM)
    if not VERSION_3_0 <= answer.version <= asked:
        raise PeerViolation(UPSTREAM, f"upstream negotiated version {answer.version:#x}; it was asked for {asked:#x}")
    return message.encoded()


def _check_ready(message: Message) -> None:
    if len(message.body) != READY_LENGTH - 4:
        raise PeerViolation(UPSTREAM, "upstream's ReadyForQuery is malformed")
