"""The one place where errors of AWS and its SDK become ours: by code, never by message text.

STS gives one AccessDenied for a missing permission, a trust policy, an external ID and a role that does not exist, so
the refusal lists every likely cause with its fix and claims none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    ConnectionError,  # noqa: A004 - the SDK's own
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from broker.errors import BrokerError
from broker.model import AccountSession, Hop
from broker.policies.statements import principal_of
from broker.sessions.errors import SessionGone
from tollbridge.reasons import Reason

SDK_ERRORS: Final = (ClientError, BotoCoreError, ResponseParserError)
"""What a call through the SDK raises. A garbled answer is a ResponseParserError, which is no BotoCoreError."""
CREDENTIAL_ERRORS: Final = (*SDK_ERRORS, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError)
"""What reading credentials raises: also a token file that is missing, JSON that is none or another kind of value than
the SDK takes for granted, credentials found expired."""

SKEWED_SECONDS: Final = 300.0
"""AWS refuses signatures that are further from its time than this."""
_DETAIL_MAX: Final = 300


class Kind(StrEnum):
    """What a failed call means for us."""

    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    DENIED = "denied"
    GONE = "gone"
    """AWS no longer knows the keys that signed the call."""
    SIGNATURE = "signature"
    INVALID = "invalid"
    NO_CREDENTIALS = "no credentials"


TRANSIENT: Final = frozenset({Kind.THROTTLED, Kind.UNAVAILABLE})
"""Worth another attempt."""

_CODES: Final = {
    **dict.fromkeys(
        (
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "RequestLimitExceeded",
            "TooManyRequestsException",
            "BandwidthLimitExceeded",
            "ProvisionedThroughputExceededException",
            "SlowDown",
            "PriorRequestNotComplete",
        ),
        Kind.THROTTLED,
    ),
    **dict.fromkeys(
        (
            "IDPCommunicationError",
            "InternalError",
            "InternalFailure",
            "InternalServerError",
            "RequestTimeout",
            "RequestTimeoutException",
            "ServiceUnavailable",
            "InternalServerException",
            "ServiceUnavailableException",
        ),
        Kind.UNAVAILABLE,
    ),
    **dict.fromkeys(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"), Kind.DENIED),
    **dict.fromkeys(
        (
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "UnrecognizedClientException",
        ),
        Kind.GONE,
    ),
    **dict.fromkeys(
        ("SignatureDoesNotMatch", "InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"),
        Kind.SIGNATURE,
    ),
}


class AwsFault(Exception):
    """A failed call, judged. Stays inside `broker.aws`."""

    def __init__(self, kind: Kind, code: str, detail: str = "") -> None:
        super().__init__(f"{code} ({kind})")
        self.kind = kind
        self.code = code
        self.detail = detail
        """For a person; may quote what was sent, so it is shown redacted or not at all."""


def fault_of(error: Exception) -> AwsFault:
    """Judge what a call raised."""
    if isinstance(error, ClientError):
        return _fault_of_answer(error)
    name = type(error).__name__
    if isinstance(error, ConnectionError | HTTPClientError):
        return AwsFault(Kind.UNAVAILABLE, name, str(error.kwargs.get("endpoint_url", "")))
    if isinstance(error, ResponseParserError):
        return AwsFault(Kind.UNAVAILABLE, name)
    if isinstance(error, ParamValidationError):
        return AwsFault(Kind.INVALID, name, str(error))
    if isinstance(error, _NO_CREDENTIALS) or not isinstance(error, BotoCoreError):
        return AwsFault(Kind.NO_CREDENTIALS, name, _provider_of(error))
    return AwsFault(Kind.INVALID, name, str(error))


_NO_CREDENTIALS: Final = (
    ConfigParseError,
    CredentialRetrievalError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)


def _fault_of_answer(error: ClientError) -> AwsFault:
    described = error.response.get("Error", {})
    code = described.get("Code") or "Unknown"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = _CODES.get(code)
    if kind is None:
        kind = Kind.THROTTLED if status == 429 else Kind.UNAVAILABLE if status >= 500 else Kind.INVALID
    return AwsFault(kind, code, described.get("Message") or "")


def _provider_of(error: Exception) -> str:
    """Where credentials were looked for, without what was found there."""
    if isinstance(error, OSError):
        return f"{error.strerror}: {error.filename}" if error.filename else ""
    if isinstance(error, ProfileNotFound | ConfigParseError | PartialCredentialsError):
        return str(error)
    provider = getattr(error, "kwargs", {}).get("provider", "")
    return f"provider {provider}" if provider else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that failed: what its refusal names."""

    operation: str
    """SERVICE:OPERATION, as IAM names it."""
    signer: AccountSession
    region: str
    skew_seconds: float

    @property
    def service(self) -> str:
        """For a person."""
        service = self.operation.partition(":")[0]
        return _TITLES.get(service, service)


_TITLES: Final = {
    "sts": "AWS STS",
    "redshift": "Redshift",
    "redshift-serverless": "Redshift Serverless",
    "rds": "RDS",
    "elasticache": "ElastiCache",
    "memorydb": "MemoryDB",
    "es": "OpenSearch",
}


def refusal(fault: AwsFault, call: Call) -> BrokerError:
    """What a caller is told, where the operation itself has nothing to add."""
    skew = f"; the broker's clock is {_skew(call.skew_seconds)}" if abs(call.skew_seconds) >= 1 else ""
    key = f"access key ...{call.signer.access_key_id[-4:]} of {call.signer.arn or 'the broker'}"
    metadata = {"operation": call.operation, "aws_code": fault.code}
    match fault.kind:
        case Kind.THROTTLED:
            reason = Reason.AWS_THROTTLED
            text = f"AWS throttles {call.operation} in {call.region} ({fault.code}): try again"
            if call.operation.startswith("sts:"):
                text += "; if it lasts, fewer sessions help (longer session_duration, attribution: broker)"
        case Kind.UNAVAILABLE:
            reason = Reason.AWS_UNAVAILABLE
            where = f" at {fault.detail}" if fault.detail.startswith("http") else ""
            text = f"{call.service} in {call.region}{where} does not answer {call.operation} ({fault.code})"
        case Kind.GONE:
            return SessionGone(
                Reason.BASE_CREDENTIALS_MISSING,
                f"AWS no longer accepts {key} ({fault.code}): expired, deactivated, or its role was deleted{skew}."
                " Renew the broker's AWS credentials",
                metadata=metadata,
            )
        case Kind.SIGNATURE if abs(call.skew_seconds) >= SKEWED_SECONDS:
            reason = Reason.CLOCK_SKEWED
            text = (
                f"AWS refuses signatures ({fault.code}) and the broker's clock is {_skew(call.skew_seconds)}: fix NTP"
            )
        case Kind.SIGNATURE:
            reason = Reason.BASE_CREDENTIALS_MISSING
            text = f"AWS refuses the signature of {key} ({fault.code}): the secret access key is another key's{skew}"
        case Kind.NO_CREDENTIALS:
            reason, text = Reason.BASE_CREDENTIALS_MISSING, no_credentials_text(fault)
        case Kind.DENIED:
            reason = Reason.BASE_CREDENTIALS_MISSING
            text = f"AWS denies {call.operation} to {key} ({fault.code})"
        case Kind.INVALID:
            reason = Reason.ASSUME_ROLE_INVALID
            text = f"AWS refuses {call.operation} ({fault.code})"
    return BrokerError(reason, text, metadata=metadata)


def no_credentials_text(fault: AwsFault) -> str:
    """What to do when the SDK's chain has nothing to offer."""
    detail = f": {_clean(fault.detail)}" if fault.detail else ""
    return (
        f"the broker has no usable AWS credentials of its own ({fault.code}{detail}). Give it a role (EC2 instance"
        " profile, ECS task role, EKS Pod Identity or IRSA), or AWS_PROFILE or AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY"
    )


def assume_role_refusal(fault: AwsFault, call: Call, hop: Hop) -> BrokerError:
    """What a caller is told when a role cannot be assumed."""
    metadata = {
        "operation": call.operation,
        "aws_code": fault.code,
        "role": hop.role_arn,
        "broker_identity": call.signer.arn,
    }
    if fault.kind is Kind.DENIED:
        return BrokerError(Reason.ASSUME_ROLE_DENIED, _denied_text(call.signer, hop), metadata=metadata)
    if fault.kind is Kind.INVALID:
        return BrokerError(Reason.ASSUME_ROLE_INVALID, _invalid_text(fault, call, hop), metadata=metadata)
    return refusal(fault, call)


def login_refusal(fault: AwsFault, call: Call, target: str, statements: str) -> BrokerError:
    """What a caller is told when AWS makes no password. `statements` are what the signer's policy needs."""
    metadata = {"operation": call.operation, "aws_code": fault.code, "role": call.signer.arn}
    match fault.kind:
        case Kind.DENIED:
            text = (
                f"AWS denies {call.operation} on {target} to {call.signer.arn} ({fault.code}). Check: (1) its policy"
                f" has {statements}; (2) no service control policy, permissions boundary or session policy forbids it"
            )
            return BrokerError(Reason.CREDENTIAL_DENIED, text, metadata=metadata)
        case Kind.INVALID:
            text = (
                f"AWS refuses {call.operation} on {target} in {call.region} ({fault.code}: {_clean(fault.detail)})."
                " Likely: it is in another region or account, it is paused or being made, or the user or database name"
                " is reserved"
            )
            return BrokerError(Reason.CREDENTIAL_INVALID, text, metadata=metadata)
        case Kind.GONE:
            text = (
                f"{call.service} in {call.region} does not accept the session of {call.signer.arn} ({fault.code}): its"
                " role was deleted, or the region must be enabled in that account"
            )
            return SessionGone(Reason.CREDENTIAL_DENIED, text, metadata=metadata)
        case _:
            return refusal(fault, call)


def described_refusal(fault: AwsFault, call: Call, statements: str) -> BrokerError:
    """What an operator is told when AWS does not describe, list or modify. `statements` are what the signer needs."""
    metadata = {"operation": call.operation, "aws_code": fault.code, "role": call.signer.arn}
    match fault.kind:
        case Kind.DENIED:
            text = (
                f"AWS denies {call.operation} in {call.region} to {call.signer.arn} ({fault.code}). Check: (1) its"
                f" policy has {statements}; (2) no service control policy, permissions boundary or session policy"
                " forbids it"
            )
            return BrokerError(Reason.CREDENTIAL_DENIED, text, metadata=metadata)
        case Kind.INVALID:
            text = f"AWS refuses {call.operation} in {call.region} ({fault.code}: {_clean(fault.detail)})"
            return BrokerError(Reason.CREDENTIAL_INVALID, text, metadata=metadata)
        case Kind.GONE:
            text = (
                f"{call.service} in {call.region} does not accept the session of {call.signer.arn} ({fault.code}): its"
                " role was deleted, or the region must be enabled in that account"
            )
            return SessionGone(Reason.CREDENTIAL_DENIED, text, metadata=metadata)
        case _:
            return refusal(fault, call)


def _denied_text(signer: AccountSession, hop: Hop) -> str:
    action: str | list[str] = ["sts:AssumeRole", "sts:TagSession"] if hop.tags else "sts:AssumeRole"
    allow = {"Effect": "Allow", "Action": action, "Resource": hop.role_arn}
    trust: dict[str, object] = {"Effect": "Allow", "Principal": {"AWS": principal_of(signer.arn)}, "Action": action}
    if hop.external_id:
        trust["Condition"] = {"StringEquals": {"sts:ExternalId": "<external_id>"}}
        sent, ask = "is not the external_id configured here", "the external ID"
    else:
        sent, ask = "asks for an external ID and none is configured here", "whether it wants an external ID"
    # Some protocols cut long messages: all causes stand in brief before any is spelt out.
    return (
        f"AWS denies {signer.arn} to assume {hop.role_arn}. AWS does not say why; check the role's name, {ask} and both"
        " sides' policies:"
        f" (1) the policy of {principal_of(signer.arn)} has {_compact(allow)};"
        f" (2) the role's trust policy has {_compact(trust)};"
        f" (3) the trust policy's condition {sent};"
        " (4) the role does not exist, or its ARN lacks the path;"
        " (5) a service control policy, permissions boundary or session policy forbids it"
    )


def _invalid_text(fault: AwsFault, call: Call, hop: Hop) -> str:
    if fault.code == "RegionDisabledException":
        return f"AWS STS is not activated in region {call.region}: activate it, or choose another STS region"
    if fault.code == "PackedPolicyTooLarge":
        return f"the session tags of role {hop.role_arn} are too long together ({fault.code}): shorten session_tags"
    said = fault.detail
    if hop.external_id:  # before anything is cut: what is left of a cut one would not be recognised
        said = said.replace(hop.external_id.reveal(), "<external_id>")
    said = _clean(said)
    return (
        f"AWS refuses the parameters of sts:AssumeRole on {hop.role_arn} ({fault.code}: {said}). Likely: session"
        f" duration {hop.duration_seconds} s is over the role's MaxSessionDuration (or over 3600 s while the broker"
        " itself runs on a role), or the role ARN, external_id, session name or tags are malformed"
    )


def _skew(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead of'} AWS's"


def _compact(statement: object) -> str:
    return json.dumps(statement, separators=(",", ":"))


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:_DETAIL_MAX]
