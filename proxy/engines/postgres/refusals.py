"""Every reason as PostgreSQL says it: SQLSTATE, and a hint that names the fix. PURE.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. Drivers and pools read them: 57P01 and 57P03
mean "try again", class 28 "your identity is the problem", class 08 "the connection is". The upstream server's own
errors are not translated: `UpstreamError` carries their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.engines.postgres.causes import likely_causes
from proxy.engines.postgres.wire import Message, error_fields, error_response
from proxy.errors import Refused
from proxy.model import SealedGrant
from proxy.script import UPSTREAM
from tollbridge.reasons import Reason

MESSAGE_LIMIT: Final = 4_000
"""Characters of a message. libpq stops reading a login's error at 30,000 bytes."""
TEXT_LIMIT: Final = 500
"""Characters of the server's own message inside one of ours."""

CREDENTIAL_REJECTED: Final = frozenset({"28000", "28P01"})
"""What a server says when it does not take the credential: PAM (RDS IAM) the first, passwords the second."""


@dataclass(frozen=True, slots=True)
class NativeRow:
    """How one reason is said."""

    sqlstate: str
    hint: str


def _rows() -> dict[Reason, NativeRow]:
    denied = "28000"  # invalid_authorization_specification
    not_now = "57P03"  # cannot_connect_now
    misconfigured = "F0000"  # config_file_error
    unreachable = "08001"  # sqlclient_unable_to_establish_sqlconnection
    protocol = "08P01"  # protocol_violation
    rule = "Ask the operator for an access rule in the broker's configuration that allows this"
    return {
        Reason.INVALID_REQUEST: NativeRow(
            "22023", "Correct the user, the database name or the options you connect with."
        ),
        Reason.CALLER_UNIDENTIFIED: NativeRow(
            denied, "The operator must give this proxy a certificate with exactly one SPIFFE URI."
        ),
        Reason.CALLER_NOT_ALLOWED: NativeRow(
            denied, "The operator must list this proxy under `proxies:` in the broker."
        ),
        Reason.DATABASE_UNKNOWN: NativeRow(
            "3D000", "Check the database in the login name or the listener, or have the operator register it."
        ),
        Reason.DATABASE_NOT_ALLOWED: NativeRow(denied, f"{rule} database for your workload."),
        Reason.DB_USER_NOT_ALLOWED: NativeRow(
            denied, f"Log in as a user you may be, or: {rule} user (`db_users`) for your workload."
        ),
        Reason.DB_NAME_NOT_ALLOWED: NativeRow(
            denied, f"Name another database, or: {rule} one (`db_names`) for your workload."
        ),
        Reason.DENIED_BY_RULE: NativeRow(
            denied, "A deny rule wins over every allow: the operator must change that rule."
        ),
        Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD: NativeRow(
            denied, "The operator must add your workload to this proxy's row under `proxies:` in the broker."
        ),
        Reason.PROXY_MAY_NOT_SERVE_DATABASE: NativeRow(
            denied, "The operator must add this database to the proxy's row under `proxies:` in the broker."
        ),
        Reason.BASE_CREDENTIALS_MISSING: NativeRow(
            not_now, "The operator must give the broker AWS credentials (role, profile, web identity or IMDS)."
        ),
        Reason.ASSUME_ROLE_DENIED: NativeRow(
            denied,
            "AWS gives one answer for every cause. Check: the broker may call sts:AssumeRole on the role; the role "
            "exists; its trust policy names the broker's identity; the external ID matches.",
        ),
        Reason.ASSUME_ROLE_INVALID: NativeRow(
            misconfigured, "Correct assume_role_arn, external_id, tags or session policy of this database."
        ),
        Reason.ACCOUNT_MISMATCH: NativeRow(
            misconfigured, "assume_role_arn and account_id of this database must name the same AWS account."
        ),
        Reason.PARTITION_MISMATCH: NativeRow(
            misconfigured, "The role's AWS partition (aws, aws-cn, aws-us-gov) must be that of the broker's identity."
        ),
        Reason.CLOCK_SKEWED: NativeRow("58000", "Set the broker's clock: run NTP or chrony on its host."),
        Reason.AWS_THROTTLED: NativeRow(not_now, "Try again in some seconds; AWS is limiting calls of this account."),
        Reason.AWS_UNAVAILABLE: NativeRow(not_now, "Try again in some seconds; check the broker's way to AWS STS."),
        Reason.PRODUCT_UNSUPPORTED: NativeRow(
            "0A000", "Upgrade the broker, or register a product that it can log in to."
        ),
        Reason.CREDENTIAL_DENIED: NativeRow(
            denied, "The IAM role that asks AWS for the database's password lacks the permission the message names."
        ),
        Reason.CREDENTIAL_INVALID: NativeRow(
            misconfigured, "Correct what the broker knows of this database: cluster or workgroup, region, account."
        ),
        Reason.BROKER_UNAVAILABLE: NativeRow(
            not_now, "Try again in some seconds; the operator should check the broker and the way to it."
        ),
        Reason.BROKER_OVERLOADED: NativeRow(not_now, "Try again in some seconds, with fewer logins at a time."),
        Reason.INTERNAL: NativeRow(
            "XX000", "This is a defect of tollbridge: give the operator the time and this message."
        ),
        Reason.DATABASE_REFUSED: NativeRow(
            denied, "Check the database user, its grants, and the IAM permission to connect as this user."
        ),
        Reason.UPSTREAM_UNREACHABLE: NativeRow(
            unreachable, "Check DNS, security groups and routes from the proxy to the database's endpoint."
        ),
        Reason.UPSTREAM_TLS_REFUSED: NativeRow(
            unreachable, "Turn TLS on at the database: tollbridge never sends a credential without it."
        ),
        Reason.UPSTREAM_TLS_UNVERIFIED: NativeRow(
            unreachable, "Check the database's trust store, server name and certificate in its registration."
        ),
        Reason.UPSTREAM_PROTOCOL: NativeRow(protocol, "Check that the registered endpoint is a PostgreSQL server."),
        Reason.UPSTREAM_TIMEOUT: NativeRow(
            unreachable, "Try again; check whether the database is starting or overloaded."
        ),
        Reason.UPSTREAM_CLOSED: NativeRow(
            "08006", "Try again; check whether the database is restarting or failing over."
        ),
        Reason.CLIENT_PROTOCOL: NativeRow(
            protocol, "Check that your client speaks PostgreSQL's protocol 3 to this port."
        ),
        Reason.CLIENT_TLS_REQUIRED: NativeRow(
            denied, "Connect with sslmode=verify-full (or at least sslmode=require)."
        ),
        Reason.CLIENT_UNIDENTIFIED: NativeRow(
            denied, "Connect with a client certificate (sslcert, sslkey) that carries exactly one SPIFFE URI."
        ),
        Reason.HANDSHAKE_TIMEOUT: NativeRow("57014", "Try again, and send the login without a pause."),
        Reason.FEATURE_REFUSED: NativeRow("0A000", "Connect without this feature, or straight to the database."),
        Reason.TOO_MANY_CONNECTIONS: NativeRow(
            "53300", "Use fewer connections or a pool, or have the operator raise `max_connections`."
        ),
        Reason.DRAINING: NativeRow("57P01", "Connect again: another replica takes the session."),
        Reason.SESSION_IDLE: NativeRow("57P05", "Connect again, or have the operator raise `idle_seconds`."),
        Reason.SESSION_TOO_LONG: NativeRow("57P01", "Connect again, or have the operator raise `max_session_seconds`."),
        Reason.LOGIN_RATE_LIMITED: NativeRow(
            "53300", "Wait as long as the message says, keep connections in a pool, or have `logins_per_second` raised."
        ),
    }


NATIVE_ROWS: Final[Mapping[Reason, NativeRow]] = MappingProxyType(_rows())
"""Every reason, as PostgreSQL says it."""


class UpstreamError(Refused):
    """The server refused the login itself, and its own words go to the client unchanged."""

    def __init__(self, message: Message) -> None:
        fields = error_fields(message.body, UPSTREAM)
        self.sqlstate = fields.get("C", "")
        self.text = fields.get("M", "")[:TEXT_LIMIT]
        super().__init__(Reason.DATABASE_REFUSED, f"the database refused the login: {self.sqlstate} {self.text}")
        self.native = message.encoded()


class CredentialRejected(UpstreamError):
    """The server asked for the credential, was shown it, and did not take it."""


def upstream_error(message: Message, *, credential_shown: bool) -> UpstreamError:
    """What an ErrorResponse from upstream means."""
    error = UpstreamError(message)
    if credential_shown and error.sqlstate in CREDENTIAL_REJECTED:
        return CredentialRejected(message)
    return error


def still_rejected(error: CredentialRejected, fresh: SealedGrant) -> Refused:
    """The refusal after a second, fresh credential was rejected as well."""
    user, endpoint = fresh.user, fresh.location.endpoint
    return Refused(
        Reason.DATABASE_REFUSED,
        f"{endpoint} refused a fresh credential for user {user!r} ({error.sqlstate} {error.text}). "
        + likely_causes(user, endpoint),
        decision_id=fresh.decision_id,
    )


def encode(refusal: Refused) -> bytes:
    """A refusal as a FATAL ErrorResponse, or the server's own when that is what it is."""
    if isinstance(refusal, UpstreamError):
        return refusal.native
    row = NATIVE_ROWS[refusal.reason]
    decision = f", decision {refusal.decision_id}" if refusal.decision_id else ""
    return error_response(
        (
            ("S", "FATAL"),
            ("V", "FATAL"),
            ("C", row.sqlstate),
            ("M", f"tollbridge: {refusal.message[:MESSAGE_LIMIT]}"),
            ("D", f"Refused by the proxy, not by the database: {refusal.reason}{decision}."),
            ("H", row.hint),
        )
    )
