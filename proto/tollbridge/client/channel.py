"""One channel to the broker: where it leads, how it retries, whom it trusts."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from typing import Any, Final

import grpc

from tollbridge.process.tls import TlsMaterial
from tollbridge.v1 import (
    access_service_pb2_grpc,
    catalog_service_pb2_grpc,
    credential_service_pb2_grpc,
    diagnostics_service_pb2_grpc,
    discovery_service_pb2_grpc,
    registry_service_pb2_grpc,
)

MAX_REQUEST_BYTES: Final = 256 * 1024
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""A grant has 2-3 KB, a page of the catalog at most 1 MB."""

_SERVICES: Final = (
    "tollbridge.v1.CredentialService",
    "tollbridge.v1.CatalogService",
    "tollbridge.v1.AccessService",
    "tollbridge.v1.DiscoveryService",
)
"""Those whose calls may be repeated."""
_REGISTRY_READS: Final = ("GetDatabase", "ListDatabases")
"""A write whose answer was lost is the operator's to see."""

_SERVICE_CONFIG: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [
                    *({"service": service} for service in _SERVICES),
                    *({"service": "tollbridge.v1.RegistryService", "method": method} for method in _REGISTRY_READS),
                ],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        # When most calls fail, stop adding retries to the load.
        "retryThrottling": {"maxTokens": 50, "tokenRatio": 0.2},
    }
)
"""The only retry towards the broker. The broker pushes back where repeating cannot help."""

_OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # Channels with different certificates must not share connections.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # A broker whose host vanished is noticed within 30 s, also by a silent watch. The server allows pings every 10 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC waits up to two minutes between attempts by default; a broker that comes back should be found sooner.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # The broker is never behind an outbound HTTP proxy, whatever the environment says.
    ("grpc.enable_http_proxy", 0),
)


def resolve_target(target: str, *, plaintext: bool) -> str:
    """`host:port` -> a gRPC target that is balanced over all addresses. Raises ValueError, naming the fix."""
    if target.startswith("unix:"):
        return target
    scheme, rest = "dns:///", target
    for known in ("dns:///", "ipv4:", "ipv6:", "xds:///"):
        if target.startswith(known):
            scheme, rest = known, target.removeprefix(known)
    host, colon, port = rest.rpartition(":")
    if "//" in rest or (scheme != "xds:///" and not (colon and host and port.isdecimal())):
        raise ValueError(f"the broker's address must be host:port, dns:///host:port or unix:/path, not {target!r}")
    if plaintext and not _is_loopback(host.strip("[]")):
        raise ValueError(
            f"without an identity the broker is reached on loopback or a unix socket only, not at {target!r}: "
            "give cert_file, key_file and ca_file"
        )
    return scheme + rest


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Lane:
    """One channel with its calls. A rotation opens a new lane, moves to it, and lets the old one drain."""

    def __init__(self, target: str, material: TlsMaterial | None, server_name: str) -> None:
        self.material = material
        options: list[tuple[str, str | int]] = list(_OPTIONS)
        if server_name:
            options.append(("grpc.ssl_target_name_override", server_name))
        if material is None:
            self.channel = grpc.aio.insecure_channel(target, options=options)
        else:
            credentials = grpc.ssl_channel_credentials(
                root_certificates=material.ca_pem,
                private_key=material.key_pem.reveal().encode(),
                certificate_chain=material.cert_pem,
            )
            self.channel = grpc.aio.secure_channel(target, credentials, options=options)
        self.credentials: Any = credential_service_pb2_grpc.CredentialServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.access: Any = access_service_pb2_grpc.AccessServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.diagnostics: Any = diagnostics_service_pb2_grpc.DiagnosticsServiceStub(  # type: ignore[no-untyped-call]
            self.channel
        )
        self.registry: Any = registry_service_pb2_grpc.RegistryServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.discovery: Any = discovery_service_pb2_grpc.DiscoveryServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self._running = 0
        self._idle = asyncio.Event()
        self._streams: set[grpc.aio.UnaryStreamCall[Any, Any]] = set()

    async def unary(self, call: Any, request: object, timeout: float) -> Any:
        """One call with a deadline; the lane stays open for it while it drains."""
        self._running += 1
        self._idle.clear()
        try:
            return await call(request, timeout=timeout)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def open_stream(self, stream: grpc.aio.UnaryStreamCall[Any, Any]) -> None:
        """A stream that ends when the lane drains, so that its reader moves."""
        self._streams.add(stream)

    def close_stream(self, stream: grpc.aio.UnaryStreamCall[Any, Any]) -> None:
        """Its reader is done with it."""
        self._streams.discard(stream)
        stream.cancel()

    @property
    def is_connected(self) -> bool:
        """Whether a connection stands."""
        return self.channel.get_state() is grpc.ChannelConnectivity.READY

    async def connect(self, seconds: float) -> bool:
        """Connect; False if that took too long or was refused all the time."""
        try:
            async with asyncio.timeout(seconds):
                await self.channel.channel_ready()
        except TimeoutError:
            return False
        return True

    async def drain(self, seconds: float) -> None:
        """End the streams, wait for the calls, close. A call still running then fails with CancelledError."""
        for stream in list(self._streams):
            stream.cancel()
        try:
            async with asyncio.timeout(seconds):
                while self._running:
                    await self._idle.wait()
        except TimeoutError:
            pass
        finally:
            await self.channel.close()
