"""Counting is what keeps clients apart: whatever is said, cut, left, retired or broken, and in whichever order, each
client hears its own answers, in the order of its requests, and nothing else; news is heard by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Side
from proxy.model import Established, Location, Shared
from proxy.multiplex import SharedLogin
from proxy.net.sessions import Address, Place
from proxy.net.shared.seat import Seat
from proxy.net.shared.trunk import Trunk
from proxy.script import Script
from tests.support.clock import FakeClock
from tests.support.toy_shared import ToyAnswers, ToySharer, farewell
from tests.support.wire import Wire
from tollbridge.model import Endpoint, TlsFacts

CLIENTS = 4
STEPS = 150
PLACE = Place(
    location=Location(database="orders", endpoint=Endpoint(host="h", port=1), tls=TlsFacts()),
    address=Address(host="10.0.0.1", port=1),
)


def no_pin(used: bool) -> Script[Established]:
    """Nobody here asks for one."""
    raise NotImplementedError


class Database:
    """One connection's far end."""

    def __init__(self, ended: Callable[[Trunk], None]) -> None:
        self.wire = Wire(Side.UPSTREAM)
        self._answers = bytearray()
        """Asked for and not said, and news between."""
        far = datetime(2100, 1, 1, tzinfo=UTC)
        login = SharedLogin(answers=ToyAnswers(), user="app", greeting=b"", retire_at=far)
        self.trunk = Trunk(self.wire.link, login, PLACE, clock=FakeClock(), wanted=lambda: False, on_ended=ended)

    def answer(self, count: int) -> None:
        """Say the next bytes of what was asked for."""
        written = self.wire.written
        while (end := written.find(b"\n")) >= 0:
            self._answers += b"=" + written[: end + 1]
            del written[: end + 1]
        said = bytes(self._answers[:count])
        del self._answers[:count]
        if said:
            self.wire.hear(said)

    def tell(self, dice: Random) -> None:
        """Have news for nobody, behind any answer that is still to be said, or behind all."""
        ends = [at + 1 for at, byte in enumerate(self._answers) if byte == ord("\n")]
        if not self.wire.closed:
            at = dice.choice([*ends, len(self._answers)])
            self._answers[at:at] = b"*=news\n" * dice.randint(1, 3)


class Client:
    """One client, what it was to hear so far, and whether its connection was broken under it."""

    def __init__(self, number: int, house: House) -> None:
        self.number = number
        self.wire = Wire(Side.CLIENT)
        self.asked = 0
        self.unsaid = b""
        self.expected = bytearray()
        self._house = house
        shared = Shared(sharer=ToySharer(), farewell=farewell, pin=no_pin)
        self.seat = Seat(self.wire.link, shared, self._wake)
        self.seat.begin(house.trunk())

    def _wake(self) -> None:
        if self.seat.adrift and not self.seat.over:
            asyncio.get_running_loop().call_soon(self._rejoin)

    def _rejoin(self) -> None:
        self.seat.sit(self._house.trunk())

    def say(self, lines: int, own: int, kept: int) -> None:
        """Say some requests, the `own`th of which the proxy answers itself; `kept` bytes of them later."""
        data = self.unsaid
        for number in range(lines):
            name = b"%d.%d" % (self.number, self.asked)
            self.asked += 1
            if number == own:
                data += b"?" + name + b"\n"
                self.expected += b"~?" + name + b"\n"
            else:
                data += name + b"\n"
                self.expected += b"=" + name + b"\n"
        cut = max(0, len(data) - kept)
        self.unsaid = data[cut:]
        self.wire.hear(data[:cut])

    def check(self, *, whole: bool) -> None:
        """Its own answers in order: all of them, or where it was cut off the first of them, and at most a goodbye."""
        heard, expected = bytes(self.wire.written), bytes(self.expected)
        if whole:
            assert heard == expected
        else:
            said, bye, reason = heard.partition(b"BYE ")
            assert expected.startswith(said)
            assert not bye or (reason == b"UPSTREAM_CLOSED\n" and said[-1:] in (b"", b"\n"))


class House:
    """All of it."""

    def __init__(self) -> None:
        self.databases: list[Database] = []
        self.clients: list[Client] = []
        self._entered = 0

    def trunk(self) -> Trunk:
        """One that takes requests."""
        if not self.databases or not self.databases[-1].trunk.open:
            self.databases.append(Database(lambda _: None))
        return self.databases[-1].trunk

    def enter(self) -> Client:
        """Somebody new."""
        self._entered += 1
        return Client(self._entered, self)

    async def play(self, dice: Random) -> None:
        """Do as the dice say; then let all who are still there finish."""
        self.clients = [self.enter() for _ in range(CLIENTS)]
        for _ in range(STEPS):
            steps = {"say": 40, "answer": 40, "tell": 5, "tick": 30, "leave": 3, "retire": 3, "break": 1}
            (step,) = dice.choices(list(steps), list(steps.values()))
            if step == "tick":
                await asyncio.sleep(0)
            self._do(step, dice)
            for place, client in enumerate(self.clients):
                client.check(whole=False)
                if client.seat.over:
                    self.clients[place] = self.enter()
        for client in self.clients:
            client.say(1, -1, 0)
        for _ in range(20 + len(self.databases)):
            await asyncio.sleep(0)
            for database in list(self.databases):
                database.answer(1 << 20)
        self._check()

    def _do(self, step: str, dice: Random) -> None:
        client, database = dice.choice(self.clients), dice.choice(self.databases[-3:])
        match step:
            case "say":
                client.say(dice.randint(1, 5), dice.randint(0, 30), dice.randint(0, 12))
            case "answer":
                database.answer(dice.randint(1, 40))
            case "tell":
                database.tell(dice)
            case "leave":
                client.wire.lose()
                client.check(whole=False)
            case "retire":
                database.trunk.retire()
            case "break":
                database.wire.lose()

    def _check(self) -> None:
        """All is said, and nothing is left over."""
        for client in self.clients:
            client.check(whole=True)
            assert not client.seat.over
            assert client.seat.waiting == 0
            assert not client.seat.steps
        for database in self.databases:
            trunk = database.trunk
            assert not trunk._queue
            assert not trunk._begun
            assert not trunk._outgoing
            trunk._timer.cancel()
        assert sum(database.trunk.clients for database in self.databases) == len(self.clients)


@given(st.integers(0, 1 << 32))
def test_every_client_hears_its_own_answers_in_order(seed: int) -> None:
    """Also of a connection that takes no more requests, and while others come and go."""
    asyncio.run(House().play(Random(seed)))
