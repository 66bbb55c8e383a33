"""psycopg 3 on libpq 18 works through the proxy: sync, async, COPY, cancel, LISTEN/NOTIFY, pipeline, protocol 3.2."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
import pytest
from psycopg import errors, pq

from tests.e2e.clients import PATIENCE_SECONDS, SIDES, Clients, assert_cancelled, audit_line

Superuser = psycopg.Connection[tuple[Any, ...]]


@pytest.mark.parametrize("side", SIDES)
class TestEitherSide:
    def test_statements_rows_and_transactions(self, clients: Clients, side: str) -> None:
        with psycopg.connect(clients.dsn(side)) as connection:
            assert connection.info.pgconn.ssl_in_use is (side == "tls")
            connection.execute("create temporary table t (n integer)")
            connection.cursor().executemany("insert into t values (%s)", [(n,) for n in range(1000)])
            with pytest.raises(errors.UniqueViolation), connection.transaction():
                connection.execute("insert into orders values (1, 'Ada', 1)")
            assert connection.execute("select count(*), sum(n) from t").fetchone() == (1000, 499_500)

    def test_server_side_prepared_statements(self, clients: Clients, side: str) -> None:
        with psycopg.connect(clients.dsn(side), prepare_threshold=0) as connection:
            for n in range(1, 200):
                row = connection.execute("select id from readings where id = %s", (n,)).fetchone()
                assert row == (n,)
            assert connection.execute("select count(*) > 0 from pg_prepared_statements").fetchone() == (True,)

    def test_a_server_side_cursor_reads_in_parts(self, clients: Clients, side: str) -> None:
        with psycopg.connect(clients.dsn(side)) as connection, connection.cursor("part") as cursor:
            cursor.itersize = 500
            cursor.execute("select id from readings order by id")
            assert [row[0] for row in cursor] == list(range(1, 10_001))

    def test_copy_in_and_out(self, clients: Clients, side: str) -> None:
        data = b"".join(b"%d\tpayload of %d\n" % (n, n) for n in range(100_000))
        with psycopg.connect(clients.dsn(side)) as connection, connection.cursor() as cursor:
            cursor.execute("create temporary table t (n integer, word text)")
            with cursor.copy("copy t from stdin") as copy:
                for at in range(0, len(data), 70_000):
                    copy.write(data[at : at + 70_000])
            with cursor.copy("copy (select * from t order by n) to stdout") as copy:
                assert b"".join(bytes(part) for part in copy) == data

    def test_a_copy_that_the_client_fails_leaves_the_session_usable(self, clients: Clients, side: str) -> None:
        with psycopg.connect(clients.dsn(side), autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("create temporary table t (n integer)")
            with pytest.raises(ValueError, match="enough"):
                give_up_a_copy(cursor)
            assert cursor.execute("select count(*) from t").fetchone() == (0,)

    def test_pipeline_mode(self, clients: Clients, side: str) -> None:
        with psycopg.connect(clients.dsn(side)) as connection, connection.pipeline():
            cursors = [connection.execute("select %s::int * 2", (n,)) for n in range(500)]
            assert [cursor.fetchone() for cursor in cursors] == [(2 * n,) for n in range(500)]

    def test_listen_and_notify(self, clients: Clients, side: str) -> None:
        with (
            psycopg.connect(clients.dsn(side), autocommit=True) as listening,
            psycopg.connect(clients.dsn(side), autocommit=True) as telling,
        ):
            listening.execute("listen news")
            telling.execute("select pg_notify('news', 'the bridge stands')")
            heard = next(listening.notifies(timeout=PATIENCE_SECONDS, stop_after=1))
            assert (heard.channel, heard.payload) == ("news", "the bridge stands")
            telling.execute("select pg_notify('news', 'still idle, still heard')")
            assert [n.payload for n in listening.notifies(timeout=PATIENCE_SECONDS, stop_after=1)] == [
                "still idle, still heard"
            ]

    @pytest.mark.parametrize("way", ["cancel", "cancel_safe"])
    def test_cancel_stops_the_query_and_not_the_session(self, clients: Clients, side: str, way: str) -> None:
        with psycopg.connect(clients.dsn(side), autocommit=True) as connection:
            assert_cancelled(connection, getattr(connection, way))

    def test_cancel_where_the_login_name_routes(self, clients: Clients, side: str) -> None:
        with psycopg.connect(clients.dsn(side, door="names", user="app@rds-postgres"), autocommit=True) as connection:
            assert_cancelled(connection, connection.cancel_safe)

    async def test_async_connections_side_by_side(self, clients: Clients, side: str) -> None:
        async def one(number: int) -> int:
            async with await psycopg.AsyncConnection.connect(clients.dsn(side)) as connection:
                cursor = await connection.execute("select %s::int, pg_sleep(0.1)", (number,))
                row = await cursor.fetchone()
                assert row is not None
                return int(row[0])

        assert await asyncio.gather(*(one(n) for n in range(20))) == list(range(20))

    async def test_async_copy_and_cancel(self, clients: Clients, side: str) -> None:
        async with await psycopg.AsyncConnection.connect(clients.dsn(side), autocommit=True) as connection:
            async with connection.cursor() as cursor, cursor.copy("copy readings to stdout") as copy:
                assert sum([bytes(part).count(b"\n") async for part in copy]) == 10_000
            async with asyncio.TaskGroup() as group:
                sleeping = group.create_task(cancelled(connection))
                await asyncio.sleep(1.0)  # by then the server has it
                await connection.cancel_safe(timeout=30)
            assert sleeping.result() < 30

    def test_a_stalled_reader_gets_every_row_in_the_end(self, clients: Clients, side: str) -> None:
        with psycopg.connect(clients.dsn(side)) as connection, connection.cursor() as cursor:
            text = "copy (select repeat('x', 1000) from generate_series(1, 30000)) to stdout"
            with cursor.copy(text) as copy:
                time.sleep(0.5)
                assert sum(len(bytes(part)) for part in copy) == 30_000 * 1001


def give_up_a_copy(cursor: psycopg.Cursor[tuple[Any, ...]]) -> None:
    with cursor.copy("copy t from stdin") as copy:
        copy.write(b"1\n")
        raise ValueError("enough")


async def cancelled(connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> float:
    started = time.monotonic()
    with pytest.raises(errors.QueryCanceled):
        await connection.execute("select pg_sleep(60)")
    return time.monotonic() - started


def test_direct_tls_with_alpn(clients: Clients) -> None:
    with psycopg.connect(clients.dsn("tls", sslnegotiation="direct")) as connection:
        assert connection.info.pgconn.ssl_in_use
        assert connection.execute("select 1").fetchone() == (1,)


def test_direct_tls_cancels(clients: Clients) -> None:
    with psycopg.connect(clients.dsn("tls", sslnegotiation="direct"), autocommit=True) as connection:
        assert_cancelled(connection, connection.cancel_safe)


def test_protocol_3_2_is_asked_for_and_the_servers_answer_is_passed_on(clients: Clients) -> None:
    """PostgreSQL 15 speaks 3.0: its NegotiateProtocolVersion reaches libpq, which goes on."""
    with psycopg.connect(clients.dsn("tls", max_protocol_version="3.2")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_client_that_insists_on_3_2_hears_that_the_server_has_3_0(clients: Clients) -> None:
    with pytest.raises(psycopg.OperationalError, match="protocol version"):
        psycopg.connect(clients.dsn("plain", min_protocol_version="3.2", max_protocol_version="3.2"))


def test_no_database_named_means_the_one_called_like_the_user(clients: Clients) -> None:
    """libpq sends the user's name itself, so this says it in bytes: see test_routes."""
    with psycopg.connect(clients.dsn("plain", dbname="")) as connection:
        assert connection.info.dbname == "app"
        assert connection.execute("select current_database()").fetchone() == ("app",)


def test_startup_parameters_reach_the_server(clients: Clients, superuser: Superuser) -> None:
    options = "-c search_path=pg_catalog -c statement_timeout=4321"
    with psycopg.connect(
        clients.dsn("plain", application_name="e2e shop", options=options, client_encoding="LATIN1")
    ) as connection:
        assert connection.execute("show search_path").fetchone() == ("pg_catalog",)
        assert connection.execute("show statement_timeout").fetchone() == ("4321ms",)
        assert connection.info.encoding == "iso8859-1"
        assert connection.execute("select 'é'::text").fetchone() == ("é",)
        pid = connection.info.backend_pid
        seen = superuser.execute(
            "select usename, application_name, datname from pg_stat_activity where pid = %s", (pid,)
        )
        assert seen.fetchone() == ("app", "e2e shop", "app")


def test_names_inside_options_are_in_the_audit_and_values_are_not(clients: Clients) -> None:
    with psycopg.connect(clients.dsn("plain", options="-c search_path=pg_catalog", application_name="noted")):
        pass
    line = audit_line(clients.bridge, "proxy", notes={"application_name": "noted", "options": "search_path"})
    assert line["event"] in ("session.start", "session.end")


def test_upstream_is_on_tls_whatever_the_client_side_is(clients: Clients, superuser: Superuser) -> None:
    with psycopg.connect(clients.dsn("plain")) as connection:
        row = superuser.execute(
            "select ssl, version from pg_stat_ssl where pid = %s", (connection.info.backend_pid,)
        ).fetchone()
    assert row == (True, "TLSv1.3")


def test_a_session_that_the_server_ends_ends_at_the_client(clients: Clients, superuser: Superuser) -> None:
    with psycopg.connect(clients.dsn("plain"), autocommit=True) as connection:
        superuser.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(errors.AdminShutdown):
            connection.execute("select 1")
        assert connection.info.transaction_status is pq.TransactionStatus.UNKNOWN


def test_a_client_that_leaves_without_goodbye_frees_its_server_connection(
    clients: Clients, superuser: Superuser
) -> None:
    connection = psycopg.connect(clients.dsn("tls"))
    pid = connection.info.backend_pid
    connection.pgconn.finish()
    deadline = time.monotonic() + PATIENCE_SECONDS
    gone = "select count(*) from pg_stat_activity where pid = %s"
    while superuser.execute(gone, (pid,)).fetchone() != (0,):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    connection.close()
