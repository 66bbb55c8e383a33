"""asyncpg works through the proxy, with and without TLS."""

from __future__ import annotations

import asyncio
import io
import ssl
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

from tests.e2e.clients import PATIENCE_SECONDS, SIDES, Clients

pytestmark = pytest.mark.parametrize("side", SIDES)


async def connect(clients: Clients, side: str, **more: Any) -> Any:
    """An asyncpg connection that has no password to give."""
    context: ssl.SSLContext | bool = False
    if side == "tls":
        context = ssl.create_default_context(cafile=clients.bridge.file("mesh-ca.crt"))
    parts: dict[str, Any] = {"host": "localhost", "port": clients.bridge.ports["app"], "user": "app", "database": "app"}
    return await asyncpg.connect(**{**parts, "ssl": context, "passfile": None, **more})


async def test_prepared_statements_are_its_way_of_asking(clients: Clients, side: str) -> None:
    connection = await connect(clients, side)
    try:
        statement = await connection.prepare("select id, payload from readings where id = $1")
        for n in range(1, 300):
            assert (await statement.fetchrow(n))["id"] == n
        assert await connection.fetchval("select sum(id) from readings where id <= $1", 100) == 5050
    finally:
        await connection.close()


async def test_transactions_cursors_and_errors(clients: Clients, side: str) -> None:
    connection = await connect(clients, side)
    try:
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute("insert into orders values (1, 'Ada', 1)")
        async with connection.transaction():
            rows = [row["id"] async for row in connection.cursor("select id from readings order by id", prefetch=200)]
        assert rows == list(range(1, 10_001))
    finally:
        await connection.close()


async def test_copy_both_ways(clients: Clients, side: str) -> None:
    connection = await connect(clients, side)
    try:
        records = [(n, f"word {n}") for n in range(20_000)]
        await connection.execute("create temporary table t (n integer, word text)")
        await connection.copy_records_to_table("t", records=records)
        out = io.BytesIO()
        await connection.copy_from_query("select * from t order by n", output=out)
        assert out.getvalue() == b"".join(b"%d\tword %d\n" % (n, n) for n, _ in records)
    finally:
        await connection.close()


async def test_a_timeout_cancels_and_the_connection_lives_on(clients: Clients, side: str) -> None:
    connection = await connect(clients, side)
    try:
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute("select pg_sleep(60)", timeout=1.0)
        assert await connection.fetchval("select 'alive'", timeout=30) == "alive"
    finally:
        await connection.close()


async def test_a_pool_of_connections_and_notifications(clients: Clients, side: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listening = await connect(clients, side)
    pool = await asyncpg.create_pool(min_size=2, max_size=5, connect=lambda *_, **__: connect(clients, side))
    try:
        await listening.add_listener("asyncpg_news", lambda *event: heard.put_nowait(event[3]))
        values = await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(50)))
        assert values == list(range(50))
        await pool.execute("select pg_notify('asyncpg_news', 'hello')")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await heard.get() == "hello"
    finally:
        await pool.close()
        await listening.close()


async def test_a_refusal_is_the_exception_of_its_sqlstate(clients: Clients, side: str) -> None:
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError) as caught:
        await connect(clients, side, user="admin")
    assert caught.value.sqlstate == "28000"
    assert "admin" in str(caught.value)
