"""Fifty clients move 100 MB each way at once; what that adds to the proxy's memory stays within a small bound."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.sandbox.bridge import Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.daemon import Daemon
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import World
from tests.bench.contenders import running
from tests.e2e.http_clients import authorization

CLIENTS: Final = 50
BODY_BYTES: Final = 100_000_000
PIECE: Final = b"0123456789abcdef" * 16_384
BOUND_BYTES: Final = 150 * 1024 * 1024
"""What all of them together may add to the proxy's memory: 3 MiB for each client's two directions, with TLS."""
HOST: Final = "bulkbulkbulkbulkbulk.us-west-1.aoss.amazonaws.com"
DATABASE: Final = "bulk"


@pytest.fixture(scope="module")
def bulk_bridge(http_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A collection that takes and gives large bodies."""
    directory = tmp_path_factory.mktemp("bulk")
    authority = CertificateAuthority.load(Path(http_world.ca_cert_file), Path(http_world.ca_key_file))
    certificate, key = directory / "bulk.crt", directory / "bulk.key"
    authority.issue(certificate, key, dns_names=[HOST])
    port = free_port()

    def change_broker(document: dict[str, Any]) -> None:
        databases = document["db_service"]["databases"]
        like = next(entry for entry in databases if entry["name"] == "serverless-search")
        databases.append({**like, "name": DATABASE, "uri": f"{HOST}:443"})

    def change_proxy(document: dict[str, Any]) -> None:
        listeners = document["listeners"]
        like = next(row for row in listeners if row["name"] == "serverless-search")
        address = f"127.0.0.1:{listen}"
        listeners.append({**like, "name": DATABASE, "database": DATABASE, "address": address})
        document["dial"][f"{HOST}:443"] = f"127.0.0.1:{port}"

    listen = free_port()
    command = [sys.executable, "-m", "tests.support.bulk_server", str(port), str(certificate), str(key)]
    with (
        running(command, port, directory / "bulk.log"),
        Bridge(http_world, directory / "bridge", change_broker, change_proxy, ports={DATABASE: listen}) as bridge,
    ):
        yield bridge


@dataclass(slots=True)
class Peak:
    """The most memory that a daemon was seen with."""

    daemon: Daemon
    bytes: int = 0

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            self.bytes = max(self.bytes, self.daemon.resident_bytes())
            await asyncio.sleep(0.05)


async def move(port: int, up_bytes: int, down_bytes: int) -> tuple[int, int]:
    """One request; how much the server and this client have received."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 18)
    head = f"POST /{down_bytes} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization('aoss')}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {up_bytes}\r\n\r\n".encode())
    left = up_bytes
    while left:
        piece = PIECE[:left]
        writer.write(piece)
        left -= len(piece)
        await writer.drain()
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert answer.startswith("HTTP/1.1 200 "), answer
    received = int(next(line for line in answer.splitlines() if line.startswith("x-received")).split(": ")[1])
    got = 0
    while got < down_bytes:
        data = await reader.read(1 << 20)
        assert data, f"cut short after {got} bytes"
        got += len(data)
    writer.close()
    return received, got


@pytest.mark.timeout(900)
async def test_memory_stays_bounded_while_50_clients_move_100_megabytes_each_way(bulk_bridge: Bridge) -> None:
    port = bulk_bridge.ports[DATABASE]
    assert await move(port, 1000, 1000) == (1000, 1000)
    before, peak = bulk_bridge.proxy.resident_bytes(), Peak(bulk_bridge.proxy)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(peak.watch(), name="peak")
        async with asyncio.TaskGroup() as clients:
            moves = [clients.create_task(move(port, BODY_BYTES, BODY_BYTES), name="move") for _ in range(CLIENTS)]
        watching.cancel()
    assert {task.result() for task in moves} == {(BODY_BYTES, BODY_BYTES)}
    grown = peak.bytes - before
    assert grown < BOUND_BYTES, f"{grown} bytes more"


async def test_clients_that_do_not_read_hold_no_more_than_their_share(bulk_bridge: Bridge) -> None:
    """An answer of 100 MB that nobody takes waits at the server, not in the proxy."""
    before = bulk_bridge.proxy.resident_bytes()
    writers = []
    for _ in range(CLIENTS):
        _, writer = await asyncio.open_connection("127.0.0.1", bulk_bridge.ports[DATABASE], limit=1)
        request = f"GET /{BODY_BYTES} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization('aoss')}\r\n\r\n"
        writer.write(request.encode())
        writers.append(writer)
    peak = Peak(bulk_bridge.proxy)
    try:
        async with asyncio.timeout(3):
            await peak.watch()
    except TimeoutError:
        pass
    assert peak.bytes - before < BOUND_BYTES, f"{peak.bytes - before} bytes more"
    for writer in writers:
        writer.close()
