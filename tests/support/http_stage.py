"""An HTTP listener on loopback between raw clients and a scripted server over TLS, with fake grants."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from proxy.engines import HTTP_ENGINES
from proxy.errors import Refused
from proxy.model import Door, Location, SealedGrant
from proxy.net.bind import TcpBind
from proxy.net.counters import Counters
from proxy.net.dial import Dialer
from proxy.net.driver import Services
from proxy.net.events import RequestDone
from proxy.net.gate import Gate
from proxy.net.http.house import HttpCounters, HttpLimits
from proxy.net.http.listener import HttpListener
from proxy.net.http.pool import PoolLimits
from proxy.net.identity import ClientCertificates, ClientTls, ClientTlsFiles
from proxy.net.sessions import Sessions
from proxy.net.tls import UpstreamTls
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.peer import Peer, Server, serving
from tests.support.proofs import NoProofs
from tests.support.toy import ListLog
from tollbridge.model import Credential, Endpoint, SigningKey, TlsFacts, TrustStore
from tollbridge.secret import Secret

HOSTS = {
    "dynamodb": "dynamodb.eu-central-1.amazonaws.com",
    "es": "search-shop-abc.eu-central-1.es.amazonaws.com",
    "aoss": "abc.eu-central-1.aoss.amazonaws.com",
}
APP = "spiffe://td/app"
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


class Log(ListLog):
    """Requests too."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[RequestDone] = []

    def on_request(self, event: RequestDone) -> None:
        self.requests.append(event)


class KeyGrants(NoProofs):
    """A `Grants`: every time another session, unless `refusal` is set."""

    def __init__(self, location: Location, service: str) -> None:
        self.location = location
        self.service = service
        self.refusal: Refused | None = None
        self.asked: list[tuple[str, str]] = []
        """db_user and rejected credential."""
        self.generation = 1
        self.hold: asyncio.Event | None = None

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
    ) -> tuple[SealedGrant, Credential]:
        """Keys of three days; a new session when the old one was rejected."""
        self.asked.append((db_user, rejected))
        if self.hold is not None:
            await self.hold.wait()
        if self.refusal is not None:
            raise self.refusal
        if rejected == f"c{self.generation}":
            self.generation += 1
        grant = SealedGrant(
            location=self.location,
            decision_id=f"d{len(self.asked)}",
            credential_id=f"c{self.generation}",
            user=db_user,
            reused=False,
        )
        return grant, self.key()

    def key(self) -> SigningKey:
        """Of the session of now."""
        days = ("20260114", "20260115", "20260116")
        return SigningKey(
            access_key_id=f"ASIAGENERATION{self.generation:06}",
            session_token=Secret(f"token-{self.generation}"),
            region="eu-central-1",
            service=self.service,
            keys={day: Secret(hmac.digest(b"k", f"{day}{self.generation}".encode(), "sha256").hex()) for day in days},
        )


@dataclass
class Request:
    """As the server saw it."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def generation(self) -> str:
        """Whose key signed it."""
        match = re.search(r"ASIAGENERATION0*(\d+)/(\d+)/", self.headers.get("authorization", ""))
        return match[1] if match else ""


async def read_request(peer: Peer) -> Request | None:
    """One request, or None at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await peer.receive(1)
        if not byte:
            return None
        head += byte
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = await read_chunks(peer)
    else:
        body = await exactly(peer, int(headers.get("content-length", 0)))
    return Request(first, headers, body)


async def exactly(peer: Peer, count: int) -> bytes:
    """That many bytes, or fewer at the end; not slower for being many."""
    data = bytearray()
    while len(data) < count and (part := await peer.receive(min(65536, count - len(data)))):
        data += part
    return bytes(data)


async def read_chunks(peer: Peer) -> bytes:
    """A chunked body."""
    body = b""
    while True:
        line = b""
        while not line.endswith(b"\r\n"):
            byte = await peer.receive(1)
            if not byte:
                raise EOFError(line)
            line += byte
        size = int(line, 16)
        data = await peer.exactly(size + 2)
        body += data[:-2]
        if not size:
            return body


@dataclass
class Answer:
    """Of the proxy."""

    status: int
    headers: dict[str, str]
    body: bytes


async def read_answer(peer: Peer, *, bodiless: bool = False) -> Answer:
    """One answer. Raises EOFError when it is cut short."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await peer.receive(1)
        if not byte:
            raise EOFError(head.decode("latin-1"))
        head += byte
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split()[1])
    if bodiless or status in (100, 204, 304):
        return Answer(status, headers, b"")
    if headers.get("transfer-encoding") == "chunked":
        return Answer(status, headers, await read_chunks(peer))
    length = int(headers["content-length"])
    body = await exactly(peer, length)
    if len(body) < length:
        raise EOFError(f"{len(body)} of {length} bytes")
    return Answer(status, headers, body)


def answer(body: bytes = b"{}", status: int = 200, *headers: str) -> bytes:
    """What a server says."""
    lines = [f"HTTP/1.1 {status} Word", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


Behave = Callable[["Upstream", Peer, Request], Awaitable[None]]


async def just_answers(upstream: Upstream, peer: Peer, request: Request) -> None:
    """200."""
    await peer.send(answer())


@dataclass
class Upstream:
    """The server. `behave` answers each request."""

    behave: Behave = just_answers
    requests: list[Request] = field(default_factory=list)
    connections: int = 0


@dataclass
class HttpStage:
    """The pieces, for tests to reach into."""

    ca: TestCa
    listener: HttpListener
    server: Server
    upstream: Upstream
    log: Log
    grants: KeyGrants
    clock: FakeClock
    http: HttpCounters
    clients: list[Peer] = field(default_factory=list)

    async def dial(self, *, receive_buffer: int = 0) -> Peer:
        """A client that has said nothing yet; closed at the end."""
        self.clients.append(await Peer.dial(self.listener.port, receive_buffer=receive_buffer))
        return self.clients[-1]

    async def ask(self, data: bytes, *, bodiless: bool = False) -> Answer:
        """One request on a connection of its own."""
        client = await self.dial()
        await client.send(data)
        return await read_answer(client, bodiless=bodiless)


def call(body: bytes = b"{}", target: str = "DynamoDB_20120810.GetItem", *headers: str, user: str = "reader") -> bytes:
    """What an SDK for DynamoDB sends."""
    lines = [
        "POST / HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/x-amz-json-1.0",
        f"X-Amz-Target: {target}",
        f"Authorization: AWS4-HMAC-SHA256 Credential={user}/20260115/x/dynamodb/aws4_request, Signature=00",
        *headers,
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def http_stage(
    ca: TestCa,
    behave: Behave = just_answers,
    *,
    service: str = "dynamodb",
    limits: HttpLimits | None = None,
    pool: PoolLimits | None = None,
    gate: Gate | None = None,
    audited: bool = False,
    max_connections: int = 1000,
    client_certificates: ClientCertificates | None = None,
    **door: Any,
) -> AsyncIterator[HttpStage]:
    """A running listener; drained at the end."""
    host = HOSTS[service]
    names = [host, f"streams.{host}"]
    context = ca.server_context(*names)
    upstream = Upstream(behave)

    async def serve(peer: Peer) -> None:
        await peer.tls(context, server=True)
        upstream.connections += 1
        while (request := await read_request(peer)) is not None:
            upstream.requests.append(request)
            await upstream.behave(upstream, peer, request)

    clock, log, http = FakeClock(NOON), Log(), HttpCounters()
    facts = TlsFacts(trust_store=TrustStore.INLINE, ca_pem=ca.pem)
    settings: dict[str, Any] = {
        "name": "main",
        "tls_available": False,
        "tls_required": False,
        "workload": APP,
        "database": "shop",
    }
    async with serving(serve) as server:
        location = Location(database="shop", endpoint=Endpoint(host=host, port=443), tls=facts)
        grants = KeyGrants(location, service)
        services = Services(
            grants=grants,
            catalog=None,  # type: ignore[arg-type]  # nobody locates
            dialer=Dialer(dial=dict.fromkeys(names, f"127.0.0.1:{server.port}"), connect_seconds=1.0),
            upstream_tls=UpstreamTls(),
            sessions=Sessions(),
            clock=clock,
            gate=gate or Gate(),
        )
        client_tls = None
        if client_certificates is not None:
            certificate, key = ca.files(ca.leaf("proxy.example"))
            client_tls = ClientTls(
                ClientTlsFiles(certificate=certificate, key=key, client_ca=ca.file),
                client_certificates=client_certificates,
                clock=clock,
            )
        listener = HttpListener(
            door=Door(**(settings | door)),
            engine=HTTP_ENGINES["dynamodb" if service == "dynamodb" else "opensearch"],
            where=TcpBind(host="127.0.0.1", port=0),
            services=services,
            log=log,
            counters=Counters(),
            http=http,
            max_connections=max_connections,
            limits=limits or HttpLimits(),
            pool_limits=pool or PoolLimits(),
            audited=lambda _: audited,
            client_tls=client_tls,
        )
        listener.bind()
        running = asyncio.create_task(listener.run())  # noqa: TID251 - a TaskGroup would wrap what the test raises
        await asyncio.sleep(0)
        stage = HttpStage(ca, listener, server, upstream, log, grants, clock, http)
        try:
            yield stage
        finally:
            for client in stage.clients:
                client.close()
            async with asyncio.timeout(60):
                await listener.drain(0)
                await running
