"""Clients of Cassandra that nobody here wrote, through the proxy to a Cassandra that checks signatures itself."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from cassandra import ConsistencyLevel, DriverException, InvalidRequest, Unauthorized
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import NoHostAvailable, ResponseFuture, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import BatchStatement, BatchType, SimpleStatement

from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.world import World
from tests.e2e.clients import PATIENCE_SECONDS, SIDES, audit_line, run
from tests.e2e.cql import Neighbours, connected
from tests.e2e.nosql import POWERLESS, READER, USER, bypassed
from tests.support.sockets import connections

DATABASE: Final = topology.KEYSPACES.name
KEYSPACE: Final = "client_tests"
IN_FLIGHT: Final = 1_000
sides = pytest.mark.parametrize("side", SIDES)


def enter(bridge: Bridge, side: str = "plain", *, user: str = USER, door: str = DATABASE, **more: Any) -> Any:
    """The driver as it comes, with a password that nobody looks at."""
    tls = {"ca_file": bridge.file("mesh-ca.crt")} if side == "tls" else {}
    auth = PlainTextAuthProvider(user, "ignored") if user else None
    return connected(bridge.ports[door], auth=auth, **{**tls, **more})


@pytest.fixture(scope="module")
def neighbours(nosql_world: World) -> Iterator[Neighbours]:
    """Who was at the servers that the driver must never hear of; nobody, when all is over."""
    with Neighbours(nosql_world.database(DATABASE).local_port) as neighbours:
        yield neighbours
        assert neighbours.visitors == []


@pytest.fixture(scope="module")
def session(nosql_bridge: Bridge, neighbours: Neighbours) -> Iterator[Session]:
    """One for the tests that change nothing about it."""
    with enter(nosql_bridge) as session:
        session.execute(
            f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        )
        session.set_keyspace(KEYSPACE)
        yield session
        session.execute(f"DROP KEYSPACE {KEYSPACE}")
    assert neighbours.visitors == []


@pytest.fixture
def table(session: Session) -> Iterator[str]:
    """A table of its own for a test: id, group and note."""
    name = f"t{uuid.uuid4().hex}"
    session.execute(f"CREATE TABLE {name} (part int, id int, note text, PRIMARY KEY (part, id))")
    yield name
    session.execute(f"DROP TABLE {name}")


@sides
def test_the_driver_settles_on_version_4_and_stays_with_the_proxy(
    nosql_bridge: Bridge, nosql_world: World, neighbours: Neighbours, side: str
) -> None:
    with enter(nosql_bridge, side) as session:
        rows = {row.id: row for row in session.execute("SELECT * FROM shop.orders")}
        assert (rows[1].customer, rows[1].total) == ("Ada", Decimal("19.90"))
        assert session.cluster.protocol_version == 4
        (host,) = session.cluster.metadata.all_hosts()
        assert (host.endpoint.address, host.endpoint.port) == ("127.0.0.1", nosql_bridge.ports[DATABASE])
        assert list(session.execute("SELECT * FROM system.peers")) == []
        assert bypassed(nosql_world, DATABASE) == set()
    assert neighbours.visitors == []


def test_version_3_is_spoken_too(nosql_bridge: Bridge) -> None:
    with enter(nosql_bridge, version=3) as session:
        assert session.execute("SELECT customer FROM shop.orders WHERE id = %s", (2,)).one().customer == "Grace"
        assert list(session.execute("SELECT * FROM system.peers")) == []


def test_every_session_of_every_proxy_is_on_the_same_node(nosql_bridge: Bridge) -> None:
    ids = set()
    for door in (DATABASE, "cql-open"):
        with enter(nosql_bridge, door=door) as session:
            row = session.execute("SELECT host_id, rpc_address FROM system.local").one()
            ids.add(row.host_id)
            assert row.rpc_address == "127.0.0.1"
    assert len(ids) == 1


def test_where_the_listener_says_who_comes_nobody_logs_in(nosql_bridge: Bridge) -> None:
    with enter(nosql_bridge, user="", door="cql-open") as session:
        assert session.execute("SELECT count(*) FROM shop.orders").one()[0] >= 3


def test_a_certificate_and_a_login_name_say_who_comes_and_where_to(nosql_bridge: Bridge) -> None:
    certificate = (nosql_bridge.file("client.crt"), nosql_bridge.file("client.key"))
    with enter(nosql_bridge, "tls", user=f"{READER}@{DATABASE}", door="cql-names", certificate=certificate) as session:
        assert session.execute("SELECT count(*) FROM shop.orders").one()[0] >= 3
        with pytest.raises(Unauthorized, match="ReaderRole"):
            session.execute("DELETE FROM shop.orders WHERE id = 1")
    assert audit_line(nosql_bridge, "broker", database=DATABASE, db_user=READER, allowed=True)


def test_what_the_role_may_not_do_the_database_refuses_itself(nosql_bridge: Bridge) -> None:
    with enter(nosql_bridge, user=POWERLESS) as session, pytest.raises(Unauthorized, match="no SELECT permission"):
        session.execute("SELECT * FROM shop.orders")


def test_statements_that_are_prepared_and_bound(session: Session, table: str) -> None:
    insert = session.prepare(f"INSERT INTO {table} (part, id, note) VALUES (?, ?, ?)")
    select = session.prepare(f"SELECT note FROM {table} WHERE part = ? AND id = ?")
    for note in ("", "ünïcode", "x" * 1_000_000, None):
        session.execute(insert, (1, 1, note))
        assert session.execute(select, (1, 1)).one().note == note
    with pytest.raises(InvalidRequest):
        session.execute("SELECT nothing FROM nowhere")


def test_prepared_statements_about_the_cluster_are_rewritten_too(session: Session) -> None:
    local = session.prepare("SELECT rpc_address FROM system.local WHERE key = ?")
    assert session.execute(local, ("local",)).one().rpc_address == "127.0.0.1"
    peers = session.prepare("SELECT rpc_address FROM system.peers")
    for _ in range(2):
        assert list(session.execute(peers)) == []


def test_pages(session: Session, table: str) -> None:
    insert = session.prepare(f"INSERT INTO {table} (part, id, note) VALUES (1, ?, 'page')")
    execute_concurrent_with_args(session, insert, [(number,) for number in range(2_500)])
    pages = session.execute(SimpleStatement(f"SELECT id FROM {table} WHERE part = 1", fetch_size=100))
    assert pages.has_more_pages
    assert [row.id for row in pages] == list(range(2_500))
    first = session.execute(SimpleStatement(f"SELECT id FROM {table} WHERE part = 1", fetch_size=7))
    again = session.execute(
        SimpleStatement(f"SELECT id FROM {table} WHERE part = 1", fetch_size=7), paging_state=first.paging_state
    )
    assert [row.id for row in again.current_rows] == list(range(7, 14))


def test_batches(session: Session, table: str) -> None:
    insert = session.prepare(f"INSERT INTO {table} (part, id, note) VALUES (?, ?, ?)")
    for kind in (BatchType.LOGGED, BatchType.UNLOGGED):
        batch = BatchStatement(kind, consistency_level=ConsistencyLevel.LOCAL_QUORUM)
        for number in range(50):
            batch.add(insert, (kind.value, number, "batch"))
        batch.add(SimpleStatement(f"INSERT INTO {table} (part, id) VALUES ({kind.value}, 50)"))
        session.execute(batch)
        assert session.execute(f"SELECT count(*) FROM {table} WHERE part = {kind.value}").one()[0] == 51


def test_lightweight_transactions(session: Session, table: str) -> None:
    insert = f"INSERT INTO {table} (part, id, note) VALUES (1, 1, %s) IF NOT EXISTS"
    assert session.execute(insert, ("first",)).was_applied
    lost = session.execute(insert, ("second",))
    assert not lost.was_applied
    assert lost.one().note == "first"
    assert session.execute(f"UPDATE {table} SET note = 'third' WHERE part = 1 AND id = 1 IF note = 'first'").was_applied


def test_a_thousand_requests_in_flight_on_one_connection(session: Session, table: str) -> None:
    insert = session.prepare(f"INSERT INTO {table} (part, id, note) VALUES (?, ?, ?)")
    select = session.prepare(f"SELECT note FROM {table} WHERE part = ? AND id = ?")
    done = execute_concurrent_with_args(
        session, insert, [(1, number, f"note {number}") for number in range(5_000)], concurrency=IN_FLIGHT
    )
    assert all(result.success for result in done)
    futures: list[ResponseFuture] = [session.execute_async(select, (1, number)) for number in range(IN_FLIGHT)]
    answers = [future.result().one().note for future in futures]
    assert answers == [f"note {number}" for number in range(IN_FLIGHT)]


def test_news_of_the_schema_reach_the_driver_and_news_of_nodes_do_not(session: Session, table: str) -> None:
    assert table in session.cluster.metadata.keyspaces[KEYSPACE].tables
    session.execute(f"ALTER TABLE {table} ADD more text")
    until(lambda: "more" in session.cluster.metadata.keyspaces[KEYSPACE].tables[table].columns)
    assert len(session.cluster.metadata.all_hosts()) == 1


def test_a_session_more_is_a_connection_more_to_keyspaces(nosql_bridge: Bridge, nosql_world: World) -> None:
    """Which takes so many queries a second on each."""
    process = nosql_bridge.proxy.process
    assert process is not None
    port = nosql_world.database(DATABASE).local_port

    def upstream() -> set[int]:
        return connections(process.pid, port)

    before = upstream()
    with enter(nosql_bridge) as session:
        more = [session.cluster.connect() for _ in range(3)]
        assert all(each.execute("SELECT count(*) FROM shop.orders").one()[0] >= 3 for each in more)
        assert len(upstream() - before) == 1 + 1 + 3, "the cluster's own, the first session's, three more"


def test_the_driver_reconnects_to_a_proxy_that_was_restarted(nosql_world: World, tmp_path: Path) -> None:
    with Bridge(nosql_world, tmp_path / "bridge") as bridge, enter(bridge) as session:
        assert session.execute("SELECT count(*) FROM shop.orders").one()[0] >= 3
        bridge.proxy.kill()
        bridge.proxy.start()
        until(lambda: answers(session))
        assert bypassed(nosql_world, DATABASE) == set()


def test_sessions_side_by_side_do_not_hear_one_another(nosql_bridge: Bridge, session: Session, table: str) -> None:
    session.execute(f"INSERT INTO {table} (part, id, note) VALUES (1, 1, 'mine')")

    def many(user: str) -> set[str]:
        with enter(nosql_bridge, user=user) as other:
            other.set_keyspace("shop" if user == READER else KEYSPACE)
            query = "SELECT customer FROM orders WHERE id = 1" if user == READER else f"SELECT note FROM {table}"
            return {other.execute(query).one()[0] for _ in range(100)}

    users = (USER, READER, USER, READER)
    with ThreadPoolExecutor(len(users)) as pool:
        assert list(pool.map(many, users)) == [{"mine"}, {"Ada"}, {"mine"}, {"Ada"}]


def cqlsh(bridge: Bridge, statement: str, user: str = USER) -> Any:
    """Cassandra's shell."""
    program = str(Path(sys.executable).with_name("cqlsh"))
    options = ("--username", user, "--password", "ignored", "--execute", statement)
    return run(program, "127.0.0.1", str(bridge.ports[DATABASE]), *options)


def test_cqlsh(nosql_bridge: Bridge, neighbours: Neighbours) -> None:
    done = cqlsh(nosql_bridge, "SELECT customer FROM shop.orders WHERE id = 3; DESCRIBE TABLE shop.orders")
    assert done.returncode == 0, done.stderr
    assert "Edsger" in done.stdout
    assert "CREATE TABLE shop.orders" in done.stdout
    denied = cqlsh(nosql_bridge, "SELECT * FROM shop.orders", "role/NobodysRole")
    assert denied.returncode != 0
    assert "code=0100" in denied.stderr
    assert "role/NobodysRole" in denied.stderr
    assert neighbours.visitors == []


def answers(session: Session) -> bool:
    """Whether a query succeeds."""
    try:
        return bool(session.execute("SELECT count(*) FROM shop.orders").one()[0] >= 3)
    except (DriverException, NoHostAvailable):
        return False


def until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
