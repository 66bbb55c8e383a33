"""Clients that do not read, and are many: what is kept for all of them, and how long all others wait behind them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.net.shared import trunk as trunks
from proxy.net.shared.seat import UNSENT_LIMIT, Seat
from tests.support.ca import TestCa
from tests.support.stage import proxy_stage, until
from tests.support.toy_shared import SharingToy, answer
from tests.unit.proxy.net.shared.test_trunk import flood, trunk_of
from tollbridge.reasons import Reason

DEAF = 12


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
