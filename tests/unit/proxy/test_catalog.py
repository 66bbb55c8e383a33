"""The catalog: what is known before, during and after the broker's streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.catalog import LAST_RETRY_SECONDS, Catalog, Listing, retry_seconds
from proxy.errors import Refused
from tests.support.clock import FakeClock
from tollbridge.client import Delete, Event, PolicyChanged, RpcFailed, Synced, Upsert
from tollbridge.model import Database, Endpoint, Product, Protocol, TlsFacts
from tollbridge.reasons import Reason

AWAY = RpcFailed(Reason.BROKER_UNAVAILABLE, "nothing listens at broker:1")


def a_database(name: str, port: int = 5432) -> Database:
    """A row of the list."""
    return Database(
        name=name,
        protocol=Protocol.POSTGRES,
        product=Product.RDS,
        endpoint=Endpoint(host=f"{name}.example", port=port),
        tls=TlsFacts(),
        region="us-west-1",
        account_id="222222222222",
    )


def upsert(name: str, version: str = "v1", port: int = 5432) -> Upsert:
    """A database that is new or has changed."""
    return Upsert(a_database(name, port), version)


class ScriptedBroker:
    """Each watch plays the next list: events, then its end. After the last the tests' watch is over."""

    def __init__(self, *streams: list[Event | RpcFailed]) -> None:
        self._streams = list(streams)
        self.over = asyncio.Event()

    async def watch_databases(self) -> AsyncIterator[Event]:
        """One stream."""
        if not self._streams:
            self.over.set()
            await asyncio.get_running_loop().create_future()
        for event in self._streams.pop(0):
            if isinstance(event, RpcFailed):
                raise event
            yield event


class Watching:
    """Runs a catalog over scripted streams and notes how long it would have slept."""

    def __init__(self, *streams: list[Event | RpcFailed], seconds_each: float = 0.0) -> None:
        self.clock = FakeClock()
        self.broker = ScriptedBroker(*streams)
        self.slept: list[float] = []
        self.seen: list[tuple[bool, bool]] = []
        self.catalog = Catalog(self.broker, self.clock, sleep=self._sleep, draw=lambda: 0.0)
        self._seconds_each = seconds_each

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seen.append((self.catalog.ready, self.catalog.connected))
        self.clock.advance(seconds)

    async def to_the_end(self) -> Catalog:
        """Every stream has been played."""
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self.catalog.run())
            await self.broker.over.wait()
            running.cancel()
        return self.catalog


def refusal(catalog: Catalog, name: str) -> Refused:
    """Why a name cannot be located."""
    with pytest.raises(Refused) as caught:
        catalog.locate(name)
    return caught.value


async def test_before_the_first_sync_nobody_knows() -> None:
    """An unknown name is then the broker's absence, not the client's mistake; what was heard already holds."""
    catalog = await Watching([upsert("orders"), AWAY]).to_the_end()
    assert not catalog.ready
    assert not catalog.first_sync.is_set()
    assert catalog.locate("orders").endpoint.host == "orders.example"
    unknown = refusal(catalog, "billing")
    assert unknown.reason is Reason.BROKER_UNAVAILABLE
    assert AWAY.message in unknown.message


async def test_after_the_first_sync_an_unknown_name_is_unknown() -> None:
    """With the nearest name as a hint."""
    catalog = await Watching([upsert("orders"), Synced("v1"), AWAY]).to_the_end()
    assert catalog.ready
    assert catalog.first_sync.is_set()
    near, far = refusal(catalog, "order"), refusal(catalog, "x" * 5000)
    assert near.reason is far.reason is Reason.DATABASE_UNKNOWN
    assert "did you mean 'orders'?" in near.message
    assert "proxies:" in far.message
    assert len(far.message) < 300


async def test_while_the_broker_is_away_the_last_list_stands() -> None:
    """Ready, and not connected."""
    watching = Watching([upsert("orders"), Synced("v1"), AWAY], [AWAY], [AWAY])
    catalog = await watching.to_the_end()
    catalog.locate("orders")
    assert watching.seen == [(True, False)] * 3
    assert catalog.trouble == AWAY.message
    assert catalog.breaks == 3


async def test_what_a_new_stream_does_not_repeat_is_gone_at_its_synced() -> None:
    """Not before, and not when that stream breaks early."""
    first: list[Event | RpcFailed] = [upsert("orders"), upsert("billing"), Synced("v1"), AWAY]
    cut_short = await Watching(first, [upsert("orders"), AWAY]).to_the_end()
    cut_short.locate("billing")
    whole = await Watching(first, [upsert("orders", port=6432), Synced("v1")]).to_the_end()
    assert whole.locate("orders").endpoint.port == 6432
    assert refusal(whole, "billing").reason is Reason.DATABASE_UNKNOWN
    assert len(whole) == 1


async def test_changes_hold_at_once() -> None:
    """Upserts, deletes and policy versions after the sync."""
    catalog = await Watching(
        [
            upsert("orders"),
            Synced("v1"),
            upsert("billing"),
            Delete("orders", "v1"),
            PolicyChanged("v2"),
            Delete("never there", "v2"),
        ]
    ).to_the_end()
    catalog.locate("billing")
    assert refusal(catalog, "orders").reason is Reason.DATABASE_UNKNOWN
    assert catalog.policy_version() == "v2"


async def test_waits_grow_until_a_stream_lives() -> None:
    """Half of each step here, because the draw is 0."""
    failing: list[list[Event | RpcFailed]] = [[AWAY] for _ in range(10)]
    watching = Watching(*failing)
    await watching.to_the_end()
    assert watching.slept[:4] == [0.1, 0.2, 0.4, 0.8]
    assert watching.slept[-1] == LAST_RETRY_SECONDS / 2


def test_retries_are_spread_over_half_their_step() -> None:
    """Proxies do not come back at once."""
    assert retry_seconds(1, 0.0) == pytest.approx(0.1)
    assert retry_seconds(1, 1.0) == pytest.approx(0.2)
    assert retry_seconds(10_000, 1.0) == LAST_RETRY_SECONDS


async def test_a_bug_in_the_watch_does_not_end_the_process(caplog: pytest.LogCaptureFixture) -> None:
    """Sessions that run must not pay for it; the log has it."""

    class Broken:
        def __init__(self) -> None:
            self.calls = 0

        async def watch_databases(self) -> AsyncIterator[Event]:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError
            yield upsert("orders")
            yield Synced("v1")
            await asyncio.get_running_loop().create_future()

    async def no_sleep(_: float) -> None:
        return

    catalog = Catalog(Broken(), FakeClock(), sleep=no_sleep)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(catalog.run())
        await catalog.first_sync.wait()
        assert catalog.connected
        running.cancel()
    assert "ZeroDivisionError" in caplog.text


def test_an_event_without_a_version_changes_none() -> None:
    """An older broker may leave it out."""
    listing = Listing()
    listing.apply(Synced("v1"))
    listing.apply(upsert("orders", version=""))
    assert listing.policy_version == "v1"


def test_what_a_decision_rests_on_changes_with_the_row_and_the_policy_alone() -> None:
    """A stream that starts again and says the same changes nothing; a database that went and came again does."""
    listing = Listing()
    nothing = listing.basis("orders")
    for event in (upsert("orders"), upsert("other"), Synced("v1")):
        listing.apply(event)
    first = listing.basis("orders")
    assert first != nothing
    listing.begin()
    for event in (upsert("orders"), Synced("v1")):
        listing.apply(event)
    assert listing.basis("orders") == first
    assert listing.basis("other") != first
    listing.apply(Delete("orders", "v1"))
    gone = listing.basis("orders")
    listing.apply(upsert("orders"))
    assert len({first, gone, listing.basis("orders")}) == 3
    listing.apply(Synced("v2"))
    assert listing.basis("orders") not in {first, gone}
