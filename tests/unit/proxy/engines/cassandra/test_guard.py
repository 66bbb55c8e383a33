"""A session: what passes unread, what drivers are told of the cluster instead, and what ends it."""

from __future__ import annotations

import pytest

from proxy.engines.cassandra.refusals import farewell
from proxy.engines.cassandra.requests import STATEMENTS_LIMIT
from proxy.engines.cassandra.statements import MARK
from tests.support import cql
from tests.support.cql_session import HERE, CqlSession, Cut, bytewise, frames, whole
from tollbridge.reasons import Reason

any_cut = pytest.mark.parametrize("cut", [whole, bytewise])
any_version = pytest.mark.parametrize("version", [3, 4])

PEERS = cql.metadata("peers", cql.PEER_COLUMNS)
LOCAL = cql.metadata("local", cql.LOCAL_COLUMNS)
ORDERS = cql.metadata("orders", [("id", cql.UUID), ("note", cql.TEXT)], keyspace="shop")
ORDER = (b"o" * 16, b"paid")
NEWS = ("TOPOLOGY_CHANGE", "STATUS_CHANGE")


def event(kind: str, *, flags: int = 0, extra: bytes = b"") -> bytes:
    """An EVENT about a node, or about the schema."""
    body = cql.text(kind) + cql.text("NEW_NODE") + b"\x04\x0a\0\0\x09\0\0\x23\x52"
    return cql.answer(cql.EVENT, extra + body, stream=-1, flags=flags)


def told(session: CqlSession) -> list[bytes]:
    """The bodies that the client has heard."""
    assert session.refusal is None, session.refusal
    return [body for *_, body in frames(session.heard)]


@any_cut
@any_version
def test_what_is_none_of_the_proxys_business_passes_as_it_is(cut: Cut, version: int) -> None:
    session = CqlSession(cut, version=version)
    said = b"".join(
        (
            cql.answer(cql.RESULT, b"\0\0\0\1", stream=1, version=version),
            cql.answer(cql.RESULT, cql.rows(ORDERS, ORDER), stream=2, version=version),
            cql.answer(cql.RESULT, b"\0\0\0\3" + cql.text("shop"), stream=3, version=version),
            cql.error(0x2200, "no", stream=4, version=version),
            cql.answer(cql.SUPPORTED, b"\0\0", stream=5, version=version),
            cql.answer(cql.RESULT, b"\0\0\0\2\0\0\0\4\0\0\0\2" + b"rows" * 30, stream=6, version=version),
            cql.answer(cql.RESULT, b"\0\0\0\1", stream=7, version=version),
        )
    )
    session.say(said)
    assert session.heard == said
    assert session.guard.at_rest


def test_ordinary_answers_pass_at_a_glance() -> None:
    """One by one and many at once, also where a large one is cut."""
    session = CqlSession()
    rows = cql.answer(cql.RESULT, cql.rows(ORDERS, *[ORDER] * 500), stream=2)
    bare = cql.answer(cql.RESULT, b"\0\0\0\2\0\0\0\5\0\0\0\2" + b"rows" * 30, stream=6)
    void = cql.answer(cql.RESULT, b"\0\0\0\1", stream=1)
    pieces = [rows, bare, void, void * 100, bare + rows + void, void + rows[:100], rows[100:200], rows[200:] + void]
    for piece in pieces:
        session.say(piece)
    assert session.unseen == len(pieces)
    assert session.heard == b"".join(pieces)


@any_cut
@pytest.mark.parametrize("table", ["peers", "peers_v2"])
def test_there_are_no_peers(cut: Cut, table: str) -> None:
    """Columns, stream and what follows stay; the rows are not even read."""
    columns = cql.metadata(table, cql.PEER_COLUMNS)
    session = CqlSession(cut)
    after = cql.answer(cql.RESULT, b"\0\0\0\1", stream=8)
    session.say(cql.answer(cql.RESULT, cql.rows(columns, *[cql.PEER_ROW] * 9), stream=7) + after)
    assert session.heard == cql.answer(cql.RESULT, cql.rows(columns), stream=7) + after


@any_cut
@pytest.mark.parametrize("rows", [b"\xff" * 500, b"\0\0\0\x09" + b"\x7f\xff\xff\xff" * 40, b""])
def test_hostile_rows_of_peers_harm_nobody(cut: Cut, rows: bytes) -> None:
    """Whatever stands where rows belong is dropped, and the session goes on in step."""
    session = CqlSession(cut)
    after = cql.answer(cql.RESULT, b"\0\0\0\1", stream=8)
    session.say(cql.answer(cql.RESULT, b"\0\0\0\2" + PEERS + rows, stream=7) + after)
    assert session.heard == cql.answer(cql.RESULT, cql.rows(PEERS), stream=7) + after


def test_a_hundred_megabytes_of_peers_are_dropped_as_they_come() -> None:
    """Nothing of them is kept."""
    session = CqlSession()
    head = cql.answer(cql.RESULT, b"\0\0\0\2" + PEERS + b"\0\1\0\0", stream=7)
    size = 100 * 2**20
    session.say(head[:5] + (len(head) - 9 + size).to_bytes(4, "big") + head[9:])
    piece = b"\xaa" * 2**20
    for _ in range(100):
        session.say(piece)
    session.say(cql.answer(cql.READY))
    assert session.heard == cql.answer(cql.RESULT, cql.rows(PEERS), stream=7) + cql.answer(cql.READY)


@any_cut
@any_version
def test_the_local_node_is_the_proxy(cut: Cut, version: int) -> None:
    """Its addresses, its ports and its id; everything else is the server's."""
    session = CqlSession(cut, version=version)
    session.say(cql.answer(cql.RESULT, cql.rows(LOCAL, cql.LOCAL_ROW), stream=7, version=version))
    row = (
        b"local", HERE.address, HERE.address, HERE.address, HERE.host_id, b"\0\0\x23\x52", cql.TOKENS, None, b"3.11.2",
    )  # fmt: skip
    assert session.heard == cql.answer(cql.RESULT, cql.rows(LOCAL, row), stream=7, version=version)


def test_a_local_node_under_other_names() -> None:
    """SELECT rpc_address AS a: an address is known by its type. No row is no row."""
    columns = cql.metadata("local", [("a", cql.INET), ("release_version", cql.TEXT)])
    session = CqlSession()
    session.say(cql.answer(cql.RESULT, cql.rows(columns, (b"\x0a\0\0\1", b"3.11.2"))))
    session.say(cql.answer(cql.RESULT, cql.rows(columns)))
    assert told(session) == [cql.rows(columns, (HERE.address, b"3.11.2")), cql.rows(columns)]


@any_cut
@pytest.mark.parametrize("flags", [0, 0x02, 0x04, 0x08, 0x0E])
def test_what_servers_put_before_an_answer_stays_there(cut: Cut, flags: int) -> None:
    """A trace's id, warnings, a payload: the tables are found behind them."""
    extra = b"t" * 16 if flags & 0x02 else b""
    extra += b"\0\1" + cql.text("slow") if flags & 0x08 else b""
    extra += b"\0\1" + cql.text("key") + cql.long(b"value") if flags & 0x04 else b""
    session = CqlSession(cut)
    session.say(cql.answer(cql.RESULT, extra + cql.rows(PEERS, cql.PEER_ROW), flags=flags))
    session.say(cql.answer(cql.RESULT, extra + cql.rows(ORDERS, ORDER), flags=flags))
    for kind in (*NEWS, "SCHEMA_CHANGE"):
        session.say(event(kind, flags=flags, extra=extra))
    schema = event("SCHEMA_CHANGE", flags=flags, extra=extra)
    assert told(session) == [extra + cql.rows(PEERS), extra + cql.rows(ORDERS, ORDER), schema[9:]]


@any_cut
def test_pages_and_columns_that_name_their_table_each(cut: Cut) -> None:
    """Neither a paging state before the table's name nor a table named per column hides it."""
    session = CqlSession(cut)
    for paging in (b"", b"p" * 3000):
        for one_table in (True, False):
            peers = cql.metadata("peers", cql.PEER_COLUMNS, paging=paging, one_table=one_table)
            orders = cql.metadata("orders", cql.PEER_COLUMNS, keyspace="shop", paging=paging, one_table=one_table)
            session.heard = b""
            session.say(cql.answer(cql.RESULT, cql.rows(peers, cql.PEER_ROW)))
            session.say(cql.answer(cql.RESULT, cql.rows(orders, cql.PEER_ROW)))
            assert told(session) == [cql.rows(peers), cql.rows(orders, cql.PEER_ROW)]


@pytest.mark.parametrize(
    ("keyspace", "table"), [("system", "size_estimates"), ("shop", "peers"), ("shop", "local"), ("system_x", "peers")]
)
def test_other_tables_are_other_tables(keyspace: str, table: str) -> None:
    said = cql.answer(cql.RESULT, cql.rows(cql.metadata(table, cql.PEER_COLUMNS, keyspace=keyspace), cql.PEER_ROW))
    session = CqlSession()
    session.say(said)
    assert session.heard == said


@any_cut
@any_version
def test_prepared_statements_about_the_cluster_get_a_mark(cut: Cut, version: int) -> None:
    """On their id; what the client is told of columns and markers stays."""
    session = CqlSession(cut, version=version)
    for markers in ((), (("key", cql.TEXT), ("m", cql.MAP_OF_UUID))):
        for columns in (PEERS, LOCAL):
            session.heard = b""
            said = cql.prepared(columns, version=version, markers=markers, id_=b"i" * 16)
            session.say(cql.answer(cql.RESULT, said, version=version))
            assert told(session) == [cql.prepared(columns, version=version, markers=markers, id_=MARK + b"i" * 16)]


@any_cut
@any_version
@pytest.mark.parametrize("payload", [None, b"", b"p" * 500])
def test_a_marked_statement_is_executed_without_its_mark_and_tells_its_columns(
    cut: Cut, version: int, payload: bytes | None
) -> None:
    """Else nothing in its rows would say whose they are. Values, stream and what follows stay; a statement of another
    connection is as good as one of this."""
    session = CqlSession(cut, version=version)
    more = cql.execute(b"x" * 16, options=0x03, version=version, stream=2)
    session.ask(more + cql.execute(MARK + b"i" * 16, options=0x13, payload=payload, version=version, stream=7) + more)
    assert (
        session.upstream
        == more + cql.execute(b"i" * 16, options=0x11, payload=payload, version=version, stream=7) + more
    )
    assert session.refusal is None


@any_cut
def test_a_server_that_has_forgotten_a_marked_statement_is_heard_with_the_clients_id(cut: Cut) -> None:
    """So that the driver finds what to prepare again. Errors about others, and other errors, pass."""
    session = CqlSession(cut)
    others = cql.unprepared(b"x" * 16, stream=2) + cql.error(0x2200, "no", stream=3)
    session.say(cql.unprepared(b"i" * 16, stream=7) + others)
    assert session.heard == cql.unprepared(b"i" * 16, stream=7) + others
    session.ask(cql.execute(MARK + b"i" * 16))
    session.heard = b""
    session.say(others + cql.unprepared(b"i" * 16, stream=7) + others)
    assert session.heard == others + cql.unprepared(MARK + b"i" * 16, stream=7) + others


def test_a_session_remembers_some_statements_and_not_more() -> None:
    session = CqlSession()
    for number in range(STATEMENTS_LIMIT + 9):
        session.ask(cql.execute(MARK + b"%d" % number))
    assert len(session.guard._requests.executed) == STATEMENTS_LIMIT


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"\0\x10", b"\0\x12" + MARK + b"ii", b"\0\x12" + MARK + b"ii\0\6", b"\xff\xff"]
)
def test_an_execute_that_ends_early_is_for_the_server_to_refuse(body: bytes) -> None:
    session = CqlSession(bytewise)
    said = cql.frame(cql.EXECUTE, body) + cql.frame(cql.OPTIONS)
    session.ask(said)
    assert session.upstream == said


@any_cut
def test_other_prepared_statements_pass_as_they_are(cut: Cut) -> None:
    """Also one that cannot be read, as long as it does not name the keyspace."""
    session = CqlSession(cut)
    odd = cql.prepared(cql.metadata("t", [("a", b"\x7f\x7f")], keyspace="shop"))
    said = [cql.prepared(ORDERS, markers=[("id", cql.UUID)]), cql.prepared(b"\0\0\0\4\0\0\0\0"), odd]
    said.append(cql.prepared(cql.metadata("size_estimates", [("a", cql.TEXT)])))
    for body in said:
        session.say(cql.answer(cql.RESULT, body))
    assert told(session) == said


@any_cut
def test_news_of_nodes_are_dropped_and_of_the_schema_passed(cut: Cut) -> None:
    session = CqlSession(cut)
    void = cql.answer(cql.RESULT, b"\0\0\0\1", stream=1)
    for kind in NEWS:
        session.say(void + event(kind) + void)
    schema = event("SCHEMA_CHANGE")
    session.say(event("UNHEARD_OF") + schema)
    assert session.heard == void * 4 + schema


def unreadable() -> dict[str, bytes]:
    """What a server may not say of system tables, or at all."""
    peers_of = b"\0\0\0\2\0\0\0\1\0\0\0\1" + cql.text("system") + cql.text("peers")
    deep = b"\0\x22" * 40 + cql.TEXT
    return {
        "another version": cql.answer(cql.RESULT, b"\0\0\0\1", version=3),
        "a request": cql.frame(cql.QUERY, b"select"),
        "compressed": cql.answer(cql.RESULT, b"\0\0\0\1", flags=1),
        "over the protocol's bound": b"\x84\0\0\0\x08" + (256 * 2**20 + 1).to_bytes(4, "big") + b"\0\0\0\2",
        "a result without a kind": cql.answer(cql.RESULT, b"\0\0"),
        "an event without a type": cql.answer(cql.EVENT, b"\0\x20SCHEMA"),
        "rows without metadata": cql.answer(cql.RESULT, b"\0\0\0\2"),
        "a type nobody knows": cql.answer(cql.RESULT, peers_of + cql.text("peer") + b"\x77\x77" + bytes(40)),
        "types without end": cql.answer(cql.RESULT, peers_of + cql.text("peer") + deep + bytes(4)),
        "more columns than there are": cql.answer(cql.RESULT, peers_of.replace(b"\0\0\0\1\0\x06", b"\x7f\0\0\1\0\x06")),
        "a cell past the end": cql.answer(cql.RESULT, cql.rows(LOCAL, cql.LOCAL_ROW)[:-1]),
        "bytes behind the rows": cql.answer(cql.RESULT, cql.rows(LOCAL, cql.LOCAL_ROW) + b"x"),
        "more rows than there are": cql.answer(cql.RESULT, b"\0\0\0\2" + LOCAL + b"\x7f\xff\xff\xff" + bytes(99)),
        "fewer than none": cql.answer(cql.RESULT, b"\0\0\0\2" + LOCAL + b"\xff\xff\xff\xff"),
        "a prepared one cut short": cql.answer(cql.RESULT, cql.prepared(PEERS).partition(b"ers")[0]),
        "local without end": b"\x84\0\0\0\x08\x7f\0\0" + b"\0" + cql.rows(LOCAL, cql.LOCAL_ROW),
        "local of 3 MB": b"\x84\0\0\0\x08\0\x30\0\0" + cql.rows(LOCAL, cql.LOCAL_ROW),
        "a prepared one of 3 MB": b"\x84\0\0\0\x08\0\x30\0\0" + cql.prepared(PEERS),
        "columns without end": b"\x84\0\0\0\x08\0\x30\0\0" + cql.rows(
            cql.metadata("peers", [("c" * 1000, cql.TEXT)] * 200)
        ),
    }  # fmt: skip


@any_cut
@pytest.mark.parametrize("case", unreadable())
def test_what_cannot_be_read_ends_the_session_and_is_never_passed_on(case: str, cut: Cut) -> None:
    session = CqlSession(cut)
    before = cql.answer(cql.RESULT, b"\0\0\0\1", stream=1)
    session.say(before)
    session.say(unreadable()[case])
    assert session.refusal is not None
    assert session.refusal.reason is Reason.UPSTREAM_PROTOCOL
    assert session.heard == before
    assert session.guard.at_rest


def test_whoever_asked_hears_why_a_session_ends() -> None:
    """On the stream of its request."""
    session = CqlSession()
    session.say(cql.answer(cql.RESULT, cql.rows(ORDERS, ORDER), stream=3) + cql.answer(cql.RESULT, PEERS, stream=9))
    session.say(cql.answer(cql.RESULT, b"\0\0\0\2" + LOCAL + b"\xff" * 9, stream=300))
    assert session.refusal is not None
    said = farewell(session.refusal, 4)
    assert said[2:4] == b"\x01\x2c"
    assert cql.read_error(said)[0] == 0x0000
    assert "UPSTREAM_PROTOCOL" in cql.read_error(said)[1]


def test_a_frame_under_way_is_finished_before_the_end() -> None:
    """Else the goodbye would be a part of it."""
    session = CqlSession()
    rows = cql.answer(cql.RESULT, cql.rows(ORDERS, *[ORDER] * 5))
    session.say(rows[:80])
    session.say(rows[80:] + cql.answer(cql.RESULT, flags=1))
    assert session.heard == rows
    assert session.refusal is not None
    assert session.guard.at_rest


@any_cut
@any_version
def test_requests_pass_unread(cut: Cut, version: int) -> None:
    session = CqlSession(cut, version=version)
    opcodes = (cql.OPTIONS, cql.QUERY, cql.PREPARE, cql.EXECUTE, cql.REGISTER, cql.BATCH)
    said = b"".join(cql.frame(o, b"b" * 50 * o, stream=o, version=version, flags=0x0E) for o in opcodes)
    session.ask(said * 3)
    assert session.upstream == said * 3


@any_cut
@pytest.mark.parametrize("opcode", [cql.STARTUP, cql.AUTH_RESPONSE, cql.READY, cql.RESULT, 0x04, 0x7F, 0xFF])
def test_nobody_logs_in_again(cut: Cut, opcode: int) -> None:
    """A session was granted to one role: what would change that is answered on its own stream and ends it."""
    session = CqlSession(cut)
    before = cql.frame(cql.QUERY, b"select", stream=2)
    session.ask(before + cql.frame(opcode, b"\0\0\0\0", stream=77))
    assert session.upstream == before
    assert session.refusal is not None
    said = farewell(session.refusal, 4)
    assert cql.read_error(said)[0] == 0x000A
    assert said[2:4] == b"\0\x4d"


@any_cut
@pytest.mark.parametrize(
    "said", [cql.frame(cql.QUERY, version=5), cql.frame(cql.QUERY, version=3), b"\x04\0\0\0\x07\xff\xff\xff\xff"]
)
def test_frames_that_a_server_could_read_otherwise_end_the_session(cut: Cut, said: bytes) -> None:
    """Another version has another header, behind which anything could hide."""
    session = CqlSession(cut)
    session.ask(cql.frame(cql.OPTIONS) + said)
    assert session.refusal is not None
    assert session.refusal.reason is Reason.CLIENT_PROTOCOL


def test_a_goodbye_lands_between_frames_alone() -> None:
    """Exactly: what is kept back has not been sent."""
    session = CqlSession()
    rows = cql.answer(cql.RESULT, cql.rows(ORDERS, *[ORDER] * 5))
    local = cql.answer(cql.RESULT, cql.rows(LOCAL, cql.LOCAL_ROW))
    for said, at_rest in (
        (rows, True), (rows[:80], False), (rows[80:], True), (rows[:5], True), (rows[5:60], False), (rows[60:], True),
        (local[:-1], True), (local[-1:] + rows[:-1], False), (rows[-1:], True),
    ):  # fmt: skip
        session.say(said)
        assert session.guard.at_rest is at_rest
    assert session.refusal is None
