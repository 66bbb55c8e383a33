"""What a caller sees: pages, and a watch that starts whole, follows, stays small and ends well."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from broker.access.model import Policy
from broker.api import catalog as catalog_module
from broker.api import convert
from broker.api.server import ConnectionLimits
from tests.contract.house import APP, House, PlaintextListener, database, eventually
from tollbridge.client import Client, Delete, Event, PolicyChanged, RpcFailed, Synced, Upsert
from tollbridge.model import Endpoint, TlsFacts, TlsMode, TrustStore
from tollbridge.reasons import Reason
from tollbridge.v1 import catalog_service_pb2, catalog_service_pb2_grpc


class Watcher:
    """Collects the events of one watch."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failure: RpcFailed | None = None

    async def follow(self, events: AsyncIterator[Event]) -> None:
        try:
            async for event in events:
                self.events.append(event)
        except RpcFailed as failure:
            self.failure = failure

    @property
    def is_synced(self) -> bool:
        return any(isinstance(event, Synced) for event in self.events)


@asynccontextmanager
async def serving(catalog: catalog_service_pb2_grpc.CatalogServiceServicer) -> AsyncIterator[str]:
    """Its address."""
    server = grpc.aio.server()
    catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def watching(client: Client) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watcher.follow(client.watch_databases()))
        await eventually(lambda: watcher.is_synced or watcher.failure)
        yield watcher
        task.cancel()


async def test_the_list_comes_in_order_and_whole_over_many_pages(house: House) -> None:
    entries = [database(f"db-{number:04}") for number in range(450)]
    house.register(*reversed(entries), database("hidden"))
    async with house.serving(), house.client() as client:
        assert await client.list_databases() == entries


async def test_every_fact_survives_the_wire(house: House) -> None:
    entry = database(
        "orders",
        description="Bestellungen — ß",
        labels={"env": "prod", "": "x"},
        server_version="8.0.36",
        endpoint=Endpoint(host="orders.internal", port=6432),
        tls=TlsFacts(mode=TlsMode.VERIFY_CA, trust_store=TrustStore.INLINE, server_name="n", ca_pem="PEM"),
    )
    house.register(entry)
    async with house.serving(), house.client() as client:
        assert await client.list_databases() == [entry]


async def test_a_page_ends_before_it_grows_too_large(house: House) -> None:
    entries = [database(f"db-{number}", tls=TlsFacts(ca_pem="x" * 700_000)) for number in range(6)]
    house.register(*entries)
    async with house.serving(), house.client() as client:
        assert await client.list_databases() == entries


@pytest.mark.parametrize(("size", "token"), [(-1, ""), (0, "!"), (0, "ÿ"), (10, "////")])
async def test_a_bad_page_is_an_invalid_request(house: House, size: int, token: str) -> None:
    request = catalog_service_pb2.ListDatabasesRequest(page_size=size, page_token=token)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(house.serving(PlaintextListener("127.0.0.1:0", APP)))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(house.address))
        stub: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListDatabases(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watch_starts_whole_and_follows(house: House) -> None:
    house.register(database("a"), database("b"), database("hidden"))
    async with house.serving(), house.client() as client, watching(client) as watcher:
        assert watcher.events == [Upsert(database("a"), "p1"), Upsert(database("b"), "p1"), Synced("p1")]
        changed = database("b", region="us-east-1")
        house.register(changed, database("c"), database("hidden-2"), remove=("a",))
        await eventually(lambda: len(watcher.events) == 6)
        assert watcher.events[3:] == [Delete("a", "p1"), Upsert(changed, "p1"), Upsert(database("c"), "p1")]


async def test_an_empty_catalog_is_synced_too(house: House) -> None:
    async with house.serving(), house.client() as client, watching(client) as watcher:
        assert watcher.events == [Synced("p1")]


async def test_a_new_policy_is_news_and_may_show_and_hide_databases(house: House) -> None:
    house.register(database("a"), database("hidden"))
    async with house.serving(), house.client() as client, watching(client) as watcher:
        house.catalog._may_see = lambda _policy, _caller, facts: facts.name != "a"
        house.policy = Policy(version="p2")
        house.catalog.changed()
        await eventually(lambda: len(watcher.events) == 5)
        assert watcher.events[2:] == [PolicyChanged("p2"), Delete("a", "p2"), Upsert(database("hidden"), "p2")]


async def test_news_without_a_difference_is_no_event(house: House) -> None:
    house.register(database("a"))
    async with house.serving(), house.client() as client, watching(client) as watcher:
        house.register(database("a"))
        house.register(database("a"), database("hidden"))
        house.register(database("b"))
        await eventually(lambda: len(watcher.events) == 3)
        assert watcher.events[-1] == Upsert(database("b"), "p1")


async def test_a_slow_watcher_is_told_the_difference_once_and_costs_no_memory(house: House) -> None:
    """Its stream is not read while the registry changes 300 times by 50 KB: far more than the windows hold."""
    house.register(database("a"))
    async with house.serving(), house.client() as client, asyncio.timeout(60):
        events = client.watch_databases()
        assert [await anext(events), await anext(events)] == [Upsert(database("a"), "p1"), Synced("p1")]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        last = database("a")
        for number in range(300):
            last = database("a", description=f"{number} " + "x" * 50_000)
            house.register(last)
            await asyncio.sleep(0)
        seen = 0
        async for event in events:
            seen += 1
            if event == Upsert(last, "p1"):
                break
        grown_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        await events.aclose()  # type: ignore[attr-defined]
    assert seen < 150
    assert grown_kilobytes < 30_000


async def test_two_hundred_watchers_hear_a_change(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    # Clients and broker share one loop here, and that machine may be busy.
    monkeypatch.setattr("tollbridge.client.client._WATCH_SILENCE_SECONDS", 60.0)
    house.register(*[database(f"db-{number}") for number in range(20)])
    identity = house.identity(APP)
    async with house.serving(), AsyncExitStack() as stack, asyncio.timeout(100):
        watchers: list[Watcher] = []
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = []
        for _ in range(200):
            client = await stack.enter_async_context(Client(house.address, identity))
            watchers.append(watcher := Watcher())
            tasks.append(group.create_task(watcher.follow(client.watch_databases())))
        await eventually(lambda: all(watcher.is_synced or watcher.failure for watcher in watchers), 60)
        assert [watcher.failure for watcher in watchers if watcher.failure] == []
        house.register(database("new"))
        await eventually(lambda: all(watcher.events[-1] == Upsert(database("new"), "p1") for watcher in watchers), 30)
        assert len({id(view) for view in house.catalog._views.values()}) == 1
        for task in tasks:
            task.cancel()
    await eventually(lambda: not house.catalog._watchers)


async def test_a_stopping_broker_ends_its_watches_at_once(house: House) -> None:
    house.register(database("a"))
    async with AsyncExitStack() as stack:
        serving = house.serving(grace=30.0)
        await serving.__aenter__()
        client = await stack.enter_async_context(house.client())
        watcher = await stack.enter_async_context(watching(client))
        async with asyncio.timeout(20):
            await serving.__aexit__(None, None, None)
        await eventually(lambda: watcher.failure)
    assert watcher.failure is not None
    assert watcher.failure.reason in (Reason.BROKER_UNAVAILABLE, Reason.DRAINING)
    assert watcher.failure.retryable


async def test_a_watch_moves_to_another_broker_and_shows_only_differences(house: House) -> None:
    (house.folder / "second").mkdir()
    other = House(house.folder / "second")
    other.ca = house.ca
    # The other broker knows a little more, a little less.
    house.register(database("a"), database("b"))
    other.register(database("b"), database("c"))
    other.policy = Policy(version="p2")
    async with AsyncExitStack() as stack:
        serving = [house.serving(grace=5.0), other.serving(grace=5.0)]
        for broker in serving:
            await broker.__aenter__()
        target = f"ipv4:{house.numeric_address},{other.numeric_address}"
        client = await stack.enter_async_context(Client(target, house.identity(APP), server_name="localhost"))
        watcher = await stack.enter_async_context(watching(client))
        first = watcher.events == [Upsert(database("a"), "p1"), Upsert(database("b"), "p1"), Synced("p1")]
        await serving[0 if first else 1].__aexit__(None, None, None)
        await eventually(lambda: watcher.failure or len(watcher.events) == 6)
        assert watcher.failure is None
        if first:
            assert watcher.events[3:] == [Upsert(database("c"), "p2"), Delete("a", "p2"), PolicyChanged("p2")]
        else:
            assert watcher.events[3:] == [Upsert(database("a"), "p1"), Delete("c", "p1"), PolicyChanged("p1")]
        await serving[1 if first else 0].__aexit__(None, None, None)


class Stopping(catalog_service_pb2_grpc.CatalogServiceServicer):
    """A broker that stops: it cuts off a watch that was whole, then those it still takes, until another is there."""

    def __init__(self, cut_off: int) -> None:
        self.cut_off = cut_off
        self.opened = 0

    async def WatchDatabases(self, _request: Any, context: Any) -> AsyncIterator[Any]:
        self.opened += 1
        if 1 < self.opened <= 1 + self.cut_off:
            await context.abort(grpc.StatusCode.CANCELLED, "the server stops")
        for name in ("a", "b") if self.opened == 1 else ("b",):
            yield catalog_service_pb2.WatchDatabasesResponse(
                upsert=convert.database(database(name)), policy_version="p1"
            )
        yield catalog_service_pb2.WatchDatabasesResponse(synced=catalog_service_pb2.Synced(), policy_version="p1")
        if self.opened == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")
        await asyncio.Event().wait()


@pytest.mark.parametrize("cut_off", [0, 1, 2])
async def test_a_watch_outlives_what_a_stopping_broker_takes_and_cuts_off(cut_off: int) -> None:
    broker = Stopping(cut_off)
    async with serving(broker) as address, Client(address, None) as client, watching(client) as watcher:
        await eventually(lambda: watcher.failure or len(watcher.events) == 4)
        assert watcher.failure is None
        assert watcher.events[2:] == [Synced("p1"), Delete("a", "p1")]


async def test_a_watch_that_is_cut_off_again_and_again_has_failed() -> None:
    """And deletes nothing: nobody said that anything is gone."""
    broker = Stopping(cut_off=100)
    async with serving(broker) as address, Client(address, None) as client, watching(client) as watcher:
        await eventually(lambda: watcher.failure)
        assert watcher.failure is not None
        assert watcher.failure.reason is Reason.BROKER_UNAVAILABLE
        assert watcher.events[2:] == [Synced("p1")]
        assert broker.opened == 4


async def test_a_watch_and_calls_outlive_their_connections(house: House) -> None:
    """gRPC ends a connection at its age, and what still runs on it after a grace."""
    house.register(database("a"))
    short = ConnectionLimits(max_age_seconds=0.5, max_age_grace_seconds=0.3)
    async with house.serving(limits=short), house.client() as client, watching(client) as watcher:
        ended = 0
        while ended < 3:
            await client.issue_credential("orders", "app")
            ended = house.served["/tollbridge.v1.CatalogService/WatchDatabases"]
        house.register(database("b"))
        await eventually(lambda: len(watcher.events) == 3)
        assert watcher.failure is None
        assert watcher.events == [Upsert(database("a"), "p1"), Synced("p1"), Upsert(database("b"), "p1")]


def test_differences_are_pure() -> None:
    view = catalog_module.CallerView("p1", {})
    assert [message.WhichOneof("change") for message in catalog_module.difference(None, view)] == ["synced"]
    assert list(catalog_module.difference(view, view)) == []


async def test_a_database_newer_than_the_client_is_left_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.register(database("a"), database("odd"))
    original = convert.database

    def newer(facts: Any) -> Any:
        message = original(facts)
        if facts.name == "odd":
            message.product = 999  # type: ignore[assignment]
        return message

    monkeypatch.setattr(convert, "database", newer)
    async with house.serving(), house.client() as client, watching(client) as watcher:
        assert watcher.events == [Upsert(database("a"), "p1"), Synced("p1")]
        assert await client.list_databases() == [database("a")]
