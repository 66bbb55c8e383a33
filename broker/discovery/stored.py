"""Results of discovery in the registry's store: an item per cell, in parts where one would be too large."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from broker.discovery.model import StoredCell
from broker.errors import BrokerError
from broker.registry.store import DISCOVERED, MAX_CHANGES, Change, Item, Store, StoreError
from tollbridge.reasons import Reason

PART_BYTES: Final = 128 * 1024
"""Of a document before it is written as text."""
MAX_PARTS: Final = 512
WRITE_BYTES: Final = 2 * 1024 * 1024
"""In one write: a transaction of DynamoDB has 4 MB."""
LEASE: Final = "discovery"


class RegistryStore:
    """`broker.discovery.model.DiscoveryStore` in the store that brokers share."""

    def __init__(self, store: Store, *, broker: str) -> None:
        """`broker` names this one to whoever looks into the store."""
        self._store = store
        self._broker = broker
        self._mark = -1
        self._cells: tuple[StoredCell, ...] = ()
        self._parts: dict[str, int] = {}
        """Key -> how many parts it has in the store."""

    async def load(self) -> Sequence[StoredCell]:
        """See DiscoveryStore. Costs one small question while nothing has changed."""
        try:
            if await self._store.mark(DISCOVERED) != self._mark:
                page = await self._store.changes(DISCOVERED, None)
                self._cells = tuple(_assembled(page.items))
                self._parts = {cell.key: _parts_of(cell) for cell in self._cells}
                self._mark = -1 if page.copied else page.mark
        except StoreError as error:
            raise _unavailable(error) from error
        return self._cells

    async def save(self, cells: Sequence[StoredCell], gone: Sequence[str]) -> bool:
        """See DiscoveryStore. A cell's parts are written together where they fit into one write."""
        mark, known = self._mark, {cell.key: cell for cell in self._cells}
        wanted = [change for cell in cells for change in self._changes(cell)]
        wanted += [
            Change(name=_name(key, part), document=None) for key in gone for part in range(self._parts.pop(key, 1))
        ]
        batches = list(_batches(wanted))
        try:
            for batch in batches:
                await self._store.write(DISCOVERED, batch, by=self._broker)
            # Each write moves the mark by one: where it moved no further, nobody else wrote in between.
            undisturbed = mark >= 0 and await self._store.mark(DISCOVERED) == mark + len(batches)
        except StoreError as error:
            self._mark = -1
            raise _unavailable(error) from error
        if not undisturbed:
            self._mark = -1
        elif batches:
            known.update((cell.key, cell) for cell in cells)
            self._cells = tuple(cell for key, cell in known.items() if key not in gone)
            self._mark = mark + len(batches)
        return undisturbed

    async def lease(self, owner: str, seconds: float) -> bool:
        """See DiscoveryStore."""
        try:
            return await self._store.lease(LEASE, owner, seconds)
        except StoreError as error:
            raise _unavailable(error) from error

    def _changes(self, cell: StoredCell) -> Iterator[Change]:
        total = _parts_of(cell)
        if total > MAX_PARTS:
            raise BrokerError(Reason.INTERNAL, f"what is known of {cell.key} is too large for the store")
        digest = hashlib.sha256(cell.document).hexdigest()
        for part in range(total):
            data = cell.document[part * PART_BYTES : (part + 1) * PART_BYTES]
            document = {
                "key": cell.key,
                "part": part,
                "parts": total,
                "digest": digest,
                "data": base64.b64encode(data).decode(),
            }
            yield Change(name=_name(cell.key, part), document=json.dumps(document, separators=(",", ":")))
        for part in range(total, self._parts.get(cell.key, 0)):
            yield Change(name=_name(cell.key, part), document=None)
        self._parts[cell.key] = total


def _parts_of(cell: StoredCell) -> int:
    return max(1, -(-len(cell.document) // PART_BYTES))


def _name(key: str, part: int) -> str:
    """Keys may be longer than names."""
    return f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.{part}"


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    batch: list[Change] = []
    size = 0
    for change in changes:
        added = len(change.document or "")
        if batch and (len(batch) >= MAX_CHANGES or size + added > WRITE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += added
    if batch:
        yield batch


def _assembled(items: Iterable[Item]) -> Iterator[StoredCell]:
    """Cells whose parts are all there and of one writing; the others are being written, or were not ours."""
    parts: dict[tuple[str, str], dict[int, bytes]] = {}
    totals: dict[tuple[str, str], int] = {}
    for item in items:
        try:
            document = json.loads(item.document)
            name = (str(document["key"]), str(document["digest"]))
            part, total = int(document["part"]), int(document["parts"])
            data = base64.b64decode(document["data"], validate=True)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        if 0 <= part < total <= MAX_PARTS:
            parts.setdefault(name, {})[part], totals[name] = data, total
    for (key, digest), found in parts.items():
        if sorted(found) != list(range(totals[key, digest])):
            continue
        whole = b"".join(found[part] for part in sorted(found))
        if hashlib.sha256(whole).hexdigest() == digest:
            yield StoredCell(key=key, document=whole)


def _unavailable(error: StoreError) -> BrokerError:
    return BrokerError(Reason.REGISTRY_UNAVAILABLE, str(error))
