"""Signatures, against vectors that were made by botocore and by a signer written from the specification alone."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime

import pytest

from proxy.http.target import tidy
from proxy.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD, NoKey, Signer, Stamp, payload_hash
from tollbridge.model import SigningKey
from tollbridge.secret import Secret

TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN+with/specials=="
STAMP = Stamp.of(datetime(2026, 1, 15, 12, tzinfo=UTC))


def derived(date: str, region: str, service: str, secret: str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY") -> bytes:
    """As the broker derives it, written out once more."""
    key = b"AWS4" + secret.encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signing_key(service: str, region: str = "us-west-1", date: str = "20260115") -> SigningKey:
    """Of the vectors' session."""
    return SigningKey(
        access_key_id="ASIAIOSFODNN7EXAMPLE",
        session_token=Secret(TOKEN),
        region=region,
        service=service,
        keys={date: Secret(derived(date, region, service).hex())},
    )


def test_the_key_of_the_vectors() -> None:
    """What the tests derive is what the vectors were signed with."""
    wanted = "f3c26c409a6547153fd145f006653871398222a2389710f3c8fff9242a51cd51"
    assert signing_key("dynamodb").keys["20260115"].reveal() == wanted


def test_a_dynamodb_request() -> None:
    """Content type and target are signed; the payload's hash has no header."""
    lines = Signer(signing_key("dynamodb"), "dynamodb.us-west-1.amazonaws.com").sign(
        STAMP,
        b"POST",
        b"/",
        b"",
        payload_hash(b"{}"),
        content_type=b"application/x-amz-json-1.0",
        amz_target=b"DynamoDB_20120810.ListTables",
    )
    assert lines.split(b"\r\n") == [
        b"content-type: application/x-amz-json-1.0",
        b"x-amz-date: 20260115T120000Z",
        b"x-amz-security-token: " + TOKEN.encode(),
        b"x-amz-target: DynamoDB_20120810.ListTables",
        (
            b"Authorization: AWS4-HMAC-SHA256 "
            b"Credential=ASIAIOSFODNN7EXAMPLE/20260115/us-west-1/dynamodb/aws4_request, "
            b"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, "
            b"Signature=ac1229c67432683714f6dbf3ac8c7876fab5e95d66b5ff0862c22b85497df993"
        ),
        b"",
    ]


def test_a_request_to_a_domain() -> None:
    """The path is encoded once more than it is sent, the query sorted and its empty value written out."""
    target = tidy(b"/logs-%2A,my%20idx/_search?q=a%2Bb&pretty&from=10")
    assert target.canonical_path == b"/logs-%252A%2Cmy%2520idx/_search"
    assert target.canonical_query == b"from=10&pretty=&q=a%2Bb"
    lines = Signer(signing_key("es"), "search-movies-abc123.us-west-1.es.amazonaws.com").sign(
        STAMP, b"GET", target.canonical_path, target.canonical_query, EMPTY_SHA256
    )
    assert b"Signature=25ba38fc4be9aa333ec437939030e76c102fbfca8c455cf1e3d6809ea7f40611" in lines


def test_a_request_to_a_collection() -> None:
    """The payload's hash is a header, and signed."""
    body = b'{"query":{"match_all":{}}}'
    lines = Signer(signing_key("aoss"), "abc123.us-west-1.aoss.amazonaws.com").sign(
        STAMP,
        b"POST",
        b"/movies/_search",
        b"",
        payload_hash(body),
        content_type=b"application/json",
        payload_header=True,
    )
    assert b"Signature=54aeab491c7780057358b637608916a1be41f51f90d8f0efe8f04d7770ed39a5" in lines
    assert b"x-amz-content-sha256: baa6846b65b050d71831bb2e4cd6e6f1593902f6d82b16a6c1f9979d14cfcd12\r\n" in lines


def test_an_unsigned_body_says_so() -> None:
    """In the header that is signed."""
    signer = Signer(signing_key("aoss"), "abc123.us-west-1.aoss.amazonaws.com")
    lines = signer.sign(STAMP, b"POST", b"/_bulk", b"", UNSIGNED_PAYLOAD, payload_header=True)
    assert b"x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n" in lines
    assert b"SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token," in lines


def test_a_day_without_a_key_is_not_signed() -> None:
    """The grant says on which days it is used."""
    tomorrow = Stamp.of(datetime(2026, 1, 16, tzinfo=UTC))
    with pytest.raises(NoKey, match="20260116"):
        Signer(signing_key("es"), "host").sign(tomorrow, b"GET", b"/", b"", EMPTY_SHA256)


def test_a_signer_prints_no_secret() -> None:
    """Neither token nor key."""
    signer = Signer(signing_key("es"), "host")
    signer.sign(STAMP, b"GET", b"/", b"", EMPTY_SHA256)
    assert "specials" not in repr(signer)
    assert "specials" not in str(signer)
