"""A whole proxy side on loopback: toy clients, a real listener, a toy database, real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.model import Door
from proxy.net.bind import TcpBind
from proxy.net.counters import Counters
from proxy.net.dial import Dialer
from proxy.net.driver import Services
from proxy.net.gate import Gate
from proxy.net.identity import ClientCertificates, ClientTls, ClientTlsFiles
from proxy.net.lifetime import SessionLimits
from proxy.net.listener import Limits, Listener
from proxy.net.sessions import Sessions
from proxy.net.shared.trunks import Trunks
from proxy.net.tls import UpstreamTls
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.peer import Peer, Server, serving
from tests.support.toy import ListLog, ToyEngine, ToyGrants
from tollbridge.model import Endpoint, TlsFacts, TrustStore

HOST = "db.example"
APP = "spiffe://td/app"


@dataclass
class Stage:
    """The pieces of one running proxy, for tests to reach into."""

    ca: TestCa
    listener: Listener
    database: Server
    log: ListLog
    counters: Counters
    grants: ToyGrants
    clock: FakeClock
    sessions: Sessions
    trunks: Trunks
    upstreams: list[Peer] = field(default_factory=list)
    """What the database accepted and logged in, in order."""
    clients: list[Peer] = field(default_factory=list)

    async def dial(self, *, receive_buffer: int = 0) -> Peer:
        """A client that has said nothing yet; closed at the end."""
        self.clients.append(await Peer.dial(self.listener.port, receive_buffer=receive_buffer))
        return self.clients[-1]

    async def login(self, login: bytes = b"app", *, encrypted: bool = False, receive_buffer: int = 0) -> Peer:
        """A client that is in."""
        client = await self.dial(receive_buffer=receive_buffer)
        if encrypted:
            await client.send(b"S")
            assert await client.receive(1) == b"S"
            await client.tls(self.ca.client_context(APP), "proxy.example")
        await client.send(bytes([len(login)]) + login)
        assert await client.exactly(3) == b"OK\n"
        return client


async def toy_login(peer: Peer, context: ssl.SSLContext, key: bytes = b"KEY1") -> bool:
    """The database's side of a login."""
    first = await peer.receive(1)
    if first == b"X":
        return False
    assert first == b"S"
    await peer.send(b"S")
    await peer.tls(context, server=True)
    password = await peer.exactly((await peer.exactly(1))[0])
    await peer.send(b"OK" + key if password.decode() == ToyGrants.PASSWORD else b"NO")
    return True


async def echo(peer: Peer) -> None:
    """Say everything again."""
    while data := await peer.receive():
        await peer.send(data)
    await peer.finish()


@contextlib.asynccontextmanager
async def proxy_stage(
    ca: TestCa,
    tmp_path: Path,
    *,
    engine: ToyEngine | None = None,
    handler: Callable[[Peer], Awaitable[None]] = echo,
    database: Callable[[Peer], Awaitable[None]] | None = None,
    database_context: ssl.SSLContext | None = None,
    tls: TlsFacts | None = None,
    limits: Limits | None = None,
    session_limits: SessionLimits | None = None,
    client_certificates: ClientCertificates = ClientCertificates.OPTIONAL,
    gate: Gate | None = None,
    **door: Any,
) -> AsyncIterator[Stage]:
    """A listener before a toy database."""
    context = database_context or ca.server_context(HOST)
    clock, log, counters, sessions = FakeClock(), ListLog(), Counters(), Sessions()
    trunks = Trunks()
    upstreams: list[Peer] = []

    async def serve(peer: Peer) -> None:
        if await toy_login(peer, context):
            upstreams.append(peer)
            await handler(peer)

    certificate, key = ca.files(ca.leaf("proxy.example"))
    settings: dict[str, Any] = {
        "name": "main",
        "tls_available": True,
        "tls_required": False,
        "workload": APP,
        "database": "orders",
    }
    async with serving(database or serve) as server:
        facts = tls or TlsFacts(trust_store=TrustStore.INLINE, ca_pem=ca.pem)
        grants = ToyGrants(Endpoint(host=HOST, port=5432), facts)
        services = Services(
            grants=grants,
            catalog=grants,
            dialer=Dialer(dial={HOST: f"127.0.0.1:{server.port}"}, connect_seconds=10.0),
            upstream_tls=UpstreamTls(),
            sessions=sessions,
            clock=clock,
            gate=gate or Gate(),
            trunks=trunks,
        )
        listener = Listener(
            door=Door(**(settings | door)),
            engine=engine or ToyEngine(),
            where=TcpBind(host="127.0.0.1", port=0),
            services=services,
            log=log,
            counters=counters,
            limits=limits or Limits(handshake_seconds=5.0),
            client_tls=ClientTls(
                ClientTlsFiles(certificate=certificate, key=key, client_ca=ca.file),
                client_certificates=client_certificates,
                clock=clock,
            ),
            session_limits=session_limits or SessionLimits(),
        )
        listener.bind()
        running = asyncio.create_task(listener.run())  # noqa: TID251 - a TaskGroup would wrap what the test raises
        await asyncio.sleep(0)
        stage = Stage(ca, listener, server, log, counters, grants, clock, sessions, trunks, upstreams)
        try:
            yield stage
        finally:
            for client in stage.clients:
                client.close()
            async with asyncio.timeout(60):
                await listener.drain(0)
                await running
                for peer in upstreams:
                    peer.close()  # some never read, and so never see that we close
                await trunks.aclose()


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something that happens on a socket, on a machine however busy."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - sockets set no event
            await asyncio.sleep(0.002)
