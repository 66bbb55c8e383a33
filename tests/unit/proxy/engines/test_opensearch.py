"""OpenSearch's answers: whether AWS's front refused our signature, or the service what the client asks."""

from __future__ import annotations

import pytest

from proxy.engines.opensearch import OpensearchEngine
from proxy.http.heads import ResponseHead, parse_request
from proxy.http.model import Verdict


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"root_cause":[{"type":"x","reason":"Failed to parse query [ExpiredToken AND (]"}]},"status":400}',
        b'{"error":"no handler found for uri [/_x?q=InvalidSignatureException] and method [GET]"}',
        b'{"error":{"type":"parse_exception","reason":"Signature expired"},"status":400}',
        b'{"message":"User: arn:aws:sts::2:assumed-role/Reader/x is not authorized to perform: es:ESHttpGet"}',
        b"not json at all",
    ],
)
def test_an_error_that_repeats_what_was_searched_for_is_the_clients(body: bytes) -> None:
    assert OpensearchEngine().judge(ResponseHead(400, b"HTTP/1.1 400 Bad Request\r\n", 0), body) is Verdict.TAKEN


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b'{"message":"The security token included in the request is expired"}', Verdict.REJECTED),
        (b'{"Message":"Credential should be scoped to a valid region. "}', Verdict.REJECTED),
        (b"The security token included in the request is expired", Verdict.REJECTED),
        (b'{"message":"Signature expired: 20260115T120000Z is now earlier than ..."}', Verdict.SKEWED),
        (b'{"message":"The request signature we calculated does not match ..."}', Verdict.REJECTED),
    ],
)
def test_the_words_of_aws_are_about_our_signature(body: bytes, verdict: Verdict) -> None:
    assert OpensearchEngine().judge(ResponseHead(403, b"HTTP/1.1 403 Forbidden\r\n", 0), body) is verdict


def test_a_collections_gate_says_so_in_a_header_whatever_the_body() -> None:
    head = ResponseHead(403, b"HTTP/1.1 403 Forbidden\r\n", 0, b"x-aoss-response-hint: X01:gw-helper-deny\r\n")
    body = b'{"status":403,"request-id":"r","error":{"reason":"403 Forbidden","type":"Forbidden"}}'
    assert OpensearchEngine().judge(head, body) is Verdict.REJECTED


@pytest.mark.parametrize(
    ("first", "repeatable"),
    [
        (b"GET /shop/_search", True),
        (b"POST /shop/_search", True),
        (b"POST /_search/template", True),
        (b"POST /shop/_bulk", False),
        (b"POST /_search/scroll", False),
        (b"GET /_search/scroll", False),
        (b"GET //_search//scroll/abc", False),
        (b"POST /_search/%73croll", False),
        (b"POST /shop/_search/point_in_time?keep_alive=1m", False),
        (b"GET /scroll/_search", True),
    ],
)
def test_what_hands_out_the_next_page_is_not_asked_twice(first: bytes, repeatable: bool) -> None:
    """A page that was lost with its connection would be missing, and nobody would know."""
    head = parse_request(first + b" HTTP/1.1\r\nHost: h")
    assert OpensearchEngine().plan(head, "h.example").repeatable is repeatable
