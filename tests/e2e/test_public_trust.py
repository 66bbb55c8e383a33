"""RDS Proxy and DSQL end to end: certificates of public authorities, so the system's store is what vouches for them.

The sandbox's CA stands in for those by way of SSL_CERT_FILE, as an operator behind a TLS-inspecting network would put
his own; nothing in either configuration names it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import psycopg
import pytest

from deploy.sandbox import MissingEngine, Sandbox, topology
from deploy.sandbox.accounts import Accounts, allow, broker_trust_policy, policy
from deploy.sandbox.bridge import APP_WORKLOAD, PROXY_ID, Bridge, Document
from deploy.sandbox.world import World
from tests.e2e.clients import connection_string, run
from tests.e2e.conftest import missing
from tests.e2e.load import mtls

POOL, CLUSTER = topology.RDS_PROXY.name, topology.DSQL.name
OWNED = "owned-cluster"
"""The same cluster, entered by a role that may be its admin and nobody else."""
OWNER_ROLE_ARN = topology.TEST_ROLES_ARN.replace("test-*", "test-dsql-owner")
both = pytest.mark.parametrize("database", [POOL, CLUSTER])


@pytest.fixture(scope="module")
def public_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A sandbox of its own: the shared one has neither."""
    sandbox = Sandbox(tmp_path_factory.mktemp("public"), engine_names={"postgres", "rdsproxy", "dsql"})
    try:
        world = sandbox.up()
    except MissingEngine as error:
        missing(str(error))
    try:
        yield world
    finally:
        sandbox.down()


def system_trust(document: Document) -> None:
    """As for a real one: no CA in the registration. And what no policy allows."""
    databases = document["db_service"]["databases"]
    pool = next(database for database in databases if database["name"] == POOL)
    powerless = {**pool["aws"], "assume_role_arn": topology.NO_CONNECT_ROLE_ARN}
    databases.append({**pool, "name": "no-policy", "aws": powerless})
    cluster = next(database for database in databases if database["name"] == CLUSTER)
    databases.append({**cluster, "name": OWNED, "aws": {**cluster["aws"], "assume_role_arn": OWNER_ROLE_ARN}})
    for database in databases:
        database.pop("tls", None)
    for rule in document["access"]["rules"]:
        rule["db_users"] = [*rule["db_users"], "admin"]


def no_trust_files(document: Document) -> None:
    """The packaged bundles of AWS's own authorities, which sign neither."""
    document["trust"] = {}


@pytest.fixture(scope="module")
def running(public_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Both daemons with the sandbox's CA for a system store."""
    arn = f"arn:aws:dsql:{topology.REGION}:{topology.EXAMPLE_ACCOUNT}:cluster/{topology.DSQL.resource_id}"
    Accounts(public_world.aws_endpoint).create_role(
        OWNER_ROLE_ARN,
        trust=broker_trust_policy(topology.EXAMPLE_EXTERNAL_ID),
        permissions=policy(allow("dsql:DbConnectAdmin", arn)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", public_world.ca_cert_file)
        bridge = Bridge(public_world, tmp_path_factory.mktemp("bridge"), system_trust, no_trust_files)
    with bridge:
        yield bridge


def dsn(bridge: Bridge, database: str, user: str = "app") -> str:
    """The database's own door."""
    port = bridge.ports[database]
    return connection_string({"host": "127.0.0.1", "port": port, "user": user, "dbname": "app", "sslmode": "disable"})


def refused(text: str) -> str:
    """What a login is told that must not get in."""
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(text)
    return str(caught.value)


@both
def test_a_login_over_the_systems_trust(running: Bridge, database: str) -> None:
    with psycopg.connect(dsn(running, database)) as connection:
        assert connection.execute("select current_user::text, count(*) > 0 from orders").fetchone() == ("app", True)


@both
def test_the_check_command_walks_the_same_way(
    running: Bridge, public_world: World, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """To its query, with the login timed apart."""
    monkeypatch.setenv("SSL_CERT_FILE", public_world.ca_cert_file)
    command = (sys.executable, "-m", "proxy", "check", database, "--config", running.file("proxy.yaml"))
    answer = run(*command, "--db-user", "app", "--db-name", "app", "--workload", APP_WORKLOAD)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "answered `select 1`" in answer.stdout
    (login,) = (line for line in answer.stdout.splitlines() if line.split()[1:2] == ["login"])
    assert "accepted" in login


@both
def test_a_store_without_their_authority_vouches_for_nobody(
    running: Bridge, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """The same proxy without SSL_CERT_FILE: no credential goes out, and the message names the store."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    bare = running.proxies.get("bare")
    if bare is None:
        bare = running.add_proxy("bare", PROXY_ID, no_trust_files)
        bare.start()
    said = refused(mtls(running, f"app@{database}", port=running.ports["bare_mtls"]))
    assert "UPSTREAM_TLS_UNVERIFIED" in said
    assert "trust store system" in said


def test_dsql_asks_another_permission_of_its_admin(running: Bridge) -> None:
    """The refusal names it."""
    assert "dsql:DbConnectAdmin" in refused(dsn(running, CLUSTER, "admin"))


def test_dsqls_admin_gets_in_by_that_permission(running: Bridge) -> None:
    """And nobody else does by it."""
    with psycopg.connect(mtls(running, f"admin@{OWNED}")) as connection:
        assert connection.execute("select current_user::text").fetchone() == ("admin",)
    said = refused(mtls(running, f"app@{OWNED}"))
    assert "dsql:DbConnect" in said
    assert "DbConnectAdmin" not in said


def test_an_rds_proxys_refusal_names_the_proxys_resource(running: Bridge) -> None:
    """Not the database behind it."""
    said = refused(mtls(running, "app@no-policy"))
    assert "rds-db:connect" in said
    assert "prx-" in said
