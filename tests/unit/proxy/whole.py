"""A whole proxy on loopback: the real broker API with fake grants behind it, and a PostgreSQL that is a few bytes."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from proxy.app import ProxyApp
from proxy.settings import load
from tests.contract.house import APP, PASSWORD, House, database
from tests.support.peer import Peer, serving
from tollbridge.clock import Clock
from tollbridge.process.lifecycle import Lifecycle, SystemClock

ORDERS = database("orders")
PROXY = "spiffe://td.example/proxy"


def packet(kind: bytes, body: bytes) -> bytes:
    """One message."""
    return kind + struct.pack("!I", len(body) + 4) + body


def startup(**parameters: str) -> bytes:
    """A StartupMessage."""
    body = struct.pack("!I", 196608) + b"".join(f"{k}\0{v}\0".encode() for k, v in parameters.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


READY = packet(b"Z", b"I")
GREETING = (
    packet(b"R", struct.pack("!I", 0))
    + packet(b"S", b"server_version\x0015.20\0")
    + packet(b"K", struct.pack("!II", 42, 4242))
    + READY
)
ROW = (
    packet(b"T", struct.pack("!H", 1) + b"?column?\0" + struct.pack("!IHIHIH", 0, 0, 23, 4, 0, 0))
    + packet(b"D", struct.pack("!HI", 1, 1) + b"1")
    + packet(b"C", b"SELECT 1\0")
    + READY
)


async def message(peer: Peer) -> tuple[bytes, bytes]:
    """The next message."""
    head = await peer.exactly(5)
    if len(head) < 5:
        return b"", b""
    return head[:1], await peer.exactly(struct.unpack("!I", head[1:])[0] - 4)


@dataclass
class FakePostgres:
    """Wants TLS and PASSWORD; answers every query with one row."""

    house: House
    host: str = ORDERS.endpoint.host
    rejects: int = 0
    """How many logins it refuses, whatever the password."""
    startups: list[bytes] = field(default_factory=list)

    async def serve(self, peer: Peer) -> None:
        """One connection."""
        if await peer.exactly(8) != bytes.fromhex("0000000804d2162f"):
            return
        await peer.send(b"S")
        await peer.tls(self.house.ca.server_context(self.host), server=True)
        (length,) = struct.unpack("!I", await peer.exactly(4))
        self.startups.append(await peer.exactly(length - 4))
        await peer.send(packet(b"R", struct.pack("!I", 3)))
        _, password = await message(peer)
        if self.rejects or password != PASSWORD.encode() + b"\0":
            self.rejects -= 1
            text = b'SFATAL\0VFATAL\0C28000\0MPAM authentication failed for user "app"\0\0'
            await peer.send(packet(b"E", text))
            return
        await peer.send(GREETING)
        while (await message(peer))[0] == b"Q":
            await peer.send(ROW)


@dataclass
class Whole:
    """The pieces, for tests to reach into."""

    house: House
    app: ProxyApp
    postgres: FakePostgres
    life: Lifecycle
    running: asyncio.Task[None]
    audit: Path
    clients: list[Peer] = field(default_factory=list)

    async def dial(self, listener: str = "app") -> Peer:
        """A client that has said nothing yet."""
        self.clients.append(await Peer.dial(self.app.bound_addresses[listener][1]))
        return self.clients[-1]

    async def login(self, user: str = "app", listener: str = "app") -> tuple[Peer, bytes]:
        """A client and everything the proxy said to its startup, up to ReadyForQuery or an error."""
        peer = await self.dial(listener)
        await peer.send(startup(user=user, database="shop"))
        said = b""
        while True:
            kind, body = await message(peer)
            said += kind + body
            if kind in (b"Z", b"E", b""):
                return peer, said

    async def page(self, path: str) -> tuple[int, str]:
        """A page of the admin port."""
        peer = await Peer.dial(self.app.bound_addresses["admin"][1])
        await peer.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await peer.to_end()).decode().partition("\r\n\r\n")
        peer.close()
        return int(head.split()[1]), body

    def lines(self) -> list[dict[str, Any]]:
        """The audit log so far."""
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


def configuration(house: House, folder: Path, port: int, broker: str) -> dict[str, Any]:
    """proxy.yaml as a document."""
    identity = house.identity(PROXY, name="proxy")
    files = {"cert_file": str(identity.cert_file), "key_file": str(identity.key_file)}
    return {
        "broker": {"address": broker, "tls": {**files, "ca_file": str(identity.ca_file)}},
        "listeners": [
            {"name": "app", "protocol": "postgres", "address": "127.0.0.1:0", "workload": APP, "database": "orders"},
            {
                "name": "names",
                "protocol": "postgres",
                "address": "127.0.0.1:0",
                "workload": APP,
                "route": "login_name",
            },
        ],
        "dial": {str(ORDERS.endpoint): f"127.0.0.1:{port}"},
        "trust": {"aws_rds": str(house.ca.file)},
        "admin": {"address": "127.0.0.1:0"},
        "audit": {"file": str(folder / "audit.jsonl")},
        "drain": {"seconds": 0.2},
    }


def written(folder: Path, document: dict[str, Any]) -> Path:
    """The document as a file."""
    path = folder / "proxy.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@asynccontextmanager
async def whole(
    house: House, folder: Path, *, clock: Clock | None = None, change: Callable[[dict[str, Any]], None] | None = None
) -> AsyncIterator[Whole]:
    """A proxy before a running broker API; ready when the block begins, drained when it ends."""
    postgres = FakePostgres(house)
    async with serving(postgres.serve) as server:
        document = configuration(house, folder, server.port, house.address)
        if change is not None:
            change(document)
        life = Lifecycle()
        app = ProxyApp(load(written(folder, document)).value, clock=clock or SystemClock(), lifecycle=life)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(app.run())
            made = Whole(house, app, postgres, life, running, folder / "audit.jsonl")
            async with asyncio.timeout(60):
                await app.catalog.first_sync.wait()
            try:
                yield made
            finally:
                for client in made.clients:
                    client.close()
                life.request_stop()
                async with asyncio.timeout(60):
                    await running
