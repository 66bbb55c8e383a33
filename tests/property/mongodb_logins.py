"""MongoDB logins that end well."""

from __future__ import annotations

from dataclasses import replace

from proxy.script import CLIENT, UPSTREAM
from tests.property.rehearsal import DOOR, Login, random_bytes
from tests.support import mongo

_DOOR = replace(DOOR, db_user="role/reader")
_HELLO = {"hello": 1, "helloOk": True, "client": {"driver": {"name": "x"}}, "compression": [], "$db": "admin"}
_NONCE = random_bytes(32)
_FIND = mongo.op_msg({"find": "orders", "filter": {"a": 1}, "$db": "shop"}, 77)
_ANSWER = mongo.op_msg({"cursor": {"id": 0, "ns": "shop.orders", "firstBatch": []}, "ok": 1.0}, 5, 77)

_GREETED = (UPSTREAM, mongo.op_msg(mongo.hello_answer(), 11, 1))
_CHALLENGED = (UPSTREAM, mongo.op_msg(mongo.sasl_answer(_NONCE), 12, 2))
_DONE = (UPSTREAM, mongo.op_msg(mongo.SASL_DONE, 13, 3))
_FAILED = (UPSTREAM, mongo.op_msg(mongo.SASL_FAILED, 13, 3))
_AFTER = ((CLIENT, _FIND), (UPSTREAM, _ANSWER))

MONGODB = (
    Login(
        name="hello",
        door=_DOOR,
        turns=((CLIENT, mongo.op_msg(_HELLO, 42)), _GREETED, _CHALLENGED, _DONE),
        after=_AFTER,
    ),
    Login(
        name="an old driver's first question, answered in its form",
        door=_DOOR,
        turns=(
            (CLIENT, mongo.op_query({"isMaster": 1, "helloOk": True}, 43)),
            (UPSTREAM, mongo.op_reply(mongo.hello_answer(), 1)),
            _CHALLENGED,
            _DONE,
        ),
        after=_AFTER,
    ),
    Login(
        name="TLS, and a second proof",
        door=_DOOR,
        turns=(
            (CLIENT, b"\x16\x03\x01"),
            (CLIENT, mongo.op_msg(_HELLO, 44)),
            _GREETED,
            _CHALLENGED,
            _FAILED,
            _GREETED,
            _CHALLENGED,
            _DONE,
        ),
    ),
    Login(
        name="a command before any hello is left for the relay",
        door=_DOOR,
        turns=((CLIENT, _FIND[:64]), _GREETED, _CHALLENGED, _DONE),
    ),
)
