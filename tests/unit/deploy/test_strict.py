"""What AWS refuses and ministack lets through."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

import pytest

from deploy.sandbox.aws.calls import Call, parse_call
from deploy.sandbox.aws.strict import (
    Refusal,
    assume_role_denied,
    assume_role_duration_refusal,
    assume_role_shape_refusal,
    dynamodb_host_refusal,
    render,
    scope_refusal,
    session_outlived_its_role,
    session_token,
    unauthenticated,
)

ROLE_ARN = "arn:aws:iam::222222222222:role/example-role"
WELL_FORMED = {"RoleArn": ROLE_ARN, "RoleSessionName": "tollbridge", "ExternalId": "example-external-id"}
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


def signed_for(service: str) -> dict[str, str]:
    scope = f"ASIAEXAMPLE/20261122/us-west-1/{service}/aws4_request"
    return {"authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"}


def refused_shape(**changes: str | None) -> str | None:
    parameters = {**WELL_FORMED, **changes}
    refusal = assume_role_shape_refusal({name: value for name, value in parameters.items() if value is not None})
    return refusal.message if refusal else None


def test_a_well_formed_call_passes() -> None:
    assert refused_shape() is None
    assert refused_shape(DurationSeconds="900", RoleSessionName="alice@example.com") is None
    assert refused_shape(DurationSeconds="43200", RoleSessionName="a" * 64) is None
    assert refused_shape(ExternalId=None) is None


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"RoleSessionName": "a/b"}, r"'roleSessionName' failed .* regular expression pattern: [\w+=,.@-]*"),
        ({"RoleSessionName": "two words"}, r"'roleSessionName' failed .* regular expression pattern: [\w+=,.@-]*"),
        ({"RoleSessionName": "josé"}, r"'roleSessionName' failed .* regular expression pattern: [\w+=,.@-]*"),
        ({"RoleSessionName": "a"}, "'roleSessionName' failed .* length greater than or equal to 2"),
        ({"RoleSessionName": "a" * 65}, "'roleSessionName' failed .* length less than or equal to 64"),
        ({"RoleSessionName": None}, "Value null at 'roleSessionName' failed .* Member must not be null"),
        ({"RoleArn": "arn:short"}, "'roleArn' failed .* length greater than or equal to 20"),
        ({"ExternalId": "x"}, "'externalId' failed .* length greater than or equal to 2"),
        ({"ExternalId": "a b"}, r"'externalId' failed .* regular expression pattern: [\w+=,.@:\/-]*"),
        ({"DurationSeconds": "899"}, "'durationSeconds' failed .* value greater than or equal to 900"),
        ({"DurationSeconds": "43201"}, "'durationSeconds' failed .* value less than or equal to 43200"),
    ],
)
def test_a_field_outside_its_grammar_is_a_validation_error(changes: Mapping[str, str | None], constraint: str) -> None:
    message = refused_shape(**changes)
    assert message is not None
    assert message.startswith("1 validation error detected: Value ")
    before, _, after = constraint.partition(" .* ")
    assert before in message
    assert message.endswith(after)


def test_several_failures_are_counted_and_joined() -> None:
    message = refused_shape(RoleSessionName="/", DurationSeconds="1")
    assert message is not None
    assert message.startswith("3 validation errors detected: ")
    assert message.count("; ") == 2


def test_a_duration_that_is_no_number_is_malformed() -> None:
    refusal = assume_role_shape_refusal({**WELL_FORMED, "DurationSeconds": "soon"})
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, "MalformedInput")


@pytest.mark.parametrize(
    ("duration", "role_maximum", "chained", "message"),
    [
        (None, 3600, True, None),
        ("3600", 43200, True, None),
        ("43200", 43200, False, None),
        ("3601", 3600, False, "exceeds the MaxSessionDuration set for this role."),
        ("3601", 43200, True, "exceeds the 1 hour session limit for roles assumed by role chaining."),
        # The role's own limit is looked at first.
        ("3601", 3600, True, "exceeds the MaxSessionDuration set for this role."),
    ],
)
def test_how_long_a_session_may_live(
    duration: str | None, role_maximum: int, chained: bool, message: str | None
) -> None:
    parameters = WELL_FORMED if duration is None else {**WELL_FORMED, "DurationSeconds": duration}
    refusal = assume_role_duration_refusal(
        parameters, max_session_duration=role_maximum, caller_is_role_session=chained
    )
    if message is None:
        assert refusal is None
    else:
        expected = f"The requested DurationSeconds {message}"
        assert refusal == Refusal(status=400, code="ValidationError", message=expected)


def test_a_signature_is_good_for_one_service() -> None:
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    assert scope_refusal(parse_call({**FORM, **signed_for("sts")}, "", body)) is None
    refusal = scope_refusal(parse_call({**FORM, **signed_for("rds")}, "", body))
    assert refusal is not None
    assert (refusal.status, refusal.code) == (403, "SignatureDoesNotMatch")
    assert refusal.message == "Credential should be scoped to correct service: 'sts'. "


def test_a_json_service_says_it_in_its_own_words() -> None:
    headers = {
        **signed_for("sts"),
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": "DynamoDB_20120810.GetItem",
    }
    call = parse_call(headers, "", b'{"TableName": "t"}')
    assert call.name == "dynamodb:GetItem"
    refusal = scope_refusal(call)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, "InvalidSignatureException")


def test_what_cannot_be_told_apart_is_let_through() -> None:
    assert scope_refusal(parse_call(signed_for("s3"), "", b"")) is None
    assert scope_refusal(parse_call({}, "Action=GetCallerIdentity&Version=2011-06-15", b"")) is None


def test_a_presigned_call_is_understood() -> None:
    query = (
        "Action=GetCallerIdentity&Version=2011-06-15"
        "&X-Amz-Credential=AKIAEXAMPLE%2F20261122%2Fus-west-1%2Fsts%2Faws4_request"
    )
    call = parse_call({}, query, b"")
    assert (call.name, call.access_key_id, call.signed_service) == ("sts:GetCallerIdentity", "AKIAEXAMPLE", "sts")


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"a=%zz&&&", b"Action"])
def test_no_body_makes_parsing_raise(body: bytes) -> None:
    assert isinstance(parse_call(FORM, "", body), Call)
    assert isinstance(parse_call({"content-type": "application/json"}, "", body), Call)


def test_a_repeated_field_counts_by_its_first_value() -> None:
    assert parse_call(FORM, "", b"RoleArn=first&RoleArn=second").role_arn == "first"


@pytest.mark.parametrize(("current", "dead"), [("AROAONE", False), ("AROATWO", True), (None, True)])
def test_a_session_belongs_to_its_roles_unique_id(current: str | None, dead: bool) -> None:
    assert session_outlived_its_role("AROAONE:tollbridge", current) is dead


def test_session_tokens_look_like_those_of_aws() -> None:
    token = session_token(bytes(range(256)) * 3 + b"x")
    assert len(token) > 1000
    assert {"/", "+", "="} <= set(token)
    assert re.fullmatch(r"IQoJb3JpZ2luX2VjE[A-Za-z0-9+/]+=*", token)


def test_a_refusal_is_written_in_the_protocol_of_the_call() -> None:
    refusal = assume_role_denied("arn:aws:iam::111111111111:user/a&b", ROLE_ARN)
    content_type, xml = render(refusal, is_json=False, request_id="r-1")
    assert content_type == "text/xml"
    error = ET.fromstring(xml.decode()).find("{*}Error")  # noqa: S314 - our own
    assert error is not None
    assert error.findtext("{*}Code") == "AccessDenied"
    assert error.findtext("{*}Type") == "Sender"
    assert error.findtext("{*}Message") == refusal.message
    _, json_body = render(refusal, is_json=True, request_id="r-1")
    assert b'"__type": "AccessDenied"' in json_body


@pytest.mark.parametrize(
    ("code", "json_code"),
    [
        ("ExpiredToken", "ExpiredTokenException"),
        ("InvalidClientTokenId", "UnrecognizedClientException"),
        ("MissingAuthenticationToken", "MissingAuthenticationTokenException"),
        ("SignatureDoesNotMatch", "InvalidSignatureException"),
    ],
)
def test_an_unknown_signer_is_told_so_in_the_words_of_the_protocol(code: str, json_code: str) -> None:
    query, json = unauthenticated(code, is_json=False), unauthenticated(code, is_json=True)
    assert (query.status, query.code) == (403, code)
    assert (json.status, json.code) == (400, json_code)
    assert query.message == json.message


def dynamodb(
    host: str, *, target: str = "DynamoDB_20120810.Scan", key: str = "ASIAEXAMPLEEXAMPLE", **scope: str
) -> Call:
    """A call as it arrives at one of DynamoDB's hosts."""
    named = f"{key}/20260115/{scope.get('region', 'us-west-1')}/dynamodb/aws4_request"
    authorization = f"AWS4-HMAC-SHA256 Credential={named}, SignedHeaders=host, Signature=0" if key else ""
    headers = {"host": host, "x-amz-target": target, "content-type": "application/x-amz-json-1.0"}
    return parse_call({**headers, "authorization": authorization}, "", b"{}")


@pytest.mark.parametrize(
    "host",
    [
        "dynamodb.us-west-1.amazonaws.com",
        "dynamodb.us-west-1.amazonaws.com:443",
        "dynamodb-fips.us-west-1.amazonaws.com",
        "dynamodb.us-west-1.api.aws",
        "222222222222.ddb.us-west-1.amazonaws.com",
        "127.0.0.1:4566",
    ],
)
def test_dynamodbs_hosts_take_their_own_api_signed_for_their_region(host: str) -> None:
    assert dynamodb_host_refusal(dynamodb(host)) is None


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (dynamodb("dynamodb.us-west-1.amazonaws.com", region="us-east-1"), "InvalidSignatureException"),
        (dynamodb("222222222222.ddb.us-east-1.amazonaws.com"), "InvalidSignatureException"),
        (dynamodb("streams.dynamodb.us-west-1.amazonaws.com"), "UnknownOperationException"),
        (
            dynamodb("dynamodb.us-west-1.api.aws", target="DynamoDBStreams_20120810.ListStreams"),
            "UnknownOperationException",
        ),
        (dynamodb("dynamodb.us-west-1.amazonaws.com", key=""), "MissingAuthenticationTokenException"),
        (dynamodb("dynamodb.us-west-1.amazonaws.com", key="222222222222"), "UnrecognizedClientException"),
    ],
)
def test_what_dynamodbs_hosts_refuse(call: Call, code: str) -> None:
    refusal = dynamodb_host_refusal(call)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, code)
