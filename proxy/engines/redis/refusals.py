"""Every reason as RESP says it: one error line, its code first, then what happened, then the fix. PURE.

Clients branch on the code: WRONGPASS and NOAUTH become authentication errors, NOPERM a permission error, the rest a
plain response error. The line never holds CR or LF, wherever its text came from, and is cut at the end, not in front.
The server's own errors are not translated: `UpstreamError` carries their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.engines.wording import one_line
from proxy.errors import Refused
from proxy.model import SealedGrant
from tollbridge.reasons import Reason

LINE_LIMIT: Final = 1_000
"""Bytes of an error line. Clients show it whole; logs often do not."""
TEXT_LIMIT: Final = 300
"""Characters of the server's own error inside one of ours."""

QUOTE_BYTES: Final = 16
"""So much of a token is no secret: it begins with the cache's name and what is asked of it."""

REJECTED: Final = (b"-WRONGPASS", b"-NOAUTH", b"-ERR invalid password", b"-ERR AUTH failed")
"""How a server says that it does not take the credential: Redis 6 and newer say the first."""

OK: Final = b"+OK\r\n"
NO_SUCH_LOGIN: Final = (
    b"-WRONGPASS this session has its user already and keeps it: tollbridge logs in for you; "
    b"connect again to be another user\r\n"
)


@dataclass(frozen=True, slots=True)
class NativeRow:
    """How one reason is said."""

    code: str
    hint: str


def _rows() -> dict[Reason, NativeRow]:
    rule = "ask the operator for an access rule in the broker's configuration that allows this"
    later = "try again in some seconds"
    rows: dict[Reason, tuple[str, str]] = {
        Reason.INVALID_REQUEST: ("ERR", "correct the user or the options you connect with"),
        Reason.CALLER_UNIDENTIFIED: ("NOPERM", "the operator must give this proxy a certificate with one SPIFFE URI"),
        Reason.CALLER_NOT_ALLOWED: ("NOPERM", "the operator must list this proxy under `proxies:` in the broker"),
        Reason.DATABASE_UNKNOWN: ("ERR", "check the database in the user name or the listener, or have it registered"),
        Reason.DATABASE_NOT_ALLOWED: ("NOPERM", f"{rule} database for your workload"),
        Reason.DB_USER_NOT_ALLOWED: ("NOPERM", f"{rule} user (`db_users`) for your workload"),
        Reason.DB_NAME_NOT_ALLOWED: ("NOPERM", f"{rule} name (`db_names`) for your workload"),
        Reason.DENIED_BY_RULE: ("NOPERM", "a deny rule wins over every allow: the operator must change that rule"),
        Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD: (
            "NOPERM", "the operator must add your workload to this proxy's row under `proxies:` in the broker"
        ),
        Reason.PROXY_MAY_NOT_SERVE_DATABASE: (
            "NOPERM", "the operator must add this database to the proxy's row under `proxies:` in the broker"
        ),
        Reason.BASE_CREDENTIALS_MISSING: ("ERR", "the operator must give the broker AWS credentials"),
        Reason.ASSUME_ROLE_DENIED: (
            "NOPERM",
            "check the role's name, trust policy and external ID, and that the broker may call sts:AssumeRole on it",
        ),
        Reason.ASSUME_ROLE_INVALID: ("ERR", "correct assume_role_arn, external_id, tags or session policy of it"),
        Reason.ACCOUNT_MISMATCH: ("ERR", "assume_role_arn and account_id of it must name the same AWS account"),
        Reason.PARTITION_MISMATCH: ("ERR", "the role's AWS partition must be that of the broker's identity"),
        Reason.CLOCK_SKEWED: ("ERR", "set the broker's clock: run NTP or chrony on its host"),
        Reason.AWS_THROTTLED: ("ERR", f"{later}: AWS is limiting calls of this account"),
        Reason.AWS_UNAVAILABLE: ("ERR", f"{later}; check the broker's way to AWS STS"),
        Reason.PRODUCT_UNSUPPORTED: ("ERR", "upgrade the broker, or register a product that it can log in to"),
        Reason.CREDENTIAL_DENIED: ("NOPERM", "the IAM role that asks AWS for the password lacks a permission"),
        Reason.CREDENTIAL_INVALID: ("ERR", "correct what the broker knows of this database: name, region, account"),
        Reason.BROKER_UNAVAILABLE: ("ERR", f"{later}; the operator should check the broker and the way to it"),
        Reason.BROKER_OVERLOADED: ("ERR", f"{later}, with fewer logins at a time"),
        Reason.INTERNAL: ("ERR", "a defect of tollbridge: give the operator the time and this message"),
        Reason.DATABASE_REFUSED: ("WRONGPASS", "check the user, its user group and the IAM permission to be it"),
        Reason.UPSTREAM_UNREACHABLE: ("ERR", "check DNS, security groups and routes from the proxy to the endpoint"),
        Reason.UPSTREAM_TLS_REFUSED: ("ERR", "turn in-transit encryption on: no credential is sent without it"),
        Reason.UPSTREAM_TLS_UNVERIFIED: ("ERR", "check trust store, server name and certificate in its registration"),
        Reason.UPSTREAM_PROTOCOL: ("ERR", "check that the registered endpoint is Redis or Valkey with TLS"),
        Reason.UPSTREAM_TIMEOUT: ("ERR", "try again; check whether the database is starting or overloaded"),
        Reason.UPSTREAM_CLOSED: ("ERR", "try again; check whether the database is restarting or failing over"),
        Reason.CLIENT_PROTOCOL: ("ERR", "check that your client speaks RESP to this port"),
        Reason.CLIENT_TLS_REQUIRED: ("ERR", "connect with TLS (rediss://)"),
        Reason.CLIENT_UNIDENTIFIED: (
            "NOAUTH", "connect over TLS with a client certificate that carries exactly one SPIFFE URI"
        ),
        Reason.HANDSHAKE_TIMEOUT: ("ERR", "try again, and send the first command without a pause"),
        Reason.FEATURE_REFUSED: ("ERR", "connect without this feature, or straight to the database"),
        Reason.TOO_MANY_CONNECTIONS: ("ERR", "use a smaller pool, or have the operator raise `max_connections`"),
        Reason.DRAINING: ("ERR", "connect again: another replica takes the session"),
        Reason.SESSION_IDLE: ("ERR", "connect again, or have the operator raise `idle_seconds`"),
        Reason.SESSION_TOO_LONG: ("ERR", "connect again"),
        Reason.LOGIN_RATE_LIMITED: ("ERR", "wait as long as the message says, or keep connections in a pool"),
    }  # fmt: skip
    return {reason: NativeRow(code, hint) for reason, (code, hint) in rows.items()}


NATIVE_ROWS: Final[Mapping[Reason, NativeRow]] = MappingProxyType(_rows())
"""Every reason, as RESP says it."""

_REFUSED_COMMANDS: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        b"monitor": "MONITOR shows what everybody does here",
        b"client reply": "CLIENT REPLY OFF and SKIP leave commands without replies, and the login cannot be renewed",
        b"sync": "SYNC copies the whole database",
        b"psync": "PSYNC copies the whole database",
        b"replconf": "REPLCONF is for replicas",
        b"wait": "WAIT knows nothing of what was written over a connection that clients share",
        b"waitaof": "WAITAOF knows nothing of what was written over a connection that clients share",
    }
)
REFUSED_COMMANDS: Final = frozenset({b"monitor", b"sync", b"psync", b"replconf"})
"""Commands that never go upstream, whoever says them."""
UNSHARED_COMMANDS: Final = frozenset({b"wait", b"waitaof"})
"""Commands that would lie to a client whose writes went over a shared connection, also later on one of its own."""


class UpstreamError(Refused):
    """The server refused the login itself, and its own words go to the client unchanged."""

    def __init__(self, line: bytes) -> None:
        said = line[1:].removesuffix(b"\r\n").decode("utf-8", "replace")
        self.native = error_line(said)
        self.text = one_line(said)[:TEXT_LIMIT]
        super().__init__(Reason.DATABASE_REFUSED, f"the database refused the login: {self.text}")


class CredentialRejected(UpstreamError):
    """The server was shown the credential and did not take it."""


def without_password(line: bytes, password: bytes) -> bytes:
    """The server's error, cut where it begins to quote the password: a server that does not know a command (HELLO,
    before Redis 6) says what it was given with it, as far as there is room."""
    at = line.find(password[:QUOTE_BYTES]) if password else -1
    return line if at < 0 else line[:at] + b"(not shown)"


def upstream_error(line: bytes) -> UpstreamError:
    """What an error of the server, in answer to a login, means."""
    return CredentialRejected(line) if line.startswith(REJECTED) else UpstreamError(line)


def still_rejected(error: CredentialRejected, fresh: SealedGrant) -> Refused:
    """The refusal after a second, fresh credential was rejected as well."""
    user, endpoint = fresh.user, fresh.location.endpoint
    return Refused(
        Reason.DATABASE_REFUSED,
        f"{endpoint} refused a fresh credential for user {user!r} ({error.text}). On ElastiCache and MemoryDB the "
        "likely causes are: the user does not exist, is not set to IAM authentication, or is in no user group of this "
        "cache; its user id and user name differ (ElastiCache wants them equal); the assumed role's policy lacks "
        "elasticache:Connect (memorydb:Connect) on both the cache's and the user's ARN; the token was signed for "
        "another name than the replication group's, serverless cache's or cluster's",
        decision_id=fresh.decision_id,
    )


def refused_command(name: bytes) -> bytes:
    """The answer to a command that never goes upstream."""
    unshared = name in UNSHARED_COMMANDS
    fix = "connect through a listener that does not multiplex" if unshared else "connect straight to the database"
    return error_line(f"ERR tollbridge refuses this: {_REFUSED_COMMANDS[name]}; {fix}")


def encode(refusal: Refused) -> bytes:
    """A refusal as an error line, or the server's own when that is what it is."""
    if isinstance(refusal, UpstreamError):
        return refusal.native
    row = NATIVE_ROWS[refusal.reason]
    decision = f", decision {refusal.decision_id}" if refusal.decision_id else ""
    tail = f" [{refusal.reason}{decision}]: {row.hint}"
    room = LINE_LIMIT - len(row.code) - len(tail.encode()) - 20
    message = one_line(refusal.message).encode("utf-8", "replace")[: max(room, 0)].decode("utf-8", "ignore")
    return error_line(f"{row.code} tollbridge: {message}{tail}")


def error_line(text: str) -> bytes:
    """An error reply."""
    return b"-" + one_line(text).encode("utf-8", "replace")[: LINE_LIMIT - 3] + b"\r\n"
