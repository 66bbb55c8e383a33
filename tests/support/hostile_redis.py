"""Redis servers that go wrong at every step of a login; run them with `hostile_postgres.HostileServer`."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Final

from tests.support.hostile_postgres import MARK, Behaviour, Peer, closes_at_once, says_nothing
from tests.support.noise import noise

COMMAND_BYTES: Final = 9
"""`*3\\r\\n$4\\r\\n` of an AUTH: the head of what a proxy says first."""


def start_tls(peer: Peer) -> None:
    """A handshake at once, as caches with in-transit encryption do."""
    assert peer.context is not None, "this server has no certificate"
    peer.socket = peer.context.wrap_socket(peer.socket, server_side=True)


def take_auth(peer: Peer) -> None:
    """On TLS, the whole AUTH."""
    start_tls(peer)
    for _ in range(int(_line(peer)[1:])):
        peer.receive(int(_line(peer)[1:]) + 2)


def _line(peer: Peer) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += peer.receive(1)
    return line[:-2]


def _answers_auth_with(data: bytes) -> Behaviour:
    """These bytes where AUTH's answer belongs."""

    def behave(peer: Peer) -> None:
        take_auth(peer)
        peer.send(data)
        peer.linger()

    return behave


def plain_port(peer: Peer) -> None:
    """A Redis without TLS: it takes a ClientHello for an inline command, and says so when it has seen a line's end."""
    peer.receive(32)
    peer.send(b"-ERR unknown command '\x16\x03\x01', with args beginning with: " + MARK.encode() + b"\r\n")
    peer.linger()


def asks_at_once(peer: Peer) -> None:
    """-NOAUTH before anybody has said a word."""
    peer.send(b"-NOAUTH Authentication required. " + MARK.encode() + b"\r\n")
    peer.linger()


def garbage_at_once(peer: Peer) -> None:
    """Random bytes; two that begin no record of TLS, which would be waited for."""
    peer.send(b"\xff\xff" + noise(4096))
    peer.linger()


def garbage_for_tls(peer: Peer) -> None:
    """A record of TLS with nothing right in it."""
    peer.receive(32)
    peer.send(b"\x16\x03\x03\x01\x00" + b"?" * 256)
    peer.linger()


def closes_in_tls(peer: Peer) -> None:
    """Nothing where a ServerHello belongs."""
    peer.receive(32)


def welcomes_instead_of_tls(peer: Peer) -> None:
    """+OK in plaintext."""
    peer.receive(32)
    peer.send(b"+OK\r\n")
    peer.linger()


def only_tls(peer: Peer) -> None:
    """The certificate is what is wrong."""
    start_tls(peer)
    peer.linger()


def endless_line(peer: Peer) -> None:
    """An error without an end."""
    take_auth(peer)
    peer.send(b"-ERR ")
    with contextlib.suppress(OSError):
        while True:
            peer.send(b"x" * 65536)


def endless_nesting(peer: Peer) -> None:
    """An array in an array in an array."""
    take_auth(peer)
    with contextlib.suppress(OSError):
        while True:
            peer.send(b"*1\r\n" * 4096)


def endless_pushes(peer: Peer) -> None:
    """Pushes, and never an answer."""
    take_auth(peer)
    with contextlib.suppress(OSError):
        while True:
            peer.send(b">2\r\n+invalidate\r\n_\r\n" * 1024)


def half_closes(peer: Peer) -> None:
    """Nothing more from here, and still listening."""
    take_auth(peer)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.linger()


def resets(peer: Peer) -> None:
    """An RST in the middle of the login."""
    take_auth(peer)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(peer: Peer) -> None:
    """One byte of an answer every 0.3 s."""
    take_auth(peer)
    for byte in b"-ERR " + MARK.encode() + b"\r\n":
        peer.send(bytes((byte,)))
        time.sleep(0.3)


PLAIN: Final[dict[str, Behaviour]] = {
    "plain-port": plain_port,
    "asks-at-once": asks_at_once,
    "garbage-at-once": garbage_at_once,
    "garbage-for-tls": garbage_for_tls,
    "welcomes-instead-of-tls": welcomes_instead_of_tls,
    "closes-at-once": closes_at_once,
    "closes-in-tls": closes_in_tls,
    "says-nothing": says_nothing,
    "wrong-name": only_tls,
    "foreign-ca": only_tls,
    "expired-certificate": only_tls,
}
"""Servers that never get far enough to be shown a credential."""

VERIFIED: Final[dict[str, Behaviour]] = {
    "garbage-in-tls": _answers_auth_with(b"\xff" * 4096),
    "oversized-value": _answers_auth_with(b"$2147483647\r\n"),
    "negative-length": _answers_auth_with(b"$-5\r\n\r\n"),
    "huge-number": _answers_auth_with(b"$" + b"9" * 40 + b"\r\n"),
    "huge-array": _answers_auth_with(b"*1000000000\r\n"),
    "huge-map": _answers_auth_with(b"%4611686018427387904\r\n"),
    "says-pong": _answers_auth_with(b"+PONG\r\n"),
    "bare-line-end": _answers_auth_with(b"+OK\n"),
    "nothing-and-close": take_auth,
    "rejects": _answers_auth_with(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
    "is-full": _answers_auth_with(b"-ERR max number of clients reached\r\n"),
    "is-loading": _answers_auth_with(b"-LOADING Redis is loading the dataset in memory\r\n"),
    "injects-lines": _answers_auth_with(b"-ERR first\rsecond\x00\x1b[31mthird\xff\xfe\r\n"),
    "endless-line": endless_line,
    "endless-nesting": endless_nesting,
    "endless-pushes": endless_pushes,
    "half-closes": half_closes,
    "resets": resets,
    "drips": drips,
}
"""Servers whose certificate is right: these are shown the token."""
