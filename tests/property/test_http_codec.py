"""Heads and bodies of HTTP, against a parser nobody here wrote: what ours takes, that one reads the same."""

from __future__ import annotations

from typing import Any

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import PeerViolation, Side
from proxy.http import heads
from proxy.http.bodies import Chunked, chunk
from proxy.http.heads import (
    BadHttp,
    RequestHead,
    ResponseHead,
    parse_request,
    parse_response,
    read_request,
    read_response,
)
from proxy.http.layouts import SIGHTINGS
from proxy.http.target import tidy

NAMES = st.sampled_from(
    [
        *(b"Host", b"host", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"Expect"),
        *(b"Content-Type", b"X-Amz-Target", b"Authorization", b"Accept", b"X-Thing", b"Cookie", b"Te", b"Upgrade"),
        *(b"Content-Length ", b" folded", b"\tfolded", b"", b"X\xe9", b"X Y", b"X\x00"),
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *(b"h", b"0", b"5", b"+5", b"5,5", b"chunked", b"gzip, chunked", b"close", b"keep-alive", b"x-thing"),
            *(b"100-continue", b"", b"a\tb", b"a\rb", b"a\nb", b"a\r\n b", b"\x00", b"\xff", b"websocket"),
        ]
    ),
    st.binary(max_size=8),
)
SPACES = st.sampled_from([b"", b" ", b"  ", b"\t"])
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n\r\n"])
FIRSTS = st.sampled_from(
    [b"GET / HTTP/1.1"] * 4
    + [
        b"POST /x?y=1 HTTP/1.1",
        b"GET / HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"G@T / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /\x00 HTTP/1.1",
    ]
)
STATUSES = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 4
    + [b"HTTP/1.1 204 No Content", b"HTTP/1.0 200 OK", b"HTTP/1.1 404", b"HTTP/1.1 20 X", b"ICY 200 OK"]
)


@st.composite
def messages(draw: st.DrawFn, firsts: st.SearchStrategy[bytes]) -> bytes:
    """Heads as they should be, and as attackers write them."""
    lines = draw(st.lists(st.tuples(NAMES, SPACES, VALUES, SPACES, ENDS), max_size=6))
    data = draw(firsts) + b"\r\n"
    if draw(st.booleans()):
        data += b"Host: h\r\n"
    data += b"".join(name + b":" + before + value + after + end for name, before, value, after, end in lines)
    return data.partition(b"\r\n\r\n")[0].removesuffix(b"\r\n") + b"\r\n"


REQUEST_LINES = st.sampled_from([b"POST / HTTP/1.1", b"GET /x?y=1 HTTP/1.1"])
STATUS_LINES = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found"])
PLAIN_NAMES = [
    *(b"Content-Length", b"Connection", b"Content-Type", b"X-Amz-Target", b"Authorization", b"X-Amz-Date"),
    *(b"Accept", b"User-Agent", b"amz-sdk-invocation-id", b"Cookie", b"Te", b"Date", b"x-amz-crc32"),
]
PLAIN_VALUES = {b"Content-Length": b"5", b"Connection": b"keep-alive"}
HARMS = [b"\r", b"\n", b"\r\n", b"\n\r\n", b"\t", b" ", b":", b"\x00", b"\x7f", b"\x80", b"a", b""]


@st.composite
def plain_heads(draw: st.DrawFn, firsts: st.SearchStrategy[bytes], always: bytes) -> list[bytes]:
    """The lines of heads as SDKs and servers write them; one name is always among them."""
    names = [always, *draw(st.lists(st.sampled_from(PLAIN_NAMES), unique=True, max_size=7))]
    names = draw(st.permutations(sorted(set(names))))
    return [draw(firsts), *(name + b": " + PLAIN_VALUES.get(name, b"some value") for name in names)]


def whole(lines: list[bytes]) -> bytes:
    """With its empty line, and the beginning of what follows."""
    return b"\r\n".join(lines) + b"\r\n\r\n{}"


@st.composite
def changed(draw: st.DrawFn, lines: list[bytes]) -> bytes:
    """The same head with another value, or as an attacker would have it."""
    lines = list(lines)
    at = draw(st.integers(0, len(lines) - 1))
    match draw(st.sampled_from(["value", "value", "twice", "gone", "moved", "bytes", "bytes"])):
        case "value":
            lines[at] = lines[at].partition(b":")[0] + b":" + draw(SPACES) + draw(VALUES) + draw(SPACES)
        case "twice":
            lines.insert(draw(st.integers(0, len(lines))), lines[at])
        case "gone":
            del lines[at]
        case "moved":
            lines.append(lines.pop(at))
        case _:
            data = whole(lines)
            start = draw(st.integers(0, len(data)))
            return data[:start] + draw(st.sampled_from(HARMS)) + data[start + draw(st.integers(0, 3)) :]
    return whole(lines)


class Other:
    """What httptools sees."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.done = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.done = True


def kept_by(other: Other, kept: bytes) -> bool:
    """Whether every line that goes on is a header for the other parser too, with the same value."""
    seen = {(name.lower(), value.strip(b" \t")) for name, value in other.headers}
    ours = [line.partition(b":") for line in kept.split(b"\r\n")[:-1]]
    return all((name.lower(), value.strip(b" \t")) in seen for name, _, value in ours)


@given(messages(FIRSTS))
@example(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n")
def test_a_request_that_is_taken_is_read_the_same_by_another_parser(data: bytes) -> None:
    """The same headers, the same length, and the head ends at the same byte."""
    head = taken(parse_request, data)
    if head is None:
        return
    other = Other()
    parser = httptools.HttpRequestParser(other)
    try:
        parser.feed_data(data + b"\r\n")
    except httptools.HttpParserUpgrade:
        return
    except httptools.HttpParserError as error:
        # It wants a host to look like one, and is stricter about a few methods; it never takes less of a message.
        raise AssertionError(f"{error}: {data!r}") from error
    assert other.done
    assert kept_by(other, head.kept)
    found = {name.lower(): value for name, value in other.headers}
    assert parser.get_method() == head.method
    assert int(found.get(b"content-length", b"0")) == head.length
    assert (found.get(b"transfer-encoding", b"").strip(b" \t").lower() == b"chunked") == head.chunked
    assert found.get(b"host", b"").strip(b" \t") == head.host
    assert parser.get_http_version() == f"1.{head.minor}"


@given(messages(STATUSES))
def test_an_answer_that_is_taken_is_read_the_same_by_another_parser(data: bytes) -> None:
    """The same status, headers and length."""
    head = taken(parse_response, data)
    if head is None:
        return
    other = Other()
    parser = httptools.HttpResponseParser(other)
    try:
        parser.feed_data(data + b"\r\n")
    except httptools.HttpParserUpgrade:
        return
    assert other.done
    assert parser.get_status_code() == head.status
    assert kept_by(other, head.kept)
    lengths = [int(value) for name, value in other.headers if name.lower() == b"content-length"]
    assert lengths == ([] if head.length is None else [head.length])


@given(messages(FIRSTS), messages(FIRSTS))
def test_what_was_read_before_changes_nothing(first: bytes, data: bytes) -> None:
    """Orders of names, spellings and first lines are kept in mind; a mind without them reads the same."""
    reads_the_same(parse_request, read_request, first + b"\r\n", data + b"\r\n")


@given(messages(STATUSES), messages(STATUSES))
def test_what_answered_before_changes_nothing(first: bytes, data: bytes) -> None:
    """The same for answers."""
    reads_the_same(parse_response, read_response, first + b"\r\n", data + b"\r\n")


@given(plain_heads(REQUEST_LINES, b"Host"), st.data())
def test_a_request_like_those_before_is_read_as_line_by_line(head: list[bytes], data: st.DataObject) -> None:
    """Whatever was changed in it: what the expression of an order takes, it takes in the same way."""
    reads_the_same(parse_request, read_request, whole(head), data.draw(changed(head)))
    assert heads._CLIENT.layouts.known[-1].match(whole(head))


@given(plain_heads(STATUS_LINES, b"Content-Length"), st.data())
def test_an_answer_like_those_before_is_read_as_line_by_line(head: list[bytes], data: st.DataObject) -> None:
    """The same for answers."""
    reads_the_same(parse_response, read_response, whole(head), data.draw(changed(head)))
    assert heads._UPSTREAM.layouts.known[-1].match(whole(head))


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_a_head_or_a_violation(data: bytes) -> None:
    """Nothing else is raised."""
    taken(parse_request, data)
    taken(parse_response, data)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=10), st.data())
def test_a_chunked_body_is_the_same_however_it_comes(parts: list[bytes], behind: bytes, data: st.DataObject) -> None:
    """Any cuts; what follows the body is left over, byte for byte."""
    stream = b"".join(map(chunk, parts)) + b"0\r\n\r\n" + behind
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    chunked, content, at, rest = Chunked(Side.CLIENT), b"", 0, b""
    for cut in [*cuts, len(stream)]:
        piece, at = stream[at:cut], cut
        if chunked.done:
            rest += piece
        else:
            content += b"".join(chunked.feed(piece))
    assert content == b"".join(parts)
    assert chunked.done
    assert chunked.rest + rest == behind


@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from([b"3\r\n", b"abc", b"\r\n", b"0\r\n", b"\n", b"x", b";", b"1"]), max_size=9).map(
            b"".join
        ),
    )
)
def test_a_chunked_body_that_is_taken_is_read_the_same_by_another_parser(data: bytes) -> None:
    """To the same end, with the same content."""
    chunked = Chunked(Side.CLIENT)
    try:
        content = b"".join(chunked.feed(data))
    except BadHttp:
        return
    if not chunked.done:
        return
    other: Any = type("Body", (), {"body": b"", "ends": 0})()
    other.on_body = lambda piece: setattr(other, "body", other.body + piece)
    other.on_message_complete = lambda: setattr(other, "ends", other.ends + 1)
    parser = httptools.HttpRequestParser(other)
    end = len(data) - len(chunked.rest)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + data[:end])
    assert other.body == content
    assert other.ends == 1


@given(st.one_of(st.binary(max_size=40), st.text("/.%2eEfF?&=+*, ä#a", max_size=30).map(str.encode)))
def test_a_target_is_tidy_or_refused_and_tidy_stays_tidy(target: bytes) -> None:
    """What is sent, read again, is sent and signed as the same."""
    try:
        once = tidy(target)
    except PeerViolation:
        return
    assert tidy(once.wire) == once
    assert once.wire.isascii()
    assert b"//" not in once.path
    assert not {b".", b".."} & set(once.path.split(b"/"))


def taken(parse: Any, data: bytes) -> Any:
    """The head, or None."""
    try:
        return parse(data.removesuffix(b"\r\n"))
    except BadHttp:
        return None


def reads_the_same(parse: Any, read: Any, before: bytes, data: bytes) -> None:
    """One mind has read nothing and goes line by line; the other has seen the order of `before` often enough."""
    forget()
    alone = outcome(line_by_line(parse), data)
    first = outcome(line_by_line(parse), before)
    forget()
    for _ in range(SIGHTINGS + 1):
        assert outcome(read, before) == first
    assert outcome(read, data) == alone


def line_by_line(parse: Any) -> Any:
    """As `read_request` and `read_response`, without their short way."""

    def read(data: bytes) -> Any:
        end = data.find(b"\r\n\r\n")
        return None if end < 0 else parse(data[:end])

    return read


def outcome(read: Any, data: bytes) -> Any:
    """The head, or what is said of it."""
    try:
        return facts(read(data))
    except BadHttp as violation:
        return violation.status, str(violation)


def facts(head: RequestHead | ResponseHead | None) -> dict[str, Any] | None:
    """Every field, those of the class too."""
    if head is None:
        return None
    return {name: getattr(head, name) for name in dir(head) if not name.startswith("_") and name != "value"}


def forget() -> None:
    """As in a new process."""
    for side in (heads._CLIENT, heads._UPSTREAM):
        side.seen.clear()
        side.layouts.forget()
    heads._request_lines.clear()
    heads._status_lines.clear()
