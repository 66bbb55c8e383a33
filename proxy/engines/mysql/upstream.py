"""The upstream half of a login: connection, greeting, permission, TLS, proof. PURE."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final, Self

from proxy.engines import entry
from proxy.engines.mysql import capabilities as caps
from proxy.engines.mysql.refusals import (
    CredentialRejected,
    ServerChanged,
    refuse_plugin,
    still_rejected,
    unproven_error,
    upstream_error,
)
from proxy.engines.mysql.wire import (
    CACHING_SHA2,
    CLEARTEXT,
    EOF,
    ERR,
    FAST_AUTH_OK,
    FULL_AUTH,
    GREETING_LIMIT,
    NATIVE,
    OK,
    SCRAMBLE_BYTES,
    Greeting,
    Leg,
    Response,
    parse_greeting,
)
from proxy.errors import PeerClosed, PeerViolation, Refused
from proxy.inbox import Cursor
from proxy.model import Location, SealedGrant
from proxy.script import (
    UPSTREAM,
    Script,
    buffered,
    connect,
    keep_facts,
    note,
    random_bytes,
    reveal,
    start_tls,
)
from tollbridge.model import Endpoint
from tollbridge.reasons import Reason

AUTH_PACKETS: Final = 4
"""Packets of a server between our response and its verdict: a switch, MariaDB's progress, the verdict, one to spare."""
PROBE_PACKETS: Final = 8
QUIT: Final = b"\x01"
SELECT_1: Final = b"\x03select 1"

_FACTS: Final = struct.Struct("<IIB")


@dataclass(frozen=True, slots=True)
class Facts:
    """What of a server's greeting is worth keeping: what the next client can be greeted with."""

    version: bytes
    capabilities: int
    extended: int
    charset: int

    @classmethod
    def of(cls, greeting: Greeting) -> Self:
        """What a greeting says."""
        return cls(greeting.version, greeting.capabilities, greeting.extended, greeting.charset)

    @classmethod
    def presumed(cls, version: str) -> Self:
        """What any server of this version has."""
        family = 0 if "mariadb" in version.lower() else caps.CLIENT_MYSQL
        return cls(version.encode(), caps.BASIC | caps.HANDSHAKE | family, 0, 45)

    def encoded(self) -> bytes:
        """To be kept."""
        return _FACTS.pack(self.capabilities, self.extended, self.charset) + self.version

    @classmethod
    def decoded(cls, kept: bytes) -> Self:
        """As kept."""
        flags, extended, charset = _FACTS.unpack_from(kept)
        return cls(kept[_FACTS.size :], flags, extended, charset)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A connection to a server that has greeted and was told nothing yet."""

    location: Location
    greeting: Greeting

    def serves(self, location: Location) -> bool:
        """Whether a login there may use it."""
        return (self.location.endpoint, self.location.tls) == (location.endpoint, location.tls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants to enter what, and how the client put it."""

    workload: str
    database: str
    db_user: str
    response: Response
    """What client and proxy agreed on, without user and proof."""
    known: Facts | None = None
    """What the client was greeted with."""
    waiting: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A login that the server accepted."""

    ok: bytes
    """Its OK packet's payload."""
    version: str


def dial(endpoint: Endpoint) -> Script[Greeting]:
    """Connect to the place of the last Locate or RequestGrant and take the greeting. Raises Refused."""
    yield from connect()
    payload = yield from Leg(UPSTREAM).read(GREETING_LIMIT)
    if payload[0] == ERR:
        raise unproven_error(payload, endpoint)
    return parse_greeting(payload)


def enter(request: Request) -> Script[Entry]:
    """From the question whether this workload may enter to the server's OK packet. Raises Refused."""
    once_more = replace(request, waiting=None)  # what waited was used for the first login
    return entry.enter(
        lambda grant: log_in(request, grant),
        log_in_again=lambda grant: log_in(once_more, grant),
        workload=request.workload,
        database=request.database,
        db_user=request.db_user,
        db_name="",  # a session changes its schema at will (USE): see broker.access
        rejection=CredentialRejected,
        still_rejected=still_rejected,
    )


def log_in(request: Request, grant: SealedGrant) -> Script[Entry]:
    """One login with one grant. Raises CredentialRejected when that is what was wrong."""
    greeting, response = yield from _secured(request, grant)
    # Of the right length and fitting nothing, so that no account without a password lets us in.
    proof = yield from random_bytes(SCRAMBLE_BYTES[response.plugin])
    leg = Leg(UPSTREAM, 2)
    yield from leg.send(replace(response, auth=proof).encoded())
    ok = yield from authenticate(leg, grant)
    return Entry(ok, greeting.version.decode("utf-8", "replace"))


def _secured(request: Request, grant: SealedGrant) -> Script[tuple[Greeting, Response]]:
    """A connection on verified TLS, and what is to be said next."""
    endpoint = grant.location.endpoint
    waiting = request.waiting
    if waiting is not None and waiting.serves(grant.location) and not (yield from buffered(UPSTREAM)):
        try:
            return (yield from _secure(request, grant, waiting.greeting))
        except PeerClosed as closed:  # it waited too long for our client: servers give a login ten seconds
            if closed.side is not UPSTREAM:
                raise
    greeting = yield from dial(endpoint)
    facts = Facts.of(greeting)
    if facts != request.known:
        yield from keep_facts(facts.encoded())
    if lost := _lost(request.response, greeting):
        raise ServerChanged(
            Reason.UPSTREAM_PROTOCOL,
            f"{endpoint} does not offer what the client was promised ({lost}): connect again; where "
            "`mysql.server_version` is set, check it",
            decision_id=grant.decision_id,
        )
    return (yield from _secure(request, grant, greeting))


def _lost(response: Response, greeting: Greeting) -> str:
    """What client and proxy agreed on and the server does not have."""
    flags = response.capabilities & caps.PASSED & ~caps.DISPENSABLE & ~greeting.capabilities
    extended = response.extended & ~greeting.extended
    said = ([caps.name_flags(flags)] if flags else []) + ([f"MariaDB's {extended:#x}"] if extended else [])
    return ", ".join(said)


def _secure(request: Request, grant: SealedGrant, greeting: Greeting) -> Script[tuple[Greeting, Response]]:
    """Put upstream on verified TLS, or refuse."""
    endpoint = grant.location.endpoint
    if not greeting.capabilities & caps.SSL:
        raise Refused(
            Reason.UPSTREAM_TLS_REFUSED,
            f"{endpoint} does not offer TLS, and no credential is sent without it: give the server a certificate "
            "(RDS has one), and check that the endpoint is right",
            decision_id=grant.decision_id,
        )
    response = _response(request.response, grant, greeting)
    yield from Leg(UPSTREAM, 1).send(response.ssl_request())
    yield from start_tls(UPSTREAM)
    return greeting, response


def _response(wanted: Response, grant: SealedGrant, greeting: Greeting) -> Response:
    """What we answer: the flags of the client as far as the server has them, and our own for the login."""
    passed = wanted.capabilities & (caps.PASSED | caps.LOCAL_FILES) & greeting.capabilities
    ours = (caps.HANDSHAKE & greeting.capabilities) | caps.PROTOCOL_41 | caps.SECURE_CONNECTION | caps.SSL
    return replace(
        wanted,
        capabilities=passed | ours | wanted.capabilities & caps.CLIENT_MYSQL,
        user=grant.user.encode(),
        plugin=greeting.plugin if greeting.plugin in (NATIVE, CACHING_SHA2) else NATIVE,
    )


def authenticate(leg: Leg, grant: SealedGrant) -> Script[bytes]:
    """From our response to the server's OK packet, which is returned."""
    shown = False
    for _ in range(AUTH_PACKETS):
        packet = yield from leg.read()
        if packet[0] == OK:
            return packet
        if packet[0] == ERR:
            raise upstream_error(packet, user=grant.user, credential_shown=shown, decision_id=grant.decision_id)
        if packet == FAST_AUTH_OK:
            continue
        if packet == FULL_AUTH:
            raise refuse_plugin(CACHING_SHA2, grant.user, grant.decision_id)
        if packet[0] != EOF:
            raise PeerViolation(UPSTREAM, f"upstream sent packet {packet[0]:#04x} in the middle of the login")
        if shown:
            raise PeerViolation(UPSTREAM, "upstream asked for a second proof")
        plugin = Cursor(packet[1:], UPSTREAM).cstring() if len(packet) > 1 else b"mysql_old_password"
        if plugin != CLEARTEXT:
            raise refuse_plugin(plugin, grant.user, grant.decision_id)
        shown = True
        password = yield from reveal(grant)
        yield from leg.send(password.encode() + b"\0")
    raise PeerViolation(UPSTREAM, "upstream does not come to the end of the login")


def probe(request: Request) -> Script[str]:
    """The upstream half alone, `select 1`, and goodbye. Returns what it saw."""
    entry = yield from enter(request)
    yield from note("step", "login")
    leg = Leg(UPSTREAM)
    yield from leg.send(SELECT_1)
    ends, rows = 0, 0
    for _ in range(PROBE_PACKETS):
        packet = yield from leg.read()
        if packet[0] == ERR:
            raise upstream_error(packet, user=request.db_user, credential_shown=False, decision_id="")
        if packet[0] == EOF and len(packet) < 9:
            ends += 1
            if ends == 2:
                break
        elif ends == 1:
            rows += 1
    yield from Leg(UPSTREAM).send(QUIT)
    if ends != 2 or rows != 1:
        raise PeerViolation(UPSTREAM, f"upstream answered `select 1` with {rows} rows")
    return f"MySQL protocol, server {entry.version or '(version not said)'}, answered `select 1`"
