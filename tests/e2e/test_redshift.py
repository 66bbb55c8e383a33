"""Redshift, provisioned and serverless, with psycopg and Amazon's own driver: users, roles, caching, refusals.

The servers play Redshift (md5, temporary users that the stubs of AWS's API make and end); what they leave out, digest
authentication, is in tests/unit/proxy/engines/postgres/test_redshift.py.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import redshift_connector
from redshift_connector.core import Connection as RedshiftConnection
from redshift_connector.cursor import Cursor

from deploy.sandbox import MissingEngine, Sandbox, topology
from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.clients import PATIENCE_SECONDS, audit_line, connection_string
from tests.e2e.conftest import missing

CLUSTER, WORKGROUP = topology.REDSHIFT.name, topology.REDSHIFT_SERVERLESS.name
ROLE, POWERLESS = "role/DatabaseUserRole", "role/PowerlessUserRole"
BY_NAME = "redshift:GetClusterCredentials"
BY_ROLE = "redshift:GetClusterCredentialsWithIAM"
SERVERLESS = "redshift-serverless:GetCredentials"


@pytest.fixture(scope="module")
def warehouse_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A sandbox of its own: the shared one has no Redshift."""
    sandbox = Sandbox(tmp_path_factory.mktemp("warehouses"), engine_names={"postgres", "redshift"})
    try:
        world = sandbox.up()
    except MissingEngine as error:
        missing(str(error))
    try:
        yield world
    finally:
        sandbox.down()


def change_broker(document: Document) -> None:
    """Users that the rule allows and Redshift's policy or database does not."""
    for rule in document["access"]["rules"]:
        rule["db_users"] = [*rule["db_users"], "missing", "nobody-may"]


@dataclass(frozen=True, slots=True)
class Warehouses:
    """The running bridge, and how to come in."""

    bridge: Bridge
    control: Control

    def dsn(self, user: str, database: str = CLUSTER, **more: str | int) -> str:
        """For libpq, over verified TLS to the proxy, without a password."""
        return connection_string(
            {
                "host": "localhost",
                "hostaddr": "127.0.0.1",
                "port": self.bridge.ports[database],
                "user": user,
                "dbname": "app",
                "sslmode": "verify-full",
                "sslrootcert": self.bridge.file("mesh-ca.crt"),
                **more,
            }
        )

    @contextlib.contextmanager
    def amazons_driver(self, user: str, database: str, *, ssl: bool) -> Iterator[RedshiftConnection]:
        """With TLS it trusts Amazon's authorities and the system's, among which SSL_CERT_FILE puts the proxy's."""
        connection = redshift_connector.connect(
            host="localhost",
            port=self.bridge.ports[database],
            user=user,
            password="",
            database="app",
            ssl=ssl,
            sslmode="verify-full",
            application_name="monthly report",
            client_protocol_version=2,
        )
        try:
            yield connection
        finally:
            connection.close()

    def calls(self, action: str) -> int:
        """How often AWS was asked so since the last reset."""
        return self.control.counters().calls.get(action, 0)


@pytest.fixture(scope="module")
def running(warehouse_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouses]:
    """One bridge for the module."""
    with Bridge(warehouse_world, tmp_path_factory.mktemp("bridge"), change_broker) as bridge:
        yield Warehouses(bridge, Control(warehouse_world.aws_endpoint))


@pytest.fixture
def warehouses(running: Warehouses) -> Warehouses:
    """With counters at zero."""
    running.control.reset_counters()
    return running


def who(dsn: str) -> tuple[str, str]:
    """session_user and current_user."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select session_user::text, current_user::text").fetchone()
    assert row is not None
    return row


def row(cursor: Cursor, statement: str, *values: object) -> list[Any]:
    """The first row of a statement, as Amazon's driver reads it."""
    cursor.execute(statement, values)
    found = cursor.fetchone()
    assert found is not None
    return list(found)


EVERY_FORM = pytest.mark.parametrize(
    ("user", "database", "session_user"),
    [
        pytest.param("app", CLUSTER, "IAM:app", id="a user: GetClusterCredentials"),
        pytest.param(ROLE, CLUSTER, "IAMR:DatabaseUserRole", id="a role: GetClusterCredentialsWithIAM"),
        pytest.param(topology.DATABASE_USER_ROLE_ARN, CLUSTER, "IAMR:DatabaseUserRole", id="a role by its ARN"),
        pytest.param(ROLE, WORKGROUP, "IAMR:DatabaseUserRole", id="serverless: GetCredentials"),
    ],
)


@EVERY_FORM
def test_psycopg_logs_in_as_the_user_that_aws_returned(
    warehouses: Warehouses, user: str, database: str, session_user: str
) -> None:
    """And not as the one it named."""
    assert who(warehouses.dsn(user, database))[0] == session_user


@pytest.mark.filterwarnings("ignore:ssl\\.:DeprecationWarning")  # of the driver
@pytest.mark.parametrize("ssl", [False, True], ids=["plain", "tls"])
@EVERY_FORM
def test_amazons_driver_logs_in_and_works(
    warehouses: Warehouses, monkeypatch: pytest.MonkeyPatch, user: str, database: str, session_user: str, *, ssl: bool
) -> None:
    """Its startup parameters go through, the server's answer to them comes back, and prepared statements work."""
    monkeypatch.setenv("SSL_CERT_FILE", warehouses.bridge.file("mesh-ca.crt"))
    with warehouses.amazons_driver(user, database, ssl=ssl) as connection, connection.cursor() as cursor:
        assert row(cursor, "select session_user::text, current_setting('application_name')") == [
            session_user,
            "monthly report",
        ]
        assert "Redshift Python Driver" in row(cursor, "select current_setting('driver_version')")[0]
        for number in range(20):
            assert row(cursor, "select cast(%s as integer) + 1", number) == [number + 1]
        assert row(cursor, "select count(*) > 0 from orders") == [True]


def test_the_db_user_acts_as_itself(warehouses: Warehouses) -> None:
    """IAM:app is the name at the door; inside it is app."""
    assert who(warehouses.dsn("app")) == ("IAM:app", "app")


def test_the_audit_has_the_name_that_was_asked_for(warehouses: Warehouses) -> None:
    who(warehouses.dsn("app"))
    decided = audit_line(warehouses.bridge, "broker", database=CLUSTER, db_user="app", allowed=True)
    assert decided["workload"].endswith("/checkout")
    started = audit_line(warehouses.bridge, "proxy", event="session.start", database=CLUSTER, db_user="app")
    assert started["decision_id"]


@pytest.mark.parametrize(
    ("user", "database", "action"),
    [("readonly", CLUSTER, BY_NAME), (ROLE, CLUSTER, BY_ROLE), (ROLE, WORKGROUP, SERVERLESS)],
)
def test_one_password_serves_many_logins(warehouses: Warehouses, user: str, database: str, action: str) -> None:
    """Kept to the end that AWS states: twenty logins, most of them at once, ask AWS at most once."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: who(warehouses.dsn(user, database))[0], range(20)))
    assert len(names) == 1
    assert warehouses.calls(action) <= 1


def refused(dsn: str) -> str:
    """What libpq says of a login that fails."""
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(dsn)
    return str(caught.value)


def test_a_policy_without_the_user_is_refused_with_the_statement_to_add(warehouses: Warehouses) -> None:
    said = refused(warehouses.dsn("nobody-may"))
    assert "redshift:GetClusterCredentials" in said
    assert f":dbuser:{topology.REDSHIFT.resource_id}/nobody-may" in said


@pytest.mark.parametrize(
    ("database", "action"), [(CLUSTER, "redshift:GetClusterCredentialsWithIAM"), (WORKGROUP, SERVERLESS)]
)
def test_a_role_without_the_permission_is_refused_with_the_statement_to_add(
    warehouses: Warehouses, database: str, action: str
) -> None:
    said = refused(warehouses.dsn(POWERLESS, database))
    assert action in said
    assert "PowerlessUserRole" in said


def test_a_user_that_is_not_there_is_explained(warehouses: Warehouses) -> None:
    """AWS makes a password all the same, and the login fails: the cause is among those named."""
    said = refused(warehouses.dsn("missing"))
    assert 'CREATE USER "missing" PASSWORD DISABLE' in said


def test_a_user_that_no_rule_allows_costs_aws_nothing(warehouses: Warehouses) -> None:
    said = refused(warehouses.dsn("admin"))
    assert "admin" in said
    assert warehouses.calls(BY_NAME) == 0


def test_serverless_takes_no_database_user(warehouses: Warehouses) -> None:
    """A db_user there is a role, whatever it is called: one that cannot be assumed is said to be that."""
    said = refused(warehouses.dsn("app", WORKGROUP))
    assert "role/app" in said


def test_no_password_of_redshift_is_written_down(warehouses: Warehouses) -> None:
    """Neither daemon's log nor audit file holds what a database user's password looks like."""
    who(warehouses.dsn("app"))
    files: list[Any] = [f for f in warehouses.bridge.directory.iterdir() if f.suffix in (".log", ".jsonl")]
    assert files
    for file in files:
        assert "DbPassword" not in file.read_text()


def test_a_password_that_redshift_no_longer_takes_costs_a_moment(warehouses: Warehouses) -> None:
    """The broker has no way to know: that login is refused with the likely causes, and soon another password is in.

    Last in this file: it ends every temporary user.
    """
    dsn = warehouses.dsn("readonly")
    who(dsn)
    warehouses.control.expire_database_users()
    warehouses.control.reset_counters()
    assert "refused a valid credential for 'readonly'. Likely causes: (1)" in refused(dsn)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            assert who(dsn) == ("IAM:readonly", "readonly")
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert warehouses.calls(BY_NAME) == 1
