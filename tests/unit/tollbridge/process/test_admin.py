from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tollbridge.process import admin
from tollbridge.process.admin import AdminServer


class State:
    def __init__(self) -> None:
        self.live = True
        self.ready = (True, "ready")
        self.exposition: bytes | None = b"tb_up 1\n"

    def metrics(self) -> bytes:
        if self.exposition is None:
            raise RuntimeError("the password is hunter2")
        return self.exposition


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def server(state: State) -> AsyncIterator[AdminServer]:
    async with AdminServer(
        "127.0.0.1", 0, live=lambda: state.live, ready=lambda: state.ready, metrics=state.metrics
    ) as server:
        yield server


async def ask(server: AdminServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def get(server: AdminServer, path: str, method: str = "GET") -> tuple[int, str]:
    answer = await ask(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _blank, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


async def test_live_ready_and_metrics_follow_the_process(server: AdminServer, state: State) -> None:
    assert await get(server, "/livez") == (200, "live\n")
    assert await get(server, "/readyz?verbose") == (200, "ready\n")
    assert await get(server, "/metrics") == (200, "tb_up 1\n")
    state.live, state.ready = False, (False, "waiting for the broker")
    assert await get(server, "/livez") == (503, "not live\n")
    assert await get(server, "/readyz") == (503, "waiting for the broker\n")


async def test_head_has_no_body_and_the_same_length(server: AdminServer) -> None:
    answer = await ask(server, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 8\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nope HTTP/1.1\r\n\r\n", 404),
        (b"GET /livez/../metrics HTTP/1.1\r\n\r\n", 404),
        (b"POST /livez HTTP/1.1\r\n\r\n", 405),
        (b"DELETE / HTTP/1.0\r\n\r\n", 405),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET /livez SPDY/1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nX: " + b"x" * admin.MAX_HEAD_BYTES + b"\r\n\r\n", 431),
    ],
)
async def test_anything_else_is_refused(server: AdminServer, request_bytes: bytes, status: int) -> None:
    assert int((await ask(server, request_bytes)).split()[1]) == status


async def test_a_callable_that_fails_is_a_500_without_its_text(server: AdminServer, state: State) -> None:
    state.exposition = None
    assert await get(server, "/metrics") == (500, "internal error, see the log\n")


async def test_a_client_that_says_nothing_is_dropped(server: AdminServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "REQUEST_SECONDS", 0.02)
    assert await _ends(server, b"GET /live") == b""


async def test_a_client_that_leaves_early_is_forgotten(server: AdminServer) -> None:
    _reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET /")
    writer.close()
    await writer.wait_closed()
    assert await get(server, "/livez") == (200, "live\n")


async def test_one_connection_too_many_ends_the_oldest_and_is_answered(
    server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "MAX_CONNECTIONS", 1)
    reader, first = await asyncio.open_connection(*server.address)
    first.write(b"GET /")
    async with asyncio.timeout(60):
        while not server._open:  # noqa: ASYNC110 - the server's accept offers no event
            await asyncio.sleep(0)
    assert await get(server, "/livez") == (200, "live\n")
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    first.close()


async def test_stopping_ends_open_connections() -> None:
    server = AdminServer("127.0.0.1", 0, live=lambda: True, ready=lambda: (True, ""), metrics=lambda: b"")
    await server.start()
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET /")
    async with asyncio.timeout(60):
        while not server._open:  # noqa: ASYNC110 - the server's accept offers no event
            await asyncio.sleep(0)
        await server.stop()
        await server.stop()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = server.address


async def _ends(server: AdminServer, sent: bytes) -> bytes:
    """What comes before the connection ends, by FIN or RST."""
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        writer.write(sent)
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_an_address_that_is_taken_is_named(server: AdminServer, state: State) -> None:
    host, port = server.address
    second = AdminServer(host, port, live=lambda: True, ready=lambda: state.ready, metrics=state.metrics)
    with pytest.raises(OSError, match=f"^the admin port cannot listen on {host}:{port}: Address already in use$"):
        await second.start()
