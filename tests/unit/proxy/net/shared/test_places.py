"""A shared connection that is only kept for the next client gives its place up to whoever waits for one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.admission import LoginLimits
from proxy.errors import Refused, Side
from proxy.net.gate import Gate
from proxy.net.shared import trunk as trunks
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.stage import proxy_stage, until
from tests.support.toy_shared import SharingToy, answer, ask, by_hand
from tests.support.wire import Wire
from tests.unit.proxy.net.shared.test_seat import seat_over, trunk_over
from tests.unit.proxy.net.shared.test_trunk import trunk_of
from tollbridge.reasons import Reason


def gate_of(places: int, wait_seconds: float = 5.0) -> Gate:
    """So many connections at the database."""
    return Gate(lambda _: LoginLimits(max_connections=places, wait_seconds=wait_seconds))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the look of each second, unless a test looks."""
    monkeypatch.setattr(trunks, "LOOK_SECONDS", 3600.0)


async def test_who_comes_gets_the_place_of_a_connection_without_clients(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(1)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate) as stage:
        for user in (b"app", b"bob", b"app"):
            client = await stage.login(user)
            await ask(client, b"a")
            await client.finish()
            assert await client.to_end() == b""
            await until(lambda: stage.trunks.clients == 0)
        assert stage.database.accepted == 3
        assert stage.trunks.connections == gate.turnstiles["orders"].open == 1


async def test_a_client_that_needs_one_of_its_own_gets_that_of_the_one_it_left(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(1)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate) as stage:
        client = await stage.login()
        await ask(client, b"a")
        await ask(client, b"!watch", b"b")
        assert stage.trunks.connections == 0
        assert gate.turnstiles["orders"].open == 1


async def test_who_waits_already_gets_the_place_when_the_last_client_leaves(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(1)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate) as stage:
        one, two = await stage.login(), await stage.login()
        async with asyncio.TaskGroup() as group:
            bob = group.create_task(stage.login(b"bob"))
            await until(lambda: gate.wanted("orders"))
            await one.finish()
            await until(lambda: stage.trunks.clients == 1)
            assert not bob.done()
            await ask(two, b"still here")
            await two.finish()
        await ask(bob.result(), b"a")
        assert gate.turnstiles["orders"].open == 1


async def test_a_connection_with_a_client_keeps_its_place(ca: TestCa, tmp_path: Path) -> None:
    """However quiet it is."""
    gate = gate_of(1, wait_seconds=0.2)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate) as stage:
        quiet = await stage.login()
        stage.clock.advance(1000)
        bob = await stage.dial()
        await bob.send(b"\x03bob")
        assert await bob.to_end() == b"ERR TOO_MANY_CONNECTIONS\n"
        trunk_of(stage).look()
        await ask(quiet, b"a")
        assert stage.database.accepted == 1


async def test_where_nobody_waits_it_is_kept(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(2)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate) as stage:
        for user in (b"app", b"bob"):
            client = await stage.login(user)
            await client.finish()
            await client.to_end()
            await until(lambda: stage.trunks.clients == 0)
        for trunk in stage.trunks._all:
            trunk.look()
        await ask(await stage.login(), b"a")
        await ask(await stage.login(b"bob"), b"a")
        assert stage.database.accepted == 2


async def test_each_who_comes_takes_one_and_the_one_that_was_not_needed_for_longest(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(3)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate) as stage:
        for user in (b"bob", b"app", b"eve"):
            client = await stage.login(user)
            stage.clock.advance(1)
            await client.finish()
            await client.to_end()
            await until(lambda: stage.trunks.clients == 0)
        await ask(await stage.login(b"dan"), b"a")
        assert {key.db_user for key in stage.trunks._trunks} == {"app", "eve", "dan"}
        await ask(await stage.login(b"kim"), b"a")
        assert {key.db_user for key in stage.trunks._trunks} == {"eve", "dan", "kim"}


async def test_a_connection_of_another_database_keeps_its_place(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate_of(1)) as stage:
        client = await stage.login()
        await client.finish()
        await client.to_end()
        await until(lambda: stage.trunks.clients == 0)
        stage.trunks.make_room("stock")
        assert stage.trunks.connections == 1
        stage.trunks.make_room("orders")
        assert trunk_of(stage).ended


async def test_answers_that_nobody_waits_for_any_more_come_first(ca: TestCa, tmp_path: Path) -> None:
    """To close with a command on its way would be to leave open whether it was carried out."""
    gate = gate_of(1)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand, gate=gate) as stage:
        client = await stage.login()
        await client.send(b"a\n")
        assert await stage.upstreams[0].receive() == b"a\n"
        client.close(reset=True)
        await until(lambda: stage.trunks.clients == 0)
        old = trunk_of(stage)
        async with asyncio.TaskGroup() as group:
            bob = group.create_task(stage.login(b"bob"))
            await until(lambda: gate.wanted("orders"))
            old.look()
            assert not old.ended
            await stage.upstreams[0].send(b"=a\n")
            await until(lambda: old.spare)
            old.look()
            assert old.ended
            stage.upstreams[0].close()
        await bob.result().send(b"b\n")
        assert await stage.upstreams[1].receive() == b"b\n"


async def test_who_is_about_to_join_is_waited_for_a_second() -> None:
    """Between the login and its first request a connection has no client, and is not only kept."""
    clock = FakeClock()
    server = Wire(Side.UPSTREAM)
    trunk = trunk_over(server, clock)
    for _ in range(2):
        assert not trunk.spare
        clock.advance(trunks.EXPECT_SECONDS)
        assert trunk.spare
        trunk.expect()
    seat = seat_over(Wire(Side.CLIENT), trunk)
    assert not trunk.spare
    seat.finish("client")
    assert trunk.spare
    trunk.close(Refused(Reason.DRAINING, ""))
    assert not trunk.spare
