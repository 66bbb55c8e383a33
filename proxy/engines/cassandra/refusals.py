"""Every reason as CQL says it: an ERROR frame with a code, what happened, then the fix. PURE.

Drivers branch on the code: 0x0100 becomes an authentication error, 0x1001 lets them try another host or later, 0x000A
at the start of a connection makes them ask for an older version if the text says so, 0x0000 is shown as it is. The
server's own errors are not translated: `UpstreamError` carries code and text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.engines.cassandra import wire
from proxy.engines.wording import one_line
from proxy.errors import Refused
from proxy.model import SealedGrant
from tollbridge.reasons import Reason

SERVER_ERROR, PROTOCOL_ERROR, BAD_CREDENTIALS, OVERLOADED = 0x0000, 0x000A, 0x0100, 0x1001
UNAUTHORIZED: Final = 0x2100
BARE: Final = frozenset(
    {SERVER_ERROR, PROTOCOL_ERROR, BAD_CREDENTIALS, OVERLOADED, 0x1002, 0x1003, UNAUTHORIZED, 0x2200}
)
"""Codes whose errors carry nothing but a text."""

TEXT_LIMIT: Final = 2_000
"""Bytes of a message. A [string] may have 65,535; nobody reads those."""
QUOTE_LIMIT: Final = 300
"""Characters of the server's own error inside one of ours."""
SECRET_BYTES: Final = 16
"""So many characters of a token in a row are taken for the token."""


@dataclass(frozen=True, slots=True)
class NativeRow:
    """How one reason is said."""

    code: int
    hint: str


def _rows() -> dict[Reason, NativeRow]:
    rule = "ask the operator for an access rule in the broker's configuration that allows this"
    later = "try again in some seconds"
    denied, fault, broken, busy = BAD_CREDENTIALS, SERVER_ERROR, PROTOCOL_ERROR, OVERLOADED
    rows: dict[Reason, tuple[int, str]] = {
        Reason.INVALID_REQUEST: (denied, "correct the user name or the options you connect with"),
        Reason.CALLER_UNIDENTIFIED: (denied, "the operator must give this proxy a certificate with one SPIFFE URI"),
        Reason.CALLER_NOT_ALLOWED: (denied, "the operator must list this proxy under `proxies:` in the broker"),
        Reason.DATABASE_UNKNOWN: (
            denied, "check the database in the user name or the listener, or have it registered"
        ),
        Reason.DATABASE_NOT_ALLOWED: (denied, f"{rule} database for your workload"),
        Reason.DB_USER_NOT_ALLOWED: (denied, f"{rule} role (`db_users`) for your workload"),
        Reason.DB_NAME_NOT_ALLOWED: (denied, f"{rule} name (`db_names`) for your workload"),
        Reason.DENIED_BY_RULE: (denied, "a deny rule wins over every allow: the operator must change that rule"),
        Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD: (
            denied, "the operator must add your workload to this proxy's row under `proxies:` in the broker"
        ),
        Reason.PROXY_MAY_NOT_SERVE_DATABASE: (
            denied, "the operator must add this database to the proxy's row under `proxies:` in the broker"
        ),
        Reason.BASE_CREDENTIALS_MISSING: (busy, "the operator must give the broker AWS credentials"),
        Reason.ASSUME_ROLE_DENIED: (
            denied,
            "check the role's name, trust policy and external ID, and that the broker may call sts:AssumeRole on it",
        ),
        Reason.ASSUME_ROLE_INVALID: (fault, "correct assume_role_arn, external_id, tags or session policy of it"),
        Reason.ACCOUNT_MISMATCH: (fault, "assume_role_arn and account_id of it must name the same AWS account"),
        Reason.PARTITION_MISMATCH: (fault, "the role's AWS partition must be that of the broker's identity"),
        Reason.CLOCK_SKEWED: (fault, "set the clocks of broker and proxy: run NTP or chrony on their hosts"),
        Reason.AWS_THROTTLED: (busy, f"{later}: AWS is limiting calls of this account"),
        Reason.AWS_UNAVAILABLE: (busy, f"{later}; check the broker's way to AWS STS"),
        Reason.PRODUCT_UNSUPPORTED: (fault, "upgrade the broker, or register a product that it can log in to"),
        Reason.CREDENTIAL_DENIED: (denied, "the IAM role that asks AWS for the credential lacks a permission"),
        Reason.CREDENTIAL_INVALID: (fault, "correct what the broker knows of this database: name, region, account"),
        Reason.BROKER_UNAVAILABLE: (busy, f"{later}; the operator should check the broker and the way to it"),
        Reason.BROKER_OVERLOADED: (busy, f"{later}, with fewer logins at a time"),
        Reason.INTERNAL: (fault, "a defect of tollbridge: give the operator the time and this message"),
        Reason.DATABASE_REFUSED: (denied, "check the role, its trust in the broker and its cassandra permissions"),
        Reason.UPSTREAM_UNREACHABLE: (busy, "check DNS, security groups and routes from the proxy to the endpoint"),
        Reason.UPSTREAM_TLS_REFUSED: (fault, "no credential is sent without TLS: register the endpoint's TLS port"),
        Reason.UPSTREAM_TLS_UNVERIFIED: (
            fault, "check trust store, server name and certificate in its registration"
        ),
        Reason.UPSTREAM_PROTOCOL: (fault, "check that the registered endpoint is Keyspaces, on port 9142"),
        Reason.UPSTREAM_TIMEOUT: (busy, "try again; check whether the database is starting or overloaded"),
        Reason.UPSTREAM_CLOSED: (busy, "try again; check whether the database is restarting"),
        Reason.CLIENT_PROTOCOL: (broken, "check that your client speaks CQL's native protocol to this port"),
        Reason.CLIENT_TLS_REQUIRED: (broken, "connect with TLS (ssl_context, SslContext, --ssl)"),
        Reason.CLIENT_UNIDENTIFIED: (
            denied, "connect over TLS with a client certificate that carries exactly one SPIFFE URI"
        ),
        Reason.HANDSHAKE_TIMEOUT: (busy, "try again, and log in without a pause"),
        Reason.FEATURE_REFUSED: (broken, "connect without this feature, or straight to the database"),
        Reason.TOO_MANY_CONNECTIONS: (busy, "use fewer connections, or have the operator raise `max_connections`"),
        Reason.DRAINING: (busy, "connect again: another replica takes the session"),
        Reason.SESSION_IDLE: (busy, "connect again, or have the operator raise `idle_seconds`"),
        Reason.SESSION_TOO_LONG: (busy, "connect again"),
        Reason.LOGIN_RATE_LIMITED: (busy, "wait as long as the message says, or keep connections open"),
    }  # fmt: skip
    return {reason: NativeRow(code, hint) for reason, (code, hint) in rows.items()}


NATIVE_ROWS: Final[Mapping[Reason, NativeRow]] = MappingProxyType(_rows())
"""Every reason, as CQL says it."""


class UpstreamError(Refused):
    """The server refused the login itself, and its own words go to the client, on one line of readable text."""

    def __init__(self, code: int, text: bytes) -> None:
        self.code = code
        self.text = one_line(text[:TEXT_LIMIT].decode("utf-8", "replace"))
        self.quote = f"{self.text[:QUOTE_LIMIT]} ({code:#06x})"
        super().__init__(Reason.DATABASE_REFUSED, f"the database refused the login: {self.quote}")


class CredentialRejected(UpstreamError):
    """The server was shown the proof and did not take it."""


class StreamRefused(Refused):
    """A refusal of one request in a session, said where its answer belongs."""

    def __init__(self, reason: Reason, message: str, stream: int) -> None:
        super().__init__(reason, message)
        self.stream = stream


def without_secret(text: bytes, *secrets: str) -> bytes:
    """The server's error, or a remark in its place where it quotes what it was shown."""
    quotes = any(secret and secret[:SECRET_BYTES].encode() in text for secret in secrets)
    return b"(an error that quotes the credential; not shown)" if quotes else text


def unasked(code: int, text: bytes, grant: SealedGrant) -> Refused:
    """What an error means that came before the server asked for a proof."""
    error = UpstreamError(code, text)
    if code != BAD_CREDENTIALS:
        return error
    return Refused(
        Reason.DATABASE_REFUSED,
        f"{grant.location.endpoint} wants a password and does not know SigV4 ({error.quote}): register an endpoint of "
        "Amazon Keyspaces",
        decision_id=grant.decision_id,
    )


def still_rejected(error: CredentialRejected, fresh: SealedGrant) -> Refused:
    """The refusal after a second, fresh credential was rejected as well."""
    return Refused(
        Reason.DATABASE_REFUSED,
        f"{fresh.location.endpoint} refused a fresh signature of role {fresh.user!r} ({error.quote}). On Keyspaces the "
        "likely causes are: the region in the registration is not the endpoint's; the proxy's clock is off by minutes; "
        "the role was changed or deleted moments ago; a policy of the endpoint or of the organization denies it",
        decision_id=fresh.decision_id,
    )


def farewell(refusal: Refused, version: int) -> bytes:
    """What a client hears when the proxy ends its session: an answer to the request that was the reason, or nothing.

    An answer to no request helps nobody and harms some: Node.js's driver throws in the middle of the application, and
    on stream -1 others log a fault of their own. Drivers take the end of the connection itself for what it is, and
    ask again elsewhere.
    """
    if isinstance(refusal, StreamRefused) and refusal.stream >= 0:
        return encode(refusal, version, refusal.stream)
    return b""


def encode(refusal: Refused, version: int = wire.V4, stream: int = 0) -> bytes:
    """A refusal as an ERROR frame, or the server's own when that is what it is."""
    if isinstance(refusal, UpstreamError):
        body = wire.error(refusal.code if refusal.code in BARE else SERVER_ERROR, refusal.text.encode())
    else:
        row = NATIVE_ROWS[refusal.reason]
        body = wire.error(row.code, _text(refusal, row.hint))
    return wire.encode_frame(version | wire.RESPONSE, stream, wire.ERROR, body)


def encode_version_refusal(asked: int, stream: int) -> bytes:
    """The answer to a version that is not spoken: drivers look for these words, and for a header they can read."""
    text = b"Invalid or unsupported protocol version (%d); supported versions are (3/v3, 4/v4)" % asked
    return wire.encode_frame(wire.V4 | wire.RESPONSE, stream, wire.ERROR, wire.error(PROTOCOL_ERROR, text))


def _text(refusal: Refused, hint: str) -> bytes:
    decision = f", decision {one_line(refusal.decision_id)}" if refusal.decision_id else ""
    tail = f" [{refusal.reason}{decision}]: {hint}".encode()[: TEXT_LIMIT // 2]
    said = f"tollbridge: {one_line(refusal.message)}".encode("utf-8", "replace")[: TEXT_LIMIT - len(tail)]
    return said.decode("utf-8", "ignore").encode() + tail
