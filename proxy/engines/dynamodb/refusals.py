"""DynamoDB's errors: how the proxy says no, and what upstream's no means. PURE.

SDKs retry by the code in `__type` and by the status: a throttling code or 5xx is tried again, everything else is not.
So what can succeed later is a ThrottlingException or a 503, and what cannot is a 4xx of another name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.errors import Refused
from proxy.http.heads import ResponseHead
from proxy.http.model import RefusalRow, Reply, Verdict, said
from tollbridge.reasons import Reason

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
_PREFIX: Final = "com.amazon.coral.service#"

_REJECTED: Final = frozenset(
    {
        b"InvalidSignatureException",
        b"IncompleteSignatureException",
        b"ExpiredTokenException",
        b"ExpiredToken",
        b"UnrecognizedClientException",
        b"InvalidClientTokenId",
        b"MissingAuthenticationTokenException",
        b"SignatureDoesNotMatch",
        b"InvalidAccessKeyId",
        b"RequestExpired",
    }
)
"""Codes that are about our signature and not about what the client asks."""

_CODE: Final = re.compile(rb'"(?:__type|code|Code)"\s*:\s*"(?:[^"#]*#)?([A-Za-z]+)').search
_TIME: Final = (b"Signature expired", b"Signature not yet current", b"RequestExpired")


def _rows() -> Mapping[Reason, RefusalRow]:
    denied, invalid, broken = (403, "AccessDeniedException"), (400, "ValidationException"), (503, "ServiceUnavailable")
    throttled, later = (400, "ThrottlingException"), "try again in a moment"
    account = "the operator must correct the role chain of this database"
    rows = {
        Reason.INVALID_REQUEST: (invalid, "correct the request or the client's settings"),
        Reason.CALLER_UNIDENTIFIED: (denied, "the operator must give the proxy a certificate with one SPIFFE URI"),
        Reason.CALLER_NOT_ALLOWED: (denied, "the operator must list this proxy in the broker's `proxies:`"),
        Reason.DATABASE_UNKNOWN: (
            (400, "ResourceNotFoundException"), "check the database's name, and that the broker lists it for this proxy"
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
        Reason.AWS_THROTTLED: (throttled, f"{later}: AWS is limiting calls of this account"),
        Reason.AWS_UNAVAILABLE: (broken, f"{later}; check the broker's way to AWS STS"),
        Reason.PRODUCT_UNSUPPORTED: (denied, "upgrade the broker, or register a product that it can sign for"),
        Reason.CREDENTIAL_DENIED: (denied, "the IAM role lacks a permission"),
        Reason.CREDENTIAL_INVALID: (denied, "correct what the broker knows of this database: region, account"),
        Reason.BROKER_UNAVAILABLE: (broken, f"{later}; the operator should check the broker and the way to it"),
        Reason.BROKER_OVERLOADED: (throttled, f"{later}, with fewer requests at a time"),
        Reason.INTERNAL: ((500, "InternalFailure"), "a defect of tollbridge: give the operator the time and this text"),
        Reason.DATABASE_REFUSED: (denied, "check the role's session, and the clock of the proxy"),
        Reason.UPSTREAM_UNREACHABLE: (broken, "check DNS, security groups and routes from the proxy to the endpoint"),
        Reason.UPSTREAM_TLS_REFUSED: (denied, "nothing is sent without TLS: check the endpoint and its port"),
        Reason.UPSTREAM_TLS_UNVERIFIED: (denied, "check trust store, server name and certificate in its registration"),
        Reason.UPSTREAM_PROTOCOL: ((502, "InternalFailure"), "check that the registered endpoint is DynamoDB"),
        Reason.UPSTREAM_TIMEOUT: (broken, f"{later}; check whether the endpoint is overloaded"),
        Reason.UPSTREAM_CLOSED: (broken, later),
        Reason.CLIENT_PROTOCOL: ((400, "SerializationException"), "check that your client speaks HTTP/1.1 here"),
        Reason.CLIENT_TLS_REQUIRED: (denied, "connect with https"),
        Reason.CLIENT_UNIDENTIFIED: (denied, "connect over TLS with a client certificate of exactly one SPIFFE URI"),
        Reason.HANDSHAKE_TIMEOUT: ((503, "RequestTimeout"), "send requests without long pauses"),
        Reason.FEATURE_REFUSED: ((400, "UnknownOperationException"), "ask AWS without this proxy"),
        Reason.TOO_MANY_CONNECTIONS: (throttled, "use a smaller pool, or have the operator raise `max_connections`"),
        Reason.DRAINING: (broken, "connect again: another replica answers"),
        Reason.SESSION_IDLE: (broken, "connect again"),
        Reason.SESSION_TOO_LONG: (broken, "connect again"),
        Reason.LOGIN_RATE_LIMITED: (throttled, "wait as long as the message says, or keep connections in a pool"),
    }  # fmt: skip
    return {reason: RefusalRow(status, kind, hint) for reason, ((status, kind), hint) in rows.items()}


NATIVE_ROWS: Final[Mapping[Reason, RefusalRow]] = MappingProxyType(dict(_rows()))
"""Every reason, as DynamoDB says it."""

_BY_STATUS: Final = MappingProxyType({408: "RequestTimeout", 413: "RequestEntityTooLarge"})


def reply(refusal: Refused, status: int | None = None) -> Reply:
    """A refusal as an SDK reads it."""
    row = NATIVE_ROWS[refusal.reason]
    kind = row.kind if status is None else _BY_STATUS.get(status, row.kind)
    body = {"__type": _PREFIX + kind, "message": said(refusal, row.hint)}
    return Reply(status=status or row.status, content_type=CONTENT_TYPE, body=json.dumps(body).encode())


def judge(body: bytes) -> Verdict:
    """What an error body says of our signature."""
    match = _CODE(body)
    if match is None or match[1] not in _REJECTED:
        return Verdict.TAKEN
    return Verdict.SKEWED if any(text in body for text in _TIME) else Verdict.REJECTED


def probed(head: ResponseHead, body: bytes) -> str:
    """What the answer to the probe shows. Raises Refused."""
    match = _CODE(body)
    code = match[1].decode() if match is not None else ""
    if head.status < 400:
        return f"{head.status}, signature accepted"
    if code == "AccessDeniedException":
        return "signature accepted (the role may not call DescribeEndpoints, which this check does not need)"
    if code == "UnknownOperationException":
        return "signature accepted (DescribeEndpoints is not known there)"
    raise Refused(Reason.DATABASE_REFUSED, f"the endpoint answered {head.status} {code or 'without a code'}")
