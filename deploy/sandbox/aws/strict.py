"""What AWS refuses and ministack lets through. Pure: every function returns None or the refusal AWS would answer.

Texts and order are AWS's: the shape of the input, then the role's MaxSessionDuration, then the limit on chained
sessions.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from .calls import Call

CHAINED_SESSION_LIMIT_SECONDS = 3600
MIN_DURATION_SECONDS = 900
MAX_DURATION_SECONDS = 43200
DEFAULT_DURATION_SECONDS = 3600

AUTHENTICATION_CODES = frozenset(
    {
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""Who is calling is settled before what is asked: these answers stand whatever else is wrong with the call."""

# name of the field, its name in AWS's message, least and greatest length, characters
_STRING_FIELDS = (
    ("RoleArn", "roleArn", 20, 2048, r"[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\U0010FFFF]+"),
    ("RoleSessionName", "roleSessionName", 2, 64, r"[\w+=,.@-]*"),
    ("ExternalId", "externalId", 2, 1224, r"[\w+=,.@:\/-]*"),
    ("SourceIdentity", "sourceIdentity", 2, 64, r"[\w+=,.@-]*"),
)
_REQUIRED_FIELDS = frozenset({"RoleArn", "RoleSessionName"})

_UNAUTHENTICATED = {
    "ExpiredToken": ("ExpiredTokenException", "The security token included in the request is expired"),
    "InvalidClientTokenId": ("UnrecognizedClientException", "The security token included in the request is invalid."),
    "MissingAuthenticationToken": ("MissingAuthenticationTokenException", "Request is missing Authentication Token"),
    "RequestTimeTooSkewed": ("InvalidSignatureException", "Signature expired"),
    "SignatureDoesNotMatch": (
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided.",
    ),
}

_ZONE = r"\.(?:amazonaws\.com|api\.aws)"
_DYNAMODB_HOST = re.compile(
    rf"(?:streams[.-])?dynamodb(?:-fips)?\.(?P<region>[a-z0-9-]+){_ZONE}"
    rf"|[0-9]{{12}}\.(?:streams-)?ddb(?:-fips)?\.(?P<region_of_account>[a-z0-9-]+){_ZONE}"
)

_STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error answer, before it is put into the envelope of a protocol."""

    status: int
    code: str
    message: str


def unauthenticated(code: str, *, is_json: bool) -> Refusal:
    """A call whose signer is not known, in a query or JSON service's words. ``code`` is the query services'."""
    json_code, message = _UNAUTHENTICATED[code]
    return Refusal(status=400 if is_json else 403, code=json_code if is_json else code, message=message)


def scope_refusal(call: Call) -> Refusal | None:
    """A signature is good for one service only: the one its credential scope names."""
    if call.service is None or call.signed_service is None or call.signed_service == call.service:
        return None
    message = f"Credential should be scoped to correct service: '{call.service}'. "
    if call.is_json:
        return Refusal(status=400, code="InvalidSignatureException", message=message)
    return Refusal(status=403, code="SignatureDoesNotMatch", message=message)


def dynamodb_host_refusal(call: Call) -> Refusal | None:
    """What DynamoDB's own endpoints take: calls of their API, signed for their region, by no account's root."""
    host = _DYNAMODB_HOST.fullmatch(call.host)
    if host is None:
        return None
    wanted = "DynamoDBStreams_20120810" if "streams" in call.host else "DynamoDB_20120810"
    if call.target != wanted:
        return Refusal(status=400, code="UnknownOperationException", message="")
    if call.access_key_id is None:
        return unauthenticated("MissingAuthenticationToken", is_json=True)
    if call.signed_region != (host["region"] or host["region_of_account"]):
        message = "Credential should be scoped to a valid region. "
        return Refusal(status=400, code="InvalidSignatureException", message=message)
    # The sandbox's own way in, which nobody signs: not here.
    if call.access_key_id.isdigit():
        return unauthenticated("InvalidClientTokenId", is_json=True)
    return None


def assume_role_shape_refusal(parameters: Mapping[str, str]) -> Refusal | None:
    """What AWS checks of AssumeRole's fields before it looks at any role."""
    failures = [failure for field in _STRING_FIELDS for failure in _string_failures(parameters, *field)]
    duration = parameters.get("DurationSeconds")
    if duration is not None:
        if not re.fullmatch(r"[+-]?[0-9]+", duration):
            return Refusal(status=400, code="MalformedInput", message="")
        failures += _duration_failures(duration)
    if not failures:
        return None
    counted = f"{len(failures)} validation error{'s' if len(failures) > 1 else ''} detected"
    return _validation_error(f"{counted}: {'; '.join(failures)}")


def assume_role_duration_refusal(
    parameters: Mapping[str, str], *, max_session_duration: int, caller_is_role_session: bool
) -> Refusal | None:
    """Whether a session may live that long. Call it with a shape that has passed, for a caller who may assume."""
    duration = int(parameters.get("DurationSeconds", DEFAULT_DURATION_SECONDS))
    if duration > max_session_duration:
        return _validation_error("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    if caller_is_role_session and duration > CHAINED_SESSION_LIMIT_SECONDS:
        return _validation_error(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
        )
    return None


def assume_role_denied(caller_arn: str, role_arn: str) -> Refusal:
    """AWS's one answer to a wrong external ID, a trust policy without us, a missing role and a missing permission."""
    message = f"User: {caller_arn} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
    return Refusal(status=403, code="AccessDenied", message=message)


def session_outlived_its_role(user_id: str, current_role_id: str | None) -> bool:
    """A session belongs to the role's unique id, so that a role made again under the same name does not revive it."""
    return user_id.partition(":")[0] != current_role_id


def session_token(randomness: bytes) -> str:
    """A session token that looks like AWS's: base64 with its '/', '+' and '='; long when ``randomness`` is."""
    return "IQoJb3JpZ2luX2VjE" + base64.b64encode(randomness).decode("ascii")


def render(refusal: Refusal, *, is_json: bool, request_id: str) -> tuple[str, bytes]:
    """Content type and body of the refusal, in the protocol of the call."""
    if is_json:
        document = {"__type": refusal.code, "message": refusal.message}
        return "application/x-amz-json-1.0", json.dumps(document).encode()
    fault = "Sender" if refusal.status < 500 else "Receiver"
    xml = (
        f'<ErrorResponse xmlns="{_STS_NAMESPACE}"><Error><Type>{fault}</Type><Code>{escape(refusal.code)}</Code>'
        f"<Message>{escape(refusal.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return "text/xml", xml.encode()


def _string_failures(
    parameters: Mapping[str, str], field: str, label: str, least: int, most: int, pattern: str
) -> list[str]:
    value = parameters.get(field)
    if value is None:
        missing = f"Value null at '{label}' failed to satisfy constraint: Member must not be null"
        return [missing] if field in _REQUIRED_FIELDS else []
    constraints = []
    if not re.fullmatch(pattern, value, re.ASCII if field != "RoleArn" else 0):
        constraints.append(f"Member must satisfy regular expression pattern: {pattern}")
    if len(value) < least:
        constraints.append(f"Member must have length greater than or equal to {least}")
    if len(value) > most:
        constraints.append(f"Member must have length less than or equal to {most}")
    return [f"Value '{value}' at '{label}' failed to satisfy constraint: {constraint}" for constraint in constraints]


def _duration_failures(duration: str) -> list[str]:
    seconds = int(duration)
    prefix = f"Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: Member must have value"
    if seconds < MIN_DURATION_SECONDS:
        return [f"{prefix} greater than or equal to {MIN_DURATION_SECONDS}"]
    if seconds > MAX_DURATION_SECONDS:
        return [f"{prefix} less than or equal to {MAX_DURATION_SECONDS}"]
    return []


def _validation_error(message: str) -> Refusal:
    return Refusal(status=400, code="ValidationError", message=message)
