"""MongoDB servers that go wrong at every step of a MONGODB-AWS login.

Run them with `hostile_postgres.HostileServer`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final

import bson

from tests.support import mongo
from tests.support.hostile_cql import (
    closes_in_tls,
    garbage_at_once,
    garbage_for_tls,
    only_tls,
    start_tls,
)
from tests.support.hostile_postgres import MARK, Behaviour, Peer, closes_at_once, says_nothing
from tests.support.noise import noise

FOREIGN_HOSTS: Final = {
    "another-service": "sts.evil.example",
    "another-region": "sts.us-east-1.amazonaws.com",
    "the-global-one": "sts.amazonaws.com",
    "another-partition": "sts.us-west-1.amazonaws.com.cn",
    "a-longer-name": "sts.us-west-1.amazonaws.com.evil.example",
    "another-port": "sts.us-west-1.amazonaws.com:444",
    "two-lines": "sts.us-west-1.amazonaws.com\r\nX-Amz-Date: 1",
    "a-null": "sts.us-west-1.amazonaws.com\0.evil.example",
    "upper-case-and-dot": "STS.us-west-1.amazonaws.com.",
    "no-host": "",
    "a-long-host": "sts." + "a" * 300 + ".amazonaws.com",
}
"""What a server may name in place of the STS of its region: each ends the login, and nothing is signed."""


def take(peer: Peer) -> tuple[int, dict[str, Any]]:
    """Request id and document of one message."""
    head = peer.receive(4)
    whole = head + peer.receive(int.from_bytes(head, "little") - 4)
    return int.from_bytes(whole[4:8], "little"), mongo.read(whole)


def take_hello(peer: Peer) -> int:
    """TLS and hello; the id of the question."""
    start_tls(peer)
    return take(peer)[0]


def take_start(peer: Peer) -> tuple[int, bytes]:
    """The same answered, and saslStart; its id and the client's nonce."""
    peer.send(mongo.op_msg(mongo.hello_answer(), to=take_hello(peer)))
    number, command = take(peer)
    return number, bson.decode(command["payload"])["r"]


def take_proof(peer: Peer) -> tuple[int, bytes]:
    """The same answered, and saslContinue; its id and the proof."""
    number, nonce = take_start(peer)
    peer.send(mongo.op_msg(mongo.sasl_answer(nonce), to=number))
    number, command = take(peer)
    return number, command["payload"]


def _greets_with(make: Callable[[int], bytes]) -> Behaviour:
    """This where the answer to hello belongs."""

    def behave(peer: Peer) -> None:
        peer.send(make(take_hello(peer)))
        peer.linger()

    return behave


def _challenges_with(make: Callable[[bytes], dict[str, Any]]) -> Behaviour:
    """This where the challenge belongs."""

    def behave(peer: Peer) -> None:
        number, nonce = take_start(peer)
        peer.send(mongo.op_msg(make(nonce), to=number))
        peer.linger()

    return behave


def _ends_with(make: Callable[[bytes], dict[str, Any]], *, off: int = 0) -> Behaviour:
    """This where the verdict belongs."""

    def behave(peer: Peer) -> None:
        number, proof = take_proof(peer)
        peer.send(mongo.op_msg(make(proof), to=number + off))
        peer.linger()

    return behave


def _error(code: int, text: str) -> dict[str, Any]:
    return {"ok": 0.0, "errmsg": text, "code": code, "codeName": "Whatever"}


def _payload(document: dict[str, Any]) -> Callable[[bytes], dict[str, Any]]:
    return lambda _nonce: {"conversationId": 1, "done": False, "payload": bson.encode(document), "ok": 1.0}


def plain_port(peer: Peer) -> None:
    """A server without TLS: to it a ClientHello is a message of a strange length."""
    peer.receive(32)
    peer.send(mongo.op_msg(_error(17, MARK)))
    peer.linger()


def speaks_first(peer: Peer) -> None:
    """An answer before anybody has asked."""
    peer.send(mongo.op_msg(_error(17, MARK)))
    peer.linger()


def quotes_the_proof(peer: Peer) -> None:
    """Says no, for a reason of its own, and repeats what it was shown."""
    number, proof = take_proof(peer)
    said = bson.decode(proof)
    peer.send(mongo.op_msg(_error(8, f"no: {said['d']} {said['a']} {said['t']}"), to=number))
    peer.linger()


def rejects_and_quotes(peer: Peer) -> None:
    """The same as an authentication error."""
    number, proof = take_proof(peer)
    said = bson.decode(proof)
    peer.send(mongo.op_msg(_error(18, f"{said['t']}"), to=number))
    peer.linger()


def half_closes(peer: Peer) -> None:
    """Nothing more from here, and still listening."""
    take_hello(peer)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.linger()


def resets(peer: Peer) -> None:
    """An RST in the middle of the login."""
    take_start(peer)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(peer: Peer) -> None:
    """One byte of an answer every 0.1 s."""
    with contextlib.suppress(OSError):
        for byte in mongo.op_msg(mongo.hello_answer(), to=take_hello(peer)):
            peer.send(bytes((byte,)))
            time.sleep(0.1)


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
    "garbage-in-tls": _greets_with(lambda _id: noise(4096)),
    "another-question": _greets_with(lambda number: mongo.op_msg(mongo.hello_answer(), to=number + 1)),
    "negative-length": _greets_with(lambda _id: b"\xfb\xff\xff\xff" + b"\0" * 60),
    "oversized-message": _greets_with(lambda number: struct.pack("<iiii", 0x7FFFFFFF, 1, number, 2013)),
    "compressed": _greets_with(
        lambda number: struct.pack("<iiiiiiB", 60, 1, number, 2012, 2013, 1 << 30, 2) + b"x" * 35
    ),
    "not-ok": _greets_with(lambda number: mongo.op_msg(_error(91, "shutting down"), to=number)),
    "without-ok": _greets_with(lambda number: mongo.op_msg({"hello": 1}, to=number)),
    "limits-of-text": _greets_with(
        lambda number: mongo.op_msg(mongo.hello_answer(maxMessageSizeBytes="many"), to=number)
    ),
    "knows-no-aws": _challenges_with(lambda _nonce: _error(334, "Unsupported mechanism MONGODB-AWS")),
    "another-nonce": _challenges_with(lambda _nonce: mongo.sasl_answer(b"n" * 32)),
    "a-short-nonce": _challenges_with(lambda nonce: mongo.sasl_answer(nonce, tail=b"")),
    "a-long-nonce": _challenges_with(lambda nonce: mongo.sasl_answer(nonce, tail=b"x" * 4_000)),
    "no-payload": _challenges_with(lambda _nonce: {"ok": 1.0, "conversationId": 1, "done": False}),
    "payload-of-text": _challenges_with(_payload({"s": "text", "h": 5})),
    "done-at-once": _challenges_with(lambda _nonce: {**mongo.SASL_DONE, "payload": bson.encode({})}),
    **{
        name: _challenges_with(lambda nonce, host=host: mongo.sasl_answer(nonce, host))  # type: ignore[misc]
        for name, host in FOREIGN_HOSTS.items()
    },
    "half-closes": half_closes,
    "resets": resets,
    "drips": drips,
}
"""Servers whose certificate is right, and which never ask for a proof that there is: they are shown none."""

SHOWN: Final[dict[str, Behaviour]] = {
    "rejects": _ends_with(lambda _proof: mongo.SASL_FAILED),
    "injects-lines": _ends_with(lambda _proof: _error(8, "first\r\nsecond\0\x1b[31mthird")),
    "quotes-the-proof": quotes_the_proof,
    "rejects-and-quotes": rejects_and_quotes,
    "never-done": _ends_with(lambda _proof: {**mongo.SASL_DONE, "done": False}),
    "answers-another": _ends_with(lambda _proof: mongo.SASL_DONE, off=5),
    "closes-after-the-proof": closes_after_the_proof,
}
"""Servers that are shown a proof, and do something else than to let its maker in."""
