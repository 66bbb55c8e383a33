"""The client half of a login: TLS or none, which version, who logs in, and how that is answered. PURE."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from proxy.engines.cassandra import wire
from proxy.engines.cassandra.guard import CassandraGuard
from proxy.engines.cassandra.proof import MECHANISM
from proxy.engines.cassandra.refusals import encode, encode_version_refusal, farewell
from proxy.engines.cassandra.results import Whereabouts
from proxy.engines.cassandra.upstream import Request, enter
from proxy.engines.cassandra.wire import Frame
from proxy.errors import PeerViolation, Refused
from proxy.model import Door, Established, Finished, Location, Outcome, PeerFacts, Target
from proxy.script import CLIENT, Script, note, own_address, peek, receive, send, start_tls
from tollbridge.model import Endpoint
from tollbridge.reasons import Reason

TLS_RECORD_HANDSHAKE: Final = 0x16
"""First byte of a ClientHello; version 22 is far off."""
PATIENCE: Final = 16
"""Frames that a client may send until it is logged in; drivers send three."""
NOTE_LIMIT: Final = 128
"""Characters of a client's own words in an audit line."""
LOOPBACK: Final = b"\x7f\0\0\x01"

AUTHENTICATOR: Final = b"org.apache.cassandra.auth.PasswordAuthenticator"
SUPPORTED: Final = wire.supported(
    (
        (b"PROTOCOL_VERSIONS", (b"3/v3", b"4/v4")),
        (wire.COMPRESSION, ()),  # drivers look for the name
        (b"CQL_VERSION", (b"3.4.4",)),  # of Cassandra 3.11, whose clients Keyspaces takes
    )
)


class Conversation:
    """What a refusal must know: how the client numbers its frames."""

    def __init__(self) -> None:
        self.version = wire.V4
        self.stream = 0
        """Of the request that waits for an answer; drivers take 0 first."""

    def refusal(self, refused: Refused) -> bytes:
        """A refusal as the answer that the client waits for."""
        return encode(refused, self.version, self.stream)

    def read(self) -> Script[Frame]:
        """The client's next frame."""
        frame = yield from wire.read_frame(CLIENT, self.version)
        self.stream = frame.stream
        return frame

    def say(self, opcode: int, body: bytes = b"") -> Script[None]:
        """Answer the client's last frame."""
        yield from send(CLIENT, wire.encode_frame(self.version | wire.RESPONSE, self.stream, opcode, body))


@dataclass(frozen=True, slots=True)
class Opening:
    """How a client came in."""

    target: Target
    options: tuple[tuple[bytes, bytes], ...]
    success: int
    """The opcode that it waits for."""


def establish(door: Door, talk: Conversation) -> Script[Outcome]:
    """From the connection's start to both sides waiting for the first request."""
    facts = yield from open_connection(door)
    if not (yield from agree_on_version(talk)):
        return Finished()
    opening = yield from read_opening(door, facts, talk)
    yield from _note_words(opening.options)
    request = Request(
        workload=door.workload_of(facts),
        database=opening.target.database,
        db_user=opening.target.db_user,
        version=talk.version,
        options=opening.options,
    )
    grant = yield from enter(request)
    guard = CassandraGuard(talk.version, (yield from whereabouts(grant.location)))
    yield from talk.say(opening.success, wire.long_bytes(None) if opening.success == wire.AUTH_SUCCESS else b"")
    return Established(
        farewell=lambda refusal: farewell(refusal, talk.version),
        at_rest=lambda _tail: guard.at_rest,
        guard=guard,
    )


def open_connection(door: Door) -> Script[PeerFacts | None]:
    """TLS with the client, if it begins with that. Returns its facts; None in plaintext."""
    if (yield from peek(CLIENT, 1))[0] != TLS_RECORD_HANDSHAKE:
        return None
    if not door.tls_available:
        raise Refused(Reason.FEATURE_REFUSED, f"listener {door.name!r} has no TLS: connect without it")
    return (yield from start_tls(CLIENT))


def agree_on_version(talk: Conversation) -> Script[bool]:
    """Whether the client begins with a version that is spoken; one that does not is told which are, and connects
    again. The frame stays where it is."""
    version = (yield from peek(CLIENT, 1))[0]
    if version in wire.SPOKEN:
        talk.version = version
        return True
    header = yield from receive(CLIENT, wire.HEADER_BYTES if version > wire.V3 else wire.OLD_HEADER_BYTES)
    stream = int.from_bytes(header[2:4], "big", signed=True) if version > wire.V3 else 0
    yield from send(CLIENT, encode_version_refusal(version, stream))
    return False


def read_opening(door: Door, facts: PeerFacts | None, talk: Conversation) -> Script[Opening]:
    """Answer what can be answered without a login, up to what asks for one. Raises Refused."""
    default = _default_target(door, facts)
    options: tuple[tuple[bytes, bytes], ...] | None = None
    for _ in range(PATIENCE):
        frame = yield from talk.read()
        if door.tls_required and facts is None:
            raise Refused(Reason.CLIENT_TLS_REQUIRED, f"listener {door.name!r} takes no plaintext: connect with TLS")
        if frame.opcode == wire.OPTIONS:
            yield from talk.say(wire.SUPPORTED, SUPPORTED)
        elif frame.opcode == wire.STARTUP and options is None:
            options = read_options(frame)
            if default is not None:
                return Opening(default, options, wire.READY)
            yield from talk.say(wire.AUTHENTICATE, wire.string(AUTHENTICATOR))
        elif frame.opcode == wire.AUTH_RESPONSE and options is not None:
            return Opening(door.route(read_login(frame), facts), options, wire.AUTH_SUCCESS)
        else:
            before = "a login" if options is None else "an AUTH_RESPONSE"
            raise PeerViolation(CLIENT, f"the client sent opcode {frame.opcode:#04x} before {before}")
    raise PeerViolation(CLIENT, f"{PATIENCE} frames and no login")


def read_options(frame: Frame) -> tuple[tuple[bytes, bytes], ...]:
    """STARTUP's options for upstream. Raises Refused where compression is among them."""
    options = wire.parse_startup(wire.content(frame, CLIENT).rest())
    compression = [value for name, value in options if name.upper() == wire.COMPRESSION]
    if any(compression):
        raise Refused(
            Reason.FEATURE_REFUSED,
            f"compression {_printable(compression[0])!r} was not offered and is not spoken here: connect without it "
            "(compression=False, Compression.NONE)",
        )
    return tuple((name, value) for name, value in options if name.upper() != wire.COMPRESSION)


def read_login(frame: Frame) -> str:
    """The user of a PLAIN token; the password in it is not looked at. Raises Refused and PeerViolation."""
    token = wire.take_bytes(wire.content(frame, CLIENT)) or b""
    if token == MECHANISM:
        raise Refused(
            Reason.FEATURE_REFUSED,
            "the proxy signs for you: connect without the SigV4 plugin, with PlainTextAuthProvider (any password), or "
            "with no auth provider where the listener has a `db_user`",
        )
    parts = token.split(b"\0")
    if len(parts) != 3:
        raise PeerViolation(CLIENT, "the client's token is not of PLAIN: user and password, each behind a NUL")
    try:
        return parts[1].decode()
    except UnicodeDecodeError:
        raise PeerViolation(CLIENT, "the user in the login is not UTF-8") from None


def whereabouts(location: Location) -> Script[Whereabouts]:
    """What this client is told of the cluster: the address it has reached, and an id that no replica changes."""
    address = yield from own_address()
    return Whereabouts(
        address=address.packed if address else LOOPBACK,
        port=address.port if address else location.endpoint.port,
        host_id=host_id(location.database, location.endpoint),
    )


def host_id(database: str, endpoint: Endpoint) -> bytes:
    """A UUID (RFC 9562, version 8) for the one node that clients of a database see: drivers tell nodes apart by it, so
    it is the same behind each of the endpoint's addresses and each replica of the proxy."""
    digest = bytearray(hashlib.sha256(f"tollbridge cassandra {database} {endpoint}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def _default_target(door: Door, facts: PeerFacts | None) -> Target | None:
    """Where clients go that name nobody: the listener says the user, and it or the server name the database."""
    if door.db_user is None or door.fixed_database(facts) is None:
        return None
    return door.route("", facts)


def _note_words(options: tuple[tuple[bytes, bytes], ...]) -> Script[None]:
    """Leave in the audit lines what the client calls itself."""
    names = {b"DRIVER_NAME": "driver", b"DRIVER_VERSION": "driver_version", b"APPLICATION_NAME": "application"}
    for name, value in options:
        if name in names and value:
            yield from note(names[name], _printable(value))


def _printable(value: bytes) -> str:
    return re.sub(r"[^ -~]", "?", value[:NOTE_LIMIT].decode("latin-1"))
