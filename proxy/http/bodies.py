"""Chunked bodies (RFC 9112 section 7.1), strictly. PURE."""

from __future__ import annotations

import re
import zlib
from enum import Enum
from typing import Final

from proxy.errors import Side
from proxy.http.heads import BadHttp

LINE_LIMIT: Final = 256
"""Bytes of a chunk's size line: sixteen digits and a word of extension, which nobody uses."""

TRAILERS_LIMIT: Final = 8 * 1024
"""Bytes of trailers, which are read and dropped."""

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t -~]*)?").fullmatch


class _State(Enum):
    SIZE = 1
    DATA = 2
    DATA_END = 3
    TRAILERS = 4
    DONE = 5


class Chunked:
    """Takes a chunked body apart. `feed` until `done`; what came behind the body is then `rest`."""

    __slots__ = ("_buffer", "_left", "_side", "_state", "_trailers", "rest")

    def __init__(self, side: Side) -> None:
        self._side = side
        self._state = _State.SIZE
        self._buffer = b""
        self._left = 0
        self._trailers = 0
        self.rest = b""
        """Bytes behind the end of the body."""

    @property
    def done(self) -> bool:
        """The body is complete."""
        return self._state is _State.DONE

    def feed(self, data: bytes) -> list[bytes]:
        """The content in these bytes, in pieces. Raises BadHttp."""
        pieces: list[bytes] = []
        if self._state is not _State.DATA:
            data, self._buffer = self._buffer + data, b""
        at, end = 0, len(data)
        while at < end or self._state is _State.DONE:
            if self._state is _State.DATA:
                piece = data[at : at + self._left] if at or self._left < end else data
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _State.DATA_END
            elif self._state is _State.DATA_END:
                if data[at : at + 2] != b"\r\n":
                    if end - at >= 2 or data[at : at + 1] != b"\r":
                        raise BadHttp(self._side, "a chunk does not end where its size says")
                    break
                at += 2
                self._state = _State.SIZE
            elif self._state is _State.DONE:
                self.rest += data[at:]
                return pieces
            else:
                line_end = data.find(b"\r\n", at)
                if line_end < 0:
                    self._check_line(data[at:])
                    break
                line, at = data[at:line_end], line_end + 2
                self._line(line)
        self._buffer = data[at:]
        return pieces

    def _line(self, line: bytes) -> None:
        if self._state is _State.TRAILERS:
            self._trailers += len(line) + 2
            self._check_line(b"")
            if b"\n" in line or b"\r" in line:
                raise BadHttp(self._side, "a trailer ends with a bare CR or LF")
            if not line:
                self._state = _State.DONE
            return
        match = _SIZE(line) if len(line) <= LINE_LIMIT else None
        if match is None:
            raise BadHttp(self._side, "a chunk's size is no hexadecimal number")
        self._left = int(match[1], 16)
        self._state = _State.DATA if self._left else _State.TRAILERS

    def _check_line(self, begun: bytes) -> None:
        """No line may grow without end, and a bare LF is noticed before its CR LF comes."""
        if self._state is _State.TRAILERS:
            if self._trailers + len(begun) > TRAILERS_LIMIT:
                raise BadHttp(self._side, "the trailers are too long")
        elif len(begun) > LINE_LIMIT:
            raise BadHttp(self._side, "a chunk's size line is too long")
        if b"\n" in begun:
            raise BadHttp(self._side, "a line of a chunked body ends with a bare LF")


def chunk(data: bytes) -> bytes:
    """One chunk with this content, which is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"

_CODINGS: Final = frozenset({b"gzip", b"x-gzip", b"deflate"})
_ANY_HEADER: Final = 32 + zlib.MAX_WBITS
"""gzip's or zlib's, whichever there is."""


def uncoded(body: bytes, coding: bytes, limit: int) -> bytes:
    """A whole body without its Content-Encoding; as it came where that is another one, or the result over `limit`."""
    if coding.lower() not in _CODINGS:
        return body
    try:
        plain = zlib.decompressobj(_ANY_HEADER).decompress(body, limit + 1)
    except zlib.error:
        return body
    return plain if len(plain) <= limit else body
