"""Follows one kind of a store: asks for its mark each second, jittered, and hears of what changed.

While the store is away what was last known stands; nothing is removed because something failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from broker.registry.store import TOMBSTONE_SECONDS, Item, Page, Store, StoreError
from tollbridge.clock import Clock

POLL_SECONDS: Final = 1.0
_JITTER: Final = 0.4
"""Of the wait, around its mean: brokers that started together shall not ask together."""
_MAX_POLL_SECONDS: Final = 10.0
"""While the store does not answer."""

_COPIED: Final = "its copy, from when it last answered, is in use"

_log = logging.getLogger(__name__)


class Follower:
    """The items of one kind as last heard, tombstones left out. Lives on one event loop."""

    def __init__(
        self,
        store: Store,
        kind: str,
        on_change: Callable[[Iterable[str]], Awaitable[None]],
        *,
        clock: Clock,
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`on_change` is awaited with the names that changed, after `items` did."""
        self._store = store
        self._kind = kind
        self._on_change = on_change
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep
        self._items: dict[str, Item] = {}
        self._mark: int | None = None
        self._heard_at: float | None = None
        self._turn = asyncio.Lock()
        self.trouble = ""
        """Why the store does not answer; empty while it does."""
        self.failures = 0
        """Questions that were not answered."""
        self.loaded = False
        """Whether the items are what the store, or its copy, has said."""

    @property
    def items(self) -> Mapping[str, Item]:
        """By name."""
        return MappingProxyType(self._items)

    @property
    def stale_seconds(self) -> float:
        """Since the store last answered; 0.0 before it first did."""
        return 0.0 if self._heard_at is None else self._clock.monotonic() - self._heard_at

    async def refresh(self) -> None:
        """Ask now. Raises StoreError."""
        async with self._turn:
            asked_at = self._clock.monotonic()
            page = await self._ask(asked_at)
            if page is not None and page.copied:
                self._complain(_COPIED)
            else:
                self._heard_at = asked_at
                self.trouble = ""
            if page is not None and (changed := self._take(page)):
                await self._on_change(changed)
            self.loaded = True

    async def try_refresh(self) -> bool:
        """Ask now; False, and `trouble`, when the store does not answer."""
        try:
            await self.refresh()
        except StoreError as error:
            self._complain(str(error))
        return not self.trouble

    async def run(self) -> None:
        """Ask until cancelled."""
        wait = POLL_SECONDS
        while True:
            await self._sleep(wait * (1 - _JITTER / 2 + _JITTER * self._jitter()))
            wait = POLL_SECONDS if await self.try_refresh() else min(wait * 2, _MAX_POLL_SECONDS)

    def _complain(self, trouble: str) -> None:
        self.failures += 1
        if trouble != self.trouble:
            _log.warning("the registry's store does not answer; what is known stays: %s", trouble)
        self.trouble = trouble

    async def _ask(self, now: float) -> Page | None:
        since = self._mark
        if self._heard_at is not None and now - self._heard_at > TOMBSTONE_SECONDS / 2:
            since = None  # tombstones may be gone that we never saw
        if since is not None and await self._store.mark(self._kind) == since:
            return None
        return await self._store.changes(self._kind, since)

    def _take(self, page: Page) -> frozenset[str]:
        said = {item.name: item for item in page.items}
        changed = {name for name, item in said.items() if self._items.get(name) != item}
        if page.whole:
            changed |= self._items.keys() - said.keys()
            self._items.clear()
        for name, item in said.items():
            if item.deleted:
                self._items.pop(name, None)
            else:
                self._items[name] = item
        self._mark = None if page.copied else page.mark
        return frozenset(changed)
