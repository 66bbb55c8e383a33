"""Frozen values of the proxy: what a listener fixes, what a handshake learns, what a login ends in. PURE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from proxy.errors import PeerViolation, Refused, Side
from tollbridge.model import Endpoint, TlsFacts
from tollbridge.reasons import Reason

if TYPE_CHECKING:
    from proxy.guard import Guard
    from proxy.multiplex import Sharer
    from proxy.script import Script


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFacts:
    """What a finished TLS handshake says about the peer."""

    sni: str | None = None
    """Server name the client asked for, lower case; None when it asked for none."""
    alpn: str | None = None
    identity: str | None = None
    """The client's workload, from its verified certificate; None when it showed none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketAddress:
    """One end of a TCP connection."""

    host: str
    """The IP address as people write it; an IPv4 address also where the socket speaks IPv6."""
    packed: bytes
    """The same, 4 or 16 bytes in network order."""
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a login wants to go, after routing."""

    database: str
    db_user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What one listener fixes for every login that comes through it."""

    name: str
    tls_available: bool
    tls_required: bool
    workload: str | None = None
    """Fixed workload of a loopback or unix listener; None where a client certificate says it."""
    database: str | None = None
    """Fixed database."""
    db_user: str | None = None
    """User inside the database when the client names none."""
    sni_databases: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Server name -> database, for listeners routed by SNI."""
    by_login_name: bool = False
    """The login name is `db_user@database`, split at the last @."""
    hosts: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Name in the Host header -> database, for HTTP listeners routed so."""
    login_seconds: float | None = None
    """How long a login lasts upstream before it must be renewed, where the protocol can; None: the engine knows."""
    server_version: str = ""
    """What a protocol whose server speaks first greets with; empty: what the fixed database is known to say."""
    advertise: str = ""
    """HOST:PORT that clients are told to connect to, for protocols that tell; empty: what each has dialled."""
    multiplex: bool = False
    """Clients of one workload and user share a connection upstream, where the protocol can."""
    local_infile: bool = False
    """Whether clients may send files when the server asks for them (MySQL's LOCAL INFILE)."""

    def workload_of(self, facts: PeerFacts | None) -> str:
        """The workload behind a connection. Raises Refused when nothing says who it is."""
        if self.workload is not None:
            return self.workload
        if facts is not None and facts.identity is not None:
            return facts.identity
        raise Refused(
            Reason.CLIENT_UNIDENTIFIED,
            f"listener {self.name!r} does not know who you are: connect over TLS with a client certificate that "
            "carries exactly one SPIFFE URI, or have the operator set the listener's `workload`",
        )

    def fixed_database(self, facts: PeerFacts | None) -> str | None:
        """The database that the listener or the server name fixes, without any login name."""
        if self.database is not None:
            return self.database
        if facts is not None and facts.sni is not None:
            return self.sni_databases.get(facts.sni)
        return None

    def route(self, login: str, facts: PeerFacts | None) -> Target:
        """Where a login name leads. Raises Refused when it leads nowhere."""
        database = self.fixed_database(facts)
        db_user = login
        if database is None and self.by_login_name:
            db_user, at, database = login.rpartition("@")
            if not at:
                raise Refused(
                    Reason.DATABASE_UNKNOWN,
                    f"listener {self.name!r} is routed by login name: log in as db_user@database, not {login!r}",
                )
        if not database:
            raise Refused(
                Reason.DATABASE_UNKNOWN,
                f"listener {self.name!r} has no database for this connection: its server name "
                f"{(facts.sni if facts else None)!r} is not in the listener's `sni` map",
            )
        db_user = db_user or self.db_user or ""
        if not db_user:
            raise Refused(Reason.INVALID_REQUEST, "no user: name one in the login, or have the listener set `db_user`")
        return Target(database=database, db_user=db_user)

    def route_http(self, login: str, host: str, facts: PeerFacts | None) -> Target:
        """Where a request leads whose signature names `login`, sent to `host`. Raises Refused.

        An SDK always signs with something, so where the listener has a user of its own a name must be unmistakable to
        replace it: `role/NAME` or an ARN.
        """
        if self.hosts:
            name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
            database = self.hosts.get(name.lower())
            if database is None:
                raise Refused(
                    Reason.DATABASE_UNKNOWN,
                    f"listener {self.name!r} is routed by Host, and {host[:255]!r} is not in its `hosts` map",
                )
            return replace(self, database=database, hosts={}).route_http(login, host, facts)
        if self.db_user and "/" not in login and ":" not in login:
            login = "@" + login.rpartition("@")[2] if self.by_login_name and "@" in login else ""
        if not (login or self.db_user or self.by_login_name):
            raise Refused(
                Reason.INVALID_REQUEST,
                "no user: sign with the role (role/NAME) as access key id and any secret, or have the listener set "
                "`db_user`",
            )
        return self.route(login, facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a database is and how its certificate is checked."""

    database: str
    endpoint: Endpoint
    tls: TlsFacts
    server_version: str = ""
    """As registered, for a Door that has none; empty where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedGrant:
    """A grant without its secret: what an engine may know before the server has proved who it is."""

    location: Location
    decision_id: str
    credential_id: str
    user: str
    """The user to log in with; can differ from the db_user asked for."""
    reused: bool
    """The proxy had this grant before the login asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Established:
    """A login that succeeded: from here on bytes are relayed. Unread bytes of either side go first."""

    farewell: Callable[[Refused], bytes]
    """The protocol's own goodbye to the client when the proxy ends the session."""
    at_rest: Callable[[bytes], bool]
    """Whether the last bytes relayed to the client (its tail, at least 128 if there were so many) end an answer, so
    that a goodbye can follow without landing inside a message."""
    guard: Guard | None = None
    cancel_key: bytes | None = None
    """What a client shows on another connection to cancel this session's query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A connection that did all its work during the script (a cancel request): nothing to relay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A login that succeeded and takes part in a shared connection (`proxy.script.Share`)."""

    sharer: Sharer
    farewell: Callable[[Refused], bytes]
    """The protocol's own goodbye, said between two answers when the proxy ends the session."""
    pin: Callable[[bool], Script[Established]]
    """A login of its own for a client that needs one: it has said all it has to by then, and hears nothing of it. Told
    whether it has asked anything over a shared connection."""


Outcome = Established | Shared | Finished

__all__ = [
    "Door",
    "Established",
    "Finished",
    "Location",
    "Outcome",
    "PeerFacts",
    "PeerViolation",
    "SealedGrant",
    "Shared",
    "Side",
    "SocketAddress",
    "Target",
]
