"""The client half of a login: TLS or none, who it is, its hello. PURE.

The first message of any kind starts the login upstream: a hello is taken and answered with the server's own, anything
else is left for the relay. Drivers open connections that only ever say hello, to watch a server; each of them is a
session of its own, so that what it hears is true.
"""

from __future__ import annotations

from typing import Final

from proxy.engines.mongodb import greeting
from proxy.engines.mongodb.guard import MongoGuard
from proxy.engines.mongodb.refusals import Voice
from proxy.engines.mongodb.upstream import Request, enter
from proxy.engines.mongodb.wire import HANDSHAKE_LIMIT, OP_MSG, OP_QUERY, Message, peek_header, read_message, reply
from proxy.errors import PeerViolation, Refused
from proxy.model import Door, Established, Outcome, PeerFacts
from proxy.script import CLIENT, Script, own_address, peek, send, start_tls
from tollbridge.reasons import Reason

TLS_HANDSHAKE: Final = b"\x16\x03"
"""A ClientHello begins so, with a minor version behind it that is not 0. Of messages, only one of more than 64 KiB
could, which no first message is."""
_PEEK_BYTES: Final = 64
"""Enough to see the name of a command that is first in its message."""


def open_connection(door: Door) -> Script[PeerFacts | None]:
    """TLS with the client, if it begins with that. Returns its facts; None in plaintext."""
    first = yield from peek(CLIENT, 3)
    if first[:2] != TLS_HANDSHAKE or first[2] == 0:
        return None
    if not door.tls_available:
        raise Refused(Reason.FEATURE_REFUSED, f"listener {door.name!r} has no TLS: connect with tls=false")
    return (yield from start_tls(CLIENT))


def establish(door: Door, voice: Voice) -> Script[Outcome]:
    """From the client's first byte to a login upstream."""
    facts = yield from open_connection(door)
    header = yield from peek_header(CLIENT)
    voice.heard(header)
    if door.tls_required and facts is None:  # not sooner: a driver hears nothing that answers none of its questions
        raise Refused(Reason.CLIENT_TLS_REQUIRED, f"listener {door.name!r} takes no plaintext: add tls=true")
    asked: Message | None = None
    if (yield from _says_hello(header.length, header.opcode)):
        asked = yield from read_message(CLIENT)
    elif header.opcode != OP_MSG:
        raise PeerViolation(CLIENT, f"a first message with opcode {header.opcode}: is it a MongoDB driver?")
    target = door.route("", facts)
    address = yield from _advertised(door, facts)
    entered = yield from enter(
        Request(
            workload=door.workload_of(facts),
            database=target.database,
            db_user=target.db_user,
            hello=tuple(greeting.question(asked.body) if asked else greeting.plain_question()),
        )
    )
    if asked is not None:
        yield from send(CLIENT, reply(asked.header, greeting.answer(entered.hello, address)))
    guard = MongoGuard(
        address=address,
        db_user=target.db_user,
        message_bytes=entered.limits.message_bytes,
        primary=greeting.is_primary(entered.hello),
    )
    return Established(farewell=guard.farewell, at_rest=guard.at_rest, guard=guard)


def _says_hello(length: int, opcode: int) -> Script[bool]:
    """Whether the client's next message is a hello: an OP_QUERY can be nothing else."""
    if opcode == OP_QUERY:
        return True
    if opcode != OP_MSG or length > HANDSHAKE_LIMIT:
        return False
    head = yield from peek(CLIENT, min(length, _PEEK_BYTES))
    # Flags, a section of kind 0, the document's length, the first element's type and name.
    return head[20:21] == b"\0" and head[26:].partition(b"\0")[0].decode("latin-1").lower() in greeting.NAMES


def _advertised(door: Door, facts: PeerFacts | None) -> Script[str]:
    """HOST:PORT that drivers are told to connect to: what the listener says, or what the client has dialled."""
    if door.advertise:
        return door.advertise
    own = yield from own_address()
    if own is None:
        raise Refused(
            Reason.FEATURE_REFUSED,
            f"listener {door.name!r} is a unix socket, which a driver cannot be told to return to: have the operator "
            "set its `mongodb.advertise`",
        )
    host = facts.sni if facts is not None and facts.sni else own.host
    return f"[{host}]:{own.port}" if ":" in host else f"{host}:{own.port}"
