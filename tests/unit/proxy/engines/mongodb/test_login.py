"""A login: a proof only for a server that keeps to the protocol, the greeting rewritten, refusals drivers can read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bson
import pytest

from proxy.engines.mongodb import MongoEngine
from proxy.errors import PeerViolation, Refused
from proxy.model import Door, Established, Location, PeerFacts, SealedGrant, SocketAddress
from proxy.script import CLIENT, UPSTREAM, Connect, OwnAddress, Random, RequestGrant, SignChallenge, StartTls
from tests.support import mongo
from tests.support.playbook import Playbook
from tollbridge.model import Endpoint, StsProof, TlsFacts
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

WORKLOAD = "spiffe://td/app"
DOOR = Door(
    name="docs", tls_available=True, tls_required=False, workload=WORKLOAD, database="docs", db_user="role/reader"
)
HELLO = {"hello": 1, "helloOk": True, "client": {"driver": {"name": "x"}}, "$db": "admin"}
NONCE = bytes(range(32))
PROOF = StsProof(authorization=Secret("AWS4 sig"), date="20300101T000000Z", session_token=Secret("token"))
OWN = SocketAddress(host="127.0.0.1", packed=b"\x7f\0\0\1", port=27017)


def grant(number: int = 1) -> SealedGrant:
    return SealedGrant(
        location=Location(database="docs", endpoint=Endpoint(host="docs.example", port=27017), tls=TlsFacts()),
        decision_id=f"d{number}",
        credential_id=f"c{number}",
        user="role/reader",
        reused=False,
    )


def asked(rejected: str = "") -> RequestGrant:
    return RequestGrant(WORKLOAD, "docs", "role/reader", "", rejected)


def opened(door: Door = DOOR, hello: bytes | None = None) -> Playbook[Any]:
    """Up to the grant."""
    book = Playbook(MongoEngine().login(door)).client(hello or mongo.op_msg(HELLO, 42))
    return book if door.advertise else book.expect(OwnAddress(), OWN)


def greeted(book: Playbook[Any], held: SealedGrant, **more: Any) -> Playbook[Any]:
    """From the grant to the server's challenge."""
    book.expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    said = mongo.read(book.sent(UPSTREAM))
    assert said["$db"] == "admin"
    book.upstream(mongo.op_msg(mongo.hello_answer(**more), 11, 1)).expect(Random(32), NONCE)
    started = mongo.read(book.sent(UPSTREAM))
    assert (started["mechanism"], started["$db"]) == ("MONGODB-AWS", "$external")
    assert bson.decode(started["payload"]) == {"r": NONCE, "p": 110}
    return book


def proved(book: Playbook[Any], held: SealedGrant) -> Playbook[Any]:
    """And through it."""
    book.upstream(mongo.op_msg(mongo.sasl_answer(NONCE), 12, 2))
    book.expect(SignChallenge(held, NONCE + b"\x64" * 32, mongo.STS), PROOF)
    shown = bson.decode(mongo.read(book.sent(UPSTREAM))["payload"])
    assert shown == {"a": "AWS4 sig", "d": "20300101T000000Z", "t": "token"}
    return book


def refusal_of(book: Playbook[Any]) -> tuple[Refused, dict[str, Any]]:
    """What the client was told, in answer to its question."""
    said = book.sent(CLIENT)
    refused = book.raises(Refused)
    assert mongo.response_to(said) == 42
    return refused, mongo.read(said)


def test_a_driver_is_let_in_and_told_to_stay() -> None:
    held = grant()
    book = proved(greeted(opened().expect(asked(), held), held), held)
    said = book.upstream(mongo.op_msg(mongo.SASL_DONE, 13, 3)).sent(CLIENT)
    assert mongo.response_to(said) == 42
    hello = mongo.read(said)
    assert (hello["hosts"], hello["me"], hello["primary"]) == (["127.0.0.1:27017"],) + ("127.0.0.1:27017",) * 2
    assert not [value for value in hello.values() if "docdb" in str(value)]
    assert isinstance(book.returns(), Established)


def test_what_a_driver_asks_for_itself_does_not_go_on() -> None:
    asks = {
        **HELLO, "compression": ["zlib"], "saslSupportedMechs": "admin.x", "speculativeAuthenticate": {"saslStart": 1},
        "topologyVersion": {"counter": 1}, "maxAwaitTimeMS": 10_000, "loadBalanced": True,
    }  # fmt: skip
    held = grant()
    book = opened(hello=mongo.op_msg(asks, 42)).expect(asked(), held)
    book.expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    assert mongo.read(book.sent(UPSTREAM)) == HELLO


@pytest.mark.parametrize(
    ("door", "facts", "told"),
    [
        (replace(DOOR, advertise="docs.svc:27017"), None, "docs.svc:27017"),
        (DOOR, PeerFacts(sni="docs.local"), "docs.local:27017"),
        (DOOR, PeerFacts(), "127.0.0.1:27017"),
    ],
)
def test_a_driver_is_told_the_name_it_knows(door: Door, facts: PeerFacts | None, told: str) -> None:
    held = grant()
    book = Playbook(MongoEngine().login(door))
    if facts is not None:
        book.client(b"\x16\x03\x01").expect(StartTls(CLIENT), facts)
    book.client(mongo.op_msg(HELLO, 42))
    if not door.advertise:
        book.expect(OwnAddress(), OWN)
    proved(greeted(book.expect(asked(), held), held), held)
    assert mongo.read(book.upstream(mongo.op_msg(mongo.SASL_DONE, 13, 3)).sent(CLIENT))["me"] == told


def test_a_unix_socket_needs_a_name_to_tell() -> None:
    book = Playbook(MongoEngine().login(DOOR)).client(mongo.op_msg(HELLO, 42)).expect(OwnAddress(), None)
    refused, said = refusal_of(book)
    assert refused.reason is Reason.FEATURE_REFUSED
    assert "mongodb.advertise" in said["errmsg"]


def test_a_rejected_proof_is_made_anew_once() -> None:
    first, second = grant(1), grant(2)
    book = proved(greeted(opened().expect(asked(), first), first), first)
    book.upstream(mongo.op_msg(mongo.SASL_FAILED, 13, 3)).expect(asked("c1"), second)
    proved(greeted(book, second), second).upstream(mongo.op_msg(mongo.SASL_DONE, 13, 3)).sent(CLIENT)
    assert isinstance(book.returns(), Established)


def test_a_second_rejection_is_explained() -> None:
    first, second = grant(1), grant(2)
    book = proved(greeted(opened().expect(asked(), first), first), first)
    book.upstream(mongo.op_msg(mongo.SASL_FAILED, 13, 3)).expect(asked("c1"), second)
    proved(greeted(book, second), second).upstream(mongo.op_msg(mongo.SASL_FAILED, 13, 3))
    refused, said = refusal_of(book)
    assert (refused.reason, said["code"]) == (Reason.DATABASE_REFUSED, 18)
    assert "$external has no user" in said["errmsg"]


@pytest.mark.parametrize(
    "challenge",
    [
        mongo.sasl_answer(bytes(32)),
        mongo.sasl_answer(NONCE, tail=b"\x64" * 31),
        mongo.sasl_answer(NONCE, tail=b""),
        mongo.sasl_answer(NONCE, host=""),
        mongo.sasl_answer(NONCE, host="s" * 256),
        {"ok": 1.0, "payload": b"", "conversationId": 1, "done": False},
        {"ok": 1.0, "payload": "text", "conversationId": 1, "done": False},
        {"ok": 1.0, "done": False},
        {"ok": "yes"},
    ],
    ids=str,
)
def test_a_server_that_does_not_keep_to_the_protocol_gets_no_proof(challenge: dict[str, Any]) -> None:
    held = grant()
    book = greeted(opened().expect(asked(), held), held).upstream(mongo.op_msg(challenge, 12, 2))
    refused, _said = refusal_of(book)
    assert refused.reason is Reason.UPSTREAM_PROTOCOL


def test_a_foreign_sts_host_gets_no_proof() -> None:
    """The driver of scripts keeps the pin; here its refusal reaches the client, and nothing the server."""
    held = grant()
    book = greeted(opened().expect(asked(), held), held)
    book.upstream(mongo.op_msg(mongo.sasl_answer(NONCE, host="sts.evil.example"), 12, 2))
    assert book.waiting == SignChallenge(held, NONCE + b"\x64" * 32, "sts.evil.example")
    book.fail(PeerViolation(UPSTREAM, "the server wants a proof for host 'sts.evil.example'"))
    refused, said = refusal_of(book)
    assert refused.reason is Reason.UPSTREAM_PROTOCOL
    assert "sts.evil.example" in said["errmsg"]


def test_an_answer_to_another_question_is_no_answer() -> None:
    held = grant()
    book = opened().expect(asked(), held).expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    book.sent(UPSTREAM)
    book.upstream(mongo.op_msg(mongo.hello_answer(), 11, 99))
    assert refusal_of(book)[0].reason is Reason.UPSTREAM_PROTOCOL


def test_a_server_s_own_error_reaches_the_client() -> None:
    held = grant()
    book = opened().expect(asked(), held).expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    book.sent(UPSTREAM)
    book.upstream(mongo.op_msg({"ok": 0.0, "errmsg": "too old", "code": 59}, 11, 1))
    refused, said = refusal_of(book)
    assert refused.reason is Reason.DATABASE_REFUSED
    assert "too old" in said["errmsg"]


def test_a_refusal_answers_an_old_driver_in_its_form() -> None:
    book = Playbook(MongoEngine().login(DOOR)).client(mongo.op_query({"isMaster": 1}, 42)).expect(OwnAddress(), OWN)
    book.fail(Refused(Reason.DENIED_BY_RULE, "rule no says no"))
    said = book.sent(CLIENT)
    assert int.from_bytes(said[12:16], "little") == 1
    assert mongo.read(said)["errmsg"].startswith("tollbridge: rule no says no")


def test_plaintext_is_refused_where_tls_is_required() -> None:
    book = Playbook(MongoEngine().login(replace(DOOR, tls_required=True))).client(mongo.op_msg(HELLO, 42))
    book.sent(CLIENT)
    assert book.raises(Refused).reason is Reason.CLIENT_TLS_REQUIRED


@pytest.mark.parametrize("length", [278, 790])
def test_a_message_whose_length_looks_like_tls_is_none(length: int) -> None:
    """0x0316 bytes begin as a ClientHello does, but for the third byte."""
    message = length.to_bytes(4, "little") + b"\1\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0"
    book = Playbook(MongoEngine().login(DOOR)).client(message + b"x" * 64)
    assert not isinstance(book.waiting, StartTls)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "is it MongoDB"),
        (mongo.op_msg({"hello": 1, "client": {"a": "x" * 17_000}, "$db": "admin"}, 1), ""),
        (b"\x40\0\0\0" + b"\1\0\0\0" * 2 + b"\xdc\x07\0\0" + b"x" * 48, "opcode 2012"),
        (mongo.op_query({"isMaster": 1}, 1, "x.y"), "no command"),
        (mongo.op_msg(HELLO, 1)[:-6] + b"\xff" * 6, "BSON"),
    ],
)
def test_other_protocols_and_oversized_greetings_end_before_anything_is_asked(data: bytes, said: str) -> None:
    book = Playbook(MongoEngine().login(DOOR)).client(data)
    if said:
        book.sent(CLIENT)
        refused = book.raises(Refused)
        assert refused.reason is Reason.CLIENT_PROTOCOL
        assert said in refused.message
    else:  # a first message of that size is a command: it is left for the relay
        assert book.waiting == OwnAddress()


def test_an_error_that_is_no_text_is_still_the_servers_error() -> None:
    book = opened().expect(asked(), grant()).expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    book.sent(UPSTREAM)
    error = mongo.op_msg({"ok": 0.0, "errmsg": "too 0ld", "code": 59}, 11, 1).replace(b"too 0ld", b"too \xffld")
    book.upstream(error)
    assert "too \ufffdld" in refusal_of(book)[1]["errmsg"]
