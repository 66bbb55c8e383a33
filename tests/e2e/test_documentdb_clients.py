"""Clients of MongoDB that nobody here wrote, through the proxy to a server that is entered as DocumentDB is."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

import pymongo
import pytest
from bson import Binary
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.monitoring import ServerDescriptionChangedEvent, ServerListener

from deploy.sandbox import documentdb, topology
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.world import World
from tests.e2e.clients import PATIENCE_SECONDS, SIDES, audit_line
from tests.e2e.nosql import USER, bypassed

DATABASE: Final = topology.DOCUMENTDB.name
UNAUTHORIZED: Final = 13
URIS: Final = ("", "replicaSet=rs0", "directConnection=true")
Client = pymongo.MongoClient[dict[str, Any]]
sides = pytest.mark.parametrize("side", SIDES)
uris = pytest.mark.parametrize("uri", URIS, ids=lambda uri: uri or "plain")


def enter(bridge: Bridge, uri: str = "replicaSet=rs0", side: str = "plain", **more: Any) -> Client:
    """PyMongo as it comes, retryable writes and reads included."""
    tls = {"tls": True, "tlsCAFile": bridge.file("mesh-ca.crt")} if side == "tls" else {}
    host = "localhost" if side == "tls" else "127.0.0.1"
    door = more.pop("door", DATABASE)
    options = {"serverSelectionTimeoutMS": 20_000, **tls, **more}
    return pymongo.MongoClient(f"mongodb://{host}:{bridge.ports[door]}/?{uri}", **options)


@pytest.fixture
def collection(nosql_world: World) -> Iterator[str]:
    """The name of a collection of its own for a test."""
    name = f"c{uuid.uuid4().hex}"
    yield name
    with pymongo.MongoClient[dict[str, Any]](nosql_world.database(DATABASE).superuser_dsn) as behind:
        behind.app.drop_collection(name)


class Watch(ServerListener):
    """Which servers a driver hears of."""

    def __init__(self) -> None:
        self.heard: set[tuple[str, int | None]] = set()

    def opened(self, event: Any) -> None:
        self.heard.add(event.server_address)

    def description_changed(self, event: ServerDescriptionChangedEvent) -> None:
        self.heard.add(event.server_address)
        self.heard.update(event.new_description.all_hosts)

    def closed(self, event: Any) -> None:
        """Nothing to learn."""


@sides
@uris
def test_every_uri_stays_with_the_proxy(
    nosql_bridge: Bridge, nosql_world: World, collection: str, uri: str, side: str
) -> None:
    """Reads, writes and a second look at the cluster: the driver knows one address, and no other is dialled."""
    watch = Watch()
    with enter(nosql_bridge, uri, side, event_listeners=[watch], heartbeatFrequencyMS=500) as client:
        rows = client.app[collection]
        assert rows.insert_one({"_id": 1, "side": side}).acknowledged
        assert rows.find_one({"_id": 1}) == {"_id": 1, "side": side}
        assert {order["customer"] for order in client.app.orders.find()} >= {"Ada", "Grace", "Edsger"}
        assert rows.delete_one({"_id": 1}).deleted_count == 1
        own = nosql_bridge.ports[DATABASE]
        assert {port for _, port in watch.heard} == {own}
        assert {host for host, _ in watch.heard} <= {"127.0.0.1", "localhost"}
        assert bypassed(nosql_world, DATABASE) == set()


def test_hello_names_the_proxy_and_nothing_that_leads_away(nosql_bridge: Bridge) -> None:
    with enter(nosql_bridge) as client:
        told = client.admin.command("hello")
        here = f"127.0.0.1:{nosql_bridge.ports[DATABASE]}"
        assert (told["hosts"], told["me"], told["primary"], told["setName"]) == ([here], here, here, "rs0")
        assert "docdb" not in str(told)
        assert not {"topologyVersion", "compression", "saslSupportedMechs"} & told.keys()
        assert client.topology_description.topology_type_name == "ReplicaSetWithPrimary"


@pytest.mark.parametrize("compressor", ["zlib"])
def test_a_client_that_would_compress_does_not(nosql_bridge: Bridge, compressor: str) -> None:
    with enter(nosql_bridge, compressors=compressor) as client:
        assert client.app.orders.count_documents({}) >= 3


def test_a_client_without_a_certificate_where_one_is_needed_gets_no_further(nosql_bridge: Bridge) -> None:
    with (
        enter(nosql_bridge, "", "tls", door="mongo-mtls", serverSelectionTimeoutMS=1_000) as client,
        pytest.raises(ServerSelectionTimeoutError),
    ):
        client.app.orders.find_one()


@pytest.mark.parametrize("mechanism", [None, "MONGODB-X509"])
def test_a_certificate_says_who_comes(nosql_bridge: Bridge, mechanism: str | None) -> None:
    """Both as it is, and for those whose driver wants to be told to use it."""
    both = nosql_bridge.directory / "client.both"
    both.write_text("".join((nosql_bridge.directory / f"client.{end}").read_text() for end in ("crt", "key")))
    more = {"authMechanism": mechanism} if mechanism else {}
    with enter(nosql_bridge, "", "tls", door="mongo-mtls", tlsCertificateKeyFile=str(both), **more) as client:
        assert client.app.orders.find_one({"_id": 2}) == {"_id": 2, "customer": "Grace"}
    assert audit_line(nosql_bridge, "broker", database=DATABASE, db_user=USER, allowed=True)


def test_writes_reads_and_their_errors(nosql_bridge: Bridge, collection: str) -> None:
    with enter(nosql_bridge) as client:
        rows = client.app[collection]
        rows.insert_many([{"_id": number, "part": number % 3, "blob": Binary(b"x" * 1_000)} for number in range(300)])
        assert rows.count_documents({"part": 1}) == 100
        assert rows.update_many({"part": 1}, {"$set": {"seen": True}}).modified_count == 100
        changed = rows.find_one_and_update({"_id": 0}, {"$inc": {"part": 5}}, return_document=True)
        assert changed is not None
        assert changed["part"] == 5
        assert [
            row["_id"] for row in rows.aggregate([{"$match": {"seen": True}}, {"$sort": {"_id": 1}}, {"$limit": 2}])
        ]
        with pytest.raises(DuplicateKeyError):
            rows.insert_one({"_id": 7})
        with pytest.raises(BulkWriteError):
            rows.bulk_write([pymongo.InsertOne({"_id": 8}), pymongo.InsertOne({"_id": 1_000})])
        with pytest.raises(OperationFailure):
            client.app.command("noSuchCommand")
        rows.insert_one({"_id": "large", "blob": Binary(os.urandom(15_000_000))})
        assert [len(row["blob"]) for row in rows.find({"_id": "large"})] == [15_000_000]
        assert rows.delete_many({}).deleted_count == 301


def test_unacknowledged_writes_get_no_answer_and_disturb_none(nosql_bridge: Bridge, collection: str) -> None:
    with enter(nosql_bridge, maxPoolSize=1) as client:
        silent = client.app.get_collection(collection, write_concern=pymongo.WriteConcern(w=0))
        for number in range(50):
            silent.insert_one({"_id": number})
            assert client.app.orders.find_one({"_id": 1}) == {"_id": 1, "customer": "Ada"}
        until(lambda: client.app[collection].count_documents({}) == 50)


def test_cursors_stay_on_their_connections(nosql_bridge: Bridge, collection: str) -> None:
    with enter(nosql_bridge) as client:
        rows = client.app[collection]
        rows.insert_many([{"_id": number} for number in range(2_000)])
        cursors = [rows.find(batch_size=13).sort("_id") for _ in range(4)]
        assert list(zip(*([row["_id"] for row in cursor] for cursor in cursors), strict=True)) == [
            (number,) * 4 for number in range(2_000)
        ]
        half = rows.find(batch_size=2)
        next(half)
        half.close()  # killCursors
        assert sum(len(batch) > 0 for batch in rows.find_raw_batches(batch_size=500)) == 4
        exhaust = rows.find(cursor_type=pymongo.CursorType.EXHAUST, batch_size=100)
        assert sum(1 for _ in exhaust) == 2_000


def test_transactions(nosql_bridge: Bridge, collection: str) -> None:
    with enter(nosql_bridge, retryWrites=False) as client:
        rows = client.app[collection]
        rows.insert_one({"_id": 0})
        with client.start_session() as session:
            with session.start_transaction():
                rows.insert_one({"_id": 1}, session=session)
                assert rows.count_documents({}, session=session) == 2
                session.abort_transaction()
            with session.start_transaction():
                rows.insert_one({"_id": 2}, session=session)
            session.with_transaction(lambda own: rows.insert_one({"_id": 3}, session=own))
        assert [row["_id"] for row in rows.find().sort("_id")] == [0, 2, 3]


def test_only_the_databases_that_the_rules_name(nosql_bridge: Bridge) -> None:
    """$db is asked about with every message; the session goes on."""
    with enter(nosql_bridge, maxPoolSize=1) as client:
        assert client.app.orders.find_one()
        for name in ("payroll", "admin", "local", "APP"):
            with pytest.raises(OperationFailure, match=name) as caught:
                client[name].people.find_one()
            assert caught.value.code == UNAUTHORIZED
        assert client.app.orders.find_one()
    line = audit_line(nosql_bridge, "broker", database=DATABASE, db_name="payroll", allowed=False)
    assert line["reason"] == "DB_NAME_NOT_ALLOWED"


def test_nobody_changes_who_the_session_is(nosql_bridge: Bridge) -> None:
    with enter(nosql_bridge, maxPoolSize=1) as client:
        for command in (
            {"logout": 1},
            {"saslStart": 1, "mechanism": "PLAIN", "payload": b"\0a\0b"},
            {"authenticate": 1},
        ):
            with pytest.raises(OperationFailure):
                client.app.command(command)
        assert client.app.orders.find_one()
    # A driver that has a password for us is told that none is needed.
    with (
        enter(nosql_bridge, username="app", password="secret", authSource="admin") as client,
        pytest.raises(OperationFailure, match="remove them"),
    ):
        client.app.orders.find_one()


@uris
def test_the_driver_finds_the_new_primary_when_the_old_one_restarts(
    nosql_bridge: Bridge, nosql_world: World, collection: str, uri: str
) -> None:
    with enter(nosql_bridge, uri, heartbeatFrequencyMS=500) as client:
        rows = client.app[collection]
        rows.insert_one({"_id": 0})
        documentdb.fail_over(nosql_world)
        until(lambda: works(lambda: rows.update_one({"_id": 0}, {"$set": {"after": True}})))
        assert rows.find_one() == {"_id": 0, "after": True}
        assert bypassed(nosql_world, DATABASE) == set()


@uris
def test_the_driver_finds_the_new_primary_when_the_old_one_steps_down(
    nosql_bridge: Bridge, nosql_world: World, collection: str, uri: str
) -> None:
    """The old one goes on answering, as a secondary: who still asks it must be led away from it."""
    with enter(nosql_bridge, uri, heartbeatFrequencyMS=500) as client:
        rows = client.app[collection]
        rows.insert_one({"_id": 0})
        documentdb.fail_over(nosql_world, restart=False)
        until(lambda: works(lambda: rows.update_one({"_id": 0}, {"$set": {"after": True}})))
        assert rows.find_one() == {"_id": 0, "after": True}
        assert bypassed(nosql_world, DATABASE) == set()


def test_many_clients_at_once(nosql_bridge: Bridge, collection: str) -> None:
    with enter(nosql_bridge, maxPoolSize=20) as client:
        rows = client.app[collection]

        def write(part: int) -> None:
            for number in range(25):
                rows.insert_one({"part": part, "number": number})

        threads = [threading.Thread(target=write, args=(part,)) for part in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert rows.count_documents({}) == 500


def test_a_client_of_another_protocol_is_told_so_or_cut_off(nosql_bridge: Bridge) -> None:
    with socket.create_connection(("127.0.0.1", nosql_bridge.ports[DATABASE]), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        raw.settimeout(10)
        while raw.recv(4096):
            pass
    with enter(nosql_bridge) as client:
        assert client.app.orders.find_one()


def works(call: Callable[[], object]) -> bool:
    """Whether it goes through."""
    try:
        call()
    except PyMongoError:
        return False
    return True


def until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
