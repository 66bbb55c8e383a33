"""Every reason as MySQL says it: error code and SQLSTATE, the useful part first. PURE.

Codes: https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html. Drivers and pools read them: 1040 and
1053 mean "try again", 1045 "your identity is the problem". Clients keep 512 bytes of a message (MYSQL_ERRMSG_SIZE), so
the sentence comes first, what names it behind, and the general hint only where there is room. The upstream server's
own errors are not translated: `UpstreamError` carries their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.engines.mysql.wire import ServerError, error_packet, frame, parse_error
from proxy.errors import Refused
from proxy.model import SealedGrant
from tollbridge.model import Endpoint
from tollbridge.reasons import Reason

MESSAGE_BYTES: Final = 511
"""MYSQL_ERRMSG_SIZE without its NUL."""
TEXT_LIMIT: Final = 200
"""Characters of the server's own message inside one of ours."""

BAD_DB, ACCESS_DENIED, TOO_MANY, SHUTDOWN, UNKNOWN = 1049, 1045, 1040, 1053, 1105
HOST_BLOCKED, HOST_NOT_ALLOWED = 1129, 1130
CREDENTIAL_REJECTED: Final = frozenset({ACCESS_DENIED, 1698})
"""What a server says when it does not take the credential; the second is MariaDB's, for accounts without a password."""


@dataclass(frozen=True, slots=True)
class NativeRow:
    """How one reason is said."""

    code: int
    sqlstate: str
    hint: str


def _rows() -> dict[Reason, NativeRow]:
    def denied(hint: str) -> NativeRow:
        return NativeRow(ACCESS_DENIED, "28000", hint)

    def not_now(hint: str) -> NativeRow:
        return NativeRow(SHUTDOWN, "08S01", hint)

    def too_many(hint: str) -> NativeRow:
        return NativeRow(TOO_MANY, "08004", hint)

    def misconfigured(hint: str) -> NativeRow:
        return NativeRow(UNKNOWN, "HY000", hint)

    def unreachable(hint: str) -> NativeRow:
        return NativeRow(1429, "HY000", hint)  # ER_CONNECT_TO_FOREIGN_DATA_SOURCE

    interrupted = (1159, "08S01")  # ER_NET_READ_INTERRUPTED
    unsupported = (1235, "42000")  # ER_NOT_SUPPORTED_YET
    rule = "Ask the operator for an access rule that allows"
    return {
        Reason.INVALID_REQUEST: NativeRow(1210, "HY000", "Correct the user or the database that you name."),
        Reason.CALLER_UNIDENTIFIED: denied("The operator must give this proxy a certificate with one SPIFFE URI."),
        Reason.CALLER_NOT_ALLOWED: denied("The operator must list this proxy under the broker's `proxies:`."),
        Reason.DATABASE_UNKNOWN: NativeRow(
            BAD_DB, "42000", "Check the login name or the listener, or have the database registered."
        ),
        Reason.DATABASE_NOT_ALLOWED: denied(f"{rule} this database for your workload."),
        Reason.DB_USER_NOT_ALLOWED: denied(f"Log in as a user you may be. {rule} this user for your workload."),
        Reason.DB_NAME_NOT_ALLOWED: denied(f"Name another database. {rule} this one for your workload."),
        Reason.DENIED_BY_RULE: denied("A deny rule wins over every allow: the operator must change it."),
        Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD: denied("The operator must add your workload to this proxy's row."),
        Reason.PROXY_MAY_NOT_SERVE_DATABASE: denied("The operator must add this database to this proxy's row."),
        Reason.BASE_CREDENTIALS_MISSING: not_now("The operator must give the broker AWS credentials."),
        Reason.ASSUME_ROLE_DENIED: denied(
            "Check: the broker may call sts:AssumeRole; the role exists; its trust policy names the broker; the "
            "external ID matches."
        ),
        Reason.ASSUME_ROLE_INVALID: misconfigured("Correct this database's assume_role_arn, external_id or tags."),
        Reason.ACCOUNT_MISMATCH: misconfigured("assume_role_arn and account_id must name the same AWS account."),
        Reason.PARTITION_MISMATCH: misconfigured("The role's AWS partition must be that of the broker's identity."),
        Reason.CLOCK_SKEWED: misconfigured("Set the broker's clock: run NTP or chrony on its host."),
        Reason.AWS_THROTTLED: too_many("Try again in some seconds: AWS limits the calls of this account."),
        Reason.AWS_UNAVAILABLE: not_now("Try again in some seconds; check the broker's way to AWS STS."),
        Reason.PRODUCT_UNSUPPORTED: NativeRow(*unsupported, "Upgrade the broker, or register another product."),
        Reason.CREDENTIAL_DENIED: denied("The IAM role lacks the permission that the message names."),
        Reason.CREDENTIAL_INVALID: misconfigured("Correct what the broker knows of this database."),
        Reason.BROKER_UNAVAILABLE: not_now("Try again in some seconds; the operator should check the broker."),
        Reason.BROKER_OVERLOADED: too_many("Try again in some seconds, with fewer logins at a time."),
        Reason.INTERNAL: NativeRow(1815, "HY000", "A defect of tollbridge: give the operator this message."),
        Reason.DATABASE_REFUSED: denied("Check the database user, its grants and the IAM permission to connect."),
        Reason.UPSTREAM_UNREACHABLE: unreachable("Check DNS, security groups and routes to the endpoint."),
        Reason.UPSTREAM_TLS_REFUSED: unreachable("Turn TLS on at the database: no credential is sent without."),
        Reason.UPSTREAM_TLS_UNVERIFIED: unreachable("Check the database's trust store, name and certificate."),
        Reason.UPSTREAM_PROTOCOL: unreachable("Check that the registered endpoint is a MySQL or MariaDB server."),
        Reason.UPSTREAM_TIMEOUT: unreachable("Try again; is the database starting or overloaded?"),
        Reason.UPSTREAM_CLOSED: NativeRow(*interrupted, "Try again; is the database restarting or failing over?"),
        Reason.CLIENT_PROTOCOL: NativeRow(1043, "08S01", "Check that your client speaks MySQL to this port."),
        Reason.CLIENT_TLS_REQUIRED: NativeRow(3159, "HY000", "Connect with --ssl-mode=VERIFY_IDENTITY (or --ssl)."),
        Reason.CLIENT_UNIDENTIFIED: denied("Connect with a client certificate that carries one SPIFFE URI."),
        Reason.HANDSHAKE_TIMEOUT: NativeRow(*interrupted, "Try again, and send the login without a pause."),
        Reason.FEATURE_REFUSED: NativeRow(*unsupported, "Connect without it, or straight to the database."),
        Reason.TOO_MANY_CONNECTIONS: too_many("Use a smaller pool, or have `max_connections` raised."),
        Reason.LOGIN_RATE_LIMITED: too_many("Use a pool, or have `logins_per_second` raised."),
        Reason.DRAINING: not_now("Connect again: another replica takes the session."),
        Reason.SESSION_IDLE: not_now("Connect again, or have `idle_seconds` raised."),
        Reason.SESSION_TOO_LONG: not_now("Connect again, or have `max_session_seconds` raised."),
    }


NATIVE_ROWS: Final[Mapping[Reason, NativeRow]] = MappingProxyType(_rows())
"""Every reason, as MySQL says it."""


class UpstreamError(Refused):
    """The server refused the login itself, and its own words go to the client unchanged."""

    def __init__(self, payload: bytes) -> None:
        self.error = parse_error(payload)
        said = f"{self.error.code} {self.error.text[:TEXT_LIMIT]}"
        super().__init__(Reason.DATABASE_REFUSED, f"the database refused the login: {said}")


class CredentialRejected(UpstreamError):
    """The server asked for the credential, was shown it, and did not take it."""


class ServerChanged(Refused):
    """The server no longer has what the client was offered; said so that pools connect again."""


def upstream_error(payload: bytes, *, user: str, credential_shown: bool, decision_id: str) -> Refused:
    """What an ERR packet means that came over verified TLS."""
    error = UpstreamError(payload)
    if error.error.code not in CREDENTIAL_REJECTED:
        return error
    if credential_shown:
        return CredentialRejected(payload)
    return Refused(
        Reason.DATABASE_REFUSED,
        f"the database refused {user!r} without asking for the token ({error.error.code}): create the user for IAM, "
        "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'",
        decision_id=decision_id,
    )


def unproven_error(payload: bytes, endpoint: Endpoint) -> Refused:
    """What an ERR packet means that came before TLS: its code alone, for nobody has proved whose words they are."""
    error = parse_error(payload)
    if error.code in (TOO_MANY, 1203, 1226):  # of the server, of the user, of a resource
        return Refused(
            Reason.TOO_MANY_CONNECTIONS,
            f"{endpoint} has no connection left ({error.code}): use smaller pools, or raise its max_connections",
        )
    if error.code == HOST_BLOCKED:
        return Refused(
            Reason.DATABASE_REFUSED,
            f"{endpoint} blocks this proxy's address after too many broken connections ({error.code}): run "
            "FLUSH HOSTS there, and raise max_connect_errors",
        )
    if error.code == HOST_NOT_ALLOWED:
        return Refused(
            Reason.DATABASE_REFUSED,
            f"{endpoint} takes no users from this proxy's address ({error.code}): create the user for host '%'",
        )
    if error.code == SHUTDOWN:
        return Refused(Reason.UPSTREAM_CLOSED, f"{endpoint} is shutting down ({error.code}): connect again")
    return Refused(Reason.UPSTREAM_PROTOCOL, f"{endpoint} greeted with error {error.code}")


def refuse_plugin(plugin: bytes, user: str, decision_id: str) -> Refused:
    """The refusal of an authentication method that a token does not fit."""
    name = plugin.decode("ascii", "replace")[:64]
    advice = "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'"
    if name == "dialog":
        advice += "; on MariaDB with PAM, set pam_use_cleartext_plugin"
    return Refused(
        Reason.DATABASE_REFUSED,
        f"the database asks {user!r} for {name}, and a token fits mysql_clear_password alone: check that the user "
        f"exists and is set up for IAM ({advice})",
        decision_id=decision_id,
    )


def still_rejected(error: CredentialRejected, fresh: SealedGrant) -> Refused:
    """The refusal after a second, fresh credential was rejected as well. Short: clients keep 512 bytes."""
    user, endpoint = fresh.user, fresh.location.endpoint
    return Refused(
        Reason.DATABASE_REFUSED,
        f"{endpoint} refused a fresh token for {user!r} ({error.error.code}). Likely: the role lacks rds-db:connect on "
        f"dbuser:RESOURCE-ID/{user}; the user is not IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'; IAM "
        "authentication is off on the instance; a CNAME is registered instead of its endpoint",
        decision_id=fresh.decision_id,
    )


def encode(refusal: Refused, sequence: int, *, early: bool = False) -> bytes:
    """A refusal as an ERR packet, or the server's own when that is what it is. `early`: the client has said nothing."""
    if isinstance(refusal, UpstreamError):
        error: ServerError = refusal.error
        return frame(error_packet(error.code, error.sqlstate or "HY000", error.text.encode()), sequence)
    row = NATIVE_ROWS[refusal.reason]
    code, state = (SHUTDOWN, "08S01") if isinstance(refusal, ServerChanged) else (row.code, row.sqlstate)
    return frame(error_packet(code, "" if early else state, _text(refusal, row.hint)), sequence)


def _text(refusal: Refused, hint: str) -> bytes:
    decision = f", decision {refusal.decision_id[:64]}" if refusal.decision_id else ""
    named = f" [{refusal.reason}{decision}]".encode()
    said = f"tollbridge: {refusal.message}".encode("utf-8", "replace")
    room = MESSAGE_BYTES - len(named)
    if len(said) > room:
        said = said[: room - 3].decode("utf-8", "ignore").encode() + b"..."
    text = said + named
    more = f" {hint}".encode()
    return text + more if len(text) + len(more) <= MESSAGE_BYTES else text
