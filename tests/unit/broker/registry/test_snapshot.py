"""Merging, and what watchers are told."""

from __future__ import annotations

import asyncio
import dataclasses

from broker.model import AwsAccess, Origin, RegisteredDatabase
from broker.registry.registry import News, Registry
from broker.registry.snapshot import Snapshot, merge
from tollbridge.model import Database, Endpoint, Product, Protocol, TlsFacts
from tollbridge.secret import Secret


def database(
    name: str, *, account: str = "222222222222", origin: Origin = Origin.STATIC, port: int = 5432
) -> RegisteredDatabase:
    return RegisteredDatabase(
        facts=Database(
            name=name,
            protocol=Protocol.POSTGRES,
            product=Product.RDS,
            endpoint=Endpoint(host=f"{name}.abc.us-west-1.rds.amazonaws.com", port=port),
            tls=TlsFacts(),
            region="us-west-1",
            account_id=account,
        ),
        access=AwsAccess(partition="aws"),
        origin=origin,
    )


def test_static_beats_dynamic_beats_discovered() -> None:
    merged = merge(
        [database("a")],
        [database("a", account="333333333333", origin=Origin.DYNAMIC), database("b", origin=Origin.DYNAMIC)],
        [database("b", account="333333333333", origin=Origin.DISCOVERED)],
    )
    assert sorted(merged.by_name) == ["a", "a-rds-us-west-1-333333333333", "b", "b-rds-us-west-1-333333333333"]
    assert merged.by_name["a"].origin is Origin.STATIC
    assert merged.by_name["b"].origin is Origin.DYNAMIC
    assert [(r.wanted, r.served_as) for r in merged.renamed] == [
        ("a", "a-rds-us-west-1-333333333333"),
        ("b", "b-rds-us-west-1-333333333333"),
    ]
    assert all(name == item.name for name, item in merged.by_name.items())


def test_older_beats_newer_and_a_third_of_the_same_name_is_listed_but_not_served() -> None:
    first, second, third = (database("a", port=port) for port in (1, 2, 3))
    merged = merge([first, second, third])
    assert merged.by_name["a"] is first
    assert merged.by_name["a-rds-us-west-1-222222222222"].facts.endpoint.port == 2
    assert [r.served_as for r in merged.renamed] == ["a-rds-us-west-1-222222222222", ""]


def test_a_losers_longer_name_takes_nobodys_own_name() -> None:
    taken = database("a-rds-us-west-1-222222222222", port=9)
    merged = merge([database("a"), database("a", port=2), taken])
    assert merged.by_name[taken.name] is taken


def test_the_version_is_of_content_not_of_order() -> None:
    a, b = database("a"), database("b")
    assert merge([a, b]).version == merge([b, a]).version
    assert merge([a]).version != merge([b]).version
    other = dataclasses.replace(a, access=dataclasses.replace(a.access, external_id=Secret("x1")))
    assert merge([a]).version != merge([other]).version


def shown(news: News) -> tuple[list[str], list[str], bool]:
    return [item.name for item in news.difference.upserts], list(news.difference.deletes), news.first


async def test_a_watcher_gets_everything_then_differences() -> None:
    registry = Registry(merge([database("a"), database("b")]))
    changes = registry.changes()
    assert shown(await anext(changes)) == (["a", "b"], [], True)
    registry.replace(merge([database("b", port=1), database("c")]))
    assert shown(await anext(changes)) == (["b", "c"], ["a"], False)
    await changes.aclose()


async def test_a_slow_watcher_is_told_the_sum_of_what_it_missed() -> None:
    registry = Registry(merge([database("a")]))
    changes = registry.changes()
    await anext(changes)
    for port in range(1, 1000):
        registry.replace(merge([database("a"), database(f"x{port}")]))
    assert shown(await anext(changes)) == (["x999"], [], False)
    await changes.aclose()


async def test_nothing_is_told_while_nothing_changes() -> None:
    registry = Registry(merge([database("a")]))
    changes = registry.changes()
    await anext(changes)
    registry.replace(merge([database("a")]))
    waiting = asyncio.ensure_future(anext(changes))  # noqa: TID251 # the test is its owner
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    registry.replace(Snapshot())
    assert shown(await waiting) == ([], ["a"], False)
    await changes.aclose()


async def test_a_watcher_sees_what_it_may_and_is_asked_anew_when_the_policy_changes() -> None:
    registry = Registry(merge([database("a"), database("b")]))
    allowed = {"a"}
    changes = registry.changes(lambda item: item.name in allowed)
    assert shown(await anext(changes)) == (["a"], [], True)
    allowed.clear()
    allowed.add("b")
    registry.policy_changed()
    assert shown(await anext(changes)) == (["b"], ["a"], False)
    await changes.aclose()


async def test_closing_ends_every_watch() -> None:
    registry = Registry()
    seen = []

    async def watch() -> None:
        async for news in registry.changes():
            seen.append(news)
            registry.close()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(watch())
    assert seen
