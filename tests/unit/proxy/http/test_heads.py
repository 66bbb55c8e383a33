"""Heads: what is taken, what is refused, and what of a message goes on."""

from __future__ import annotations

import pytest

from proxy.http.heads import LINES_LIMIT, BadHttp, RequestHead, ResponseHead, read_request, read_response
from proxy.http.layouts import SIGHTINGS

BOTO3 = (
    b"POST / HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8000\r\n"
    b"Accept-Encoding: identity\r\n"
    b"X-Amz-Target: DynamoDB_20120810.GetItem\r\n"
    b"Content-Type: application/x-amz-json-1.0\r\n"
    b"User-Agent: Boto3/1.43 md/Botocore#1.43\r\n"
    b"X-Amz-Date: 20260115T120000Z\r\n"
    b"Authorization: AWS4-HMAC-SHA256 Credential=dummy/20260115/us-east-1/dynamodb/aws4_request, SignedHeaders=host, "
    b"Signature=00\r\n"
    b"amz-sdk-invocation-id: 1fd4d4ff\r\n"
    b"amz-sdk-request: attempt=1; max=4\r\n"
    b"Content-Length: 60"
)


def request(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> RequestHead:
    """With a Host header."""
    return asked(b"\r\n".join((first, b"Host: h", *lines)))


def asked(data: bytes) -> RequestHead:
    """The head in this, once its empty line and a body follow."""
    head = read_request(data + b"\r\n\r\nGET /")
    assert head is not None
    assert head.size == len(data) + 4
    return head


def answered(data: bytes) -> ResponseHead:
    """As `asked`."""
    head = read_response(data + b"\r\n\r\nHTTP/1.1 ")
    assert head is not None
    assert head.size == len(data) + 4
    return head


def kept(head: RequestHead | ResponseHead) -> list[bytes]:
    """Names of the lines that go on."""
    assert head.kept.endswith(b"\r\n")
    return [line.partition(b":")[0] for line in head.kept.removesuffix(b"\r\n").split(b"\r\n")]


@pytest.mark.parametrize("times", [1, SIGHTINGS, SIGHTINGS + 1, 2 * SIGHTINGS])
def test_an_sdks_request(times: int) -> None:
    """What is for us apart from what goes on; after some, the others are read by the order of their names."""
    for _ in range(times):
        head = asked(BOTO3)
    assert (head.method, head.target, head.host) == (b"POST", b"/", b"127.0.0.1:8000")
    assert (head.content_type, head.amz_target) == (b"application/x-amz-json-1.0", b"DynamoDB_20120810.GetItem")
    assert head.authorization.startswith(b"AWS4-HMAC-SHA256 Credential=dummy/")
    assert (head.length, head.chunked, head.keep_alive) == (60, False, True)
    assert kept(head) == [
        b"Accept-Encoding",
        b"User-Agent",
        b"amz-sdk-invocation-id",
        b"amz-sdk-request",
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"Date: Sun, 22 Nov 2026 11:00:00 GMT",
        b"X-Amz-Date: 20260115T120000Z",
        b"x-amz-security-token: dummy",
        b"X-AMZ-Content-Sha256: 00",
        b"X-Amz-User-Agent: aws-sdk-js/3",
        b"x-amz-aoss-collection-id: another",
        b"Keep-Alive: timeout=5",
        b"TE: trailers",
        b"Trailer: x",
        b"Proxy-Authorization: Basic eDp5",
        b"Proxy-Connection: keep-alive",
        b"X-Forwarded-For: 10.0.0.1",
        b"X-Forwarded-Client-Cert: By=spiffe://x",
        b"Forwarded: for=10.0.0.1",
        b"Via: 1.1 squid",
        b"Cookie: a=b",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
    ],
)
def test_what_stays_here(line: bytes) -> None:
    """The client's own signature, what is for one hop, what says who forwarded it."""
    assert request(line).kept == b""


def test_headers_that_connection_names_stay_here() -> None:
    """They are for one hop, whatever they are called."""
    head = request(b"Connection: x-private, keep-alive", b"X-Private: 1", b"X-Public: 2")
    assert head.kept == b"X-Public: 2\r\n"
    assert head.keep_alive


@pytest.mark.parametrize(
    ("first", "line", "stays"),
    [
        (b"GET / HTTP/1.1", b"X: 1", True),
        (b"GET / HTTP/1.1", b"Connection: close", False),
        (b"GET / HTTP/1.1", b"Connection: Keep-Alive, Close", False),
        (b"GET / HTTP/1.0", b"X: 1", False),
        (b"GET / HTTP/1.0", b"Connection: keep-alive", True),
    ],
)
def test_whether_the_connection_stays(first: bytes, line: bytes, stays: bool) -> None:
    """By version and Connection, the first time and the next."""
    assert [request(line, first=first).keep_alive for _ in range(SIGHTINGS + 2)] == [stays] * (SIGHTINGS + 2)


@pytest.mark.parametrize(("first", "waits"), [(b"PUT / HTTP/1.1", True), (b"PUT / HTTP/1.0", False)])
def test_who_waits_for_100_continue(first: bytes, waits: bool) -> None:
    """Nobody who speaks HTTP/1.0: a client of that would take it for the answer."""
    assert request(b"Expect: 100-continue", b"Content-Length: 5", first=first).expects_continue is waits


def test_an_order_of_names_does_not_bring_its_connection_along() -> None:
    """The same names with another Connection are another thing."""
    assert request(b"A: 1", b"Connection: keep-alive").keep_alive
    assert not request(b"A: 1", b"Connection: close").keep_alive
    assert request(b"A: 1", b"Connection: keep-alive").keep_alive
    assert request(b"A: 1", b"Connection: A").kept == b""


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", 400, "contradict"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3", 400, "contradict"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3", 400, "twice"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\ncontent-length: 4", 400, "twice"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3", 400, "no number"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +3", 400, "no number"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3", 400, "no number"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: ", 400, "no number"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1234567890123456", 400, "no number"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, "twice"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked", 501, "chunked alone"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked", 501, "chunked alone"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked", 400, "proper name"),
        (b"GET / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked", 400, "HTTP/1.0"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400, "twice"),
        (b"GET / HTTP/1.1\r\nX: 1", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n folded", 400, "folded"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\tX: 1", 400, "folded"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\nY: 2", 400, "bare CR or LF"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\rY: 2", 400, "bare CR or LF"),
        (b"GET / HTTP/1.1\nHost: h", 400, "bare CR or LF"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b", 400, "control character"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: \x7f", 400, "control character"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nno colon here", 400, "proper name"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nnocolon", 400, "colon"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n: empty", 400, "proper name"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX\xe9: 1", 400, "proper name"),
        (b"GET / HTTP/2.0\r\nHost: h", 505, "HTTP/1.1"),
        (b"PRI * HTTP/2.0", 505, "HTTP/1.1"),
        (b"GET  / HTTP/1.1\r\nHost: h", 400, "request line"),
        (b"GET /a b HTTP/1.1\r\nHost: h", 400, "request line"),
        (b"GET /\r\nHost: h", 400, "request line"),
        (b"get / HTTP/1.1\r\nHost: h", 400, "method"),
        (b"\x16\x03\x01\x02\x00\x01", 400, "control character"),
        (b"", 400, "request line"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nExpect: the-unexpected", 417, "100-continue"),
        (b"GET / HTTP/1.1\r\nHost: h" + b"\r\nX: 1" * LINES_LIMIT, 431, "header lines"),
    ],
)
def test_requests_that_are_refused(data: bytes, status: int, word: str) -> None:
    """Each with a status of its own and a word on why, the first time and the next."""
    for _ in range(SIGHTINGS + 2):
        with pytest.raises(BadHttp, match=word) as refused:
            asked(data)
        assert refused.value.status == status


def test_an_answer_of_dynamodb() -> None:
    """Connection and length are for us; the checksum goes on."""
    data = (
        b"HTTP/1.1 200 OK\r\nServer: Server\r\nDate: Thu, 15 Jan 2026 12:00:00 GMT\r\nContent-Type: x\r\n"
        b"Content-Length: 70\r\nConnection: keep-alive\r\nx-amz-crc32: 123"
    )
    for _ in range(SIGHTINGS + 2):
        head = answered(data)
        assert (head.status, head.line, head.length, head.keep_alive) == (200, b"HTTP/1.1 200 OK\r\n", 70, True)
        assert (head.phrase, head.chunked) == (b"OK", False)
        assert kept(head) == [b"Server", b"Date", b"Content-Type", b"x-amz-crc32"]
        assert head.value(b"date") == b"Thu, 15 Jan 2026 12:00:00 GMT"
        assert head.value(b"etag") == b""


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity",
        b"HTTP/1.1 99 Low",
        b"HTTP/1.1 600 High",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/2 200",
        b"SSH-2.0-OpenSSH_9.2",
        b"HTTP/1.1 200 OK\r\nX: 1\nY: 2",
        b"HTTP/1.1 200 OK\r\n folded: 1",
        b"HTTP/1.1 200 O\x00K",
        b"",
    ],
)
def test_answers_that_are_garbage(data: bytes) -> None:
    """Nothing of them reaches a client."""
    for _ in range(SIGHTINGS + 2):
        with pytest.raises(BadHttp):
            answered(data)


def test_an_answer_of_http_1_0_ends_its_connection() -> None:
    """Unless it says otherwise."""
    assert not answered(b"HTTP/1.0 200 OK\r\nContent-Length: 0").keep_alive
    assert answered(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive").keep_alive
    assert not answered(b"HTTP/1.0 200 OK\r\nContent-Length: 0").keep_alive
