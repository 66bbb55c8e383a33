"""Signatures, against vectors that were made by botocore and by a signer written from the specification alone."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime

import pytest

from proxy.http.target import canonical_path, tidy
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


def suite(method: str, path: bytes, query: bytes = b"", *, body: bytes = b"", content_type: bytes = b"") -> bytes:
    """The signature of a case of AWS's published test suite, which knows no session token."""
    date, secret = "20150830", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    key = SigningKey(
        access_key_id="AKIDEXAMPLE",
        session_token=Secret(""),
        region="us-east-1",
        service="service",
        keys={date: Secret(derived(date, "us-east-1", "service", secret).hex())},
    )
    stamp = Stamp.of(datetime(2015, 8, 30, 12, 36, tzinfo=UTC))
    lines = Signer(key, "example.amazonaws.com").sign(
        stamp, method.encode(), canonical_path(path), query, payload_hash(body), content_type=content_type
    )
    return lines.rpartition(b"Signature=")[2].strip()


VANILLA = b"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"


@pytest.mark.parametrize(
    ("path", "signature"),
    [
        pytest.param(b"/", VANILLA, id="get-vanilla"),
        pytest.param(b"//", VANILLA, id="get-slash"),
        pytest.param(b"/./", VANILLA, id="get-slash-dot-slash"),
        pytest.param(b"/example/..", VANILLA, id="get-relative"),
        pytest.param(b"/example1/example2/../..", VANILLA, id="get-relative-relative"),
        pytest.param(
            b"/./example",
            b"ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
            id="get-slash-pointless-dot",
        ),
        pytest.param(
            b"/example space/",
            b"652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
            id="get-space",
        ),
        pytest.param(
            b"/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            b"07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            id="get-unreserved",
        ),
        pytest.param(
            "/\u1234".encode(), b"8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85", id="get-utf8"
        ),
    ],
)
def test_paths_of_awss_suite(path: bytes, signature: bytes) -> None:
    """Normalized and encoded."""
    assert suite("GET", path) == signature


@pytest.mark.parametrize(
    ("target", "signature"),
    [
        pytest.param(
            b"/?Param2=value2&Param1=value1",
            b"b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            id="get-vanilla-query-order-key-case",
        ),
        pytest.param(
            b"/?Param1=value2&Param1=Value1",
            b"eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
            id="get-vanilla-query-order-value",
        ),
        pytest.param(
            b"/?Param1=value1",
            b"a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            id="get-vanilla-empty-query-key",
        ),
        pytest.param(
            b"/?%E1%88%B4=bar",
            b"2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            id="get-vanilla-utf8-query",
        ),
    ],
)
def test_queries_of_awss_suite(target: bytes, signature: bytes) -> None:
    """Sorted, and encoded in the one way."""
    found = tidy(target)
    assert suite("GET", found.path, found.canonical_query) == signature


def test_posts_of_awss_suite() -> None:
    """With a query, and with a body and its content type."""
    assert suite("POST", b"/") == b"5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    query = b"28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"
    assert suite("POST", b"/", b"Param1=value1") == query
    form = suite("POST", b"/", body=b"Param1=value1", content_type=b"application/x-www-form-urlencoded")
    assert form == b"ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
