"""A session: each message's database is held to the rules, drivers stay, logins do not change, answers stay in turn."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.engines.mongodb.guard import KEEP_BYTES, NAMES_MAX
from proxy.errors import Refused
from tests.support import mongo
from tests.support.mongo_session import ADDRESS, Cut, MongoSession, bytewise, in_one
from tollbridge.reasons import Reason

cuts = pytest.mark.parametrize("cut", [in_one, bytewise], ids=["whole", "byte by byte"])


def pieces(data: bytes) -> list[bytes]:
    """As sockets are read, and the last bytes one by one."""
    end = len(data) // 16_000 * 16_000
    return [data[at : at + 16_000] for at in range(0, end, 16_000)] + [
        data[at : at + 7] for at in range(end, len(data), 7)
    ]


def find(db: str = "shop", request_id: int = 7, **more: Any) -> bytes:
    return mongo.op_msg({"find": "orders", "filter": {"$db": "admin"}, **more, "$db": db}, request_id)


def ok(to: int, request_id: int = 900, **more: Any) -> bytes:
    return mongo.op_msg({**more, "ok": 1.0}, request_id, to)


def long_insert(db: str, request_id: int = 8, size: int = 200_000, *, sequence: bool = False) -> bytes:
    rows = [{"blob": b"x" * (size // 4)} for _ in range(4)]
    if sequence:
        return mongo.op_msg({"insert": "orders", "$db": db}, request_id, 0, 0, ("documents", rows))
    return mongo.op_msg({"insert": "orders", "documents": rows, "$db": db}, request_id)


@cuts
def test_messages_to_an_allowed_database_pass_and_the_broker_is_asked_once(cut: Cut) -> None:
    session = MongoSession().says(find(), cut).hears(ok(7), cut).says(find(request_id=8), cut).hears(ok(8), cut)
    assert session.server == find() + find(request_id=8)
    assert session.client == ok(7) + ok(8)
    assert session.asked == ["shop"]


@cuts
def test_a_message_to_another_database_is_answered_and_the_session_goes_on(cut: Cut) -> None:
    session = MongoSession().says(find("secrets"), cut)
    (answer,) = mongo.split(session.client)
    assert mongo.response_to(answer) == 7
    said = mongo.read(answer)
    assert (said["ok"], said["code"], said["codeName"]) == (0.0, 13, "Unauthorized")
    assert "not its database 'secrets'" in said["errmsg"]
    assert session.server == b""
    session.says(find(), cut).hears(ok(7), cut)
    assert session.server == find()


def test_no_is_not_remembered_longer_than_it_takes_to_say() -> None:
    session = MongoSession().says(find("secrets"))
    assert session.allowed is not None
    session.allowed.add("secrets")
    session.says(find("secrets", 9))
    assert session.server == find("secrets", 9)


@cuts
def test_what_comes_while_the_broker_is_asked_waits(cut: Cut) -> None:
    session = MongoSession(allowed=None).says(find() + find(request_id=8), cut)
    assert (session.server, session.asked, session.stopped) == (b"", ["shop"], True)
    session.answers("shop")
    assert session.server == find() + find(request_id=8)
    assert not session.stopped


@pytest.mark.parametrize("sequence", [False, True])
def test_a_long_message_goes_on_as_it_comes(sequence: bool) -> None:
    insert = long_insert("shop", sequence=sequence)
    assert len(insert) > KEEP_BYTES
    session = MongoSession().says(find()).hears(ok(7)).says(insert, pieces).hears(ok(8))
    assert session.server == find() + insert


def test_no_more_than_a_short_message_is_kept_of_a_long_one() -> None:
    insert = long_insert("shop")
    session = MongoSession().says(insert[:-40], pieces)
    assert len(session.server) > len(insert) - 100
    session.says(insert[-40:])
    assert session.server == insert


@pytest.mark.parametrize("sequence", [False, True])
def test_a_long_message_to_another_database_never_arrives_whole(sequence: bool) -> None:
    """The server has heard most of it, and cannot run it; the client is told why in the answer to it."""
    insert = long_insert("secrets", sequence=sequence)
    session = MongoSession().says(insert, pieces)
    assert insert.startswith(session.server)
    assert session.server != insert
    assert session.refusal is not None
    assert session.refusal.reason is Reason.DB_NAME_NOT_ALLOWED
    farewell = session.guard.farewell(session.refusal)
    assert (mongo.response_to(farewell), mongo.read(farewell)["code"]) == (8, 13)


@pytest.mark.parametrize(
    "command", ["ping", "endSessions", "commitTransaction", "abortTransaction", "buildInfo", "connectionStatus"]
)
def test_commands_about_the_connection_need_no_database(command: str) -> None:
    message = mongo.op_msg({command: 1, "$db": "admin"}, 5)
    session = MongoSession().says(message)
    assert (session.server, session.asked) == (message, [])


@pytest.mark.parametrize("command", ["listDatabases", "createUser", "usersInfo", "shutdown", "dropDatabase"])
def test_other_commands_to_admin_need_admin(command: str) -> None:
    session = MongoSession().says(mongo.op_msg({command: 1, "$db": "admin"}, 5))
    assert (session.server, session.asked) == (b"", ["admin"])


@cuts
@pytest.mark.parametrize("name", ["hello", "isMaster", "ismaster"])
def test_a_hello_in_the_session_is_answered_like_the_first(cut: Cut, name: str) -> None:
    asked = {
        name: 1,
        "topologyVersion": {"counter": 1},
        "maxAwaitTimeMS": 10_000,
        "compression": ["zlib"],
        "$db": "admin",
    }
    session = MongoSession().says(mongo.op_msg(asked, 5, 0, 1 << 16), cut)
    assert mongo.read(session.server) == {name: 1, "$db": "admin"}
    session.hears(mongo.op_msg(mongo.hello_answer(), 900, 5), cut)
    said = mongo.read(session.client)
    assert (said["hosts"], said["me"], said["primary"], said["setName"]) == ([ADDRESS], ADDRESS, ADDRESS, "rs0")
    assert not {"topologyVersion", "compression", "setVersion"} & set(said)


@cuts
def test_an_old_drivers_question_is_answered_in_its_form(cut: Cut) -> None:
    session = MongoSession().says(mongo.op_query({"isMaster": 1}, 5), cut)
    session.hears(mongo.op_msg(mongo.hello_answer(), 900, 5), cut)
    assert int.from_bytes(session.client[12:16], "little") == 1
    assert mongo.read(session.client)["me"] == ADDRESS


def test_a_monitor_whose_server_is_no_primary_any_more_connects_anew() -> None:
    session = MongoSession().says(mongo.op_msg({"hello": 1, "$db": "admin"}, 5))
    down = mongo.hello_answer(ismaster=False, isWritablePrimary=False, secondary=True)
    session.hears(mongo.op_msg(down, 900, 5))
    assert session.refusal is not None
    assert "no longer the primary" in session.refusal.message
    assert session.client == b""


def test_a_reader_endpoint_is_what_it_says() -> None:
    session = MongoSession(primary=False).says(mongo.op_msg({"hello": 1, "$db": "admin"}, 5))
    session.hears(mongo.op_msg(mongo.hello_answer(ismaster=False, isWritablePrimary=False, secondary=True), 900, 5))
    said = mongo.read(session.client)
    assert session.refusal is None
    assert (said["secondary"], said["me"]) == (True, ADDRESS)
    assert "primary" not in said


@cuts
@pytest.mark.parametrize("code", [10107, 189, 91, 11600])
def test_an_error_that_says_not_primary_passes_and_ends_the_session(cut: Cut, code: int) -> None:
    error = mongo.op_msg({"ok": 0.0, "errmsg": "not primary", "code": code}, 900, 7)
    session = MongoSession().says(find()).hears(error, cut)
    assert session.client == error
    assert session.refusal is not None
    assert session.guard.farewell(session.refusal) == b"", "nothing waits for an answer"


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": 0.0, "errmsg": "duplicate key", "code": 11000},
        {"cursor": {"firstBatch": [{"ok": 0.0, "code": 10107}]}, "code": 10107, "ok": 1.0},
        {"cursor": {"firstBatch": [{"code": 10107}]}, "ok": 1.0},
    ],
)
def test_other_answers_do_not_end_it(answer: dict[str, Any]) -> None:
    message = mongo.op_msg(answer, 900, 7)
    session = MongoSession().says(find()).hears(message)
    assert session.refusal is None
    assert session.client == message


def test_a_write_to_a_reader_endpoint_is_the_clients_error() -> None:
    error = mongo.op_msg({"ok": 0.0, "errmsg": "not primary", "code": 10107}, 900, 7)
    session = MongoSession(primary=False).says(find()).hears(error)
    assert session.refusal is None


@cuts
@pytest.mark.parametrize("command", ["saslStart", "saslContinue", "logout", "getnonce", "authenticate"])
def test_the_login_is_the_proxys(cut: Cut, command: str) -> None:
    asked = {command: 1, "mechanism": "SCRAM-SHA-256", "payload": b"n,,n=x,r=y", "$db": "admin"}
    session = MongoSession().says(mongo.op_msg(asked, 5), cut)
    said = mongo.read(session.client)
    assert (said["ok"], mongo.response_to(session.client)) == (0.0, 5)
    assert said["code"] in (13, 18)
    assert session.server == b""


def test_a_driver_that_was_told_to_use_its_certificate_may_say_so() -> None:
    asked = {"authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external"}
    session = MongoSession().says(mongo.op_msg(asked, 5))
    assert mongo.read(session.client) == {"dbname": "$external", "user": "role/reader", "ok": 1.0}
    assert session.server == b""


@cuts
def test_answers_of_the_proxy_wait_for_their_turn(cut: Cut) -> None:
    """What was asked before is answered before, though the proxy's own word would be ready at once."""
    session = MongoSession().says(find() + find("secrets", 8) + find(request_id=9), cut)
    assert session.server == find()
    assert session.stopped
    big = ok(7, cursor={"firstBatch": [{"x": "y" * 9000}]})
    session.hears(big, cut)
    first, second = mongo.split(session.client)
    assert (first, mongo.response_to(second)) == (big, 8)
    assert session.server == find() + find(request_id=9)


def test_a_question_that_gets_no_answer_holds_nobody_up() -> None:
    silent = mongo.op_msg({"insert": "orders", "documents": [{}], "$db": "shop"}, 7, 0, 2)
    session = MongoSession().says(silent).says(find("secrets", 8))
    assert session.server == silent
    assert mongo.response_to(session.client) == 8


@cuts
def test_a_stream_of_answers_ends_when_the_server_says_so(cut: Cut) -> None:
    session = MongoSession().says(find()).says(find("secrets", 8))
    session.hears(mongo.op_msg({"ok": 1.0, "n": 1}, 100, 7, 2), cut)
    session.hears(mongo.op_msg({"ok": 1.0, "n": 2}, 101, 100, 2), cut)
    assert session.stopped
    session.hears(mongo.op_msg({"ok": 1.0, "n": 3}, 102, 101), cut)
    assert not session.stopped
    assert [mongo.response_to(message) for message in mongo.split(session.client)] == [7, 100, 101, 8]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (mongo.op_msg({"find": "x"}, 5), "without `$db`"),
        (find()[:20] + b"\0" + find()[21:-1] + b"\1", "without an end"),
        (mongo.op_msg({"find": "x", "$db": 5}, 5), "not one string"),
        (mongo.op_msg({"find": "x", "$db": ""}, 5), "no name"),
        (mongo.op_msg({"find": "x", "$db": "a\0b"}, 5), "no name"),
        (mongo.op_msg({"find": "x", "$db": "d" * 300}, 5), "no name"),
        (mongo.op_msg({"find": "x", "$db": "shop"}, 5, 0, 8), "flags 0x8"),
        (b"\x20\0\0\0" + b"\1\0\0\0" * 2 + b"\xdc\x07\0\0" + b"x" * 16, "OP_COMPRESSED"),
        (b"\x20\0\0\0" + b"\1\0\0\0" * 2 + b"\xd7\x07\0\0" + b"x" * 16, "OP_KILL_CURSORS"),
        (mongo.op_query({"find": "x"}, 5), "no hello"),
        (mongo.op_query({"isMaster": 1}, 5, "shop.orders"), "no command"),
        (b"\x0f\0\0\0" + b"x" * 12, "15 bytes"),
        (b"\xff\xff\xff\x7f" + b"x" * 12, "2147483647 bytes"),
    ],
)
@cuts
def test_what_cannot_be_held_to_the_rules_ends_the_session(message: bytes, said: str, cut: Cut) -> None:
    session = MongoSession().says(message, cut)
    assert session.refusal is not None
    assert session.refusal.reason is Reason.CLIENT_PROTOCOL
    assert said in session.refusal.message
    assert session.server == b""


def test_two_databases_in_one_message_are_refused() -> None:
    """Readers differ about which of them counts."""
    import bson

    inner = bson.encode({"$db": "shop"})[4:-1]
    document = bson.encode({"find": "x", "$db": "secrets"})[4:-1] + inner
    body = (len(document) + 5).to_bytes(4, "little") + document + b"\0"
    message = (21 + len(body)).to_bytes(4, "little") + b"\5\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0" + body
    session = MongoSession().says(message)
    assert session.refusal is not None
    assert session.server == b""


def test_a_message_that_the_server_would_not_take_is_refused_at_its_header() -> None:
    session = MongoSession(limit=1 << 20).says(long_insert("shop", size=2 << 20)[:64])
    assert session.refusal is not None
    assert "the server takes 1048576" in session.refusal.message


def test_a_session_asks_about_so_many_databases_and_no_more() -> None:
    session = MongoSession(allowed=[f"d{number}" for number in range(NAMES_MAX + 1)])
    for number in range(NAMES_MAX):
        session.says(find(f"d{number}", 7)).hears(ok(7))
    assert session.refusal is None
    session.says(find(f"d{NAMES_MAX}"))
    assert session.refusal is not None


def test_a_goodbye_answers_the_question_that_waits() -> None:
    session = MongoSession().says(find())
    goodbye = session.guard.farewell(Refused(Reason.DRAINING, "this replica stops"))
    assert (mongo.response_to(goodbye), mongo.read(goodbye)["code"]) == (7, 91)
    session.hears(ok(7))
    assert session.guard.farewell(Refused(Reason.DRAINING, "this replica stops")) == b""


def test_a_goodbye_does_not_land_inside_an_answer() -> None:
    big = ok(7, cursor={"firstBatch": [{"x": "y" * 9000}]})
    session = MongoSession().says(find()).hears(big[:5000])
    assert not session.guard.at_rest(b"")
    session.hears(big[5000:])
    assert session.guard.at_rest(b"")


def test_a_server_that_makes_no_sense_ends_the_session() -> None:
    session = MongoSession().says(find()).hears(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert session.refusal is not None
    assert session.refusal.reason is Reason.UPSTREAM_PROTOCOL
    assert session.client == b""


@cuts
def test_a_write_that_wants_no_answer_gets_none_when_it_is_refused(cut: Cut) -> None:
    """A driver would take it for the answer to its next question."""
    silent = mongo.op_msg({"insert": "orders", "documents": [{}], "$db": "secrets"}, 7, 0, 2)
    session = MongoSession().says(silent + find(request_id=8), cut)
    assert session.server == find(request_id=8)
    assert session.client == b""
    assert session.refusal is None


@cuts
@pytest.mark.parametrize("more", [{"user": 5}, {"mechanism": "MONGODB-X50\x00"}])
def test_a_login_that_makes_no_sense_is_the_clients_fault(cut: Cut, more: dict[str, Any]) -> None:
    asked = mongo.op_msg({"authenticate": 1, "mechanism": "MONGODB-X509", **more, "$db": "$external"}, 5)
    session = MongoSession().says(asked.replace(b"X50\0\0", b"X\xff\xfe\0\0"), cut)
    if session.refusal is not None:
        assert session.refusal.reason is Reason.CLIENT_PROTOCOL
    else:
        assert mongo.read(session.client)["ok"] == 0.0
    assert session.server == b""


@cuts
@pytest.mark.parametrize("size", [10, 100_000], ids=["short", "long"])
def test_a_section_that_is_called_db_is_a_second_answer_to_where_to(cut: Cut, size: int) -> None:
    """MongoDB refuses one name twice; that every server does is not for us to hope."""
    message = mongo.op_msg({"insert": "orders", "$db": "shop"}, 7, 0, 0, ("$db", [{"x": "y" * size}]))
    session = MongoSession().says(message, cut)
    assert session.refusal is not None
    assert "`$db`" in session.refusal.message
    assert len(session.server) < len(message)
