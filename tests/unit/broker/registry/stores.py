"""A store in memory: behaves, remembers what was asked, and can be away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from broker.registry.sqlite import SqliteStore
from broker.registry.store import Change, Item, Page, StoreError
from tests.support.clock import FakeClock


class FakeStore:
    """Implements `broker.registry.store.Store` on a SQLite file, which the tests of that one hold to its word."""

    shared = True

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.file = SqliteStore(path, clock)
        self.away = False
        self.asked: list[tuple[str, int | None]] = []
        """`changes` by kind and mark."""
        self.before_write: list[Change] = []
        """What somebody else writes just before the next write."""
        self.gate: asyncio.Event | None = None
        """While set and not open, writes are made and not answered."""
        self.written = 0
        self.silent = False
        """Writes are made, and the answer is lost."""

    def _answer(self) -> None:
        if self.away:
            raise StoreError("it is away")

    async def open(self) -> None:
        """See Store."""
        self._answer()
        await self.file.open()

    async def mark(self, kind: str) -> int:
        """See Store."""
        self._answer()
        return await self.file.mark(kind)

    async def changes(self, kind: str, since: int | None) -> Page:
        """See Store."""
        self._answer()
        self.asked.append((kind, since))
        return await self.file.changes(kind, since)

    async def write(self, kind: str, changes: Sequence[Change], *, by: str) -> tuple[Item, ...]:
        """See Store."""
        self._answer()
        if self.before_write:
            await self.file.write(kind, [self.before_write.pop(0)], by="somebody else")
        items = await self.file.write(kind, changes, by=by)
        self.written += 1
        if self.silent:
            raise StoreError("it does not answer")
        if self.gate is not None:
            await self.gate.wait()
        return items

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """See Store."""
        self._answer()
        return await self.file.lease(name, owner, seconds)

    async def close(self) -> None:
        """See Store."""
        with suppress(StoreError):
            await self.file.close()
