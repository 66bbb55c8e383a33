"""HTTP servers that go wrong at every step of an answer; run them with `hostile_postgres.HostileServer`.

Each takes one request whole (its length is known from Content-Length) before it misbehaves, unless it says otherwise.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Final

from tests.support.hostile_postgres import MARK, Behaviour, Peer, closes_at_once, says_nothing
from tests.support.noise import noise

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
MARK_BYTES: Final = MARK.encode()
JSON_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a `HostileServer`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def start_tls(peer: Peer) -> None:
    """A handshake at once."""
    assert peer.context is not None, "this server has no certificate"
    peer.socket = peer.context.wrap_socket(peer.socket, server_side=True)


def take_head(peer: Peer) -> bytes:
    """A request up to its empty line."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.receive(1)
    return head


def take_request(peer: Peer) -> bytes:
    """On a connection with TLS: head and body."""
    head = take_head(peer)
    found = _LENGTH.search(head)
    return head + (peer.receive(int(found[1])) if found else b"")


def answers(data: bytes, *, close: bool = False) -> Behaviour:
    """These bytes where an answer belongs, and then the end of the connection or nothing more."""

    def behave(peer: Peer) -> None:
        start_tls(peer)
        take_request(peer)
        peer.send(data)
        if not close:
            peer.linger()

    return behave


def answers_without_end(begin: bytes, more: bytes) -> Behaviour:
    """For ever."""

    def behave(peer: Peer) -> None:
        start_tls(peer)
        take_request(peer)
        peer.send(begin)
        with contextlib.suppress(OSError):
            while True:
                peer.send(more)

    return behave


def document(text: bytes, *more: bytes) -> bytes:
    """A good answer."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Type: application/json", b"Content-Length: %d" % len(text), *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + text


def plain_port(peer: Peer) -> None:
    """HTTP without TLS: it takes a ClientHello for a bad request."""
    peer.receive(32)
    peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(MARK_BYTES), MARK_BYTES))
    peer.linger()


def garbage_for_tls(peer: Peer) -> None:
    """A record of TLS with nothing right in it."""
    peer.receive(32)
    peer.send(b"\x16\x03\x03\x01\x00" + b"?" * 256)
    peer.linger()


def closes_in_tls(peer: Peer) -> None:
    """Nothing where a ServerHello belongs."""
    peer.receive(32)


def only_tls(peer: Peer) -> None:
    """The certificate is what is wrong."""
    start_tls(peer)
    peer.linger()


def speaks_first(peer: Peer) -> None:
    """An answer before there was a question."""
    start_tls(peer)
    peer.send(document(b'{"first":"%s"}' % MARK_BYTES))
    peer.linger()


def resets(peer: Peer) -> None:
    """An RST in the middle of an answer."""
    start_tls(peer)
    take_request(peer)
    peer.send(JSON_HEAD + b"Content-Length: 1000\r\n\r\n{")
    time.sleep(0.2)  # or the RST overtakes what was sent
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(peer: Peer) -> None:
    """One byte of a head every 0.3 s."""
    start_tls(peer)
    take_request(peer)
    for byte in JSON_HEAD * 10:
        peer.send(bytes((byte,)))
        time.sleep(0.3)


def answers_twice(peer: Peer) -> None:
    """Two answers for each request: the second must never be taken for somebody else's."""
    start_tls(peer)
    while True:
        take_request(peer)
        peer.send(document(b'{"answer":"mine"}') + document(b'{"answer":"%s"}' % MARK_BYTES))


def answers_early(peer: Peer) -> None:
    """Before it has read the body, which it then throws away."""
    start_tls(peer)
    take_head(peer)
    said = b'{"error":{"type":"early","reason":"too large"},"status":413}'
    head = b"HTTP/1.1 413 Payload Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n"
    peer.send(head + b"Content-Length: %d\r\n\r\n%s" % (len(said), said))
    peer.linger()


def echoes(peer: Peer) -> None:
    """A good server: answers every request with the request."""
    start_tls(peer)
    while True:
        request = take_request(peer)
        peer.send(document(request))


PLAIN: Final[dict[str, Behaviour]] = {
    "plain-port": plain_port,
    "garbage-for-tls": garbage_for_tls,
    "closes-at-once": closes_at_once,
    "closes-in-tls": closes_in_tls,
    "says-nothing": says_nothing,
    "wrong-name": only_tls,
    "foreign-ca": only_tls,
    "expired-certificate": only_tls,
}
"""Servers that never get far enough to be shown a signature."""

BROKEN: Final[dict[str, Behaviour]] = {
    "garbage-in-tls": answers(b"\xff" + noise(4096)),
    "another-protocol": answers(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "http-0-9": answers(b'{"bare":"document"}', close=True),
    "http-2": answers(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    "status-of-letters": answers(b"HTTP/1.1 OK 200\r\nContent-Length: 0\r\n\r\n"),
    "two-lengths": answers(JSON_HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}"),
    "length-and-chunks": answers(
        JSON_HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    ),
    "negative-length": answers(JSON_HEAD + b"Content-Length: -1\r\n\r\n"),
    "huge-length": answers(JSON_HEAD + b"Content-Length: 99999999999999999999\r\n\r\n"),
    "folded-header": answers(JSON_HEAD + b"X-Long: a\r\n b\r\nContent-Length: 2\r\n\r\n{}"),
    "bare-line-ends": answers(b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"),
    "nul-in-header": answers(JSON_HEAD + b"X-Nul: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
    "blank-before-colon": answers(JSON_HEAD + b"Content-Length : 2\r\n\r\n{}"),
    "unknown-coding": answers(JSON_HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "huge-head": answers_without_end(b"HTTP/1.1 200 OK\r\n", b"X-Fill: " + b"x" * 8000 + b"\r\n"),
    "endless-status-line": answers_without_end(b"HTTP/1.1 200 ", b"x" * 65536),
    "endless-continue": answers_without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "switches-protocols": answers(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + MARK_BYTES),
    "closes-in-head": answers(b"HTTP/1.1 200 OK\r\nContent-", close=True),
    "nothing-and-close": answers(b"", close=True),
    "speaks-first": speaks_first,
}
"""Servers whose certificate is right, and whose answer begins wrong: the client hears it from the proxy."""

CUT_SHORT: Final[dict[str, Behaviour]] = {
    "truncated-length": answers(JSON_HEAD + b"Content-Length: 100000\r\n\r\n" + b"{" * 70_000, close=True),
    "truncated-chunk": answers(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n20000\r\n" + b"{" * 70_000, close=True),
    "truncated-chunks": answers(
        JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"{" * 4096 + b"\r\n", close=True
    ),
    "bad-chunk-size": answers(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1000\r\n" + b"{" * 4096 + b"\r\nzz\r\n"),
    "bad-chunk-end": answers(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n"),
    "huge-chunk-line": answers_without_end(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;", b"x" * 65536),
    "resets": resets,
}
"""Servers whose answer begins right and breaks: the client must not take it for a whole one."""
