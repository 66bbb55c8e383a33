"""Following a store: told of each change once, cheaply, and never made to forget by a failure."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable
from datetime import UTC
from pathlib import Path

import pytest

from broker.registry.follower import POLL_SECONDS, Follower
from broker.registry.mirror import MirroredStore
from broker.registry.sqlite import SqliteStore
from broker.registry.store import TOMBSTONE_SECONDS, Change, StoreError
from tests.support.clock import FakeClock
from tests.unit.broker.registry.stores import FakeStore

KIND = "db"


class Enough(Exception):
    """The test has seen enough turns."""


class Reader:
    """A follower, and what it heard."""

    def __init__(self, store: FakeStore | MirroredStore, clock: FakeClock, *, jitter: float = 0.5) -> None:
        self.clock = clock
        self.heard: list[set[str]] = []
        self.waits: list[float] = []
        self.turns = 0
        self.follower = Follower(store, KIND, self._note, clock=clock, jitter=lambda: jitter, sleep=self._sleep)

    async def _note(self, names: Iterable[str]) -> None:
        self.heard.append(set(names))

    async def _sleep(self, seconds: float) -> None:
        if len(self.waits) == self.turns:
            raise Enough
        self.waits.append(seconds)
        self.clock.advance(seconds)

    async def turn(self, times: int) -> None:
        """So many looks."""
        self.turns, self.waits = times, []
        with pytest.raises(Enough):
            await self.follower.run()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(tmp_path: Path, clock: FakeClock) -> AsyncIterator[FakeStore]:
    store = FakeStore(tmp_path / "remote.db", clock)
    yield store
    await store.close()


async def write(store: FakeStore, **documents: str | None) -> None:
    changes = [Change(name=name, document=text) for name, text in documents.items()]
    await store.file.write(KIND, changes, by="")


async def test_each_change_is_heard_once_and_nothing_is_read_while_nothing_changes(
    store: FakeStore, clock: FakeClock
) -> None:
    reader = Reader(store, clock)
    await write(store, a="1", b="1")
    await reader.follower.refresh()
    assert set(reader.follower.items) == {"a", "b"}
    await write(store, a="2", b=None, c="1")
    await reader.turn(5)
    assert reader.heard == [{"a", "b"}, {"a", "b", "c"}]
    assert {name: item.document for name, item in reader.follower.items.items()} == {"a": "2", "c": "1"}
    assert store.asked == [(KIND, None), (KIND, 1)]


async def test_brokers_ask_each_second_on_average_and_not_all_at_once(store: FakeStore, clock: FakeClock) -> None:
    early, mean, late = (Reader(store, clock, jitter=jitter) for jitter in (0.0, 0.5, 0.999))
    for reader in (early, mean, late):
        await reader.turn(1)
    assert early.waits[0] < mean.waits[0] == POLL_SECONDS < late.waits[0]
    assert late.waits[0] - early.waits[0] > 0.3


async def test_a_store_that_is_away_is_asked_less_often_and_loses_nothing(store: FakeStore, clock: FakeClock) -> None:
    reader = Reader(store, clock)
    await write(store, a="1")
    await reader.follower.refresh()
    store.away = True
    await reader.turn(6)
    assert reader.waits == [1, 2, 4, 8, 10, 10]
    assert set(reader.follower.items) == {"a"}
    assert (reader.follower.trouble, reader.follower.failures) == ("it is away", 6)
    assert reader.follower.stale_seconds == 35
    store.away = False
    await write(store, b="1")
    await reader.turn(2)
    assert reader.waits[-1] == POLL_SECONDS
    assert (set(reader.follower.items), reader.follower.trouble) == ({"a", "b"}, "")


async def test_who_was_away_longer_than_tombstones_last_reads_everything(store: FakeStore, clock: FakeClock) -> None:
    """A delete whose tombstone is gone must not leave a database for ever."""
    reader = Reader(store, clock)
    await write(store, a="1", b="1")
    await reader.follower.refresh()
    await write(store, a=None)
    clock.advance(TOMBSTONE_SECONDS + 1)
    await write(store, c="1")
    await reader.follower.refresh()
    assert set(reader.follower.items) == {"b", "c"}
    assert reader.heard[-1] == {"a", "c"}
    assert store.asked[-1] == (KIND, None)


async def mirrored(store: FakeStore, copy: Path, clock: FakeClock) -> MirroredStore:
    made = MirroredStore(store, SqliteStore(copy, clock))
    await made.open()
    return made


async def test_a_broker_that_starts_without_its_store_reads_the_copy_and_catches_up(
    store: FakeStore, clock: FakeClock, tmp_path: Path
) -> None:
    await write(store, a="1", b="1")
    first = Reader(await mirrored(store, tmp_path / "copy.db", clock), clock)
    await first.follower.refresh()
    await write(store, b="2")
    await first.follower.refresh()

    store.away = True
    second = Reader(await mirrored(store, tmp_path / "copy.db", clock), clock)
    await second.follower.refresh()
    assert {name: item.document for name, item in second.follower.items.items()} == {"a": "1", "b": "2"}
    assert second.follower.loaded
    assert "its copy" in second.follower.trouble
    assert not await second.follower.try_refresh()
    store.away = False
    await write(store, a=None, c="1")
    await second.follower.refresh()
    assert set(second.follower.items) == {"b", "c"}
    assert second.heard[-1] == {"a", "c"}


async def test_without_store_and_copy_there_is_nothing_to_go_on(
    store: FakeStore, clock: FakeClock, tmp_path: Path
) -> None:
    """And an empty copy is not the claim that nothing exists."""
    store.away = True
    reader = Reader(await mirrored(store, tmp_path / "copy.db", clock), clock)
    with pytest.raises(StoreError, match="it is away"):
        await reader.follower.refresh()
    assert not reader.follower.loaded


async def test_the_copy_is_no_second_truth(store: FakeStore, clock: FakeClock, tmp_path: Path) -> None:
    """What is written goes to the shared store or nowhere."""
    both = await mirrored(store, tmp_path / "copy.db", clock)
    store.away = True
    with pytest.raises(StoreError):
        await both.write(KIND, [Change(name="a", document="1")], by="")
    with pytest.raises(StoreError):
        await both.lease("sweep", "me", 10)
    store.away = False
    assert (await both.changes(KIND, None)).items == ()


@pytest.mark.parametrize("at", ["", "yesterday", "2030-01-01", "0001-01-01T00:00:00+14:00", "2030-13-01T00:00:00Z"])
async def test_an_item_that_says_nonsense_of_when_it_was_written_is_read_like_any_other(
    tmp_path: Path, store: FakeStore, clock: FakeClock, at: str
) -> None:
    """It stands in a store that every broker reads, at every start."""
    await store.open()
    await store.write(KIND, [Change(name="a", document="1")], by="")
    with sqlite3.connect(tmp_path / "remote.db") as file:
        file.execute("UPDATE items SET written_at = ?", (at,))
    reader = Reader(store, clock)
    await reader.turn(1)
    assert reader.follower.items["a"].document == "1"
    assert reader.follower.items["a"].written_at.tzinfo is UTC
