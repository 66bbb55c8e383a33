"""How no is said: an error document with a code that drivers know. PURE.

https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml (numbers and names of the codes);
https://github.com/mongodb/specifications/blob/master/source/retryable-writes/retryable-writes.md (what drivers retry)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.engines.mongodb import bson
from proxy.engines.mongodb.bson import Element
from proxy.engines.mongodb.wire import OP_MSG, Header, Message, reply
from proxy.errors import Refused
from proxy.model import SealedGrant
from tollbridge.reasons import Reason

MESSAGE_LIMIT: Final = 2_000
SECRET_CHARACTERS: Final = 16
"""So many characters of a secret in a row are taken for the secret."""
TEXT_LIMIT: Final = 300
"""Characters of a server's own error that are repeated."""
NOBODY: Final = Header(0, 0, 0, OP_MSG)
"""What is answered when nothing was asked."""


@dataclass(frozen=True, slots=True)
class NativeRow:
    """A reason, as MongoDB says it."""

    code: int
    name: str
    hint: str


UNAUTHORIZED, FAILED, PROTOCOL = (13, "Unauthorized"), (18, "AuthenticationFailed"), (17, "ProtocolError")
BUSY, AWAY = (262, "ExceededTimeLimit"), (6, "HostUnreachable")
SHUTDOWN, BAD = (91, "ShutdownInProgress"), (2, "BadValue")
UNSUPPORTED, INTERNAL = (115, "CommandNotSupported"), (1, "InternalError")


def _rows() -> Mapping[Reason, NativeRow]:
    rule = "the operator must add a rule to `access:` in the broker that allows this"
    later = "try again in some seconds"
    rows = {
        Reason.INVALID_REQUEST: (*BAD, "check the role and the name of the database"),
        Reason.CALLER_UNIDENTIFIED: (*FAILED, "the operator must give this proxy a certificate with one SPIFFE URI"),
        Reason.CALLER_NOT_ALLOWED: (*UNAUTHORIZED, "the operator must list this proxy under `proxies:` in the broker"),
        Reason.DATABASE_UNKNOWN: (*BAD, "have the operator check the listener's database, or register it"),
        Reason.DATABASE_NOT_ALLOWED: (*UNAUTHORIZED, f"{rule} database for your workload"),
        Reason.DB_USER_NOT_ALLOWED: (*UNAUTHORIZED, f"{rule} role (`db_users`) for your workload"),
        Reason.DB_NAME_NOT_ALLOWED: (*UNAUTHORIZED, f"{rule} name (`db_names`) for your workload"),
        Reason.DENIED_BY_RULE: (*UNAUTHORIZED, "a deny rule wins over every allow: the operator must change that rule"),
        Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD: (
            *UNAUTHORIZED, "the operator must add your workload to this proxy's row under `proxies:` in the broker"
        ),
        Reason.PROXY_MAY_NOT_SERVE_DATABASE: (
            *UNAUTHORIZED, "the operator must add this database to the proxy's row under `proxies:` in the broker"
        ),
        Reason.BASE_CREDENTIALS_MISSING: (*AWAY, "the operator must give the broker AWS credentials"),
        Reason.ASSUME_ROLE_DENIED: (
            *UNAUTHORIZED,
            "check the role's name, trust policy and external ID, and that the broker may call sts:AssumeRole on it",
        ),
        Reason.ASSUME_ROLE_INVALID: (*BAD, "correct assume_role_arn, external_id, tags or session policy of it"),
        Reason.ACCOUNT_MISMATCH: (*BAD, "the role must belong to the account that the database is in"),
        Reason.PARTITION_MISMATCH: (*BAD, "the role's AWS partition must be that of the broker's identity"),
        Reason.CLOCK_SKEWED: (*INTERNAL, "set the broker's clock: run NTP or chrony on its host"),
        Reason.AWS_THROTTLED: (*BUSY, f"{later}: AWS is limiting calls of this account"),
        Reason.AWS_UNAVAILABLE: (*AWAY, f"{later}; check the broker's way to AWS STS"),
        Reason.PRODUCT_UNSUPPORTED: (*UNSUPPORTED, "upgrade the broker, or register a product that it can log in to"),
        Reason.CREDENTIAL_DENIED: (*UNAUTHORIZED, "the IAM role lacks a permission: the message names it"),
        Reason.CREDENTIAL_INVALID: (*BAD, "correct what the broker knows of this database: name, region, account"),
        Reason.BROKER_UNAVAILABLE: (*AWAY, f"{later}; the operator should check the broker and the way to it"),
        Reason.BROKER_OVERLOADED: (*BUSY, f"{later}, with fewer logins at a time"),
        Reason.INTERNAL: (*INTERNAL, "a defect of tollbridge: give the operator the time and this message"),
        Reason.DATABASE_REFUSED: (*FAILED, "check that $external has a user that is the role's ARN"),
        Reason.UPSTREAM_UNREACHABLE: (*AWAY, "check DNS, security groups and routes from the proxy to the endpoint"),
        Reason.UPSTREAM_TLS_REFUSED: (*AWAY, "turn TLS on in the cluster: no proof is sent without it"),
        Reason.UPSTREAM_TLS_UNVERIFIED: (*AWAY, "check trust store, server name and certificate in its registration"),
        Reason.UPSTREAM_PROTOCOL: (*PROTOCOL, "check that the registered endpoint is DocumentDB"),
        Reason.UPSTREAM_TIMEOUT: (*AWAY, "try again; check whether the database is starting or overloaded"),
        Reason.UPSTREAM_CLOSED: (*AWAY, "try again; check whether the database is restarting or failing over"),
        Reason.CLIENT_PROTOCOL: (*PROTOCOL, "check that your driver speaks MongoDB's OP_MSG to this port"),
        Reason.CLIENT_TLS_REQUIRED: (*PROTOCOL, "connect with tls=true"),
        Reason.CLIENT_UNIDENTIFIED: (
            *FAILED, "connect with tls=true and a tlsCertificateKeyFile that carries exactly one SPIFFE URI"
        ),
        Reason.HANDSHAKE_TIMEOUT: (*BUSY, "try again, and send hello without a pause"),
        Reason.FEATURE_REFUSED: (*UNSUPPORTED, "connect without this feature, or straight to the database"),
        Reason.TOO_MANY_CONNECTIONS: (*BUSY, "set maxPoolSize lower, or have the operator raise `max_connections`"),
        Reason.DRAINING: (*SHUTDOWN, "connect again: another replica takes the session"),
        Reason.SESSION_IDLE: (*SHUTDOWN, "connect again, set maxIdleTimeMS, or have `idle_seconds` raised"),
        Reason.SESSION_TOO_LONG: (*SHUTDOWN, "connect again"),
        Reason.LOGIN_RATE_LIMITED: (*BUSY, "wait as long as the message says, or keep connections in the pool"),
    }  # fmt: skip
    return {reason: NativeRow(code, name, hint) for reason, (code, name, hint) in rows.items()}


NATIVE_ROWS: Final[Mapping[Reason, NativeRow]] = MappingProxyType(dict(_rows()))
"""Every reason that a login or a session can end with."""


class ServerError(Refused):
    """The server refused a step of the login; its own words go to the client, unless they repeat one of `secrets`."""

    def __init__(self, answer: Mapping[str, Element], *secrets: str) -> None:
        said = answer.get("errmsg")
        code = answer.get("code")
        words = said.value[4:-1].decode(errors="replace") if said and said.kind == bson.STRING else "no reason given"
        quotes = any(secret and secret[:SECRET_CHARACTERS] in words for secret in secrets)
        self.text = "(an error that quotes the proof; not shown)" if quotes else words[:TEXT_LIMIT]
        self.code = int(code.number()) if code and code.kind in (bson.INT32, bson.INT64) else 0
        super().__init__(Reason.DATABASE_REFUSED, f"the database refused the login: {self.text} (code {self.code})")


class CredentialRejected(ServerError):
    """The server was shown the proof and did not take it."""


def still_rejected(error: CredentialRejected, fresh: SealedGrant) -> Refused:
    """The refusal after a second, fresh proof was rejected as well."""
    return Refused(
        Reason.DATABASE_REFUSED,
        f"{fresh.location.endpoint} refused a fresh proof of {fresh.user!r} ({error.text}). The likely causes are: "
        "$external has no user that is the role's ARN with mechanism MONGODB-AWS; the cluster is older than 5.0 or "
        "elastic; the cluster's own calls to STS are throttled or cannot leave its network",
        decision_id=fresh.decision_id,
    )


def error_document(code: int, name: str, message: str) -> bytes:
    """As servers word an error."""
    return bson.write(
        (
            bson.double("ok", 0.0),
            bson.string("errmsg", message),
            bson.int32("code", code),
            bson.string("codeName", name),
        )
    )


def document(refusal: Refused) -> bytes:
    """A refusal as an error document: the useful part first."""
    row = NATIVE_ROWS.get(refusal.reason, NATIVE_ROWS[Reason.INTERNAL])
    decision = f", decision {refusal.decision_id}" if refusal.decision_id else ""
    message = f"tollbridge: {refusal.message[:MESSAGE_LIMIT]} [{refusal.reason}{decision}]: {row.hint}"
    return error_document(row.code, row.name, message)


class Voice:
    """Says no to the question that was asked last, in its own form: an answer to another would be taken for garbage."""

    def __init__(self) -> None:
        self._to = NOBODY

    def heard(self, question: Message | Header) -> None:
        """This is what waits for an answer."""
        self._to = question.header if isinstance(question, Message) else question

    def encode(self, refusal: Refused) -> bytes:
        """A refusal as the answer."""
        return reply(self._to, document(refusal))
