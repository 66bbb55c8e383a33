"""MySQL servers that go wrong at every step of a login; run them with `hostile_postgres.HostileServer`."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Final

from tests.support import mysql_bytes as my
from tests.support.hostile_postgres import MARK, Behaviour, Peer, closes_at_once, says_nothing
from tests.support.noise import noise

VERSION: Final = "8.0.99-hostile"
SSL_REQUEST_BYTES: Final = 36
GREETING: Final = my.packet(my.greeting(VERSION), 0)
OLD_PASSWORD: Final = b"\xfe"


def switch(plugin: str) -> bytes:
    """AuthSwitchRequest, payload."""
    return b"\xfe" + plugin.encode() + b"\0" + bytes(range(1, 21)) + b"\0"


def take(peer: Peer) -> bytes:
    """One packet's payload."""
    head = peer.receive(4)
    return peer.receive(int.from_bytes(head[:3], "little"))


def start_tls(peer: Peer) -> None:
    """Greeting, the peer's SSLRequest, and a handshake."""
    assert peer.context is not None, "this server has no certificate"
    peer.send(GREETING)
    take(peer)
    peer.socket = peer.context.wrap_socket(peer.socket, server_side=True)


def take_response(peer: Peer) -> None:
    """On TLS, up to the HandshakeResponse41."""
    start_tls(peer)
    take(peer)


def take_password(peer: Peer) -> bytes:
    """What the peer shows when asked for a clear password on TLS."""
    take_response(peer)
    peer.send(my.packet(my.ASKS_TOKEN, 3))
    return take(peer)


def _greets_with(*payloads: bytes, first: int = 0) -> Behaviour:
    """Says these packets at once, whoever is there."""

    def behave(peer: Peer) -> None:
        peer.send(b"".join(my.packet(payload, first + at) for at, payload in enumerate(payloads)))
        peer.linger()

    return behave


def _answers_the_login_with(*packets: bytes) -> Behaviour:
    """These bytes where the answer to a HandshakeResponse41 belongs."""

    def behave(peer: Peer) -> None:
        take_response(peer)
        peer.send(b"".join(packets))
        peer.linger()

    return behave


def _answers_ssl_request_with(data: bytes) -> Behaviour:
    """These bytes, in plaintext, where a ServerHello belongs."""

    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        peer.receive(SSL_REQUEST_BYTES)
        peer.send(data)
        peer.linger()

    return behave


def no_tls(peer: Peer) -> None:
    """A server without CLIENT_SSL that would gladly be shown a password."""
    peer.send(my.packet(my.greeting(VERSION, my.SERVER & ~my.SSL), 0) + my.packet(my.ASKS_TOKEN, 2))
    peer.linger()


def garbage_at_once(peer: Peer) -> None:
    """Another protocol."""
    peer.send(b"SSH-2.0-OpenSSH_9.2\r\n" + noise(4096))
    peer.linger()


def truncated_greeting(peer: Peer) -> None:
    """Half of a greeting, and the end."""
    peer.send(GREETING[: len(GREETING) // 2])


def dripping_greeting(peer: Peer) -> None:
    """A byte every 0.3 s."""
    for byte in GREETING:
        peer.send(bytes((byte,)))
        time.sleep(0.3)


def endless_greeting(peer: Peer) -> None:
    """A packet of 16 MiB, and then the next."""
    with contextlib.suppress(OSError):
        while True:
            peer.send(b"\xff\xff\xff\0\x0a")
            peer.send(bytes(65536) * 255)


def closes_in_tls(peer: Peer) -> None:
    """Nothing where a ServerHello belongs."""
    peer.send(GREETING)
    peer.receive(SSL_REQUEST_BYTES)
    peer.receive(1)


def only_tls(peer: Peer) -> None:
    """The certificate is what is wrong; asks for the password if anybody stays."""
    start_tls(peer)
    peer.send(my.packet(my.ASKS_TOKEN, 3))
    peer.linger()


def garbage_in_tls(peer: Peer) -> None:
    """A good handshake, then random bytes that begin with a length of 16 MiB."""
    take_response(peer)
    peer.send(b"\xff\xff\xff" + noise(4096))
    peer.linger()


def oversized_in_tls(peer: Peer) -> None:
    """Never stops answering."""
    take_response(peer)
    with contextlib.suppress(OSError):
        peer.send(b"\xff\xff\xff\x03")
        while True:
            peer.send(bytes(65536))


def asks_twice(peer: Peer) -> None:
    """For the password, and once more."""
    take_password(peer)
    peer.send(my.packet(my.ASKS_TOKEN, 5))
    peer.linger()


def closes_after_password(peer: Peer) -> None:
    """Take the credential and go."""
    take_password(peer)


def asks_for_a_file(peer: Peer) -> None:
    """LOCAL INFILE in the middle of the login."""
    take_password(peer)
    peer.send(my.packet(b"\xfb/etc/passwd", 5))
    peer.linger()


def keeps_on_hinting(peer: Peer) -> None:
    """More data, for ever: caching_sha2_password's nod without its OK."""
    take_password(peer)
    with contextlib.suppress(OSError):
        for number in range(5, 200):
            peer.send(my.packet(my.FAST, number))
    peer.linger()


def injects_lines(peer: Peer) -> None:
    """An error with line ends, NUL and bytes that are no text."""
    take_response(peer)
    peer.send(my.packet(my.error(1044, "first\r\nsecond\0third", "42000") + b"\xff\xfe", 3))
    peer.linger()


def half_closes(peer: Peer) -> None:
    """Nothing more from here, and still listening."""
    take_response(peer)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.linger()


def resets(peer: Peer) -> None:
    """An RST in the middle of the login."""
    take_response(peer)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(peer: Peer) -> None:
    """One byte of an answer every 0.3 s."""
    take_password(peer)
    for byte in my.packet(my.error(1045, MARK), 5):
        peer.send(bytes((byte,)))
        time.sleep(0.3)


PLAIN: Final[dict[str, Behaviour]] = {
    "no-tls": no_tls,
    "asks-behind-greeting": _greets_with(my.greeting(VERSION), my.ASKS_TOKEN),
    "asks-first": _greets_with(my.ASKS_TOKEN),
    "asks-instead-of-tls": _answers_ssl_request_with(my.packet(my.ASKS_TOKEN, 2)),
    "welcomes-instead-of-tls": _answers_ssl_request_with(my.packet(my.OK, 2)),
    "errs-instead-of-tls": _answers_ssl_request_with(my.packet(my.error(1045, MARK), 2)),
    "garbage-for-tls": _answers_ssl_request_with(b"\x16\x03\x03\x01\x00" + b"?" * 256),
    "garbage-at-once": garbage_at_once,
    "old-protocol": _greets_with(b"\x09" + my.greeting(VERSION)[1:]),
    "empty-greeting": _greets_with(b""),
    "greeting-out-of-turn": _greets_with(my.greeting(VERSION), first=1),
    "long-version": _greets_with(my.greeting("8" * 400)),
    "truncated-greeting": truncated_greeting,
    "short-greeting": _greets_with(my.greeting(VERSION)[:20]),
    "dripping-greeting": dripping_greeting,
    "endless-greeting": endless_greeting,
    "errs-at-once": _greets_with(my.error(1045, MARK, "")),
    "is-full": _greets_with(my.error(1040, MARK, "")),
    "blocks-us": _greets_with(my.error(1129, MARK, "")),
    "is-stopping": _greets_with(my.error(1053, MARK, "")),
    "closes-at-once": closes_at_once,
    "closes-in-tls": closes_in_tls,
    "says-nothing": says_nothing,
    "wrong-name": only_tls,
    "foreign-ca": only_tls,
    "expired-certificate": only_tls,
}
"""Servers that never get far enough to be shown a credential."""

NO_TOKEN: Final[dict[str, Behaviour]] = {
    "unknown-plugin": _answers_the_login_with(my.packet(switch("dialog_of_ours"), 3)),
    "old-password": _answers_the_login_with(my.packet(OLD_PASSWORD, 3)),
    "asks-for-gssapi": _answers_the_login_with(my.packet(switch("auth_gssapi_client"), 3)),
    "asks-for-native": _answers_the_login_with(my.packet(switch("mysql_native_password"), 3)),
    "wants-full-auth": _answers_the_login_with(my.packet(b"\x01\x04", 3)),
    "unnamed-plugin": _answers_the_login_with(my.packet(b"\xfe\0", 3)),
    "unended-plugin": _answers_the_login_with(my.packet(b"\xfemysql_clear_password", 3)),
    "out-of-turn": _answers_the_login_with(my.packet(my.ASKS_TOKEN, 9)),
    "empty-answer": _answers_the_login_with(my.packet(b"", 3)),
    "full-in-tls": _answers_the_login_with(my.packet(my.error(1040, "Too many connections", "08004"), 3)),
    "denies-unasked": _answers_the_login_with(my.packet(my.error(1045, "Access denied"), 3)),
    "garbage-in-tls": garbage_in_tls,
    "oversized-in-tls": oversized_in_tls,
    "injects-lines": injects_lines,
    "half-closes": half_closes,
    "resets": resets,
}
"""Servers whose certificate is right and who ask for something that is not the token."""

SHOWN: Final[dict[str, Behaviour]] = {
    "asks-twice": asks_twice,
    "asks-for-a-file": asks_for_a_file,
    "keeps-on-hinting": keeps_on_hinting,
    "closes-after-password": closes_after_password,
    "drips": drips,
}
"""Servers whose certificate is right and who are shown the token."""
