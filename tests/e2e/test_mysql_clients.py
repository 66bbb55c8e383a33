"""MySQL's clients, none written here, through the proxy to a MariaDB that checks tokens; each is refused too."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import mysql.connector
import pymysql
import pytest
from mysql.connector import errorcode
from pymysql.constants import CLIENT

from deploy.sandbox import MissingEngine, Sandbox
from deploy.sandbox.bridge import APP_WORKLOAD, PROXY_ID, Document
from deploy.sandbox.commands import free_port
from deploy.sandbox.world import World
from tests.e2e.clients import PATIENCE_SECONDS, SIDES, audit_line, run
from tests.e2e.conftest import Leaks, missing
from tests.e2e.mysql_bridge import DATABASE, GREETS_AS, MysqlBridge, rows, version_of
from tests.e2e.test_readme import example
from tests.support.hostile_mysql import WANTED

CLIENTS_LINE: Final = "apt-get install -y --no-install-recommends mariadb-client sysbench"
MIB: Final = 2**20

every_side = pytest.mark.parametrize("side", SIDES)


@pytest.fixture(scope="module")
def my(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MysqlBridge]:
    """A sandbox with MariaDB alone, and a bridge before it."""
    if shutil.which("mariadb") is None or shutil.which("sysbench") is None:
        missing(f"mariadb or sysbench is not installed. Install them: {CLIENTS_LINE}")
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), engine_names={"mariadb"})
    try:
        world: World = sandbox.up()
    except MissingEngine as error:
        missing(str(error))
    try:
        made = MysqlBridge(world, tmp_path_factory.mktemp("mysql"))
        try:
            made.bridge.up()
            yield made
        finally:
            made.stop()
        for file in made.bridge.directory.iterdir():
            if file.suffix in (".log", ".jsonl"):
                assert Leaks(world).found_in(file.read_text()) == [], file.name
    finally:
        sandbox.down()


# Clients


def test_the_readmes_line_gets_in(my: MysqlBridge) -> None:
    line = example("mysql")
    assert "--port=3306" in line
    answer = run("bash", "-c", line.replace("3306", str(my.port("plain"))))
    assert answer.returncode == 0, answer.stderr
    assert "app@%" in answer.stdout


@every_side
def test_the_command_line_is_in_without_a_password(my: MysqlBridge, side: str) -> None:
    answer = my.mariadb("select current_user(), database(); show status like 'Ssl_cipher'", side)
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    assert first == "app@%\tapp"
    assert second.split("\t")[1].startswith("TLS_")  # upstream, whatever the client's side is
    assert my.mariadb("select 1", side, user="nobody").returncode == 1


@every_side
@pytest.mark.parametrize("password", ["", "anything"])
def test_pymysql(my: MysqlBridge, side: str, password: str) -> None:
    """With whatever password: the listener has said who it is."""
    with my.pymysql(side, password=password, client_flag=CLIENT.MULTI_STATEMENTS) as connection:
        assert rows(connection, "select current_user(), %s", ["Grüße 🐬"]) == [("app@%", "Grüße 🐬")]
        with connection.cursor() as cursor:
            cursor.execute("select 1; select customer from orders order by id")
            assert cursor.fetchall() == ((1,),)
            assert cursor.nextset()
            assert [name for (name,) in cursor.fetchall()] == ["Ada", "Grace", "Edsger"]
        connection.select_db("information_schema")
        assert rows(connection, "select database()") == [("information_schema",)]
        with pytest.raises(pymysql.err.ProgrammingError, match="You have an error in your SQL"):
            rows(connection, "selekt")
        connection.ping(reconnect=False)


@every_side
@pytest.mark.parametrize("password", ["", "anything"])
def test_mysql_connector(my: MysqlBridge, side: str, password: str) -> None:
    """Prepared statements, a transaction, an unbuffered result, and the session's cleaning."""
    connection: Any = my.connector(side, password=password)
    with contextlib.closing(connection):
        cursor = connection.cursor(prepared=True)
        cursor.execute("select customer from orders where id = %s", (2,))
        assert cursor.fetchall() == [("Grace",)]
        cursor.close()
        connection.rollback()  # reading has begun one
        connection.start_transaction()
        cursor = connection.cursor()
        cursor.execute("update orders set total = total + 1 where id = 1")
        assert cursor.rowcount == 1
        connection.rollback()
        cursor.execute("select count(*) from readings")
        assert cursor.fetchall() == [(10000,)]
        cursor.execute("set @mark = 1")
        connection.cmd_reset_connection()
        cursor.execute("select @mark")
        assert cursor.fetchall() == [(None,)]


def test_a_packet_over_16_mib_goes_both_ways(my: MysqlBridge) -> None:
    for side in SIDES:
        with my.pymysql(side, max_allowed_packet=64 * MIB) as connection:
            sent = "x" * (17 * MIB)
            ((length, back),) = rows(connection, "select length(%s), repeat('y', 17 * 1024 * 1024)", [sent])
            assert length == len(back) == 17 * MIB
            assert rows(connection, "select 1") == [(1,)]


def test_sysbench(my: MysqlBridge) -> None:
    """Four threads of prepared statements. (Its TLS wants files of fixed names, and is left to the others.)"""
    sysbench = ["sysbench", "oltp_read_write", "--tables=1", "--table-size=500", "--threads=4", "--mysql-db=app"]
    sysbench += ["--mysql-user=app", "--mysql-host=127.0.0.1", f"--mysql-port={my.port('plain')}"]
    try:
        made = run(*sysbench, "prepare")
        assert made.returncode == 0, made.stdout + made.stderr
        answer = run(*sysbench, "--time=2", "run")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "FATAL" not in answer.stdout
        assert "transactions:" in answer.stdout
    finally:
        run(*sysbench, "cleanup")


# What is held back


def test_another_user_needs_another_connection(my: MysqlBridge) -> None:
    """COM_CHANGE_USER ends the session in the database's own words; nobody has changed."""
    connection: Any = my.connector()
    with pytest.raises(mysql.connector.Error, match="COM_CHANGE_USER is refused"):
        connection.cmd_change_user("readonly", "", "app")
    end = audit_line(my.bridge, "proxy", event="session.end", reason="FEATURE_REFUSED")
    assert end["db_user"] == "app"


def test_files_of_the_client_are_policy(my: MysqlBridge, tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("901,Barbara,5\n")
    load = f"load data local infile '{file}' into table orders fields terminated by ','"
    try:
        with my.pymysql(local_infile=True) as connection, pytest.raises(pymysql.err.MySQLError):
            rows(connection, load)
        with my.pymysql(door="files", local_infile=True, autocommit=True) as connection:
            rows(connection, load)
            assert rows(connection, "select customer from orders where id = 901") == [("Barbara",)]
    finally:
        my.root("delete from app.orders where id = 901")


def test_a_server_that_asks_for_a_file_of_the_clients_all_the_same_gets_none(my: MysqlBridge) -> None:
    """From a client that has them turned on, because it talks to other servers too. It hears nothing but the end: the
    refusal would land inside the server's answer."""
    connection = my.pymysql(door="names", user="app@wants-a-file", local_infile=True)
    with pytest.raises(pymysql.err.OperationalError, match="Lost connection"):
        rows(connection, "select 1")
    assert Path(WANTED).read_bytes()[:20] not in my.servers["wants-a-file"].heard


def test_compression_is_refused_by_name(my: MysqlBridge) -> None:
    with pytest.raises(mysql.connector.Error, match="compression is not spoken here"):
        my.connector(compress=True)


def test_who_may_not_enter_hears_why(my: MysqlBridge) -> None:
    with pytest.raises(pymysql.err.OperationalError) as caught:
        my.pymysql(user="nobody")
    code, text = caught.value.args
    assert code == errorcode.ER_ACCESS_DENIED_ERROR
    assert text.startswith("tollbridge: ")
    assert "'nobody'" in text
    assert "DB_USER_NOT_ALLOWED" in text


def test_the_databases_own_refusal_is_the_clients(my: MysqlBridge) -> None:
    with pytest.raises(pymysql.err.OperationalError, match=r"Unknown database 'nowhere'|Access denied for user 'app'"):
        my.pymysql(database="nowhere")


# Routes


def test_a_login_name_says_where_to(my: MysqlBridge) -> None:
    for side in SIDES:
        with my.pymysql(side, door="names", user=f"app@{DATABASE}") as connection:
            assert version_of(connection) == GREETS_AS
            assert rows(connection, "select current_user()") == [("app@%",)]
    with pytest.raises(pymysql.err.OperationalError, match="db_user@database"):
        my.pymysql(door="names")
    with pytest.raises(pymysql.err.OperationalError, match="no database named 'elsewhere'"):
        my.pymysql(door="names", user="app@elsewhere")


def test_a_client_certificate_says_who_it_is(my: MysqlBridge) -> None:
    files = {"ssl_cert": my.bridge.file("client.crt"), "ssl_key": my.bridge.file("client.key")}
    with my.pymysql("tls", door="mtls-names", user=f"readonly@{DATABASE}", **files) as connection:
        assert rows(connection, "select current_user()") == [("readonly@%",)]
    with pytest.raises(pymysql.err.OperationalError) as caught:
        my.pymysql("tls", door="mtls-names", user=f"app@{DATABASE}")
    assert "CLIENT_UNIDENTIFIED" in caught.value.args[1]
    with pytest.raises(pymysql.err.OperationalError) as caught:
        my.pymysql("plain", door="mtls-names", user=f"app@{DATABASE}")
    assert caught.value.args[0] == 3159


def test_a_version_of_the_listeners_own(my: MysqlBridge) -> None:
    connection: Any = my.connector(door="known")
    with contextlib.closing(connection):
        assert connection.server_info == GREETS_AS


# Greeting


def probe(port: int) -> bytes:
    """Connect, read the greeting, leave: what load balancers do."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        return connection.recv(4096)


def test_200_bare_probes_are_nothing_to_a_warm_database(my: MysqlBridge) -> None:
    with my.pymysql() as connection:
        version = version_of(connection)
    aborted, connections = my.status("Aborted_connects"), my.status("Connections")
    for _ in range(200):
        assert version.encode() in probe(my.port(DATABASE))
    assert my.status("Aborted_connects") == aborted
    assert my.status("Connections") - connections <= 2  # our own looking
    with my.pymysql() as connection:
        assert rows(connection, "select 1") == [(1,)]


def another_proxy(my: MysqlBridge, name: str, **more: object) -> int:
    """A proxy that knows nothing yet, started; its MySQL port."""
    port = free_port()

    def change(document: Document) -> None:
        door = {"name": "my", "protocol": "mysql", "address": f"127.0.0.1:{port}", "workload": APP_WORKLOAD}
        document["listeners"] = [{**door, "database": DATABASE}]
        document.update(more)

    my.bridge.add_proxy(name, PROXY_ID, change).start()
    return port


def test_a_burst_on_a_cold_endpoint_is_one_connection(my: MysqlBridge) -> None:
    port = another_proxy(my, "cold")
    aborted = my.status("Aborted_connects")
    threads = [threading.Thread(target=probe, args=(port,)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert my.status("Aborted_connects") - aborted <= 1


def test_a_proxy_that_leaves_says_goodbye(my: MysqlBridge) -> None:
    port = another_proxy(my, "leaving", drain={"seconds": 0})
    connection = pymysql.connect(host="127.0.0.1", port=port, user="app", database="app")
    assert rows(connection, "select 1") == [(1,)]
    my.bridge.proxies["leaving"].send(signal.SIGTERM)
    my.bridge.proxies["leaving"].stop()
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(connection, "select 1")
    assert caught.value.args[0] == 1053
    assert "shutting down" in caught.value.args[1]


# Servers


@pytest.mark.parametrize(
    ("database", "reason"),
    [
        ("skips-tls", "UPSTREAM_TLS_REFUSED"),
        ("asks-behind-its-greeting", "UPSTREAM_PROTOCOL"),
        ("asks-instead-of-tls", "UPSTREAM_TLS_REFUSED"),
        ("asks-instead-of-greeting", "UPSTREAM_PROTOCOL"),
        ("wrong-name", "UPSTREAM_TLS_UNVERIFIED"),
        ("foreign-ca", "UPSTREAM_TLS_UNVERIFIED"),
        ("is-full", "TOO_MANY_CONNECTIONS"),
        ("garbage", "UPSTREAM_PROTOCOL"),
    ],
)
def test_a_server_that_proved_nothing_gets_nothing(my: MysqlBridge, database: str, reason: str) -> None:
    with pytest.raises(pymysql.err.OperationalError) as caught:
        my.pymysql(door="names", user=f"app@{database}")
    assert reason in caught.value.args[1]
    assert my.servers[database].connections >= 1
    assert b"X-Amz" not in my.servers[database].heard


def test_check_walks_the_way_of_a_login(my: MysqlBridge) -> None:
    command = (sys.executable, "-m", "proxy", "check", DATABASE, "--config", my.bridge.file("proxy.yaml"))
    answer = run(*command, "--db-user", "app", "--db-name", "app", "--workload", APP_WORKLOAD)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "MariaDB" in answer.stdout
    assert "answered `select 1`" in answer.stdout
