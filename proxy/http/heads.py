"""Heads of requests and responses, read strictly and sorted into what goes on and what stays here. PURE.

A head is given without its empty line. Names are looked up as they are spelled: what a name means was found out, and
its spelling checked, when it was first seen. A line that goes on goes on as it came, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from proxy.errors import PeerViolation, Side

HEAD_LIMIT: Final = 32 * 1024
"""Bytes of a head. nginx takes 32 KiB in all, Envoy 60, Node 16; a signed request with a session token has some 3."""

LINES_LIMIT: Final = 128
"""Header lines. Envoy takes 100, Apache 100."""

LENGTH_DIGITS: Final = 15
"""Digits of a Content-Length: a petabyte."""

NAMES_LIMIT: Final = 1024
"""Spellings of names kept in mind; clients invent some (x-my-thing-7), so there is an end to it."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_METHOD: Final = re.compile(rb"[A-Z]{1,16}").fullmatch
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?").fullmatch
_LEGAL: Final = bytes([9, 10, 13, *range(32, 127), *range(128, 256)])
"""Bytes of a head: no control character but tab and line ends, and those are looked at apart."""


class BadHttp(PeerViolation):
    """A message that is not taken. `status` is what a client hears."""

    def __init__(self, side: Side, message: str, status: int = 400) -> None:
        super().__init__(side, message)
        self.status = status


# What a header line is to us. Plain numbers, because this runs for each line of each message and an enum is slow there.
# A line to KEEP goes on as it came and unsigned. From HOST on a line may come once.
KEEP, DROP, CONNECTION, HOST, CONTENT_TYPE, AMZ_TARGET, AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING = range(9)
EXPECT, UPGRADE = 9, 10
_KINDS: Final = 11


_REQUEST_NAMES: Final = MappingProxyType(
    {
        b"host": HOST,
        b"content-type": CONTENT_TYPE,
        b"x-amz-target": AMZ_TARGET,
        b"authorization": AUTHORIZATION,
        b"content-length": CONTENT_LENGTH,
        b"transfer-encoding": TRANSFER_ENCODING,
        b"connection": CONNECTION,
        b"expect": EXPECT,
        b"upgrade": UPGRADE,
        # The client's own signature: ours takes its place, and a token of its dummy session would contradict ours.
        b"date": DROP,
        b"x-amz-date": DROP,
        b"x-amz-security-token": DROP,
        b"x-amz-content-sha256": DROP,
        # Hop by hop (RFC 9110 7.6.1).
        b"keep-alive": DROP,
        b"te": DROP,
        b"trailer": DROP,
        b"http2-settings": DROP,
        # Who forwarded it, which AWS has no use for and an access policy could be told lies with.
        b"forwarded": DROP,
        b"via": DROP,
        b"x-real-ip": DROP,
        b"cookie": DROP,
        b"cookie2": DROP,
    }
)
_DROPPED_PREFIXES: Final = (b"proxy-", b"x-forwarded-", b"x-amz-meta-tollbridge", b"x-envoy-", b"x-amzn-oidc-")

_RESPONSE_NAMES: Final = MappingProxyType(
    {
        b"content-length": CONTENT_LENGTH,
        b"transfer-encoding": TRANSFER_ENCODING,
        b"connection": CONNECTION,
        b"keep-alive": DROP,
        b"trailer": DROP,
        b"upgrade": DROP,
        b"proxy-authenticate": DROP,
        b"proxy-connection": DROP,
        b"alt-svc": DROP,
    }
)


@dataclass(slots=True)
class RequestHead:
    """A request without its body. Bytes are as the client wrote them, without blanks around."""

    method: bytes
    target: bytes
    kept: list[bytes]
    """Whole header lines that go on."""
    host: bytes = b""
    content_type: bytes = b""
    amz_target: bytes = b""
    authorization: bytes = b""
    length: int = 0
    """Bytes of the body, unless `chunked`."""
    chunked: bool = False
    keep_alive: bool = True
    expects_continue: bool = False
    upgrade: bytes = b""
    minor: int = 1
    """HTTP/1.`minor`."""


@dataclass(slots=True)
class ResponseHead:
    """A response without its body."""

    status: int
    phrase: bytes
    kept: list[bytes]
    """Whole header lines that go on."""
    length: int | None = None
    """As Content-Length says; None where it is missing."""
    chunked: bool = False
    keep_alive: bool = True

    def value(self, name: bytes) -> bytes:
        """Of the first line with this lower-case name; empty when there is none."""
        for line in self.kept:
            found, _, value = line.partition(b":")
            if found.lower() == name:
                return value.strip(b" \t")
        return b""


@dataclass(slots=True)
class _Names:
    """What spellings mean, as far as they were seen."""

    meanings: Mapping[bytes, int]
    side: Side
    seen: dict[bytes, int] = field(default_factory=dict)

    def learn(self, name: bytes) -> int:
        if not _TOKEN(name):
            raise BadHttp(self.side, "a header line has no proper name: folded lines and blanks in names are not taken")
        lower = name.lower()
        meaning = self.meanings.get(lower, KEEP)
        if self.side is Side.CLIENT and lower.startswith(_DROPPED_PREFIXES):
            meaning = DROP
        if len(self.seen) < NAMES_LIMIT and len(name) < 64:
            self.seen[name] = meaning
        return meaning


_REQUESTS: Final = _Names(_REQUEST_NAMES, Side.CLIENT)
_RESPONSES: Final = _Names(_RESPONSE_NAMES, Side.UPSTREAM)


def parse_request(data: bytes) -> RequestHead:  # noqa: C901 - one loop, because it runs for each message
    """A request's head, without its empty line. Raises BadHttp."""
    side = Side.CLIENT
    lines = _lines(data, side)
    parts = lines[0].split(b" ")
    if len(parts) != 3:
        raise BadHttp(side, "the request line is not METHOD TARGET HTTP/1.1")
    method, target, version = parts
    if version != b"HTTP/1.1" and version != b"HTTP/1.0":
        if version.startswith(b"HTTP/"):
            raise BadHttp(side, "only HTTP/1.1 is spoken here", 505)
        raise BadHttp(side, "the request line is not METHOD TARGET HTTP/1.1")
    if not _METHOD(method):
        raise BadHttp(side, "the method is no upper-case word")
    head = RequestHead(method, target, [])
    if version == b"HTTP/1.0":
        head.minor, head.keep_alive = 0, False
    kept, seen = head.kept, _REQUESTS.seen
    found: list[bytes | None] = [None] * _KINDS
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        meaning = seen.get(name)
        if meaning is None:
            meaning = _REQUESTS.learn(name)
        if not colon:
            raise BadHttp(side, "a header line has no colon")
        if meaning == KEEP:
            kept.append(line)
        elif meaning != DROP:
            value = value.strip(b" \t")
            before = found[meaning]
            if before is None:
                found[meaning] = value
            elif meaning == CONNECTION:
                found[meaning] = b"%b,%b" % (before, value)
            else:
                raise BadHttp(side, f"{name.decode().lower()} is given twice")
    head.content_type, head.amz_target = found[CONTENT_TYPE] or b"", found[AMZ_TARGET] or b""
    head.authorization, head.upgrade = found[AUTHORIZATION] or b"", (found[UPGRADE] or b"").lower()
    _frame(head, found)
    return head


def _frame(head: RequestHead, found: list[bytes | None]) -> None:
    """Where the request ends and what becomes of its connection."""
    side = Side.CLIENT
    host, length, coding, expect = found[HOST], found[CONTENT_LENGTH], found[TRANSFER_ENCODING], found[EXPECT]
    if host is not None:
        head.host = host
    elif head.minor:
        raise BadHttp(side, "a request of HTTP/1.1 must have a Host header")
    if length is not None:
        head.length = _length(length, side)
    if coding is not None:
        head.chunked = _chunked(coding, side)
        if length is not None:
            raise BadHttp(side, "content-length and transfer-encoding contradict each other")
        if not head.minor:
            raise BadHttp(side, "HTTP/1.0 knows no transfer-encoding")
    if expect is not None:
        if expect.lower() != b"100-continue":
            raise BadHttp(side, "expect can be 100-continue alone", 417)
        head.expects_continue = True
    if (connection := found[CONNECTION]) is not None:
        head.keep_alive = _connection(connection, head.keep_alive, head.kept)


def parse_response(data: bytes) -> ResponseHead:  # noqa: C901 - the same
    """A response's head, without its empty line. Raises BadHttp."""
    side = Side.UPSTREAM
    lines = _lines(data, side)
    first = _STATUS(lines[0])
    if first is None:
        raise BadHttp(side, "what answers there does not begin with an HTTP/1.1 status line")
    head = ResponseHead(int(first[2]), first[3] or b"", [])
    if first[1] == b"0":
        head.keep_alive = False
    kept, seen = head.kept, _RESPONSES.seen
    connection = b""
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        meaning = seen.get(name)
        if meaning is None:
            meaning = _RESPONSES.learn(name)
        if not colon:
            raise BadHttp(side, "a header line of the answer has no colon")
        if meaning == KEEP:
            kept.append(line)
        elif meaning == CONTENT_LENGTH:
            if head.length is not None:
                raise BadHttp(side, "the answer gives its length twice")
            head.length = _length(value.strip(b" \t"), side)
        elif meaning == TRANSFER_ENCODING:
            if head.chunked:
                raise BadHttp(side, "the answer is chunked twice")
            head.chunked = _chunked(value.strip(b" \t"), side)
        elif meaning == CONNECTION:
            connection = b"%b,%b" % (connection, value)
    if head.chunked and head.length is not None:
        raise BadHttp(side, "the answer's content-length and transfer-encoding contradict each other")
    if connection:
        head.keep_alive = _connection(connection, head.keep_alive, kept)
    return head


def _lines(data: bytes, side: Side) -> list[bytes]:
    """The lines of a head. Every byte is legal, and every line ends with CR LF and nothing else."""
    if data.translate(None, _LEGAL):
        raise BadHttp(side, "the head holds a control character")
    lines = data.split(b"\r\n")
    ends = len(lines) - 1
    if data.count(b"\n") != ends or data.count(b"\r") != ends:
        raise BadHttp(side, "a line of the head ends with a bare CR or LF")
    if ends > LINES_LIMIT:
        raise BadHttp(side, f"the head has more than {LINES_LIMIT} header lines", 431)
    return lines


def _length(value: bytes, side: Side) -> int:
    if not value.isdigit() or len(value) > LENGTH_DIGITS:
        raise BadHttp(side, "content-length is no number")
    return int(value)


def _chunked(value: bytes, side: Side) -> bool:
    if value.lower() != b"chunked":
        raise BadHttp(side, "transfer-encoding can be chunked alone", 501)
    return True


def _connection(value: bytes, keep_alive: bool, kept: list[bytes]) -> bool:
    """Whether the connection goes on; headers that Connection names are for one hop only, and go."""
    options = {option.strip(b" \t") for option in value.lower().split(b",")}
    named = options - {b"close", b"keep-alive", b"upgrade", b""}
    if named:
        kept[:] = [line for line in kept if line.partition(b":")[0].lower() not in named]
    return b"close" not in options and (keep_alive or b"keep-alive" in options)
