"""The client half of a login: encryption, the startup packet, what it asks for, where that leads. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.engines.postgres.notes import note_words
from proxy.engines.postgres.refusals import encode
from proxy.engines.postgres.upstream import ALPN, Request, enter
from proxy.engines.postgres.wire import (
    ENCRYPTION_DECLINED,
    TLS_ACCEPTED,
    TLS_RECORD_HANDSHAKE,
    CancelRequest,
    GssEncRequest,
    SslRequest,
    Startup,
    StartupPacket,
    ends_with_ready,
    read_startup,
)
from proxy.errors import PeerViolation, Refused
from proxy.model import Door, Established, PeerFacts
from proxy.script import CLIENT, Script, buffered, peek, send, start_tls
from tollbridge.reasons import Reason

_NOT_REPLICATION: Final = frozenset({b"false", b"off", b"no", b"0"})
_OURS: Final = frozenset({b"user", b"database", b"replication"})


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client wants, once encryption is settled."""

    packet: Startup | CancelRequest
    facts: PeerFacts | None
    """Of its TLS; None in plaintext."""


def open_connection(door: Door) -> Script[Opening]:
    """From the first byte to the first packet that asks for something. Each kind of encryption is asked for once."""
    first = yield from peek(CLIENT, 1)
    if first == TLS_RECORD_HANDSHAKE:
        return (yield from _direct_tls(door))
    declined: set[type[StartupPacket]] = set()
    while True:
        packet = yield from read_startup()
        if isinstance(packet, Startup | CancelRequest):
            return Opening(packet, None)
        if type(packet) in declined:
            raise PeerViolation(CLIENT, "the client asked twice for the same kind of encryption")
        if (yield from buffered(CLIENT)):
            raise PeerViolation(CLIENT, "the client sent plaintext behind its encryption request (CVE-2021-23214)")
        if isinstance(packet, SslRequest) and door.tls_available:
            yield from send(CLIENT, TLS_ACCEPTED)
            facts = yield from start_tls(CLIENT, ALPN)
            return (yield from _inside_tls(facts))
        declined.add(type(packet))
        yield from send(CLIENT, ENCRYPTION_DECLINED)


def _direct_tls(door: Door) -> Script[Opening]:
    if not door.tls_available:
        raise Refused(
            Reason.FEATURE_REFUSED, f"listener {door.name!r} has no TLS: connect with sslmode=disable or prefer"
        )
    facts = yield from start_tls(CLIENT, ALPN)
    if facts.alpn not in ALPN:
        # Without ALPN, a TLS session meant for another protocol could be turned on this port (ALPACA).
        raise PeerViolation(CLIENT, "direct TLS without ALPN `postgresql`: offer it, or use sslnegotiation=postgres")
    return (yield from _inside_tls(facts))


def _inside_tls(facts: PeerFacts) -> Script[Opening]:
    packet = yield from read_startup()
    if isinstance(packet, SslRequest | GssEncRequest):
        raise PeerViolation(CLIENT, "the client asked for encryption inside TLS")
    return Opening(packet, facts)


def establish(door: Door, startup: Startup, facts: PeerFacts | None) -> Script[Established]:
    """From the client's StartupMessage to both sides at ReadyForQuery."""
    if startup.version >> 16 != 3:
        major, minor = startup.version >> 16, startup.version & 0xFFFF
        raise Refused(Reason.FEATURE_REFUSED, f"protocol {major}.{minor} is not spoken here: use 3.0 or newer")
    if door.tls_required and facts is None:
        raise Refused(
            Reason.CLIENT_TLS_REQUIRED,
            f"listener {door.name!r} takes no plaintext logins: connect with sslmode=verify-full",
        )
    request = read_request(door, startup, facts)
    yield from note_words(startup)
    greeting = yield from enter(request)
    yield from send(CLIENT, greeting.encoded())
    return Established(farewell=encode, at_rest=ends_with_ready, cancel_key=greeting.cancel_key)


def read_request(door: Door, startup: Startup, facts: PeerFacts | None) -> Request:
    """Who wants what. An empty database name is resolved here, before anybody decides about it."""
    if any(value.lower() not in _NOT_REPLICATION for value in startup.values(b"replication")):
        raise Refused(
            Reason.FEATURE_REFUSED,
            "replication connections are refused: IAM authentication cannot be used for them; connect without "
            "`replication`, or to the database itself with a replication user",
        )
    login = _single(startup, b"user")
    db_name = _single(startup, b"database")
    workload = door.workload_of(facts)
    target = door.route(login, facts)
    names_the_login = target.db_user != login and db_name == login  # libpq's default where the login name routes
    return Request(
        workload=workload,
        database=target.database,
        db_user=target.db_user,
        db_name=target.db_user if not db_name or names_the_login else db_name,
        startup=Startup(
            version=startup.version,
            parameters=tuple((name, value) for name, value in startup.parameters if name not in _OURS),
        ),
    )


def _single(startup: Startup, name: bytes) -> str:
    values = startup.values(name)
    if len(values) > 1:
        raise PeerViolation(CLIENT, f"the startup packet names {name.decode()!r} {len(values)} times")
    try:
        return values[0].decode() if values else ""
    except UnicodeDecodeError:
        raise PeerViolation(CLIENT, f"{name.decode()!r} in the startup packet is not UTF-8") from None
