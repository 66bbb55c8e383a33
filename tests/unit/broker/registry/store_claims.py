"""What every store keeps, whatever it is made of: run by the tests of each."""

from __future__ import annotations

import asyncio

import pytest

from broker.registry.store import Change, Conflict, Store
from tests.support.clock import FakeClock

KIND, OTHER = "db", "discovered"


async def check_revisions(store: Store) -> None:
    """A create, an update and a delete each make a revision; the next life of a name goes on from there."""
    (first,) = await store.write(KIND, [Change(name="a", document="1", expected=0)], by="alice")
    assert (first.revision, first.document, first.written_by, first.deleted) == (1, "1", "alice", False)
    (second,) = await store.write(KIND, [Change(name="a", document="2", expected=1)], by="bob")
    assert (second.revision, second.document, second.written_by) == (2, "2", "bob")
    (gone,) = await store.write(KIND, [Change(name="a", document=None, expected=2)], by="bob")
    assert (gone.revision, gone.deleted) == (3, True)
    (again,) = await store.write(KIND, [Change(name="a", document="new", expected=0)], by="carol")
    assert again.revision == 4


async def check_conflicts(store: Store) -> None:
    """A write against another revision writes nothing, not even what else was in it."""
    await store.write(KIND, [Change(name="a", document="1")], by="")
    mark = await store.mark(KIND)
    for expected in (0, 2, 7):
        with pytest.raises(Conflict) as caught:
            await store.write(
                KIND, [Change(name="b", document="x"), Change(name="a", document="2", expected=expected)], by=""
            )
        assert (caught.value.name, caught.value.found, caught.value.deleted) == ("a", 1, False)
    with pytest.raises(Conflict) as caught:
        await store.write(KIND, [Change(name="never", document="x", expected=1)], by="")
    assert (caught.value.found, caught.value.deleted) == (0, True)
    page = await store.changes(KIND, None)
    assert [item.name for item in page.items] == ["a"]
    assert await store.mark(KIND) == mark == page.mark


async def check_marks(store: Store) -> None:
    """A reader that holds a mark is told what came after it, tombstones too; another kind's writes are not its own."""
    assert await store.mark(KIND) == 0
    await store.write(KIND, [Change(name="a", document="1"), Change(name="b", document="1")], by="")
    page = await store.changes(KIND, None)
    assert (page.whole, {item.name for item in page.items}) == (True, {"a", "b"})
    await store.write(OTHER, [Change(name="z", document="1")], by="")
    assert await store.mark(KIND) == page.mark
    assert (await store.changes(KIND, page.mark)).items == ()
    await store.write(KIND, [Change(name="a", document=None)], by="")
    await store.write(KIND, [Change(name="c", document="1")], by="")
    later = await store.changes(KIND, page.mark)
    assert not later.whole
    assert [(item.name, item.deleted) for item in later.items] == [("a", True), ("c", False)]
    assert later.mark == await store.mark(KIND) > page.mark
    whole = await store.changes(KIND, None)
    assert {item.name for item in whole.items} == {"b", "c"}
    assert (await store.changes(KIND, 10**6)).whole


async def check_races(store: Store, other: Store) -> None:
    """Of two who change one revision at once, one wins; who change different names both do."""
    await store.write(KIND, [Change(name="a", document="0")], by="")

    async def attempt(writer: Store, text: str) -> str:
        try:
            await writer.write(KIND, [Change(name="a", document=text, expected=1)], by=text)
        except Conflict:
            return ""
        return text

    won = [text for text in await asyncio.gather(attempt(store, "x"), attempt(other, "y")) if text]
    assert len(won) == 1
    (item,) = (await other.changes(KIND, None)).items
    assert (item.document, item.revision) == (won[0], 2)
    await asyncio.gather(
        *(
            writer.write(KIND, [Change(name=f"n{i}", document="1")], by="")
            for i in range(3)
            for writer in (store, other)
        )
    )
    found = {item.name: item.revision for item in (await store.changes(KIND, None)).items}
    assert found == {"a": 2, "n0": 2, "n1": 2, "n2": 2}


async def check_leases(store: Store, other: Store, clock: FakeClock) -> None:
    """One holds a lease until it ends or is given back."""
    assert await store.lease("sweep", "one", 30)
    assert not await other.lease("sweep", "two", 30)
    assert await store.lease("sweep", "one", 30)
    assert await other.lease("something else", "two", 30)
    clock.advance(31)
    assert await other.lease("sweep", "two", 30)
    assert not await store.lease("sweep", "one", 30)
    assert await other.lease("sweep", "two", 0)
    assert await store.lease("sweep", "one", 30)
