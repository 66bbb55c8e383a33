"""Who a client is and where it is led: fixed doors, login names, server names, certificates, unix sockets, accounts."""

from __future__ import annotations

import ssl

import psycopg
import pytest

from deploy.sandbox import topology
from deploy.sandbox.bridge import APP_WORKLOAD, Bridge
from tests.e2e.arrangement import FOREIGN, Arrangement
from tests.e2e.clients import SIDES, Clients, assert_cancelled, audit_line, psql
from tests.support.raw_postgres import RawClient, attempt, query, startup, startup_of


def server_of(dsn: str) -> tuple[str, str, int]:
    """User, database and the server's own port: which server this is."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select current_user::text, current_database()::text, inet_server_port()").fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("database", [spec.name for spec in topology.DATABASES])
def test_a_login_name_leads_to_databases_of_three_accounts(clients: Clients, side: str, database: str) -> None:
    where = clients.bridge.world.database(database).local_port
    dsn = clients.dsn(side, door="names", user=f"app@{database}")
    assert server_of(dsn) == ("app", "app", where)


def test_the_brokers_own_account_needs_no_role(clients: Clients) -> None:
    server_of(clients.dsn("plain", door="names", user="app@local"))
    line = audit_line(clients.bridge, "broker", database="local", allowed=True)
    assert line.get("role_chain", []) == []


def test_each_account_is_entered_by_its_own_role(clients: Clients) -> None:
    for name, role_arn in (("rds-postgres", topology.EXAMPLE_ROLE_ARN), ("analytics", topology.ANALYTICS_ROLE_ARN)):
        server_of(clients.dsn("plain", door="names", user=f"app@{name}"))
        line = audit_line(clients.bridge, "broker", database=name, allowed=True)
        assert line["role_chain"] == [role_arn]


@pytest.mark.parametrize("user", ["app", "readonly"])
def test_each_database_user_is_who_the_server_sees(clients: Clients, user: str) -> None:
    assert server_of(clients.dsn("plain", user=user, dbname="app"))[0] == user


def test_readonly_may_not_write_because_the_server_says_so(clients: Clients) -> None:
    with (
        psycopg.connect(clients.dsn("plain", user="readonly")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("delete from orders")


@pytest.mark.parametrize("parameters", [{"user": "app"}, {"user": "app", "database": ""}])
def test_an_empty_database_name_is_the_database_users_own(clients: Clients, parameters: dict[str, str]) -> None:
    with RawClient(clients.bridge.ports["plain"]) as client:
        assert client.log_in(**parameters) is None
        assert b"app" in client.ask("select current_database()")[0]


def test_a_login_name_as_database_name_is_libpqs_default_and_counts_as_empty(clients: Clients) -> None:
    with psycopg.connect(clients.dsn("plain", door="names", user="app@analytics", dbname="")) as connection:
        assert connection.execute("select current_database()").fetchone() == ("app",)


def test_an_address_as_user_name_is_split_at_the_last_at(bridge: Bridge) -> None:
    refusal = attempt(bridge.ports["names"], user="ada@shop.example@rds-postgres")
    assert refusal is not None
    assert refusal.sqlstate == "28000"
    assert "ada@shop.example" in refusal.text


@pytest.mark.parametrize(
    ("server_name", "database"), [("rds-postgres.proxy.test", "rds-postgres"), ("analytics.proxy.test", "analytics")]
)
def test_a_server_name_leads_to_its_database(clients: Clients, server_name: str, database: str) -> None:
    where = clients.bridge.world.database(database).local_port
    assert server_of(clients.sni(server_name)) == ("app", "app", where)
    assert server_of(clients.sni(server_name, sslnegotiation="direct")) == ("app", "app", where)


def test_cancel_finds_its_session_by_server_name(clients: Clients) -> None:
    with psycopg.connect(clients.sni("analytics.proxy.test"), autocommit=True) as connection:
        assert_cancelled(connection, connection.cancel_safe)


def test_an_unknown_server_name_leads_nowhere_and_says_so(clients: Clients) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"nowhere\.proxy\.test.*`sni` map"):
        psycopg.connect(clients.sni("nowhere.proxy.test"))


def test_a_client_certificate_says_who_is_there(clients: Clients) -> None:
    where = clients.bridge.world.database("analytics").local_port
    assert server_of(clients.mtls(user="app@analytics")) == ("app", "app", where)
    assert audit_line(clients.bridge, "proxy", database="analytics")["workload"] == APP_WORKLOAD


def test_mtls_works_with_direct_tls_and_cancels(clients: Clients) -> None:
    with psycopg.connect(clients.mtls(sslnegotiation="direct"), autocommit=True) as connection:
        assert_cancelled(connection, connection.cancel_safe)
        assert_cancelled(connection, connection.cancel)


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        ("stranger", "ns/lab/sa/experiment"),
        ("foreigner", FOREIGN),
        ("two-uris", "exactly one SPIFFE URI"),
        ("no-uri", "exactly one SPIFFE URI"),
    ],
)
def test_a_certificate_of_the_mesh_is_not_enough(clients: Clients, certificate: str, says: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=says):
        psycopg.connect(clients.mtls(certificate))


def test_no_certificate_gets_an_answer_that_names_the_fix(clients: Clients) -> None:
    with pytest.raises(psycopg.OperationalError, match="client certificate"):
        psycopg.connect(clients.dsn("tls", door="mtls", user="app@rds-postgres", sslcert="/nonexistent"))


@pytest.mark.parametrize("certificate", ["impostor", "late"])
def test_a_foreign_or_expired_client_certificate_ends_in_a_tls_alert(clients: Clients, certificate: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="alert"):
        psycopg.connect(clients.mtls(certificate))


def test_the_mtls_door_takes_no_plaintext_login(bridge: Bridge) -> None:
    refusal = attempt(bridge.ports["mtls"], user="app@rds-postgres")
    assert refusal is not None
    assert refusal.sqlstate == "28000"
    assert "sslmode=verify-full" in refusal.text


def test_a_unix_socket_is_a_door(clients: Clients, arrangement: Arrangement) -> None:
    dsn = f"host={arrangement.socket_directory} port=5432 user=app dbname=app"
    where = clients.bridge.world.database("rds-postgres").local_port
    assert server_of(dsn) == ("app", "app", where)
    answer = psql(dsn, "select current_user")
    assert (answer.returncode, answer.stdout) == (0, "app\n")


def test_cancel_over_a_unix_socket(arrangement: Arrangement, bridge: Bridge) -> None:
    dsn = f"host={arrangement.socket_directory} port=5432 user=app dbname=app"
    assert bridge.proxy.ready()
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert_cancelled(connection, connection.cancel_safe)


def test_a_door_without_tls_says_no_and_prefer_goes_on_in_plaintext(clients: Clients) -> None:
    with psycopg.connect(clients.dsn("plain", door="plain", sslmode="prefer")) as connection:
        assert not connection.info.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        psycopg.connect(clients.dsn("plain", door="plain", sslmode="require"))


def test_gssapi_is_declined_and_tls_can_still_follow(bridge: Bridge) -> None:
    context = ssl.create_default_context(cafile=bridge.file("mesh-ca.crt"))
    with RawClient(bridge.ports["app"]) as client:
        client.send(bytes.fromhex("0000000804d21630"))
        assert client.read(1) == b"N"
        client.start_tls(context)
        assert client.log_in(user="app", database="app") is None


def test_a_protocol_3_2_startup_gets_the_servers_negotiation(bridge: Bridge) -> None:
    """PostgreSQL 15 answers 'v' with 3.0 and names the option it does not know."""
    with RawClient(bridge.ports["plain"]) as client:
        parameters = (("user", "app"), ("database", "app"), ("_pq_.tollbridge_test", "1"))
        client.send(startup_of(parameters, version=0x0003_0002))
        kind, body = client.message()
        assert (kind, body[:8]) == (b"v", bytes.fromhex("0003000000000001"))
        assert body[8:] == b"_pq_.tollbridge_test\0"


def test_a_login_and_its_first_query_in_one_segment(bridge: Bridge) -> None:
    """Allowed by the protocol's letter to clients that need no password: nothing is lost between login and relay."""
    with RawClient(bridge.ports["plain"]) as client:
        client.send(startup(user="app", database="app") + query("select 'in one go'"))
        seen: list[tuple[bytes, bytes]] = []
        while sum(kind == b"Z" for kind, _ in seen) < 2:
            seen.append(client.message())
        assert any(kind == b"D" and b"in one go" in body for kind, body in seen)


def test_a_startup_packet_of_postgresqls_own_limit_gets_in(bridge: Bridge) -> None:
    login = {"user": "app", "database": "app", "application_name": ""}
    filler = "n" * (10_000 - len(startup(**login)))
    with RawClient(bridge.ports["plain"]) as client:
        assert client.log_in(**{**login, "application_name": filler}) is None


def test_the_proxys_audit_joins_the_brokers(clients: Clients) -> None:
    """By decision id, with who, what and whether the grant was reused."""
    written = len(clients.bridge.audit("proxy"))
    with psycopg.connect(clients.dsn("plain")):
        session = audit_line(clients.bridge, "proxy", after=written, event="session.start")
    decision = audit_line(clients.bridge, "broker", decision_id=session["decision_id"])
    for key in ("workload", "database", "db_user", "db_name", "credential_id"):
        assert session[key] == decision[key]
    assert decision["rule"] == "shop-in-dev"
