"""The store in a file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.registry.sqlite import SqliteStore
from broker.registry.store import TOMBSTONE_SECONDS, Change, StoreError
from tests.support.clock import FakeClock
from tests.unit.broker.registry import store_claims as claims

KIND = claims.KIND


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "registry.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, FakeClock())
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(store: SqliteStore, path: Path) -> AsyncIterator[SqliteStore]:
    """Another process's view of the same file."""
    other = SqliteStore(path, store._clock)
    await other.open()
    yield other
    await other.close()


async def test_revisions(store: SqliteStore) -> None:
    await claims.check_revisions(store)


async def test_conflicts(store: SqliteStore) -> None:
    await claims.check_conflicts(store)


async def test_marks(store: SqliteStore) -> None:
    await claims.check_marks(store)


async def test_races(store: SqliteStore, other: SqliteStore) -> None:
    await claims.check_races(store, other)


async def test_leases(store: SqliteStore, other: SqliteStore) -> None:
    assert isinstance(store._clock, FakeClock)
    await claims.check_leases(store, other, store._clock)


async def test_the_file_is_its_owners_alone(store: SqliteStore, path: Path) -> None:
    await store.write(KIND, [Change(name="a", document="1")], by="")
    files = sorted(path.parent.iterdir())
    assert {file.name for file in files} == {"registry.db", "registry.db-shm", "registry.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_what_was_written_is_there_after_a_restart(store: SqliteStore, path: Path) -> None:
    await store.write(KIND, [Change(name="a", document="é\U0001f600")], by="alice")
    await store.close()
    later = SqliteStore(path, FakeClock())
    (item,) = (await later.changes(KIND, None)).items
    assert (item.name, item.document, item.written_by) == ("a", "é\U0001f600", "alice")
    assert item.written_at.tzinfo is not None
    await later.close()


async def test_tombstones_are_kept_for_a_while(store: SqliteStore) -> None:
    clock = store._clock
    assert isinstance(clock, FakeClock)
    await store.write(KIND, [Change(name="a", document="1")], by="")
    await store.write(KIND, [Change(name="a", document=None)], by="")
    clock.advance(TOMBSTONE_SECONDS - 1)
    await store.write(KIND, [Change(name="b", document="1")], by="")
    assert [item.name for item in (await store.changes(KIND, 0)).items] == ["a", "b"]
    clock.advance(2)
    await store.write(KIND, [Change(name="c", document="1")], by="")
    assert [item.name for item in (await store.changes(KIND, 0)).items] == ["b", "c"]


async def test_a_file_that_cannot_be_used_says_which_and_why(tmp_path: Path) -> None:
    bad = tmp_path / "bad.db"
    bad.write_bytes(b"this is no database, but long enough to be looked at" * 20)
    for path, why in ((bad, "not a database"), (tmp_path, "directory")):
        store = SqliteStore(path, FakeClock())
        with pytest.raises(StoreError, match=why) as caught:
            await store.open()
        assert str(path) in str(caught.value)
        await store.close()


async def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    store = SqliteStore(path, FakeClock())
    with pytest.raises(StoreError, match="newer tollbridge"):
        await store.open()
    await store.close()


async def test_the_loop_goes_on_while_another_process_holds_the_file(store: SqliteStore, path: Path) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(store.write(KIND, [Change(name="a", document="1")], by=""))
        for _ in range(1000):
            await asyncio.sleep(0)  # the loop turns
        assert not writing.done()
        holder.execute("ROLLBACK")
    assert writing.result()[0].revision == 1
    holder.close()


async def test_a_follower_that_asks_while_the_broker_stops_hears_that_it_is_closed(store: SqliteStore) -> None:
    """And not of a thread pool that takes no more work, which would look like a bug."""
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="is closed: the broker is stopping"):
        await store.mark(KIND)
