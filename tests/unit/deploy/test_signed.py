"""The judge of signed HTTP requests: agrees with botocore's signatures, and with nothing that was changed since."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox.aws import signed

KEY: Final = "ASIAIOSFODNN7EXAMPLE"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN: Final = "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN+with/specials=="
Headers = list[tuple[bytes, bytes]]


def botocore_signs(method: str, host: str, target: str, body: bytes, service: str, **more: str) -> Headers:
    """The headers of a request of now."""
    request = AWSRequest(method, f"https://{host}{target}", data=body, headers={"Host": host, **more})
    SigV4Auth(Credentials(KEY, SECRET, TOKEN), service, "us-west-1").add_auth(request)
    return [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]


def judged(headers: Headers, method: str, target: str, body: bytes) -> bool:
    """Whether the signature is the one that the claim should have."""
    claim = signed.parse(headers)
    payload_hash = claim.payload_hash or sha256(body).hexdigest()
    expected = signed.signature(
        claim, SECRET, method=method, target=target.encode(), headers=headers, payload_hash=payload_hash
    )
    return expected == claim.signature


DOMAIN: Final = "search-movies-abc123.us-west-1.es.amazonaws.com"
TARGETS: Final = (
    "/",
    "/movies/_search",
    "/logs-%2A,my%20idx/_search?q=a%2Bb&pretty=&from=10",
    "/%3Clogstash-%7Bnow%2Fd%7D%3E/_doc/1",
    "/a//b/./c/../d/",
    "/movies/_search?q=b&a=2&a=1&Z=0",
)


@pytest.mark.parametrize("target", TARGETS)
def test_what_botocore_signs_is_right(target: str) -> None:
    headers = botocore_signs("POST", DOMAIN, target, b"{}", "es", **{"Content-Type": "application/json"})
    assert judged(headers, "POST", target, b"{}")


segment = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#\\"), max_size=12)


@given(path=st.lists(segment, max_size=6), body=st.binary(max_size=64))
def test_any_path_is_read_as_botocore_reads_it(path: list[str], body: bytes) -> None:
    target = "/" + "/".join(path)
    assert judged(botocore_signs("PUT", DOMAIN, target, body, "es"), "PUT", target, body)


def test_the_vector_of_a_domain_is_reproduced() -> None:
    target = "/logs-%2A,my%20idx/_search?q=a%2Bb&pretty&from=10"
    signature = "25ba38fc4be9aa333ec437939030e76c102fbfca8c455cf1e3d6809ea7f40611"
    names = "host;x-amz-date;x-amz-security-token"
    headers = [
        (b"host", DOMAIN.encode()),
        (b"x-amz-date", b"20260115T120000Z"),
        (b"x-amz-security-token", TOKEN.encode()),
        (
            b"authorization",
            f"AWS4-HMAC-SHA256 Credential={KEY}/20260115/us-west-1/es/aws4_request, "
            f"SignedHeaders={names}, Signature={signature}".encode(),
        ),
    ]
    assert judged(headers, "GET", target, b"")


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/movies/_doc/1", b"{}"),
        ("POST", "/movies/_doc/2", b"{}"),
        ("POST", "/movies%2F_doc/1", b"{}"),
        ("POST", "/movies/_doc/1?refresh", b"{}"),
        ("POST", "/movies/_doc/1", b"{} "),
    ],
)
def test_whatever_was_changed_since_it_was_signed_shows(method: str, target: str, body: bytes) -> None:
    headers = botocore_signs("POST", DOMAIN, "/movies/_doc/1", b"{}", "es")
    assert judged(headers, "POST", "/movies/_doc/1", b"{}")
    assert not judged(headers, method, target, body)


def test_a_changed_header_shows_if_it_was_signed() -> None:
    headers = dict(botocore_signs("POST", DOMAIN, "/", b"", "es", **{"Content-Type": "application/json"}))
    changed = {**headers, b"content-type": b"text/plain"}
    assert not judged(list(changed.items()), "POST", "/", b"")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({b"authorization": None}, "Missing Authentication Token"),
        ({b"authorization": b"Basic YXBwOmFwcA=="}, "not a SigV4"),
        ({b"x-amz-date": b"20260115T120000Z"}, "Date in Credential scope"),
        ({b"x-amz-date": b"today"}, "malformed"),
        ({b"x-amz-meta": b"unsigned"}, "not signed: x-amz-meta"),
        ({b"content-type": b"application/json"}, "not signed: content-type"),
        ({b"x-amz-security-token": None}, "not there: x-amz-security-token"),
        ({b"host": None}, "not there: host"),
    ],
)
def test_what_is_not_signed_as_it_must_be_is_refused(change: dict[bytes, bytes | None], says: str) -> None:
    headers: dict[bytes, bytes | None] = {**dict(botocore_signs("GET", DOMAIN, "/", b"", "es")), **change}
    with pytest.raises(signed.Unsigned, match=says):
        signed.parse([(name, value) for name, value in headers.items() if value is not None])


def test_a_header_that_is_there_twice_is_refused() -> None:
    headers = botocore_signs("GET", DOMAIN, "/", b"", "es")
    with pytest.raises(signed.Unsigned, match="host is there twice"):
        signed.parse([*headers, (b"host", b"elsewhere.example")])


def test_a_signature_is_good_for_five_minutes_each_way() -> None:
    claim = signed.parse(botocore_signs("GET", DOMAIN, "/", b"", "es"))
    at = replace(claim, signed_at="20260115T120000Z")
    noon = datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp()
    assert signed.skewed(at, noon + 300) is None
    assert signed.skewed(at, noon - 300) is None
    assert "expired" in str(signed.skewed(at, noon + 301))
    assert "not yet current" in str(signed.skewed(at, noon - 301))
    assert "no date" in str(signed.skewed(replace(at, signed_at="20261315T120000Z"), noon))
