"""Scripts: a login as a generator that reads like the protocol's sequence diagram. PURE.

A script yields *effects* and is sent their results. It has no socket, no clock and no randomness, so a test drives it
with bytes and values, and `proxy.net.driver` drives it with transports. Engines never build effects by hand: they
`yield from` the typed helpers at the end of this file.

    def login(door):                                driver
        head = yield from receive(CLIENT, 8)   -->  waits for 8 bytes, sends them in
        ...
        grant = yield from request_grant(...)  -->  asks the broker; throws Refused when the answer is no
        yield from connect()                   -->  dials the endpoint of that grant, and no other
        facts = yield from start_tls(UPSTREAM) -->  handshakes, checks the certificate
        password = yield from reveal(grant)    -->  only now the secret is shown
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from proxy.errors import PeerClosed, PeerViolation, Refused, Side
from proxy.model import Location, PeerFacts, SealedGrant, SocketAddress
from proxy.multiplex import SharedLogin
from tollbridge.model import SigningKey, StsProof

T = TypeVar("T")

CLIENT, UPSTREAM = Side.CLIENT, Side.UPSTREAM

FACTS_LIMIT: Final = 1024
"""Bytes that may be kept about one endpoint."""


@dataclass(frozen=True, slots=True)
class Receive:
    """Take exactly `count` bytes from a side's inbox, waiting for them. -> bytes; throws PeerClosed."""

    side: Side
    count: int


@dataclass(frozen=True, slots=True)
class Peek:
    """As Receive, and leave them there. -> bytes; throws PeerClosed."""

    side: Side
    count: int


@dataclass(frozen=True, slots=True)
class Buffered:
    """How many bytes a side has sent that were not taken. -> int, without waiting."""

    side: Side


@dataclass(frozen=True, slots=True)
class Send:
    """Write to a side. -> None. Writing to a side that has gone is not an error: the next Receive tells."""

    side: Side
    data: bytes


@dataclass(frozen=True, slots=True)
class StartTls:
    """Handshake: as the server towards the client, as the client towards upstream. -> PeerFacts.

    Every unread byte of the side goes into the TLS engine. Upstream, an unread byte before our ClientHello is a
    PeerViolation. Throws Refused: UPSTREAM_TLS_UNVERIFIED names what is wrong with the certificate.
    """

    side: Side
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AwaitClose:
    """Discard what a side sends until it closes. -> None."""

    side: Side


@dataclass(frozen=True, slots=True)
class Locate:
    """Where a database is, from the catalog; asks nobody for permission. -> Location; throws Refused."""

    database: str


@dataclass(frozen=True, slots=True)
class RecallFacts:
    """What was kept about the endpoint of the last Locate. -> bytes, or None; throws Refused.

    With `find_out`, None is the answer to one login at a time: it is to connect and to KeepFacts. Others that ask
    meanwhile wait for it, and share its refusal when it fails.
    """

    find_out: bool


@dataclass(frozen=True, slots=True)
class KeepFacts:
    """Remember this about the endpoint that upstream is connected to, instead of what was known. -> None.

    For protocols whose server speaks first. Anybody may have said it: facts are never a reason to trust. At most
    FACTS_LIMIT bytes.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class RequestGrant:
    """May this workload enter? -> SealedGrant; throws Refused.

    `rejected` is the credential_id of a grant whose credential the database has just refused: the grant is dropped and
    the broker asked for another.
    """

    workload: str
    database: str
    db_user: str
    db_name: str
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Recall:
    """Find the running session that a cancel key belongs to. -> Location or None.

    When it is found, the next Connect dials the very address that session is connected to.
    """

    key: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Dial the endpoint of the last Locate, RequestGrant or Recall. -> None; throws Refused. Closes an earlier one."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """Open a sealed grant. -> its password, only while upstream is on verified TLS to that grant's own endpoint."""

    grant: SealedGrant


@dataclass(frozen=True, slots=True)
class RevealKey:
    """Open a sealed grant of derived keys. -> SigningKey, under the same conditions as Reveal."""

    grant: SealedGrant


@dataclass(frozen=True, slots=True)
class SignChallenge:
    """Have the broker answer what the server asks, for a grant that holds no secret. -> StsProof; throws Refused.

    Under the same conditions as Reveal. A host other than the grant's own is a PeerViolation, and nobody is asked.
    """

    grant: SealedGrant
    nonce: bytes
    host: str


@dataclass(frozen=True, slots=True)
class Share:
    """Take part in a shared connection to where a grant leads, or have it made. -> SharedLogin; throws Refused.

    It is shared by logins of one workload, one database and one user inside it that ask for the same `kind`, and by
    nobody else. `log_in` runs without a client, and once for all who wait for it.
    """

    grant: SealedGrant
    kind: str
    log_in: Callable[[], Script[SharedLogin]]


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """The address of ours that the client is connected to. -> SocketAddress; None on a unix socket."""


@dataclass(frozen=True, slots=True)
class Random:
    """Unpredictable bytes. -> bytes."""

    count: int


@dataclass(frozen=True, slots=True)
class Now:
    """The instant, aware, UTC. -> datetime."""


@dataclass(frozen=True, slots=True)
class Note:
    """A fact for the session's audit lines. Never a secret. -> None."""

    key: str
    value: str


Effect = (
    Receive
    | Peek
    | Buffered
    | Send
    | StartTls
    | AwaitClose
    | Locate
    | RecallFacts
    | KeepFacts
    | RequestGrant
    | Recall
    | Connect
    | Reveal
    | RevealKey
    | SignChallenge
    | Share
    | OwnAddress
    | Random
    | Now
    | Note
)

Script = Generator[Effect, Any, T]


def receive(side: Side, count: int) -> Script[bytes]:
    """Exactly `count` bytes from a side."""
    data: bytes = yield Receive(side, count)
    return data


def peek(side: Side, count: int) -> Script[bytes]:
    """The next `count` bytes of a side, left in place."""
    data: bytes = yield Peek(side, count)
    return data


def buffered(side: Side) -> Script[int]:
    """How many bytes a side has sent that were not taken."""
    count: int = yield Buffered(side)
    return count


def send(side: Side, data: bytes) -> Script[None]:
    """Write to a side."""
    yield Send(side, data)


def start_tls(side: Side, alpn: tuple[str, ...] = ()) -> Script[PeerFacts]:
    """Put a side on TLS."""
    facts: PeerFacts = yield StartTls(side, alpn)
    return facts


def await_close(side: Side) -> Script[None]:
    """Discard what a side sends until it closes."""
    yield AwaitClose(side)


def locate(database: str) -> Script[Location]:
    """Where a database is."""
    location: Location = yield Locate(database)
    return location


def recall_facts(*, find_out: bool) -> Script[bytes | None]:
    """What was kept about the endpoint of the last Locate."""
    facts: bytes | None = yield RecallFacts(find_out)
    return facts


def keep_facts(data: bytes) -> Script[None]:
    """Remember something about the endpoint that upstream is connected to."""
    yield KeepFacts(data)


def request_grant(
    *, workload: str, database: str, db_user: str, db_name: str, rejected: str = ""
) -> Script[SealedGrant]:
    """Ask for permission and a credential."""
    grant: SealedGrant = yield RequestGrant(workload, database, db_user, db_name, rejected)
    return grant


def recall(key: bytes) -> Script[Location | None]:
    """The running session a cancel key belongs to, if this process runs it."""
    location: Location | None = yield Recall(key)
    return location


def connect() -> Script[None]:
    """Dial upstream."""
    yield Connect()


def reveal(grant: SealedGrant) -> Script[str]:
    """The password of a grant, to a server that proved who it is."""
    password: str = yield Reveal(grant)
    return password


def reveal_key(grant: SealedGrant) -> Script[SigningKey]:
    """The derived keys of a grant, once the server has proved who it is."""
    key: SigningKey = yield RevealKey(grant)
    return key


def sign_challenge(grant: SealedGrant, *, nonce: bytes, host: str) -> Script[StsProof]:
    """The broker's answer to what a server asks that proved who it is."""
    proof: StsProof = yield SignChallenge(grant, nonce, host)
    return proof


def share(grant: SealedGrant, *, kind: str, log_in: Callable[[], Script[SharedLogin]]) -> Script[SharedLogin]:
    """Take part in a shared connection."""
    login: SharedLogin = yield Share(grant, kind, log_in)
    return login


def own_address() -> Script[SocketAddress | None]:
    """Where the client has reached us, for protocols that tell clients where to connect."""
    address: SocketAddress | None = yield OwnAddress()
    return address


def random_bytes(count: int) -> Script[bytes]:
    """Unpredictable bytes."""
    data: bytes = yield Random(count)
    return data


def now() -> Script[datetime]:
    """The instant."""
    instant: datetime = yield Now()
    return instant


def note(key: str, value: str) -> Script[None]:
    """Leave a fact for the session's audit lines."""
    yield Note(key, value)


def refusing(script: Script[T], encode: Callable[[Refused], bytes]) -> Script[T]:
    """Run a script; when it ends in a refusal or a violation, tell the client in the database's own encoding first.

    The driver throws its own refusals (deadline, drain) into the script as well, so this is the one place where an
    engine says no. Raises Refused.
    """
    try:
        return (yield from script)
    except Refused as refusal:
        yield Send(CLIENT, encode(refusal))
        raise
    except PeerClosed as closed:
        if closed.side is CLIENT:
            raise
        gone = closed.as_refusal()
        yield Send(CLIENT, encode(gone))
        raise gone from closed
    except PeerViolation as violation:
        broken = violation.as_refusal()
        yield Send(CLIENT, encode(broken))
        raise broken from violation
