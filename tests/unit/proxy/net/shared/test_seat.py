"""One client's part, without sockets: what is read of it, and how often it is given another connection."""

from __future__ import annotations

from datetime import timedelta

from proxy.errors import Refused, Side
from proxy.model import Established, Location, Shared
from proxy.multiplex import SharedLogin
from proxy.net.sessions import Address, Place
from proxy.net.shared.seat import BEHIND_LIMIT, TRIES, Seat
from proxy.net.shared.trunk import Trunk
from proxy.script import Script
from tests.support.clock import FakeClock
from tests.support.toy_shared import FAR, ToyAnswers, ToySharer, farewell
from tests.support.wire import Wire
from tollbridge.model import Endpoint, TlsFacts
from tollbridge.reasons import Reason

PLACE = Place(
    location=Location(database="orders", endpoint=Endpoint(host="h", port=1), tls=TlsFacts()),
    address=Address(host="10.0.0.1", port=1),
)


def no_pin(used: bool) -> Script[Established]:
    """Nobody here asks for one."""
    raise NotImplementedError


def trunk_over(wire: Wire, clock: FakeClock | None = None) -> Trunk:
    """A shared connection."""
    login = SharedLogin(answers=ToyAnswers(), user="app", greeting=b"", retire_at=FAR + timedelta(days=1))
    return Trunk(wire.link, login, PLACE, clock=clock or FakeClock(), wanted=lambda: False, on_ended=lambda _: None)


def seat_over(wire: Wire, trunk: Trunk) -> Seat:
    """A client on it."""
    seat = Seat(wire.link, Shared(sharer=ToySharer(), farewell=farewell, pin=no_pin), lambda: None)
    seat.begin(trunk)
    return seat


async def test_a_client_that_does_not_read_is_not_read() -> None:
    client, server = Wire(Side.CLIENT), Wire(Side.UPSTREAM)
    trunk = trunk_over(server)
    seat_over(client, trunk)
    client.link.pause_writing()
    assert client.paused
    assert not server.paused  # others go on
    client.link.resume_writing()
    assert not client.paused
    trunk.close(Refused(Reason.DRAINING, ""))


async def test_what_waits_is_read_to_a_limit() -> None:
    client, server = Wire(Side.CLIENT), Wire(Side.UPSTREAM)
    trunk = trunk_over(server)
    seat = seat_over(client, trunk)
    client.hear(b"a\n?\n")
    line = b"b" * 1023 + b"\n"
    client.hear(line * (BEHIND_LIMIT // 1024 - 1))
    assert not client.paused  # so that its end would be noticed
    client.hear(line)
    assert client.paused
    trunk._flush()
    server.hear(b"=a\n")
    assert not client.paused
    assert client.written == b"=a\n~?\n"
    assert seat.waiting == BEHIND_LIMIT // 1024  # and what waited has gone out
    trunk.close(Refused(Reason.DRAINING, ""))


async def test_connections_that_end_at_once_are_not_tried_for_ever() -> None:
    client, server = Wire(Side.CLIENT), Wire(Side.UPSTREAM)
    trunk = trunk_over(server)
    seat = seat_over(client, trunk)
    server.lose()
    assert not seat.over
    client.hear(b"a\n")
    for _ in range(TRIES):
        assert seat.adrift
        assert not seat.over
        seat.sit(trunk)
    assert client.written == b"BYE UPSTREAM_CLOSED\n"
    assert (seat.ended, seat.refusal and seat.refusal.reason) == ("proxy", Reason.UPSTREAM_CLOSED)
