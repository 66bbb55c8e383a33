"""Holds the current snapshot and tells watchers what changed.

A watcher is told differences against what it was last told, computed when it asks: however slow it is, nothing waits
for it but the one reference to the latest snapshot, and changes that cancelled out in between are never sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from broker.registry.snapshot import Difference, Snapshot, difference
from tollbridge.model import Database

Sees = Callable[[Database], bool]
"""Whether a watcher may see a database; asked anew for every snapshot and policy."""


@dataclass(frozen=True, slots=True)
class News:
    """What changed for one watcher."""

    difference: Difference
    version: str
    """Of the snapshot it leads to."""
    first: bool
    """The whole, from nothing: what `synced` follows."""


class Registry:
    """The one place that knows which databases exist. Lives on one event loop."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self._current = snapshot or Snapshot()
        self._changed = asyncio.Event()
        self._closed = False

    def current(self) -> Snapshot:
        """The latest snapshot."""
        return self._current

    def replace(self, snapshot: Snapshot) -> None:
        """Make it the current one and wake whoever watches."""
        if snapshot == self._current:
            return
        self._current = snapshot
        self._wake()

    def policy_changed(self) -> None:
        """Wake watchers although no database changed: what they may see, or the policy's version, has."""
        self._wake()

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        self._wake()

    async def changes(self, sees: Sees = lambda _: True) -> AsyncGenerator[News, None]:
        """First everything, then whatever changes, until `close`.

        Also yields an empty difference after `policy_changed`, so that a servicer can pass a new policy version on.
        """
        told: dict[str, Database] = {}
        first = True
        while not self._closed:
            changed = self._changed
            snapshot = self._current
            after = {name: item.facts for name, item in snapshot.by_name.items() if sees(item.facts)}
            yield News(difference(told, after), snapshot.version, first)
            told, first = after, False
            await changed.wait()

    def _wake(self) -> None:
        # Everybody who waits holds the old event; whoever comes later waits on the new one.
        self._changed.set()
        self._changed = asyncio.Event()
