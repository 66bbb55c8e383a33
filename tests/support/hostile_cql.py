"""Cassandra servers that go wrong at every step of a login, and one that lies once it has let somebody in.

Run them with `hostile_postgres.HostileServer`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Mapping
from typing import Final

from tests.support import cql
from tests.support.hostile_postgres import MARK, Behaviour, Peer, closes_at_once, says_nothing
from tests.support.noise import noise


def start_tls(peer: Peer) -> None:
    """A handshake at once, as port 9142 does it."""
    assert peer.context is not None, "this server has no certificate"
    peer.socket = peer.context.wrap_socket(peer.socket, server_side=True)


def take(peer: Peer) -> tuple[int, int, bytes]:
    """Stream, opcode and body of one frame."""
    _, _, stream, opcode, length = struct.unpack(">BBhBI", peer.receive(9))
    return stream, opcode, peer.receive(length)


def take_startup(peer: Peer) -> int:
    """TLS, and STARTUP in it; its stream."""
    start_tls(peer)
    return take(peer)[0]


def take_mechanism(peer: Peer) -> int:
    """The same, and the mechanism's name where it was asked for; its stream."""
    peer.send(cql.authenticate(stream=take_startup(peer)))
    return take(peer)[0]


def take_proof(peer: Peer) -> int:
    """The same, and what the client made of the nonce; its stream."""
    peer.send(cql.challenge(stream=take_mechanism(peer)))
    return take(peer)[0]


def let_in(peer: Peer) -> None:
    """Whoever it is."""
    peer.send(cql.success(stream=take_proof(peer)))


def _startup(data: bytes) -> Behaviour:
    """These bytes where the answer to STARTUP belongs."""

    def behave(peer: Peer) -> None:
        take_startup(peer)
        peer.send(data)
        peer.linger()

    return behave


def _challenge(token: bytes | None) -> Behaviour:
    """This token where the nonce belongs."""

    def behave(peer: Peer) -> None:
        stream = take_mechanism(peer)
        peer.send(cql.answer(cql.AUTH_CHALLENGE, cql.long(token), stream=stream))
        peer.linger()

    return behave


def _proof(opcode: int, body: bytes = b"", *, stream: int = 0) -> Behaviour:
    """This frame where the answer to the proof belongs."""

    def behave(peer: Peer) -> None:
        peer.send(cql.answer(opcode, body, stream=take_proof(peer) + stream))
        peer.linger()

    return behave


def _error(code: int, text: str | bytes) -> bytes:
    return code.to_bytes(4, "big") + cql.text(text)


def speaks_first(peer: Peer) -> None:
    """An ERROR before anybody has said a word."""
    peer.send(cql.error(0, MARK))
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


def plain_port(peer: Peer) -> None:
    """A Cassandra without TLS: it takes a ClientHello for a frame of version 22."""
    peer.receive(32)
    peer.send(cql.error(0x0A, f"Invalid or unsupported protocol version (22); {MARK}"))
    peer.linger()


def closes_in_tls(peer: Peer) -> None:
    """Nothing where a ServerHello belongs."""
    peer.receive(32)


def only_tls(peer: Peer) -> None:
    """The certificate is what is wrong."""
    start_tls(peer)
    peer.linger()


def quotes_the_proof(peer: Peer) -> None:
    """Says no, and repeats what it was shown."""
    peer.send(cql.challenge(stream=take_mechanism(peer)))
    stream, _, proof = take(peer)
    peer.send(cql.answer(cql.ERROR, _error(0x100, b"no: " + proof[4:]), stream=stream))
    peer.linger()


def knows_passwords_alone(peer: Peer) -> None:
    """What is SigV4?"""
    peer.send(cql.answer(cql.ERROR, _error(0x100, "password?"), stream=take_mechanism(peer)))
    peer.linger()


def endless_events(peer: Peer) -> None:
    """News, and never an answer."""
    take_startup(peer)
    news = cql.answer(cql.EVENT, cql.text("STATUS_CHANGE") + b"\0\4DOWN" + b"\4\x7f\0\0\2\0\0\0\1", stream=-1)
    with contextlib.suppress(OSError):
        while True:
            peer.send(news * 512)


def half_closes(peer: Peer) -> None:
    """Nothing more from here, and still listening."""
    take_startup(peer)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.linger()


def resets(peer: Peer) -> None:
    """An RST in the middle of the login."""
    take_mechanism(peer)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(peer: Peer) -> None:
    """One byte of an answer every 0.3 s."""
    for byte in cql.authenticate(stream=take_startup(peer)):
        peer.send(bytes((byte,)))
        time.sleep(0.3)


def closes_after_the_proof(peer: Peer) -> None:
    """Without a word."""
    take_proof(peer)


PLAIN: Final[dict[str, Behaviour]] = {
    "plain-port": plain_port,
    "speaks-first": speaks_first,
    "garbage-at-once": garbage_at_once,
    "garbage-for-tls": garbage_for_tls,
    "closes-at-once": closes_at_once,
    "closes-in-tls": closes_in_tls,
    "says-nothing": says_nothing,
    "wrong-name": only_tls,
    "foreign-ca": only_tls,
    "expired-certificate": only_tls,
}
"""Servers that never get far enough to be shown a credential."""

UNASKED: Final[dict[str, Behaviour]] = {
    "garbage-in-tls": _startup(b"\xff" * 4096),
    "version-5": _startup(b"\x85\0\0\0\3\0\0\0\0"),
    "a-request": _startup(cql.frame(cql.STARTUP, b"\0\0")),
    "negative-length": _startup(b"\x84\0\0\0\3\xff\xff\xff\xff"),
    "oversized-frame": _startup(b"\x84\0\0\0\3\x7f\xff\xff\xff"),
    "another-stream": _startup(cql.authenticate(stream=77)),
    "compressed": _startup(cql.answer(cql.AUTHENTICATE, b"\0" * 40, flags=1)),
    "is-busy": _startup(cql.answer(cql.ERROR, _error(0x1001, "too many connections"))),
    "knows-passwords-alone": knows_passwords_alone,
    "no-nonce": _challenge(b"what?"),
    "null-nonce": _challenge(None),
    "short-nonce": _challenge(b"nonce=91703fdc"),
    "nonce-with-a-line-end": _challenge(b"nonce=91703fdc2ef562e19fb\r\n0f58e42fe5"),
    "nonce-of-other-bytes": _challenge(b"nonce=" + bytes(range(0x80, 0xA0))),
    "endless-events": endless_events,
    "half-closes": half_closes,
    "resets": resets,
    "drips": drips,
}
"""Servers whose certificate is right, and which never ask for a proof that there is: they are shown none either."""

SHOWN: Final[dict[str, Behaviour]] = {
    "rejects": _proof(cql.ERROR, _error(0x100, "Authentication failure")),
    "injects-lines": _proof(cql.ERROR, _error(0x1001, b"first\r\nsecond\x00\x1b[31mthird\xff\xfe")),
    "quotes-the-proof": quotes_the_proof,
    "asks-again": _proof(cql.AUTH_CHALLENGE, cql.long(b"nonce=" + cql.NONCE)),
    "says-ready": _proof(cql.READY),
    "answers-another": _proof(cql.AUTH_SUCCESS, cql.long(None), stream=1),
    "closes-after-the-proof": closes_after_the_proof,
}
"""Servers that are shown a proof, and do something else than to let its maker in."""


def lies(answers: Mapping[bytes, bytes]) -> Behaviour:
    """Lets everybody in. Whoever asks for the name of an answer gets it, on the stream that asked: bytes 2 and 3 of its
    first frame are filled in."""

    def behave(peer: Peer) -> None:
        let_in(peer)
        while True:
            stream, _, body = take(peer)
            asked = next((name for name in answers if name in body), None)
            said = cql.answer(cql.RESULT, b"\0\0\0\1") if asked is None else answers[asked]
            peer.send(said[:2] + stream.to_bytes(2, "big", signed=True) + said[4:])

    return behave
