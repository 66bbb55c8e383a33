"""Chunked bodies: content in any pieces, and nothing that two readers could end in two places."""

from __future__ import annotations

import gzip
import zlib

import pytest

from proxy.errors import Side
from proxy.http.bodies import LAST_CHUNK, LINE_LIMIT, TRAILERS_LIMIT, Chunked, chunk, uncoded
from proxy.http.heads import BadHttp


def test_content_and_what_follows() -> None:
    """Extensions and trailers are dropped; the next request is not."""
    chunked = Chunked(Side.CLIENT)
    data = b"3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nGET / HTTP/1.1"
    assert b"".join(chunked.feed(data)) == b"abc0123456789"
    assert chunked.done
    assert chunked.rest == b"GET / HTTP/1.1"


def test_what_is_left_of_a_body_without_its_coding() -> None:
    """What is broken, too long or in a coding that nobody here knows stays as it came."""
    text = b"Signature expired" * 10
    for coding, body in (
        (b"gzip", gzip.compress(text)),
        (b"GZIP", gzip.compress(text)),
        (b"deflate", zlib.compress(text)),
    ):
        assert uncoded(body, coding, len(text)) == text
        assert uncoded(body, coding, len(text) - 1) == body
        assert uncoded(text, coding, 1000) == text
        assert uncoded(body, b"br", 1000) == body


def test_what_we_write_is_what_we_read() -> None:
    """A chunk and the last one."""
    chunked = Chunked(Side.UPSTREAM)
    assert b"".join(chunked.feed(chunk(b"x" * 300) + LAST_CHUNK)) == b"x" * 300
    assert (chunked.done, chunked.rest) == (True, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"0x3\r\nabc\r\n",
        b"+3\r\nabc\r\n",
        b"-1\r\n",
        b"3 \r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"\r\n",
        b"g\r\n",
        b"1234567890123\r\n",
        b"3;\x00\r\nabc\r\n",
        b"1" * (LINE_LIMIT + 1),
        b"3;" + b"x" * LINE_LIMIT + b"\r\n",
        b"0\r\nX: 1\nY: 2\r\n\r\n",
        b"0\r\n" + b"X: 1\r\n" * (TRAILERS_LIMIT // 6 + 1),
        b"0\r\n" + b"x" * (TRAILERS_LIMIT + 1),
    ],
)
def test_bodies_that_are_refused(data: bytes) -> None:
    """Whole and byte by byte."""
    with pytest.raises(BadHttp):
        Chunked(Side.CLIENT).feed(data)
    with pytest.raises(BadHttp):
        byte_by_byte(data)


def byte_by_byte(data: bytes) -> Chunked:
    """As slowly as can be."""
    slow = Chunked(Side.CLIENT)
    for number in range(len(data)):
        slow.feed(data[number : number + 1])
    return slow
