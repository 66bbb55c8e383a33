"""The dynamic databases of this broker: the store's documents, judged under this broker's terms.

A document is judged anew when it changes and when the configuration does. What was once accepted is not trusted: who
can write to the store, or narrows an account link, changes nothing about the bounds. One that does not pass is not
served, and is listed with the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from broker.registry.documents import Judged, Terms, judge
from broker.registry.follower import Follower
from broker.registry.sources import Sources
from broker.registry.store import DATABASES, Item, Store
from tollbridge.clock import Clock
from tollbridge.process.settings import Problem

_log = logging.getLogger(__name__)

_FEW: Final = 8
"""So many documents are judged on the loop: about a millisecond each. More go to a thread."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored document and what it comes to here."""

    item: Item
    judged: Judged

    @property
    def served(self) -> bool:
        """Whether this broker serves it."""
        return self.judged.database is not None and self.judged.selected


class DynamicDatabases:
    """Keeps `Sources` told. Lives on one event loop."""

    def __init__(
        self,
        store: Store,
        sources: Sources,
        terms: Terms,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.store = store
        self.terms = terms
        self._sources = sources
        self._entries: dict[str, Entry] = {}
        self._turn = asyncio.Lock()
        self.follower = Follower(store, DATABASES, self._changed, clock=clock, jitter=jitter, sleep=sleep)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """By name, all that are stored."""
        return MappingProxyType(self._entries)

    async def start(self) -> None:
        """Open the store and load what is in it. Raises StoreError when there is nothing to go on: neither the store
        nor a copy of it. A broker that knew nothing would tell its proxies that nothing exists."""
        await self.store.open()
        await self.follower.refresh()

    async def reconsider(self, terms: Terms) -> None:
        """The configuration is another: judge all anew."""
        self.terms = terms
        await self._changed(self.follower.items)

    async def _changed(self, names: Iterable[str]) -> None:
        async with self._turn:
            terms, items = self.terms, self.follower.items
            texts = {name: items[name].document for name in names if name in items}
            judged = await _judge_all(texts, terms)
            for name in names:
                if name not in items:
                    self._entries.pop(name, None)
            for name, outcome in judged.items():
                if (item := items.get(name)) is not None:
                    self._entries[name] = Entry(item, outcome)
            served = (entry.judged.database for _, entry in sorted(self._entries.items()) if entry.served)
            self._sources.put_dynamic(database for database in served if database is not None)


async def _judge_all(texts: Mapping[str, str], terms: Terms) -> dict[str, Judged]:
    def work() -> dict[str, Judged]:
        return {name: _judge(name, text, terms) for name, text in texts.items()}

    return work() if len(texts) <= _FEW else await asyncio.to_thread(work)


def _judge(name: str, text: str, terms: Terms) -> Judged:
    try:
        return judge(text, terms, name=name)
    except Exception:  # noqa: BLE001 - one stored document must not end every broker that reads it
        _log.exception("judging the stored document of %s failed for a reason nobody foresaw; it is not served", name)
        problem = Problem(path="", line=None, message="it could not be judged: the broker's log has the details")
        return Judged(name=name, problems=(problem,), errors=True)
