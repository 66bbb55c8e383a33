"""The upstream half: TLS at once, AUTH or HELLO, a second try when the credential was rejected, the probe. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from proxy.engines import entry
from proxy.engines.redis.login import Hello
from proxy.engines.redis.refusals import CredentialRejected, still_rejected, upstream_error, without_password
from proxy.engines.redis.wire import REPLY_LIMIT, encode_command, reply_size
from proxy.errors import PeerViolation
from proxy.model import SealedGrant
from proxy.script import (
    UPSTREAM,
    Script,
    buffered,
    connect,
    note,
    now,
    peek,
    receive,
    reveal,
    send,
    start_tls,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants to be whom, where."""

    workload: str
    database: str
    db_user: str
    hello: Hello | None = None
    """The client's own, if it began with one: its reply will be the client's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """A login that succeeded."""

    user: str
    reply: bytes
    """The server's, to AUTH or HELLO."""
    since: datetime
    """Before it was sent."""


def enter(request: Request) -> Script[Entered]:
    """Grant, connect, TLS, login. Raises Refused."""
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
    """One login with one grant. Raises CredentialRejected when that is what was wrong."""
    yield from connect()
    yield from start_tls(UPSTREAM)
    since = yield from now()
    user, password = grant.user.encode(), (yield from reveal(grant)).encode()
    hello = request.hello
    arguments = hello.with_login(user, password) if hello else [b"AUTH", user, password]
    yield from send(UPSTREAM, encode_command(*arguments))
    reply = yield from read_reply()
    if reply[:1] == b"-":
        raise upstream_error(without_password(reply, password))
    if hello is None and reply != b"+OK\r\n":
        raise PeerViolation(UPSTREAM, "upstream answered AUTH with neither +OK nor an error")
    if hello is not None and reply[:1] not in b"*%":
        raise PeerViolation(UPSTREAM, "upstream answered HELLO with neither its facts nor an error")
    return Entered(user=grant.user, reply=reply, since=since)


def read_reply() -> Script[bytes]:
    """Upstream's next reply, whole, within REPLY_LIMIT."""
    wanted = 1
    while True:
        there = min(max(wanted, (yield from buffered(UPSTREAM))), REPLY_LIMIT)
        size = reply_size((yield from peek(UPSTREAM, there)))
        if size is not None:
            return (yield from receive(UPSTREAM, size))
        wanted = there + 1
        if wanted > REPLY_LIMIT:
            raise PeerViolation(UPSTREAM, f"upstream's answer to the login is over {REPLY_LIMIT} bytes")


def probe(request: Request) -> Script[str]:
    """The upstream half alone, PING, and QUIT. Returns what it saw."""
    yield from enter(request)
    yield from note("step", "login")
    yield from send(UPSTREAM, encode_command(b"PING"))
    reply = yield from read_reply()
    yield from send(UPSTREAM, encode_command(b"QUIT"))
    if reply[:1] == b"-" and not reply.startswith(b"-NOPERM"):
        raise upstream_error(reply)
    if reply[:1] not in b"+-$":
        raise PeerViolation(UPSTREAM, "upstream answered PING with something else")
    return "Redis or Valkey answered PING" + (" (which this user may not send)" if reply[:1] == b"-" else "")
