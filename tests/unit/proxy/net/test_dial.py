"""From names to sockets: the dial map, addresses that fail, and messages that name the fix."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import pytest
import uvloop

from proxy.errors import Refused
from proxy.net.dial import Dialer
from proxy.net.sessions import Address
from tests.support.peer import serving
from tests.support.stage import echo
from tollbridge.model import Endpoint
from tollbridge.reasons import Reason

ORDERS = Endpoint(host="orders.example", port=5432)


@pytest.mark.parametrize(
    ("dial", "expected"),
    [
        ({}, ("orders.example", 5432)),
        ({"orders.example": "10.0.0.1"}, ("10.0.0.1", 5432)),
        ({"orders.example": "10.0.0.1:6000"}, ("10.0.0.1", 6000)),
        ({"Orders.Example:5432": "near.example:6000"}, ("near.example", 6000)),
        ({"orders.example": "10.0.0.1", "orders.example:5432": "10.0.0.2"}, ("10.0.0.2", 5432)),
        ({"orders.example:5433": "10.0.0.1"}, ("orders.example", 5432)),
        ({"orders.example": "[fd00::1]:6000"}, ("fd00::1", 6000)),
        ({"orders.example": "fd00::1"}, ("fd00::1", 5432)),
    ],
)
def test_dial_map(dial: dict[str, str], expected: tuple[str, int]) -> None:
    assert Dialer(dial=dial).route(ORDERS) == expected


@pytest.mark.parametrize("target", ["", ":5432", "host:port", "host:0", "host:70000"])
def test_malformed_dial_target(target: str) -> None:
    with pytest.raises(ValueError, match="dial target"):
        Dialer(dial={"orders.example": target})


def resolving(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Sequence[tuple[object, ...]]]) -> None:
    """Replace DNS."""

    async def getaddrinfo(_loop: object, host: str, port: int, **_: object) -> Sequence[tuple[object, ...]]:
        return answer()

    monkeypatch.setattr(uvloop.Loop, "getaddrinfo", getaddrinfo)


async def test_every_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(echo) as server:
        kinds = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        # Nothing listens on the first two.
        found = [(*kinds, (host, server.port)) for host in ("127.0.0.2", "127.0.0.3", "127.0.0.1")]
        resolving(monkeypatch, lambda: found)
        endpoint = Endpoint(host=ORDERS.host, port=server.port)
        link, address = await Dialer().connect(endpoint)
        assert address == Address(host="127.0.0.1", port=server.port)
        link.close()


async def test_unknown_name() -> None:
    with pytest.raises(Refused, match="DNS") as caught:
        await Dialer().connect(Endpoint(host="no-such-host.invalid", port=5432))
    assert caught.value.reason is Reason.UPSTREAM_UNREACHABLE
    assert "VPC" in caught.value.message


async def test_nothing_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and nobody else can listen there meanwhile
        port = sock.getsockname()[1]
        with pytest.raises(Refused, match="nothing listens") as caught:
            await Dialer(dial={ORDERS.host: f"127.0.0.1:{port}"}).connect(ORDERS)
    assert caught.value.reason is Reason.UPSTREAM_UNREACHABLE


async def test_nothing_answers() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as sock:
        port = sock.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]  # a full accept queue swallows what comes next
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        dialer = Dialer(dial={ORDERS.host: f"127.0.0.1:{port}"}, connect_seconds=0.2)
        with pytest.raises(Refused, match="security group") as caught:
            await dialer.connect(ORDERS)
        for filler in fillers:
            filler.close()
    assert caught.value.reason is Reason.UPSTREAM_TIMEOUT


async def test_a_pinned_address_is_dialled_without_asking_dns() -> None:
    async with serving(echo) as server:
        pinned = Address(host="127.0.0.1", port=server.port)
        link, address = await Dialer().connect(ORDERS, pinned)
        assert address is pinned
        link.close()
