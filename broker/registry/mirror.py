"""A shared store with a copy in a file: a broker that starts while the shared one is away still knows its databases."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from broker.registry.sqlite import SqliteStore
from broker.registry.store import Change, Item, Page, Store, StoreError

_log = logging.getLogger(__name__)


class MirroredStore:
    """Implements `broker.registry.store.Store`. What is asked for whole may come from the copy (`Page.copied`)."""

    def __init__(self, remote: Store, copy: SqliteStore) -> None:
        self._remote = remote
        self._copy = copy
        self._complained = ""

    @property
    def shared(self) -> bool:
        """See Store."""
        return self._remote.shared

    async def open(self) -> None:
        """See Store. That the shared store is away is no failure; that the file cannot be used is one."""
        await self._copy.open()
        try:
            await self._remote.open()
        except StoreError as error:
            _log.warning("the registry's store is away, its copy is used until it answers: %s", error)

    async def mark(self, kind: str) -> int:
        """See Store."""
        return await self._remote.mark(kind)

    async def changes(self, kind: str, since: int | None) -> Page:
        """See Store."""
        try:
            page = await self._remote.changes(kind, since)
        except StoreError:
            if since is not None:
                raise
            page = await self._copy.changes(kind, None)
            if not page.mark:
                raise
            return dataclasses.replace(page, copied=True)
        try:
            await self._copy.copy(kind, page)
        except StoreError as error:
            # A full disk must not keep a broker from hearing of changes.
            if str(error) != self._complained:
                self._complained = str(error)
                _log.warning("the registry's copy falls behind: %s", error)
        return page

    async def write(self, kind: str, changes: Sequence[Change], *, by: str) -> tuple[Item, ...]:
        """See Store."""
        return await self._remote.write(kind, changes, by=by)

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """See Store."""
        return await self._remote.lease(name, owner, seconds)

    async def close(self) -> None:
        """See Store."""
        await self._remote.close()
        await self._copy.close()
