"""The whole proxy: a login from socket to socket, readiness, drain, and the broker coming and going."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from proxy.app import ProxyApp
from proxy.settings import load
from tests.contract.house import APP, PASSWORD, House, eventually, refused
from tests.support.clock import FakeClock
from tests.unit.proxy.whole import ORDERS, ROW, configuration, message, packet, whole, written
from tollbridge.process.lifecycle import Lifecycle, SystemClock
from tollbridge.reasons import Reason


async def test_a_login_from_socket_to_socket(house: House, tmp_path: Path) -> None:
    """No password from the client, the token only upstream, bytes both ways, two audit lines that join."""
    house.register(ORDERS)
    async with house.serving(), whole(house, tmp_path) as proxy:
        client, said = await proxy.login()
        assert said.endswith(b"ZI")
        await client.send(packet(b"Q", b"select 1\0"))
        assert await client.exactly(len(ROW)) == ROW
        client.close()
        await eventually(lambda: proxy.app.counters.sessions_open == 0)
        assert b"user\0app\0database\0shop\0" in proxy.postgres.startups[0]
        assert [(asked.caller, asked.workload, asked.db_user, asked.db_name) for asked in house.grants.asked] == [
            ("spiffe://td.example/proxy", APP, "app", "shop")
        ]
    start, end = proxy.lines()
    assert (start["event"], end["event"]) == ("session.start", "session.end")
    assert start["decision_id"] == end["decision_id"] == "d-1"
    assert (start["workload"], start["db_user"], start["db_name"]) == (APP, "app", "shop")
    assert end["bytes_to_client"] == len(ROW)
    assert PASSWORD not in proxy.audit.read_text()


async def test_the_second_login_reuses_the_grant(house: House, tmp_path: Path) -> None:
    """One question, and the audit says which session rode on it."""
    house.register(ORDERS)
    async with house.serving(), whole(house, tmp_path, clock=house.grants.clock) as proxy:
        for _ in range(3):
            await proxy.login()
        _, metrics = await proxy.page("/metrics")
    assert len(house.grants.asked) == 1
    assert [line["reused"] for line in proxy.lines() if line["event"] == "session.start"] == [False, True, True]
    assert 'tollbridge_proxy_logins_total{outcome="ok"} 3.0' in metrics
    assert 'tollbridge_proxy_grant_requests_total{result="hit"} 2.0' in metrics
    assert "tollbridge_proxy_login_seconds_count 3.0" in metrics
    assert "tollbridge_proxy_sessions_open 3.0" in metrics
    assert "tollbridge_proxy_databases 1.0" in metrics


async def test_the_login_name_may_route(house: House, tmp_path: Path) -> None:
    """User app@orders."""
    house.register(ORDERS)
    async with house.serving(), whole(house, tmp_path) as proxy:
        _, said = await proxy.login(user="app@orders", listener="names")
        assert said.endswith(b"ZI")
    assert house.grants.asked[0].db_user == "app"


async def test_a_refusal_reaches_the_client_with_the_brokers_words(house: House, tmp_path: Path) -> None:
    """And the audit log, with its reason."""
    house.register(ORDERS)
    house.grants.raises["orders"] = refused(Reason.DB_USER_NOT_ALLOWED, "rule shop does not list db_user 'root'")
    async with house.serving(), whole(house, tmp_path) as proxy:
        _, said = await proxy.login(user="root")
        assert b"rule shop does not list db_user 'root'" in said
    (line,) = proxy.lines()
    assert (line["event"], line["reason"]) == ("session.refused", "DB_USER_NOT_ALLOWED")


async def test_a_refused_credential_is_asked_about_and_the_login_repeated(house: House, tmp_path: Path) -> None:
    """The client notices nothing."""
    house.register(ORDERS)
    async with house.serving(), whole(house, tmp_path) as proxy:
        proxy.postgres.rejects = 1
        _, said = await proxy.login()
        assert said.endswith(b"ZI")
    assert [asked.rejected for asked in house.grants.asked] == ["", "c-1"]


async def test_the_broker_may_go_away(house: House, tmp_path: Path) -> None:
    """Sessions go on, new logins use what was granted until it is unusable, then one clear error."""
    house.register(ORDERS)
    clock = FakeClock()
    async with house.serving(grace=0) as served:
        assert served.servers is not None
        async with whole(house, tmp_path, clock=clock) as proxy:
            client, _ = await proxy.login()
            await served.servers.stop(0)
            await eventually(lambda: not proxy.app.catalog.connected)
            assert (await proxy.page("/readyz"))[0] == 200
            clock.advance(100)  # past recheck_after
            _, said = await proxy.login()
            assert said.endswith(b"ZI")
            clock.advance(800)  # past usable_until
            _, said = await proxy.login()
            assert b"broker" in said
            assert b"C57P03" in said or b"C08" in said
            await client.send(packet(b"Q", b"select 1\0"))
            assert await client.exactly(len(ROW)) == ROW
            assert proxy.app.grants.counters.outages == 1


async def test_ready_after_the_first_list_and_not_while_draining(house: House, tmp_path: Path) -> None:
    """Readiness follows what the proxy can do."""
    house.register(ORDERS)
    async with house.serving(), whole(house, tmp_path) as proxy:
        assert await proxy.page("/readyz") == (200, "ready\n")
        client, _ = await proxy.login()
        proxy.life.request_stop()
        await eventually(lambda: proxy.life.is_draining)
        assert await proxy.page("/readyz") == (503, "draining\n")
        await client.send(packet(b"Q", b"select 1\0"))
        assert await client.exactly(len(ROW)) == ROW
        kind, body = await message(client)
        assert kind == b"E"
        assert b"57P01" in body
    ends = [line for line in proxy.lines() if line["event"] == "session.end"]
    assert [(end["ended_by"], end["reason"]) for end in ends] == [("proxy", "DRAINING")]


async def test_a_second_signal_cuts_the_drain_short(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sixty seconds were configured."""
    house.register(ORDERS)
    caplog.set_level(logging.INFO, "proxy.app")
    async with (
        house.serving(),
        whole(house, tmp_path, change=lambda document: document["drain"].update(seconds=60)) as proxy,
    ):
        client, _ = await proxy.login()
        proxy.life.request_stop()
        await eventually(lambda: "draining" in caplog.text)
        proxy.life.request_stop()
        async with asyncio.timeout(30):
            assert (await message(client))[0] == b"E"
            await proxy.running


async def test_without_a_broker_the_proxy_waits_and_says_why(house: House, tmp_path: Path) -> None:
    """Not ready, alive, and a login is told."""
    life = Lifecycle()
    document = configuration(house, tmp_path, 1, "localhost:1")
    app = ProxyApp(load(written(tmp_path, document)).value, clock=SystemClock(), lifecycle=life)
    assert app.readiness() == (False, "listeners are not bound yet")
    async with asyncio.TaskGroup() as group:
        group.create_task(app.run())
        await eventually(lambda: app.catalog.trouble)
        ready, why = app.readiness()
        life.request_stop()
    assert not ready
    assert "waiting for the broker's list of databases" in why
    assert "localhost:1" in why


async def test_a_taken_address_names_the_listener(house: House, tmp_path: Path) -> None:
    """And ends the start."""
    document = configuration(house, tmp_path, 1, "localhost:1")
    document["listeners"] = document["listeners"][:1]
    document["listeners"][0]["address"] = f"unix:{tmp_path}/missing/s"
    app = ProxyApp(load(written(tmp_path, document)).value, clock=SystemClock(), lifecycle=Lifecycle())
    with pytest.raises(OSError, match="listener 'app' cannot listen on unix:"):
        await app.run()
