"""OpenSearch's errors: how the proxy says no, and what upstream's no means. PURE.

Clients retry by status: 502, 503 and 504 are tried again by most, 429 by bulk helpers and by people; everything else is
not. An error has the shape of OpenSearch's own, and its content type, without which clients cannot read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.errors import Refused
from proxy.http.heads import ResponseHead
from proxy.http.model import RefusalRow, Reply, Verdict, said
from tollbridge.reasons import Reason

CONTENT_TYPE: Final = "application/json; charset=UTF-8"
_RETRY_SOON: Final = (("Retry-After", "1"),)

_REJECTED: Final = (
    b"The security token included in the request",  # ...is expired, ...is invalid
    b"The request signature we calculated does not match",
    b"InvalidSignatureException",
    b"InvalidSignature",
    b"InvalidClientTokenId",
    b"UnrecognizedClientException",
    b"ExpiredToken",
    b"IncompleteSignature",
    b"Missing Authentication Token",
    b"MissingAuthenticationToken",
    b"Credential should be scoped to",
)
_TIME: Final = (b"Signature expired", b"Signature not yet current")
_ABOUT_US: Final = (*_REJECTED, *_TIME)
_HINT: Final = b"x-aoss-response-hint"
_GATE: Final = b"gw-helper-deny"


def _rows() -> Mapping[Reason, RefusalRow]:
    denied, invalid, unavailable = (403, "security_exception"), (400, "illegal_argument_exception"), 503
    broken, limited = (unavailable, "service_unavailable_exception"), (429, "rejected_execution_exception")
    later, account = "try again in a moment", "the operator must correct the role chain of this database"
    rows = {
        Reason.INVALID_REQUEST: (invalid, "correct the request or the client's settings"),
        Reason.CALLER_UNIDENTIFIED: (denied, "the operator must give the proxy a certificate with one SPIFFE URI"),
        Reason.CALLER_NOT_ALLOWED: (denied, "the operator must list this proxy in the broker's `proxies:`"),
        Reason.DATABASE_UNKNOWN: (
            (404, "resource_not_found_exception"),
            "check the database's name, and that the broker lists it for this proxy",
        ),
        Reason.DATABASE_NOT_ALLOWED: (denied, "ask for an access rule that names this workload and database"),
        Reason.DB_USER_NOT_ALLOWED: (denied, "be a role that a rule allows: it is the access key id you sign with"),
        Reason.DB_NAME_NOT_ALLOWED: (denied, "ask for an access rule that allows it"),
        Reason.DENIED_BY_RULE: (denied, "a deny rule of the broker says no; ask the operator"),
        Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD: (denied, "the operator must add the workload to the proxy's row"),
        Reason.PROXY_MAY_NOT_SERVE_DATABASE: (denied, "the operator must add the database to the proxy's row"),
        Reason.BASE_CREDENTIALS_MISSING: (broken, "the operator must give the broker AWS credentials"),
        Reason.ASSUME_ROLE_DENIED: (
            denied, "check the role's name, trust policy and external ID, and who may call sts:AssumeRole on it"
        ),
        Reason.ASSUME_ROLE_INVALID: (denied, account),
        Reason.ACCOUNT_MISMATCH: (denied, account),
        Reason.PARTITION_MISMATCH: (denied, account),
        Reason.CLOCK_SKEWED: (denied, "set the clock: run NTP or chrony on the host that the message names"),
        Reason.AWS_THROTTLED: (limited, f"{later}: AWS is limiting calls of this account"),
        Reason.AWS_UNAVAILABLE: (broken, f"{later}; check the broker's way to AWS STS"),
        Reason.PRODUCT_UNSUPPORTED: (denied, "upgrade the broker, or register a product that it can sign for"),
        Reason.CREDENTIAL_DENIED: (denied, "the IAM role lacks a permission"),
        Reason.CREDENTIAL_INVALID: (denied, "correct what the broker knows of this database: region, account"),
        Reason.BROKER_UNAVAILABLE: (broken, f"{later}; the operator should check the broker and the way to it"),
        Reason.BROKER_OVERLOADED: (limited, f"{later}, with fewer requests at a time"),
        Reason.INTERNAL: ((500, "internal_error"), "a defect of tollbridge: give the operator the time and this text"),
        Reason.DATABASE_REFUSED: (denied, "check the access policy, the role mapping and the clock of the proxy"),
        Reason.UPSTREAM_UNREACHABLE: (broken, "check DNS, security groups and routes from the proxy to the endpoint"),
        Reason.UPSTREAM_TLS_REFUSED: (denied, "nothing is sent without TLS: check the endpoint and its port"),
        Reason.UPSTREAM_TLS_UNVERIFIED: (denied, "check trust store, server name and certificate in its registration"),
        Reason.UPSTREAM_PROTOCOL: ((502, "bad_gateway"), "check that the registered endpoint is OpenSearch"),
        Reason.UPSTREAM_TIMEOUT: ((504, "timeout_exception"), f"{later}; check whether the endpoint is overloaded"),
        Reason.UPSTREAM_CLOSED: ((502, "bad_gateway"), later),
        Reason.CLIENT_PROTOCOL: (invalid, "check that your client speaks HTTP/1.1 here"),
        Reason.CLIENT_TLS_REQUIRED: (denied, "connect with https"),
        Reason.CLIENT_UNIDENTIFIED: (denied, "connect over TLS with a client certificate of exactly one SPIFFE URI"),
        Reason.HANDSHAKE_TIMEOUT: ((503, "timeout_exception"), "send requests without long pauses"),
        Reason.FEATURE_REFUSED: (invalid, "connect without this feature, or straight to the domain"),
        Reason.TOO_MANY_CONNECTIONS: (limited, "use a smaller pool, or have the operator raise `max_connections`"),
        Reason.DRAINING: (broken, "connect again: another replica answers"),
        Reason.SESSION_IDLE: (broken, "connect again"),
        Reason.SESSION_TOO_LONG: (broken, "connect again"),
        Reason.LOGIN_RATE_LIMITED: (limited, "wait as long as the message says, or keep connections in a pool"),
    }  # fmt: skip
    return {
        reason: RefusalRow(status, kind, hint, _RETRY_SOON if status in (429, unavailable) else ())
        for reason, ((status, kind), hint) in rows.items()
    }


NATIVE_ROWS: Final[Mapping[Reason, RefusalRow]] = MappingProxyType(dict(_rows()))
"""Every reason, as OpenSearch says it."""

_BY_STATUS: Final = MappingProxyType({408: "timeout_exception", 413: "request_entity_too_large"})


def reply(refusal: Refused, status: int | None = None) -> Reply:
    """A refusal as a client reads it."""
    row = NATIVE_ROWS[refusal.reason]
    kind = row.kind if status is None else _BY_STATUS.get(status, row.kind)
    number = status or row.status
    cause = {"type": kind, "reason": said(refusal, row.hint)}
    body = {"error": {"root_cause": [cause], **cause}, "status": number}
    return Reply(status=number, content_type=CONTENT_TYPE, body=json.dumps(body).encode(), headers=row.headers)


def judge(head: ResponseHead, body: bytes) -> Verdict:
    """Whether AWS's front refused our signature, or the service what the client asks."""
    if _GATE in head.value(_HINT):
        return Verdict.REJECTED
    if not any(text in body for text in _ABOUT_US) or _is_opensearchs(body):
        return Verdict.TAKEN
    return Verdict.SKEWED if any(text in body for text in _TIME) else Verdict.REJECTED


def _is_opensearchs(body: bytes) -> bool:
    """Whether an error is the service's own: those have an `error` at their top, and repeat what was searched for,
    which can be any of AWS's words. AWS's front says a `message`."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and "error" in said


def probed(head: ResponseHead, body: bytes) -> str:
    """What the answer to the probe shows. Raises Refused."""
    if head.status < 400:
        return f"{head.status}, signature accepted"
    if head.status == 404:
        return "signature accepted (404 at /, as serverless collections answer)"
    text = body[:200].decode("utf-8", "replace")
    if head.status == 403 and ("no permissions for" in text or "is not authorized to perform" in text):
        return "signature accepted (the role may not read /, which this check does not need)"
    raise Refused(Reason.DATABASE_REFUSED, f"the endpoint answered {head.status}: {text}")
