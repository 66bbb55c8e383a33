"""Certificates are replaced while calls run, on both sides, and no call fails."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.contract.house import APP, House, database, eventually
from tests.support.ca import TestCa
from tollbridge.client import Client, Event, RpcFailed, Upsert

pytestmark = pytest.mark.usefixtures("quick_polls")


class Load:
    """Calls that run all the time, and a watch."""

    def __init__(self) -> None:
        self.answered = 0
        self.failures: list[BaseException] = []
        self.events: list[Event] = []

    async def call(self, client: Client) -> None:
        while True:
            try:
                await client.issue_credential("orders", "app")
                self.answered += 1
            except RpcFailed as failure:
                self.failures.append(failure)

    async def watch(self, client: Client) -> None:
        try:
            async for event in client.watch_databases():
                self.events.append(event)
        except RpcFailed as failure:
            self.failures.append(failure)

    async def until(self, count: Callable[[], int], at_least: int) -> None:
        """Until something has happened so many times."""
        await eventually(lambda: count() >= at_least)

    async def more(self, calls: int) -> None:
        """Until so many more calls were answered."""
        target = self.answered + calls
        await eventually(lambda: self.answered >= target)


@asynccontextmanager
async def under_load(client: Client) -> AsyncIterator[Load]:
    load = Load()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(load.call(client)) for _ in range(8)]
        tasks.append(group.create_task(load.watch(client)))
        await load.more(50)
        yield load
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def following(house: House) -> AsyncIterator[None]:
    """The broker looks at its files."""
    assert house.watch is not None
    async with asyncio.TaskGroup() as group:
        task = group.create_task(house.watch.run())
        yield
        task.cancel()


@pytest.fixture
def other(tmp_path: Path) -> TestCa:
    (tmp_path / "other").mkdir()
    return TestCa(tmp_path / "other")


async def test_certificates_of_both_sides_rotate_twice_under_load(house: House) -> None:
    house.register(database("orders"))
    async with house.serving(), following(house), house.client() as client, under_load(client) as load:
        for turn in (1, 2):
            house.identity(APP)
            await load.until(lambda: client.moves, turn)
            await load.more(50)
            house.write(house.ca, house.ca, "server", "localhost", "127.0.0.1")
            await load.until(lambda: house.rotations, turn)
            await load.more(50)
            house.register(database("orders", description=f"{turn}"))
            await load.more(50)
        assert load.failures == []
        assert [event.database.description for event in load.events if isinstance(event, Upsert)] == ["", "1", "2"]
        async with house.client() as late:
            await late.issue_credential("orders", "app")


async def test_a_new_authority_takes_over_by_way_of_a_bundle_of_both(house: House, other: TestCa) -> None:
    """Broker and client learn to trust both, then their certificates change, then the old authority goes."""
    async with house.serving(), following(house), house.client() as client, under_load(client) as load:
        bundle = house.ca.pem + other.pem
        files = {"client": (APP,), "server": ("localhost", "127.0.0.1")}
        for name in files:
            (house.folder / f"{name}-ca.crt").write_text(bundle)
        await eventually(lambda: client.moves == 1 and house.rotations == 1)
        await load.more(20)
        for name, names in files.items():
            for suffix, content in zip(("crt", "key"), other.files(other.leaf(*names)), strict=True):
                shutil.copy(content, house.folder / f"{name}.{suffix}")
        await eventually(lambda: client.moves >= 2 and house.rotations >= 2)
        await load.more(20)
        for name in files:
            (house.folder / f"{name}-ca.crt").write_text(other.pem)
        await eventually(lambda: client.moves >= 3 and house.rotations >= 3)
        await load.more(20)
        assert load.failures == []
    assert house.watch is not None
    assert house.watch.material.ca_pem == other.pem.encode()


async def test_a_pair_that_does_not_match_is_kept_out(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async with house.serving(), following(house), house.client() as client, under_load(client) as load:
        with caplog.at_level(logging.WARNING):
            for name in ("client", "server"):
                _certificate, key = house.ca.files(house.ca.leaf(APP))
                shutil.copy(key, house.folder / f"{name}.key")
            await eventually(lambda: house.rejected >= 5)
            await eventually(lambda: len([r for r in caplog.records if "not a certificate and its" in r.message]) == 2)
        await load.more(50)
        async with Client(house.address, house.identity(APP, name="late")) as late:
            await late.issue_credential("orders", "app")
        assert (client.moves, house.rotations, load.failures) == (0, 0, [])
        complaints = [record.message for record in caplog.records if "stay in force" in record.message]
        assert len(complaints) == 2, "one warning per side, however often the files are looked at"
        # The missing halves arrive.
        house.identity(APP)
        house.write(house.ca, house.ca, "server", "localhost", "127.0.0.1")
        await eventually(lambda: client.moves == 1 and house.rotations == 1)
        await load.more(50)
        assert load.failures == []


@pytest.mark.parametrize("damage", ["remove", "empty", "garbage", "encrypted key"])
async def test_damaged_files_are_kept_out(house: House, damage: str) -> None:
    async with house.serving(), following(house), house.client() as client:
        await client.issue_credential("orders", "app")
        for name in ("client", "server"):
            path = house.folder / f"{name}.key"
            match damage:
                case "remove":
                    path.unlink()
                case "empty":
                    path.write_text("")
                case "garbage":
                    path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
                case _:
                    path.write_text(
                        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
                    )
        await eventually(lambda: house.rejected >= 3)
        await client.issue_credential("orders", "app")
        assert client.moves == 0


async def test_a_certificate_the_broker_refuses_does_not_replace_one_it_accepts(
    house: House, other: TestCa, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tollbridge.client.client._CONNECT_SECONDS", 0.3)
    async with house.serving(), house.client() as client, under_load(client) as load:
        with caplog.at_level(logging.WARNING):
            house.write(other, house.ca, "client", APP)
            await eventually(lambda: any("does not accept the new certificate" in r.message for r in caplog.records))
        await load.more(50)
        assert (client.moves, load.failures) == (0, [])
        house.identity(APP)
        await eventually(lambda: client.moves == 1)
        await load.more(50)
        assert load.failures == []


async def test_a_call_on_the_old_channel_ends_well(house: House) -> None:
    house.grants.held["slow"] = asyncio.Event()
    async with house.serving(), house.client() as client, asyncio.TaskGroup() as group:
        slow = group.create_task(client.issue_credential("slow", "app"))
        await eventually(lambda: house.grants.asked)
        house.identity(APP)
        await eventually(lambda: client.moves == 1)
        await client.issue_credential("orders", "app")
        house.grants.held["slow"].set()
        assert (await slow).decision_id == "d-1"
    assert [request.database for request in house.grants.asked] == ["slow", "orders"]


async def test_a_call_cut_off_by_a_closed_channel_is_made_again_on_the_new_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grace is longer than any deadline, so it takes a broken promise: then the call moves and is not cancelled."""
    monkeypatch.setattr("tollbridge.client.client._DRAIN_MARGIN_SECONDS", -5.0)
    house.grants.held["slow"] = asyncio.Event()
    async with house.serving(), house.client() as client, asyncio.TaskGroup() as group:
        slow = group.create_task(client.issue_credential("slow", "app"))
        await eventually(lambda: house.grants.asked)
        house.identity(APP)
        await eventually(lambda: len(house.grants.asked) == 2)
        house.grants.held["slow"].set()
        assert (await slow).decision_id == "d-1"


def test_a_client_with_files_that_do_not_match_is_not_built(house: House) -> None:
    from tollbridge.client import Identity, TlsFilesError

    files, others = house.identity(APP), house.identity(APP, name="other")
    with pytest.raises(TlsFilesError, match="not a certificate and its private key"):
        Client("localhost:1", Identity(cert_file=files.cert_file, key_file=others.key_file, ca_file=files.ca_file))
