"""Why a request was refused: one enum, one row each. PURE.

A row says which gRPC code carries the reason, whether the same request can succeed later without anybody changing
anything, and who can fix it. The enum is the twin of `tollbridge.v1.Reason`; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Reason(StrEnum):
    """Why not. The value is the name in tollbridge.v1.Reason without its prefix."""

    INVALID_REQUEST = "INVALID_REQUEST"
    CALLER_UNIDENTIFIED = "CALLER_UNIDENTIFIED"
    CALLER_NOT_ALLOWED = "CALLER_NOT_ALLOWED"

    DATABASE_UNKNOWN = "DATABASE_UNKNOWN"
    DATABASE_NOT_ALLOWED = "DATABASE_NOT_ALLOWED"
    DB_USER_NOT_ALLOWED = "DB_USER_NOT_ALLOWED"
    DB_NAME_NOT_ALLOWED = "DB_NAME_NOT_ALLOWED"
    DENIED_BY_RULE = "DENIED_BY_RULE"
    PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD = "PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD"
    PROXY_MAY_NOT_SERVE_DATABASE = "PROXY_MAY_NOT_SERVE_DATABASE"

    BASE_CREDENTIALS_MISSING = "BASE_CREDENTIALS_MISSING"
    ASSUME_ROLE_DENIED = "ASSUME_ROLE_DENIED"
    ASSUME_ROLE_INVALID = "ASSUME_ROLE_INVALID"
    ACCOUNT_MISMATCH = "ACCOUNT_MISMATCH"
    PARTITION_MISMATCH = "PARTITION_MISMATCH"
    CLOCK_SKEWED = "CLOCK_SKEWED"
    AWS_THROTTLED = "AWS_THROTTLED"
    AWS_UNAVAILABLE = "AWS_UNAVAILABLE"
    PRODUCT_UNSUPPORTED = "PRODUCT_UNSUPPORTED"
    CREDENTIAL_DENIED = "CREDENTIAL_DENIED"
    CREDENTIAL_INVALID = "CREDENTIAL_INVALID"

    BROKER_UNAVAILABLE = "BROKER_UNAVAILABLE"
    BROKER_OVERLOADED = "BROKER_OVERLOADED"
    INTERNAL = "INTERNAL"

    DATABASE_EXISTS = "DATABASE_EXISTS"
    REVISION_CONFLICT = "REVISION_CONFLICT"
    REGISTRY_UNAVAILABLE = "REGISTRY_UNAVAILABLE"
    REGISTRY_DISABLED = "REGISTRY_DISABLED"

    DATABASE_REFUSED = "DATABASE_REFUSED"
    UPSTREAM_UNREACHABLE = "UPSTREAM_UNREACHABLE"
    UPSTREAM_TLS_REFUSED = "UPSTREAM_TLS_REFUSED"
    UPSTREAM_TLS_UNVERIFIED = "UPSTREAM_TLS_UNVERIFIED"
    UPSTREAM_PROTOCOL = "UPSTREAM_PROTOCOL"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    UPSTREAM_CLOSED = "UPSTREAM_CLOSED"

    CLIENT_PROTOCOL = "CLIENT_PROTOCOL"
    CLIENT_TLS_REQUIRED = "CLIENT_TLS_REQUIRED"
    CLIENT_UNIDENTIFIED = "CLIENT_UNIDENTIFIED"
    HANDSHAKE_TIMEOUT = "HANDSHAKE_TIMEOUT"
    FEATURE_REFUSED = "FEATURE_REFUSED"
    TOO_MANY_CONNECTIONS = "TOO_MANY_CONNECTIONS"
    DRAINING = "DRAINING"
    SESSION_IDLE = "SESSION_IDLE"
    SESSION_TOO_LONG = "SESSION_TOO_LONG"
    LOGIN_RATE_LIMITED = "LOGIN_RATE_LIMITED"


class Fixer(StrEnum):
    """Who can make the request succeed."""

    CALLER = "caller"
    OPERATOR = "operator"
    AWS = "AWS"


class Code(StrEnum):
    """The gRPC status codes in use, by name."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    ABORTED = "ABORTED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Row:
    """What follows from a reason."""

    code: Code
    retryable: bool
    """The same request may succeed later although nobody changed anything."""
    fixer: Fixer


def _rows() -> dict[Reason, Row]:
    caller, operator, aws = Fixer.CALLER, Fixer.OPERATOR, Fixer.AWS
    return {
        Reason.INVALID_REQUEST: Row(Code.INVALID_ARGUMENT, False, caller),
        Reason.CALLER_UNIDENTIFIED: Row(Code.UNAUTHENTICATED, False, operator),
        Reason.CALLER_NOT_ALLOWED: Row(Code.PERMISSION_DENIED, False, operator),
        Reason.DATABASE_UNKNOWN: Row(Code.NOT_FOUND, False, caller),
        Reason.DATABASE_NOT_ALLOWED: Row(Code.PERMISSION_DENIED, False, operator),
        Reason.DB_USER_NOT_ALLOWED: Row(Code.PERMISSION_DENIED, False, operator),
        Reason.DB_NAME_NOT_ALLOWED: Row(Code.PERMISSION_DENIED, False, operator),
        Reason.DENIED_BY_RULE: Row(Code.PERMISSION_DENIED, False, operator),
        Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD: Row(Code.PERMISSION_DENIED, False, operator),
        Reason.PROXY_MAY_NOT_SERVE_DATABASE: Row(Code.PERMISSION_DENIED, False, operator),
        Reason.BASE_CREDENTIALS_MISSING: Row(Code.UNAVAILABLE, True, operator),
        Reason.ASSUME_ROLE_DENIED: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.ASSUME_ROLE_INVALID: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.ACCOUNT_MISMATCH: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.PARTITION_MISMATCH: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.CLOCK_SKEWED: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.AWS_THROTTLED: Row(Code.RESOURCE_EXHAUSTED, True, aws),
        Reason.AWS_UNAVAILABLE: Row(Code.UNAVAILABLE, True, aws),
        Reason.PRODUCT_UNSUPPORTED: Row(Code.UNIMPLEMENTED, False, operator),
        Reason.CREDENTIAL_DENIED: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.CREDENTIAL_INVALID: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.BROKER_UNAVAILABLE: Row(Code.UNAVAILABLE, True, operator),
        Reason.BROKER_OVERLOADED: Row(Code.RESOURCE_EXHAUSTED, True, operator),
        Reason.INTERNAL: Row(Code.INTERNAL, False, operator),
        Reason.DATABASE_EXISTS: Row(Code.ALREADY_EXISTS, False, caller),
        Reason.REVISION_CONFLICT: Row(Code.ABORTED, False, caller),
        Reason.REGISTRY_UNAVAILABLE: Row(Code.UNAVAILABLE, True, operator),
        Reason.REGISTRY_DISABLED: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.DATABASE_REFUSED: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.UPSTREAM_UNREACHABLE: Row(Code.UNAVAILABLE, True, operator),
        Reason.UPSTREAM_TLS_REFUSED: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.UPSTREAM_TLS_UNVERIFIED: Row(Code.FAILED_PRECONDITION, False, operator),
        Reason.UPSTREAM_PROTOCOL: Row(Code.INTERNAL, False, operator),
        Reason.UPSTREAM_TIMEOUT: Row(Code.UNAVAILABLE, True, operator),
        Reason.UPSTREAM_CLOSED: Row(Code.UNAVAILABLE, True, operator),
        Reason.CLIENT_PROTOCOL: Row(Code.INVALID_ARGUMENT, False, caller),
        Reason.CLIENT_TLS_REQUIRED: Row(Code.FAILED_PRECONDITION, False, caller),
        Reason.CLIENT_UNIDENTIFIED: Row(Code.UNAUTHENTICATED, False, caller),
        Reason.HANDSHAKE_TIMEOUT: Row(Code.UNAVAILABLE, True, caller),
        Reason.FEATURE_REFUSED: Row(Code.FAILED_PRECONDITION, False, caller),
        Reason.TOO_MANY_CONNECTIONS: Row(Code.RESOURCE_EXHAUSTED, True, operator),
        Reason.DRAINING: Row(Code.UNAVAILABLE, True, operator),
        Reason.SESSION_IDLE: Row(Code.UNAVAILABLE, True, caller),
        Reason.SESSION_TOO_LONG: Row(Code.UNAVAILABLE, True, caller),
        Reason.LOGIN_RATE_LIMITED: Row(Code.RESOURCE_EXHAUSTED, True, operator),
    }


ROWS: Final = MappingProxyType(_rows())
"""Every reason's row."""

OPERATORS_ONLY: Final = frozenset(
    {
        Reason.DATABASE_EXISTS,
        Reason.REVISION_CONFLICT,
        Reason.REGISTRY_UNAVAILABLE,
        Reason.REGISTRY_DISABLED,
    }
)
"""Answers to those who run the broker. No login ends with one, so engines have no words for them."""

LOGIN_REASONS: Final = tuple(reason for reason in Reason if reason not in OPERATORS_ONLY)
"""What a login can end with."""

ERROR_DOMAIN: Final = "tollbridge"
"""`domain` of google.rpc.ErrorInfo."""
