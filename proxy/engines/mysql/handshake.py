"""The client half of a login: greeting, encryption, who it is, how it proves nothing, where that leads. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from proxy.engines.mysql import capabilities as caps
from proxy.engines.mysql.commands import CommandGuard
from proxy.engines.mysql.refusals import encode
from proxy.engines.mysql.upstream import Facts, Request, Waiting, dial, enter
from proxy.engines.mysql.wire import (
    CACHING_SHA2,
    FAST_AUTH_OK,
    NATIVE,
    SALT_BYTES,
    SSL_REQUEST_BYTES,
    Greeting,
    Leg,
    Response,
    attributes_of,
    auth_switch,
    ends_an_answer,
    parse_response,
)
from proxy.errors import PeerViolation, Refused
from proxy.model import Door, Established, PeerFacts
from proxy.script import (
    CLIENT,
    Script,
    keep_facts,
    locate,
    note,
    random_bytes,
    recall_facts,
    send,
    start_tls,
)
from tollbridge.reasons import Reason

NOTE_LIMIT: Final = 128
"""Characters of a client's own words in an audit line."""
PROOF_LIMIT: Final = 64
"""A scramble has 20 or 32 bytes."""


class Conversation:
    """Where the client is in the protocol: a refusal must carry the number that it waits for."""

    def __init__(self) -> None:
        self.leg = Leg(CLIENT)
        self.spoke = False
        """The client has said that it speaks protocol 4.1, and so reads SQLSTATEs."""

    def refusal(self, refused: Refused) -> bytes:
        """A refusal as the next packet. A client whose turn it is reads it only behind a packet of its own."""
        return encode(refused, self.leg.sequence + self.leg.reading, early=not self.spoke)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client answered to the greeting."""

    response: Response
    facts: PeerFacts | None
    """Of its TLS; None in plaintext."""


def establish(door: Door, talk: Conversation) -> Script[Established]:
    """From the connection's start to both sides waiting for the first command."""
    known, waiting = yield from learn(door)
    salt = bytes(33 + byte % 94 for byte in (yield from random_bytes(SALT_BYTES)))
    greeting = greeting_of(known, door, salt, waiting.greeting.thread_id if waiting else 0)
    yield from talk.leg.send(greeting.encoded())
    opening = yield from read_opening(door, greeting, talk)
    request = replace(read_request(door, greeting, opening), known=known, waiting=waiting)
    yield from _note_words(request.response)
    proof = yield from take_proof(opening.response, talk.leg, salt)
    entry = yield from enter(request)
    first = talk.leg.framed(FAST_AUTH_OK) if proof else b""
    yield from send(CLIENT, first + talk.leg.framed(entry.ok))
    return Established(
        farewell=lambda refusal: encode(refusal, 1),  # read as the answer to the next command
        at_rest=ends_an_answer,
        guard=CommandGuard(uploads=bool(request.response.capabilities & caps.LOCAL_FILES)),
    )


def learn(door: Door) -> Script[tuple[Facts, Waiting | None]]:
    """What to greet with. Where nothing is known of a listener's own database, it is dialled, by one login at a time,
    and that connection serves the login that opened it."""
    if door.database is None:
        return Facts.presumed(door.server_version), None
    location = yield from locate(door.database)
    version = door.server_version or location.server_version
    kept = yield from recall_facts(find_out=not version)
    if kept is not None:
        facts = Facts.decoded(kept)
        return (replace(facts, version=version.encode()) if version else facts), None
    if version:
        return Facts.presumed(version), None
    greeting = yield from dial(location.endpoint)
    facts = Facts.of(greeting)
    yield from keep_facts(facts.encoded())
    return facts, Waiting(location, greeting)


def greeting_of(known: Facts, door: Door, salt: bytes, thread_id: int) -> Greeting:
    """What the client is offered: what the server has, without what the proxy could not stand for."""
    allowed = caps.PASSED | caps.CLIENT_MYSQL | (caps.LOCAL_FILES if door.local_infile else 0)
    tls = caps.SSL if door.tls_available else 0
    return Greeting(
        version=known.version,
        capabilities=known.capabilities & allowed | caps.HANDSHAKE | tls,
        extended=known.extended & caps.PASSED_EXTENDED,
        charset=known.charset,
        salt=salt,
        plugin=CACHING_SHA2,  # the one that MySQL 9's clients still have; others ask for a switch
        thread_id=thread_id,
    )


def read_opening(door: Door, greeting: Greeting, talk: Conversation) -> Script[Opening]:
    """The client's answer to the greeting, inside TLS if it asks for that. Raises Refused."""
    response, size = yield from _read_response(talk)
    facts = None
    if response.capabilities & caps.SSL and size == SSL_REQUEST_BYTES:
        if not door.tls_available:
            raise Refused(Reason.FEATURE_REFUSED, f"listener {door.name!r} has no TLS: connect with --skip-ssl")
        facts = yield from start_tls(CLIENT)  # its ClientHello may have come right behind
        talk.spoke = True
        response, size = yield from _read_response(talk)
    talk.spoke = True
    if size == SSL_REQUEST_BYTES:
        raise PeerViolation(CLIENT, "the client's answer to the greeting names no user")
    if response.capabilities & (caps.COMPRESS | caps.ZSTD) & ~greeting.capabilities:
        raise Refused(
            Reason.FEATURE_REFUSED, "compression is not spoken here: connect without it (--compress, useCompression)"
        )
    if door.tls_required and facts is None:
        raise Refused(
            Reason.CLIENT_TLS_REQUIRED,
            f"listener {door.name!r} takes no plaintext logins: connect with --ssl-mode=VERIFY_IDENTITY, or --ssl",
        )
    return Opening(response, facts)


def _read_response(talk: Conversation) -> Script[tuple[Response, int]]:
    payload = yield from talk.leg.read()
    if len(payload) < SSL_REQUEST_BYTES or not int.from_bytes(payload[:2], "little") & caps.PROTOCOL_41:
        raise Refused(Reason.FEATURE_REFUSED, "protocol 4.1 is spoken here, as by every client since MySQL 4.1")
    return parse_response(payload), len(payload)


def read_request(door: Door, greeting: Greeting, opening: Opening) -> Request:
    """Who wants what. Raises Refused and PeerViolation."""
    try:
        login = opening.response.user.decode()
    except UnicodeDecodeError:
        raise PeerViolation(CLIENT, "the user in the login is not UTF-8") from None
    workload = door.workload_of(opening.facts)
    target = door.route(login, opening.facts)
    return Request(
        workload=workload,
        database=target.database,
        db_user=target.db_user,
        response=opening.response.agreeing_on(greeting.capabilities, greeting.extended),
    )


def take_proof(response: Response, leg: Leg, salt: bytes) -> Script[bool]:
    """Take whatever the client proves itself with; its certificate or the listener has said who it is already.

    A password that it sends anyway is not looked at, and mysql_clear_password is never asked for. Returns whether the
    client waits for caching_sha2_password's word that it was recognised.
    """
    plugin, proof = response.plugin, response.auth
    if response.capabilities & caps.PLUGIN_AUTH and plugin != CACHING_SHA2:
        # It made its answer for a method that was not offered, or none: it waits for its own method, or for ours.
        plugin = NATIVE if plugin == NATIVE else CACHING_SHA2
        yield from leg.send(auth_switch(plugin, salt))
        proof = yield from leg.read(PROOF_LIMIT, least=0)
    return plugin == CACHING_SHA2 and proof not in (b"", b"\0")


def _note_words(response: Response) -> Script[None]:
    """Leave in the audit lines what the client calls itself and where it starts."""
    attributes = attributes_of(response.attributes)
    for key, name in (("program_name", b"program_name"), ("client_name", b"_client_name")):
        if name in attributes:
            yield from note(key, _printable(attributes[name]))
    if response.schema:
        yield from note("schema", _printable(response.schema))


def _printable(value: bytes) -> str:
    return re.sub(r"[^ -~]", "?", value[:NOTE_LIMIT].decode("latin-1"))
