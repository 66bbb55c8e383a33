"""From an endpoint to a connected socket: the `dial` map, DNS, TCP. Errors name what usually causes them."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.errors import Refused, Side
from proxy.net.sessions import Address
from proxy.net.transport import Link
from tollbridge.model import Endpoint
from tollbridge.reasons import Reason

CONNECT_SECONDS: Final = 5.0

KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 90_000),
)
"""A peer that vanished without a FIN is noticed after 90 s, whether we were waiting or writing. AWS load balancers and
NAT gateways forget silent connections after 350 s, so 60 s also keeps a living one known to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of reaching a database, for `tollbridge-proxy check`."""

    name: str
    """dns, tcp or tls."""
    detail: str
    seconds: float


class Observer(Protocol):
    """Sees each step that succeeded; a failure is raised."""

    def step(self, step: Step) -> None: ...


class Dialer:
    """Connects to endpoints. A `dial` map changes where a name leads, never which name TLS expects there."""

    def __init__(self, *, dial: Mapping[str, str] | None = None, connect_seconds: float = CONNECT_SECONDS) -> None:
        """`dial`: "host:port" or "host" -> "address" or "address:port". Raises ValueError on a malformed entry."""
        self._dial = {source.lower(): _parse(target) for source, target in (dial or {}).items()}
        self._connect_seconds = connect_seconds

    def route(self, endpoint: Endpoint) -> tuple[str, int]:
        """Which host and port an endpoint is dialled at."""
        host, port = self._dial.get(str(endpoint)) or self._dial.get(endpoint.host) or (endpoint.host, 0)
        return host, port or endpoint.port

    async def connect(
        self,
        endpoint: Endpoint,
        pinned: Address | None = None,
        observer: Observer | None = None,
    ) -> tuple[Link, Address]:
        """Dial an endpoint, or the address a session of it is connected to. Raises Refused."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        if pinned is not None:
            addresses = [pinned]
        else:
            addresses = await self._resolve(endpoint)
            if observer is not None:
                found = ", ".join(str(address) for address in addresses)
                observer.step(Step(name="dns", detail=found, seconds=loop.time() - started))
        deadline = loop.time() + self._connect_seconds
        error: OSError | None = None
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            started = loop.time()
            try:
                # Each address gets its share of what is left, so that a dead first one does not use up all of it.
                link = await self._dial_one(address, (deadline - started) / left)
            except OSError as failed:  # TimeoutError is one
                error = failed
                continue
            if observer is not None:
                observer.step(Step(name="tcp", detail=str(address), seconds=loop.time() - started))
            return link, address
        raise self._unreachable(endpoint, addresses, error) from error

    async def _dial_one(self, address: Address, seconds: float) -> Link:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            transport, link = await loop.create_connection(lambda: Link(Side.UPSTREAM), address.host, address.port)
        sock = transport.get_extra_info("socket")
        for level, option, value in KEEPALIVE:
            sock.setsockopt(level, option, value)
        return link  # uvloop and asyncio set TCP_NODELAY themselves

    async def _resolve(self, endpoint: Endpoint) -> list[Address]:
        host, port = self.route(endpoint)
        if _is_address(host):
            return [Address(host=host, port=port)]
        try:
            async with asyncio.timeout(self._connect_seconds):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise Refused(
                Reason.UPSTREAM_TIMEOUT,
                f"DNS gave no answer for {host} in {self._connect_seconds:g} s: check this host's resolver",
            ) from error
        except (OSError, UnicodeError) as error:
            raise Refused(
                Reason.UPSTREAM_UNREACHABLE,
                f"DNS does not know {host} ({_text(error)}): check the database's endpoint, and that this host "
                "resolves names of its VPC (private hosted zone, DNS support of the peering)",
            ) from error
        return list(dict.fromkeys(Address(host=str(info[4][0]), port=port) for info in found))

    def _unreachable(self, endpoint: Endpoint, addresses: list[Address], error: OSError | None) -> Refused:
        where = f"{endpoint} ({', '.join(str(address) for address in addresses[:3])})"
        if isinstance(error, TimeoutError):
            return Refused(
                Reason.UPSTREAM_TIMEOUT,
                f"{where} did not answer within {self._connect_seconds:g} s: a security group, network ACL or missing "
                f"route usually; let this proxy's address reach port {endpoint.port}",
            )
        if isinstance(error, ConnectionRefusedError):
            return Refused(
                Reason.UPSTREAM_UNREACHABLE,
                f"{where} refused the connection: nothing listens there; check the port and that the database runs",
            )
        return Refused(
            Reason.UPSTREAM_UNREACHABLE,
            f"{where} cannot be reached ({_text(error)}): check routes, security groups and the `dial` map",
        )


def _parse(target: str) -> tuple[str, int]:
    host, colon, port = target.rpartition(":")
    if not colon or (host.count(":") and not host.endswith("]")):
        host, port = target, ""
    host = host.removeprefix("[").removesuffix("]")
    if not host or (port and not (port.isdecimal() and 1 <= int(port) <= 65535)):
        raise ValueError(f"dial target must be an address or address:port, not {target!r}")
    return host, int(port or 0)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _text(error: BaseException | None) -> str:
    return getattr(error, "strerror", None) or str(error)
