"""Clients that do not read, and are many: what is kept for all of them, and how long all others wait behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import Refused, Side
from proxy.net.shared import trunk as trunks
from proxy.net.shared.seat import UNSENT_LIMIT, Seat
from tests.support.ca import TestCa
from tests.support.stage import proxy_stage, until
from tests.support.toy_shared import SharingToy, answer
from tests.support.wire import Wire
from tests.unit.proxy.net.shared.test_seat import seat_over, trunk_over
from tests.unit.proxy.net.shared.test_trunk import flood, trunk_of
from tollbridge.reasons import Reason

DEAF = 12
HUNDREDS = 300


async def test_the_more_do_not_read_the_less_is_kept_for_each(ca: TestCa, tmp_path: Path) -> None:
    """A thousand of them are not a gigabyte."""
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        for _ in range(3):
            await stage.login()
        trunk = trunk_of(stage)
        one, two, three = trunk._seats
        whole = trunks.UNSENT_ALL_LIMIT
        assert [trunk.share(seat) for seat in (one, one, two, three)] == [whole, whole, whole // 2, whole // 3]
        trunk.reads(two)
        assert trunk.share(one) == whole // 2
        three.finish("client")
        assert trunk.share(one) == whole
        trunk._unread.update(Seat(one.client, one._shared, lambda: None) for _ in range(10_000))
        assert trunk.share(one) == trunks.UNSENT_LEAST


async def test_a_client_has_to_read_when_its_share_is_full(
    ca: TestCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trunks, "UNSENT_ALL_LIMIT", trunks.UNSENT_LEAST)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=flood) as stage:
        stuck = await stage.login(receive_buffer=4096)
        await stuck.send(b"16\n")
        trunk = trunk_of(stage)
        await until(lambda: trunk._stalled)
        (seat,) = trunk._stalled
        assert trunks.UNSENT_LEAST < seat.client.unsent_bytes < UNSENT_LIMIT / 2


async def test_many_clients_that_do_not_read_hold_up_others_no_longer_than_two(
    ca: TestCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One behind the other: each with its five seconds they would hold up the rest for as long as they like."""
    monkeypatch.setattr(trunks, "STALL_SECONDS", 1.0)
    monkeypatch.setattr(trunks, "STALL_ALL_SECONDS", 1.0)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=flood) as stage:
        for _ in range(DEAF):
            stuck = await stage.login(receive_buffer=4096)
            await stuck.send(b"6\n")
        waits = await stage.login()
        await waits.send(b"0\n")
        async with asyncio.timeout(DEAF * 0.6):
            assert await waits.exactly(2) == b"=\n"
        await until(lambda: len(stage.log.ends) == DEAF)
        assert {end.reason for end in stage.log.ends} == {Reason.CLIENT_PROTOCOL}


class Hands:
    """A loop's clock, which the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Hands:
        self._due.append((self.now + seconds, callback))
        return self

    def cancel(self) -> None:
        """The handle's part: what it was for is over."""

    def go_on(self) -> None:
        """To what is due next."""
        (self.now, callback), *self._due = sorted(self._due, key=lambda row: row[0])
        callback()


class Hall:
    """A connection, and who stalls it one behind the other."""

    def __init__(self) -> None:
        self.trunk = trunk_over(Wire(Side.UPSTREAM))
        self.trunk._timer.cancel()
        self.trunk._loop = self.hands = Hands()  # type: ignore[assignment]

    def stall(self, *, reads: bool = False) -> float:
        """For so many seconds one more is waited for, who reads a little now and then or does not."""
        wire = Wire(Side.CLIENT)
        seat = seat_over(wire, self.trunk)
        seat.waiting, wire.unread, began = 1, 1000, self.hands.now
        self.trunk.stall(seat)
        while not seat.over:
            wire.unread -= reads
            self.hands.go_on()
        return self.hands.now - began


async def test_hundreds_of_clients_that_do_not_read_hold_up_those_behind_them_for_seconds() -> None:
    """Who waits already cannot go elsewhere. In the next minute all begins anew."""
    hall = Hall()
    waited = [hall.stall() for _ in range(HUNDREDS)]
    assert waited[:2] == [trunks.STALL_SECONDS] * 2
    assert waited[2:] == pytest.approx([trunks.STALL_DEAF_SECONDS] * (HUNDREDS - 2))
    assert sum(waited) < trunks.STALL_ALL_SECONDS + 6.0
    hall.hands.now += trunks.STALL_WINDOW_SECONDS
    assert hall.stall() == trunks.STALL_SECONDS
    hall.trunk.close(Refused(Reason.DRAINING, ""))


async def test_among_them_one_that_reads_has_its_time() -> None:
    """Long, as long as all have some left, and then not as long as that."""
    hall = Hall()
    assert [hall.stall(reads=True), hall.stall()] == [trunks.STALL_SECONDS] * 2
    waited = [hall.stall(reads=reads) for reads in (False, True, False, True)]
    assert waited == pytest.approx([trunks.STALL_DEAF_SECONDS, trunks.STALL_LEAST_SECONDS] * 2)
    hall.trunk.close(Refused(Reason.DRAINING, ""))


async def test_who_comes_need_not_wait_behind_many_who_do_not_read(
    ca: TestCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor who was there and has asked for nothing."""
    monkeypatch.setattr(trunks, "STALL_ALL_SECONDS", 0.0)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=flood) as stage:
        idle = await stage.login()
        stuck = await stage.login(receive_buffer=4096)
        await stuck.send(b"6\n")
        await until(lambda: stage.trunks.connections and not trunk_of(stage).open)
        for client in (idle, await stage.login()):
            await client.send(b"0\n")
            assert await client.exactly(2) == b"=\n"
        assert stage.database.accepted == 2
