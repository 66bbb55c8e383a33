"""The gRPC servers: one per listener, all with the same services and limits.

mTLS listener       callers are identified by their certificates, which are checked against `client_ca`
plaintext listener  loopback or unix socket only; everybody who reaches it is its one fixed caller
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from broker.api import identity
from broker.api.catalog import Catalog, CatalogServicer
from broker.api.credentials import CredentialServicer
from broker.api.interceptors import MAX_CALL_SECONDS, Guard, May, Room, RpcMetrics, nobody
from tollbridge.process.tls import TlsMaterial, TlsWatch
from tollbridge.v1 import catalog_service_pb2_grpc, credential_service_pb2_grpc

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
SERVICES: Final = (
    "tollbridge.v1.CredentialService",
    "tollbridge.v1.CatalogService",
    "tollbridge.v1.RegistryService",
    "tollbridge.v1.AccessService",
    "tollbridge.v1.DiagnosticsService",
    "tollbridge.v1.DiscoveryService",
)

AddService = Callable[[grpc.aio.Server], None]
"""Registers a servicer, such as `lambda server: add_XServicer_to_server(servicer, server)`."""

_OPTIONS: Final = (
    # Two brokers on one port would each get half of the connections, silently.
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1_000),
    # Clients may ping every 10 s, also while idle; the broker itself finds dead watchers within a minute.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 40_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one connection may take."""

    max_request_bytes: int = 256 * 1024
    max_age_seconds: float = 1800.0
    """gRPC adds a jitter of a tenth. Clients then look up their brokers again and show their certificates again."""
    max_age_grace_seconds: float = 30.0
    """What calls that still run then have left; a watch is opened again elsewhere."""


@dataclass(frozen=True, slots=True)
class TlsListener:
    """Where mTLS is spoken. The watch must have a ca_file: it says whose client certificates count."""

    host: str
    port: int
    watch: TlsWatch
    allow_dns_identity: bool = False


@dataclass(frozen=True, slots=True)
class PlaintextListener:
    """`unix:/path` or a loopback `host:port`, and who everybody there is."""

    address: str
    caller: str


Listener = TlsListener | PlaintextListener


class ListenError(Exception):
    """An address that cannot be served. The message names it."""


class ApiServers:
    """All listeners of a broker. `start()`, then `stop(grace)` once."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        *,
        credentials: CredentialServicer,
        catalog: Catalog,
        room: Room,
        metrics: RpcMetrics,
        limits: ConnectionLimits = ConnectionLimits(),
        call_seconds: float = MAX_CALL_SECONDS,
        may: May = nobody,
        more: Sequence[AddService] = (),
    ) -> None:
        """`more`: services beside those that every proxy needs; each RPC has its row in the access table."""
        self._call_seconds = call_seconds
        self._more = tuple(more)
        self._may = may
        self._options = (
            *_OPTIONS,
            ("grpc.max_receive_message_length", limits.max_request_bytes),
            ("grpc.max_connection_age_ms", int(limits.max_age_seconds * 1000)),
            ("grpc.max_connection_age_grace_ms", int(limits.max_age_grace_seconds * 1000)),
        )
        self._listeners = tuple(listeners)
        self._credentials = credentials
        self._catalog = catalog
        self._room = room
        self._metrics = metrics
        self._health = health.aio.HealthServicer()
        self._servers: list[grpc.aio.Server] = []
        self._guards: list[Guard] = []
        self.addresses: list[str] = []
        """Where each listener really listens, in their order."""

    async def start(self) -> None:
        """Bind and serve. Raises ListenError."""
        await self.set_ready(False)
        for listener in self._listeners:
            server, address = self._open(listener)
            self._servers.append(server)
            self.addresses.append(address)
        for server in self._servers:
            await server.start()

    async def set_ready(self, ready: bool) -> None:
        """What the health service answers, for '' and for each service."""
        serving = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *SERVICES):
            await self._health.set(service, serving)

    async def stop(self, grace: float) -> None:
        """Answer NOT_SERVING, end the watches, let running calls finish for `grace` seconds, close."""
        await self._health.enter_graceful_shutdown()
        # Before the servers stop: an open watch would use up the whole grace and then fail.
        self._catalog.stop()
        for guard in self._guards:
            guard.end_foreign_streams()
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(server.stop(grace), name="stop a listener")
        self._remove_sockets()

    def _open(self, listener: Listener) -> tuple[grpc.aio.Server, str]:
        identify = (
            identity.by_certificate(allow_dns=listener.allow_dns_identity)
            if isinstance(listener, TlsListener)
            else identity.fixed(listener.caller)
        )
        guard = Guard(identify, self._room, self._metrics, self._call_seconds, self._may)
        self._guards.append(guard)
        server = grpc.aio.server(interceptors=[guard], options=self._options)
        credential_service_pb2_grpc.add_CredentialServiceServicer_to_server(  # type: ignore[no-untyped-call]
            self._credentials, server
        )
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(  # type: ignore[no-untyped-call]
            CatalogServicer(self._catalog), server
        )
        for add in self._more:
            add(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        try:
            return server, self._bind(server, listener)
        except RuntimeError as error:
            where = listener.address if isinstance(listener, PlaintextListener) else f"{listener.host}:{listener.port}"
            raise ListenError(f"cannot listen on {where}: is another process there? ({error})") from error

    def _remove_sockets(self) -> None:
        for address in self.addresses:
            if address.startswith("unix:"):
                Path(address.removeprefix("unix:")).unlink(missing_ok=True)

    def _bind(self, server: grpc.aio.Server, listener: Listener) -> str:
        if isinstance(listener, TlsListener):
            host = f"[{listener.host}]" if ":" in listener.host else listener.host
            port = server.add_secure_port(f"{host}:{listener.port}", _credentials(listener.watch))
            return f"{host}:{port}"
        if listener.address.startswith("unix:"):
            _refuse_taken(listener.address)
            server.add_insecure_port(listener.address)
            return listener.address
        host, _colon, _port = listener.address.rpartition(":")
        if not _is_loopback(host.strip("[]")):
            raise ListenError(f"{listener.address}: a plaintext listener must be on loopback or a unix socket")
        return f"{host}:{server.add_insecure_port(listener.address)}"


def _refuse_taken(address: str) -> None:
    """gRPC takes a path over, whoever listens there; it shall take over only what a dead process left behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address.removeprefix("unix:"))
        except OSError:
            return
    raise ListenError(f"cannot listen on {address}: another process does")


def _credentials(watch: TlsWatch) -> grpc.ServerCredentials:
    """Credentials that follow the files: connections made after a change see the new ones."""
    lock = threading.Lock()
    fresh: grpc.ServerCertificateConfiguration | None = None

    def prepare(material: TlsMaterial) -> None:
        nonlocal fresh
        configuration = _configuration(material)
        with lock:
            fresh = configuration

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # Called on gRPC's threads at each handshake. None: nothing new.
        nonlocal fresh
        with lock:
            taken, fresh = fresh, None
        return taken

    watch.on_change(prepare)
    return grpc.dynamic_ssl_server_credentials(
        _configuration(watch.material),
        fetch,  # type: ignore[arg-type]  # None is allowed: "keep what there is"
        require_client_authentication=True,
    )


def _configuration(material: TlsMaterial) -> Any:
    if material.ca_pem is None:
        raise ListenError("an mTLS listener needs client_ca: the CA that signs its callers' certificates")
    return grpc.ssl_server_certificate_configuration(
        [(material.key_pem.reveal().encode(), material.cert_pem)], root_certificates=material.ca_pem
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
