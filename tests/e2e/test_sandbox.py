"""What the sandbox's databases let in and what they refuse: without a proxy or broker, signed by botocore.

What is claimed of tollbridge stands on this: a judge that said yes to everything would prove nothing.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
import pymysql
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.sandbox import topology
from deploy.sandbox.control import Control
from deploy.sandbox.world import Database, World
from tests.e2e.roles import Role, refused

CACHES: Final[tuple[tuple[str, str, dict[str, str]], ...]] = (
    (topology.CACHE.name, "elasticache", {}),
    (topology.SERVERLESS_CACHE.name, "elasticache", {"ResourceType": "ServerlessCache"}),
    (topology.MEMORYDB.name, "memorydb", {}),
)
MARIADB: Final = topology.RDS_MARIADB.name


@pytest.fixture(scope="module")
def example(whole_world: World) -> Role:
    """The role that may."""
    return Role.assume(whole_world, topology.EXAMPLE_ROLE_ARN)


@pytest.fixture(scope="module")
def powerless(whole_world: World) -> Role:
    """A role that the broker may assume, and no more."""
    return Role.assume(whole_world, topology.NO_CONNECT_ROLE_ARN)


# MariaDB


def mariadb(world: World, user: str, password: str, *, tls: bool = True, query: str = "select current_user()") -> Any:
    """The first value of a query."""
    context = ssl.create_default_context(cafile=world.ca_cert_file)
    context.check_hostname = False
    connection = pymysql.connect(
        host="127.0.0.1",
        port=world.database(MARIADB).local_port,
        user=user,
        password=password,
        database="app",
        ssl=context if tls else None,
        ssl_disabled=not tls,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
        return row[0] if row else None


def test_mariadb_takes_a_token_as_the_password(whole_world: World, example: Role) -> None:
    token = example.rds_token(whole_world.database(MARIADB), "app")
    assert len(token) > 1300
    assert mariadb(whole_world, "app", token) == "app@%"


REFUSED_BY_MARIADB: Final[dict[str, Callable[[Role, Role, Database], str]]] = {
    "another user's token": lambda example, _, database: example.rds_token(database, "readonly"),
    "a role without rds-db:connect": lambda _, powerless, database: powerless.rds_token(database, "app"),
    "a token cut short": lambda example, _, database: example.rds_token(database, "app")[:-1],
    "nothing like a token": lambda *_: "x" * 9000,
    "a cache's token": lambda example, _, database: example.cache_token(database.resource_id, "app"),
}


@pytest.mark.parametrize("why", REFUSED_BY_MARIADB)
def test_mariadb_refuses(whole_world: World, example: Role, powerless: Role, why: str) -> None:
    password = REFUSED_BY_MARIADB[why](example, powerless, whole_world.database(MARIADB))
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        mariadb(whole_world, "app", password)


def test_mariadb_refuses_a_good_token_without_tls_after_it_has_seen_it(whole_world: World, example: Role) -> None:
    """Why a client must never send it: the server looks at REQUIRE SSL when it is too late."""
    Control(whole_world.aws_endpoint).forget_logins()
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        mariadb(whole_world, "app", example.rds_token(whole_world.database(MARIADB), "app"), tls=False)
    assert [login.why for login in Control(whole_world.aws_endpoint).logins()] == ["Allow"]


def test_mariadb_keeps_readonly_from_writing(whole_world: World, example: Role) -> None:
    token = example.rds_token(whole_world.database(MARIADB), "readonly")
    assert mariadb(whole_world, "readonly", token, query="select count(*) from orders") == 3
    with pytest.raises(pymysql.err.OperationalError, match="INSERT command denied"):
        mariadb(whole_world, "readonly", token, query="insert into orders values (9, 'x', 1)")


# What else speaks PostgreSQL


def postgres(world: World, name: str, user: str, password: str) -> str:
    """current_user."""
    database = world.database(name)
    with psycopg.connect(
        host=database.host,
        hostaddr="127.0.0.1",
        port=database.local_port,
        user=user,
        password=password,
        dbname="app",
        sslmode="verify-full",
        sslrootcert=world.ca_cert_file,
    ) as connection:
        row = connection.execute("select current_user").fetchone()
        return str(row[0]) if row else ""


def test_an_rds_proxy_takes_tokens_for_its_own_id(whole_world: World, example: Role, powerless: Role) -> None:
    name = topology.RDS_PROXY.name
    pool = whole_world.database(name)
    assert postgres(whole_world, name, "app", example.rds_token(pool, "app")) == "app"
    behind = example.rds_token(whole_world.database(topology.RDS_POSTGRES.name), "app")
    for token in (behind, powerless.rds_token(pool, "app"), example.rds_token(pool, "readonly")):
        with pytest.raises(psycopg.OperationalError, match="PAM authentication failed"):
            postgres(whole_world, name, "app", token)


def test_dsql_takes_a_token_for_the_kind_of_user(whole_world: World, example: Role, powerless: Role) -> None:
    """Who may connect may not connect as admin, and the other way round."""
    name, host = topology.DSQL.name, topology.DSQL.host
    signer, idle = example.session.client("dsql"), powerless.session.client("dsql")
    token = signer.generate_db_connect_auth_token(host)
    assert postgres(whole_world, name, "app", token) == "app"
    assert postgres(whole_world, name, "readonly", signer.generate_db_connect_auth_token(host, ExpiresIn=604800))
    as_admin = signer.generate_db_connect_admin_auth_token(host)
    too_long = signer.generate_db_connect_auth_token(host, ExpiresIn=604801)
    elsewhere = signer.generate_db_connect_auth_token("another" + host[7:])
    for user, refused_token in (
        ("app", as_admin),
        ("app", too_long),
        ("app", elsewhere),
        ("app", idle.generate_db_connect_auth_token(host)),
        ("admin", token),
        ("admin", as_admin),
    ):
        with pytest.raises(psycopg.OperationalError, match="PAM authentication failed"):
            postgres(whole_world, name, user, refused_token)


# Valkey


def cache(world: World, name: str, user: str, password: str) -> redis.Redis:
    """A client that does not retry."""
    return redis.Redis(
        host="127.0.0.1",
        port=world.database(name).local_port,
        username=user,
        password=password,
        ssl=True,
        ssl_ca_certs=world.ca_cert_file,
        ssl_check_hostname=False,
        retry=Retry(NoBackoff(), 0),
    )


def cache_name(world: World, name: str) -> str:
    """What a token is signed for."""
    return world.database(name).resource_id


@pytest.mark.parametrize(("name", "service", "more"), CACHES)
def test_valkey_takes_the_products_token(
    whole_world: World, example: Role, name: str, service: str, more: dict[str, str]
) -> None:
    token = example.cache_token(cache_name(whole_world, name), "app", service, more)
    with cache(whole_world, name, "app", token) as client:
        assert client.acl_whoami() == "app"


WHY_NOT: Final = {
    "user": "InvalidToken",
    "cache": "InvalidToken",
    "expiry": "InvalidToken",
    "parameter": "InvalidToken",
    "service": "InvalidScope",
    "policy": "Connect ImplicitDeny",
    "cut": "SignatureDoesNotMatch",
}


@pytest.mark.parametrize(("name", "service", "more"), CACHES)
@pytest.mark.parametrize("why", WHY_NOT)
def test_valkey_refuses_a_token_of_another(
    whole_world: World, example: Role, powerless: Role, name: str, service: str, more: dict[str, str], why: str
) -> None:
    own = cache_name(whole_world, name)
    other = {"memorydb": "elasticache", "elasticache": "memorydb"}[service]
    changed = {} if more else {"ResourceType": "ServerlessCache"}
    token = {
        "user": lambda: example.cache_token(own, "readonly", service, more),
        "cache": lambda: example.cache_token("another", "app", service, more),
        "expiry": lambda: example.cache_token(own, "app", service, more, seconds=901),
        "parameter": lambda: example.cache_token(own, "app", service, changed),
        "service": lambda: example.cache_token(own, "app", other, more),
        "policy": lambda: powerless.cache_token(own, "app", service, more),
        "cut": lambda: example.cache_token(own, "app", service, more)[:-1],
    }[why]()
    control = Control(whole_world.aws_endpoint)
    control.forget_logins()
    with cache(whole_world, name, "app", token) as client, pytest.raises(redis.AuthenticationError, match="invalid"):
        client.ping()
    assert [(login.database, login.why.endswith(WHY_NOT[why])) for login in control.logins()] == [(name, True)]


@pytest.fixture
def short_sessions(whole_world: World) -> Iterator[float]:
    """Seconds after which Valkey closes a connection that has not logged in again."""
    limit = 2.0
    user = topology.VALKEY_PASSWORD_USERS[0]
    with cache(whole_world, topology.CACHE.name, user, whole_world.password_users[user]) as operator:
        operator.config_set("iamauth.session-milliseconds", int(limit * 1000))
        yield limit
        operator.config_set("iamauth.session-milliseconds", 0)


def test_valkey_closes_a_session_that_does_not_log_in_again(
    whole_world: World, example: Role, short_sessions: float
) -> None:
    """As ElastiCache after twelve hours; another AUTH gives as long again."""
    token = example.cache_token(cache_name(whole_world, topology.CACHE.name), "app")
    with cache(whole_world, topology.CACHE.name, "app", token) as client:
        connection = client.connection_pool.get_connection()
        for _ in range(3):
            time.sleep(short_sessions / 2)
            connection.send_command("AUTH", "app", token)
            assert connection.read_response() == b"OK"
        with pytest.raises(redis.ConnectionError):
            connection.read_response()
        client.connection_pool.release(connection)


def test_a_session_that_has_ended_gets_in_nowhere(whole_world: World) -> None:
    control, ended = Control(whole_world.aws_endpoint), Role.assume(whole_world, topology.LONG_SESSION_ROLE_ARN)
    caller = ended.client("redshift")
    control.expire_session(access_key_id=ended.session.get_credentials().access_key)
    assert refused(lambda: caller.get_cluster_credentials(DbUser="app", ClusterIdentifier="wh")) == "ExpiredToken"
    control.forget_logins()
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        mariadb(whole_world, "app", ended.rds_token(whole_world.database(MARIADB), "app"))
    token = ended.cache_token(cache_name(whole_world, topology.CACHE.name), "app")
    with cache(whole_world, topology.CACHE.name, "app", token) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    assert {login.why for login in control.logins()} == {"SessionExpired"}
