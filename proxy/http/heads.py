"""Heads of requests and responses, read strictly and sorted into what goes on and what stays here. PURE.

Names are looked up as they are spelled: what a name means was found out, and its spelling checked, when it was first
seen. Heads with an order of names that was seen before are read in one go (`proxy.http.layouts`), to the same end. A
line that goes on goes on as it came, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from proxy.errors import PeerViolation, Side
from proxy.http.layouts import Layouts
from proxy.http.names import (
    AMZ_TARGET,
    AUTHORIZATION,
    BROWSER,
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    DROP,
    DROPPED_PREFIXES,
    EXPECT,
    HOST,
    KEEP,
    KINDS,
    REQUEST_NAMES,
    RESPONSE_NAMES,
    TRANSFER_ENCODING,
    UPGRADE,
)

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
_LEGAL: Final = bytes([9, *range(32, 127), *range(128, 256)])
"""Bytes of a head besides its line ends: no control character but tab."""


class BadHttp(PeerViolation):
    """A message that is not taken. `status` is what a client hears."""

    def __init__(self, side: Side, message: str, status: int = 400) -> None:
        super().__init__(side, message)
        self.status = status


class RequestHead:
    """A request without its body. Bytes are as the client wrote them, without blanks around."""

    __slots__ = (
        "amz_target", "authorization", "browser", "chunked", "content_type", "expects_continue", "host", "keep_alive",
        "kept", "length", "method", "minor", "size", "target", "upgrade",
    )  # fmt: skip

    def __init__(self, first: tuple[bytes, bytes, int], size: int) -> None:
        """`first`: method, target and minor version."""
        self.method, self.target, self.minor = first
        self.size = size
        """Bytes of the head, its empty line among them."""
        self.host = self.content_type = self.amz_target = self.authorization = b""
        self.length = 0
        """Bytes of the body, unless `chunked`."""
        self.chunked = False
        self.keep_alive = self.minor == 1
        self.expects_continue = False
        self.upgrade = b""
        self.browser = False
        """A page in a browser sent it."""
        self.kept = b""
        """Whole header lines that go on, each with its CR LF."""


class ResponseHead:
    """A response without its body."""

    __slots__ = ("chunked", "keep_alive", "kept", "length", "line", "size", "status")

    def __init__(self, status: int, line: bytes, size: int, kept: bytes = b"") -> None:
        self.status = status
        self.line = line
        """Its first line, with CR LF, as HTTP/1.1 whichever it came with."""
        self.size = size
        """Bytes of the head, its empty line among them."""
        self.kept = kept
        """Whole header lines that go on, each with its CR LF."""
        self.length: int | None = None
        """As Content-Length says; None where it is missing."""
        self.chunked = False
        self.keep_alive = True

    @property
    def phrase(self) -> bytes:
        """What its first line says behind the status."""
        return self.line[len(b"HTTP/1.1 200 ") : -2]

    def value(self, name: bytes) -> bytes:
        """Of the first line with this lower-case name; empty when there is none."""
        for line in self.kept.split(b"\r\n"):
            found, _, value = line.partition(b":")
            if found.lower() == name:
                return value.strip(b" \t")
        return b""


_NOT_LAID_OUT: Final = frozenset({TRANSFER_ENCODING, EXPECT, UPGRADE, BROWSER})
_PLAIN_CONNECTIONS: Final = frozenset({b"keep-alive", b"close"})
_FIRST_LINES_LIMIT: Final = 256
_EMPTY_LINE: Final = b"\r\n\r\n"
_HEAD_END: Final = HEAD_LIMIT + len(_EMPTY_LINE)


class _Side:
    """What one side was seen to write: spellings of names, and their orders."""

    def __init__(self, side: Side, meanings: Mapping[bytes, int], wanted: tuple[int, ...]) -> None:
        """`wanted`: kinds of lines whose values a layout picks out."""
        self.side = side
        self.seen: dict[bytes, int] = {}
        self.layouts = Layouts(wanted)
        self._meanings = meanings

    def learn(self, name: bytes) -> int:
        """A spelling's meaning. Raises BadHttp for what is no name."""
        if not _TOKEN(name):
            raise BadHttp(self.side, "a header line has no proper name: folded lines and blanks in names are not taken")
        lower = name.lower()
        dropped = self.side is Side.CLIENT and lower.startswith(DROPPED_PREFIXES)
        meaning = self._meanings.get(lower, DROP if dropped else KEEP)
        if len(self.seen) < NAMES_LIMIT and len(name) < 64:
            self.seen[name] = meaning
        return meaning

    def lay_out(self, lines: list[bytes], meanings: list[int]) -> None:
        """Remember the order of a head that was read and found good, if it is a plain one."""
        connection = b""
        if CONNECTION in meanings:
            connection = lines[1 + meanings.index(CONNECTION)]
            plain = connection.partition(b":")[2].strip(b" \t").lower() in _PLAIN_CONNECTIONS
            if not plain or meanings.count(CONNECTION) > 1:
                return
        if _NOT_LAID_OUT.isdisjoint(meanings):
            self.layouts.saw([line.partition(b":")[0] for line in lines[1:]], meanings, connection)


_CLIENT: Final = _Side(Side.CLIENT, REQUEST_NAMES, (HOST, CONTENT_TYPE, AMZ_TARGET, AUTHORIZATION, CONTENT_LENGTH))
_UPSTREAM: Final = _Side(Side.UPSTREAM, RESPONSE_NAMES, (CONTENT_LENGTH,))
_request_lines: dict[bytes, tuple[bytes, bytes, int]] = {}
_status_lines: dict[bytes, tuple[int, bytes, int]] = {}


def read_request(data: bytes, scanned: int = 0) -> RequestHead | None:
    """The head that `data` begins with; None when it is not whole, or too long. Raises BadHttp.

    `scanned`: so many bytes were looked at before, and do not hold the head's end.
    """
    for layout in _CLIENT.layouts.known if not scanned else ():
        match = layout.match(data, 0, _HEAD_END)
        if match is not None:
            line, host, content_type, amz_target, authorization, length, *kept = match.group(*layout.fields)
            first = _request_lines.get(line) or _request_line(line)
            if not first[2]:
                break
            head = RequestHead(first, match.end())
            head.host = host
            head.content_type = content_type
            head.amz_target = amz_target
            head.authorization = authorization
            if length:
                head.length = int(length)
            head.kept = b"".join(kept)
            head.keep_alive = layout.stays
            return head
    end = data.find(_EMPTY_LINE, scanned)
    return parse_request(data[:end]) if 0 <= end <= HEAD_LIMIT else None


def parse_request(data: bytes) -> RequestHead:
    """A request's head, given without its empty line, line by line. Raises BadHttp."""
    lines = _lines(data, Side.CLIENT)
    first = _request_lines.get(lines[0]) or _request_line(lines[0])
    head = RequestHead(first, len(data) + len(_EMPTY_LINE))
    meanings, found, kept = _sorted(lines, _CLIENT)
    head.content_type, head.amz_target = found[CONTENT_TYPE] or b"", found[AMZ_TARGET] or b""
    head.authorization, head.upgrade = found[AUTHORIZATION] or b"", (found[UPGRADE] or b"").lower()
    head.browser = found[BROWSER] is not None
    _frame(head, found)
    if (connection := found[CONNECTION]) is not None:
        head.keep_alive = _connection(connection, head.keep_alive, kept)
    head.kept = _joined(kept)
    if head.minor:
        _CLIENT.lay_out(lines, meanings)
    return head


def _sorted(lines: list[bytes], of: _Side) -> tuple[list[int], list[bytes | None], list[bytes]]:
    """What each line is, the values of those that are for us, and those that go on."""
    seen, meanings, kept = of.seen, [], []
    found: list[bytes | None] = [None] * KINDS
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        meaning = seen.get(name)
        if meaning is None:
            meaning = of.learn(name)
        if not colon:
            raise BadHttp(of.side, "a header line has no colon")
        meanings.append(meaning)
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
                raise BadHttp(of.side, f"{name.decode().lower()} is given twice")
    return meanings, found, kept


def _joined(lines: list[bytes]) -> bytes:
    return b"\r\n".join(lines) + b"\r\n" if lines else b""


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target, minor version. Raises BadHttp."""
    side, parts = Side.CLIENT, line.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/"):
        raise BadHttp(side, "the request line is not METHOD TARGET HTTP/1.1")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadHttp(side, "only HTTP/1.1 is spoken here", 505)
    if not _METHOD(method):
        raise BadHttp(side, "the method is no upper-case word")
    first = method, target, int(version == b"HTTP/1.1")
    if len(_request_lines) < _FIRST_LINES_LIMIT and len(line) < 64:
        _request_lines[line] = first
    return first


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
        head.expects_continue = bool(head.minor)  # of HTTP/1.0 it is ignored (RFC 9110 10.1.1): nobody waits there


def read_response(data: bytes, scanned: int = 0) -> ResponseHead | None:
    """As `read_request`."""
    for layout in _UPSTREAM.layouts.known if not scanned else ():
        match = layout.match(data, 0, _HEAD_END)
        if match is not None:
            first, length, *kept = match.group(*layout.fields)
            status, line, minor = _status_lines.get(first) or _status_line(first)
            if not minor:
                break
            head = ResponseHead(status, line, match.end(), b"".join(kept))
            if length:
                head.length = int(length)
            head.keep_alive = layout.stays
            return head
    end = data.find(_EMPTY_LINE, scanned)
    return parse_response(data[:end]) if 0 <= end <= HEAD_LIMIT else None


def parse_response(data: bytes) -> ResponseHead:
    """A response's head, given without its empty line, line by line. Raises BadHttp."""
    side = Side.UPSTREAM
    lines = _lines(data, side)
    status, line, minor = _status_lines.get(lines[0]) or _status_line(lines[0])
    head = ResponseHead(status, line, len(data) + len(_EMPTY_LINE))
    if not minor:
        head.keep_alive = False
    meanings, found, kept = _sorted(lines, _UPSTREAM)
    if (length := found[CONTENT_LENGTH]) is not None:
        head.length = _length(length, side)
    if (coding := found[TRANSFER_ENCODING]) is not None:
        head.chunked = _chunked(coding, side)
        if head.length is not None:
            raise BadHttp(side, "the answer's content-length and transfer-encoding contradict each other")
    if (connection := found[CONNECTION]) is not None:
        head.keep_alive = _connection(connection, head.keep_alive, kept)
    head.kept = _joined(kept)
    if minor:
        _UPSTREAM.lay_out(lines, meanings)
    return head


def _status_line(line: bytes) -> tuple[int, bytes, int]:
    """Status, the line for the client, minor version. Raises BadHttp."""
    match = _STATUS(line)
    if match is None:
        raise BadHttp(Side.UPSTREAM, "what answers there does not begin with an HTTP/1.1 status line")
    first = int(match[2]), b"HTTP/1.1 %b %b\r\n" % (match[2], match[3] or b""), int(match[1])
    if len(_status_lines) < _FIRST_LINES_LIMIT and len(line) < 64:
        _status_lines[line] = first
    return first


def check_beginning(data: bytes) -> None:
    """As much of an answer as there is before the end of its head. Raises BadHttp for what can become none, so that
    nobody waits for the rest of it."""
    begins = b"HTTP/1."
    if not (data.startswith(begins) or begins.startswith(data)):
        raise BadHttp(Side.UPSTREAM, "what answers there does not begin with an HTTP/1.1 status line")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadHttp(Side.UPSTREAM, "a line of the head ends with a bare LF")


def _lines(data: bytes, side: Side) -> list[bytes]:
    """The lines of a head. Every byte is legal, and every line ends with CR LF and nothing else."""
    lines = data.split(b"\r\n")
    ends = len(lines) - 1
    left = data.translate(None, _LEGAL)
    if left != b"\r\n" * ends:
        if left.strip(b"\r\n"):
            raise BadHttp(side, "the head holds a control character")
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
