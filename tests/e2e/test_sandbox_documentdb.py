"""The sandbox's DocumentDB as its own clients see it: without a proxy or broker, by PyMongo's MONGODB-AWS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from pymongo.errors import NotPrimaryError, OperationFailure, ServerSelectionTimeoutError

from deploy.sandbox import documentdb, topology
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.roles import Role

UNAUTHORIZED, AUTHENTICATION_FAILED = 13, 18
OTHER_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
Client = pymongo.MongoClient[dict[str, Any]]


@pytest.fixture(scope="module")
def example(nosql_world: World) -> Role:
    """The role that may assume the users' roles."""
    return Role.assume(nosql_world, topology.EXAMPLE_ROLE_ARN)


@pytest.fixture(scope="module")
def user(nosql_world: World, example: Role) -> Role:
    """A role that the cluster knows."""
    return Role.assume(nosql_world, topology.DATABASE_USER_ROLE_ARN, via=example)


@pytest.fixture
def control(nosql_world: World) -> Iterator[Control]:
    """Of this world."""
    control = Control(nosql_world.aws_endpoint)
    yield control
    control.shift_clock(0)
    control.clear_faults()


def anybody(world: World, **more: Any) -> Client:
    """Over TLS; the name in the certificate is not where the client dials."""
    options = {"directConnection": True, "serverSelectionTimeoutMS": 2000, "retryWrites": False, **more}
    port = world.database(topology.DOCUMENTDB.name).local_port
    return pymongo.MongoClient(
        "127.0.0.1", port, tls=True, tlsCAFile=world.ca_cert_file, tlsAllowInvalidHostnames=True, **options
    )


def signed(world: World, role: Role, *, secret: str = "", **more: Any) -> Client:
    """A client that signs as a role."""
    keys = role.session.get_credentials()
    return anybody(
        world,
        username=keys.access_key,
        password=secret or keys.secret_key,
        authMechanism="MONGODB-AWS",
        authSource="$external",
        authMechanismProperties={"AWS_SESSION_TOKEN": keys.token},
        **more,
    )


def refused(client: Client) -> int | None:
    """The code of the server's refusal."""
    with client, pytest.raises(OperationFailure) as caught:
        client.app.orders.find_one()
    return caught.value.code


def test_a_role_enters_that_the_cluster_knows(nosql_world: World, user: Role, control: Control) -> None:
    control.reset_counters()
    with signed(nosql_world, user) as client:
        assert {order["customer"] for order in client.app.orders.find()} >= {"Ada", "Grace", "Edsger"}
    # As DocumentDB does it: by asking STS with what the client signed.
    assert control.counters().calls == {"sts:GetCallerIdentity": 1}


def test_nobody_else_enters(nosql_world: World, example: Role, user: Role, control: Control) -> None:
    stranger = Role.assume(nosql_world, topology.POWERLESS_USER_ROLE_ARN, via=example)
    assert refused(signed(nosql_world, stranger)) == AUTHENTICATION_FAILED
    assert refused(signed(nosql_world, user, secret=OTHER_SECRET)) == AUTHENTICATION_FAILED
    assert refused(anybody(nosql_world)) == UNAUTHORIZED
    over = Role.assume(nosql_world, topology.DATABASE_USER_ROLE_ARN, via=example)
    control.expire_session(access_key_id=over.session.get_credentials().access_key)
    assert refused(signed(nosql_world, over)) == AUTHENTICATION_FAILED
    control.shift_clock(1000)
    assert refused(signed(nosql_world, user)) == AUTHENTICATION_FAILED


def test_what_runs_before_a_login_is_hello(nosql_world: World) -> None:
    with anybody(nosql_world) as client:
        assert client.admin.command("ping")["ok"] == 1
        told = client.admin.command("hello")
        assert (told["setName"], told["isWritablePrimary"], "topologyVersion" in told) == ("rs0", True, True)
        assert told["hosts"] == documentdb.nodes(topology.DOCUMENTDB)
        for command in ("listDatabases", "buildInfo", "endSessions", "serverStatus"):
            with pytest.raises(OperationFailure) as caught:
                client.admin.command(command)
            assert caught.value.code == UNAUTHORIZED, command


def test_a_driver_that_asks_directly_leaves_for_the_instances_it_is_told_of(nosql_world: World, user: Role) -> None:
    """What a proxy has to prevent: plain and replicaSet URIs lead away, directConnection alone stays."""
    plain: dict[str, Any] = {"directConnection": False}
    for options in (plain, {**plain, "replicaSet": "rs0"}):
        with (
            signed(nosql_world, user, **options) as client,
            pytest.raises(ServerSelectionTimeoutError, match=r"docdb-1\.abcdef012345\.us-west-1\.docdb"),
        ):
            client.app.orders.find_one()


def test_the_primary_changes_with_and_without_a_restart(nosql_world: World, user: Role) -> None:
    nodes = documentdb.nodes(topology.DOCUMENTDB)
    with signed(nosql_world, user) as client:
        first = client.admin.command("hello")["me"]
        second = documentdb.fail_over(nosql_world)
        assert {first, second} == set(nodes)
        assert client.app.orders.find_one()  # which a driver tries again
        assert client.admin.command("hello")["me"] == second
        assert documentdb.fail_over(nosql_world, restart=False) == first
        with pytest.raises(NotPrimaryError):
            client.app.orders.insert_one({"customer": "Barbara"})


def test_transactions_and_cursors_are_the_servers_own(nosql_world: World, user: Role) -> None:
    with signed(nosql_world, user) as client:
        numbers = client.app.numbers
        numbers.drop()
        numbers.insert_many([{"_id": number} for number in range(1000)])
        assert [row["_id"] for row in numbers.find(batch_size=7).sort("_id")] == list(range(1000))
        with client.start_session() as session:
            with session.start_transaction():
                numbers.insert_one({"_id": 1000}, session=session)
                session.abort_transaction()
            with session.start_transaction():
                numbers.insert_one({"_id": 1001}, session=session)
        assert [row["_id"] for row in numbers.find({"_id": {"$gte": 1000}})] == [1001]
        numbers.drop()
