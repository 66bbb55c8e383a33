"""The store in a file: SQLite in WAL mode, readable by its owner alone, on a thread of its own.

Several brokers of one machine may share the file. It also serves as the copy that a broker keeps of a shared store, so
that it knows its databases while that cannot be reached (`copy`).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import Final, TypeVar

from broker.registry.store import MAX_CHANGES, TOMBSTONE_SECONDS, Change, Conflict, Item, Page, StoreError, written_at
from tollbridge.clock import Clock

_T = TypeVar("_T")

_BUSY_SECONDS: Final = 5.0
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS items (
    kind TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, mark INTEGER NOT NULL,
    document TEXT NOT NULL, written_at TEXT NOT NULL, written_by TEXT NOT NULL, deleted INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_mark ON items (kind, mark);
CREATE TABLE IF NOT EXISTS marks (kind TEXT PRIMARY KEY, mark INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, ends_at REAL NOT NULL) WITHOUT ROWID;
"""
_SELECT: Final = "SELECT name, revision, document, written_at, written_by, deleted FROM items WHERE kind = ? "
_ALL: Final = _SELECT + "AND NOT deleted ORDER BY mark"
_SINCE: Final = _SELECT + "AND mark > ? ORDER BY mark"


class SqliteStore:
    """Implements `broker.registry.store.Store`."""

    shared = False

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="registry file")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def open(self) -> None:
        """See Store. Makes the directory and the file."""
        await self._run(self._opened)

    async def mark(self, kind: str) -> int:
        """See Store."""
        return await self._run(lambda: self._mark(kind))

    async def changes(self, kind: str, since: int | None) -> Page:
        """See Store."""
        return await self._run(lambda: self._changes(kind, since))

    async def write(self, kind: str, changes: Sequence[Change], *, by: str) -> tuple[Item, ...]:
        """See Store."""
        if len(changes) > MAX_CHANGES:
            raise ValueError(f"at most {MAX_CHANGES} changes in one write")
        return await self._run(lambda: self._write(kind, changes, by))

    async def copy(self, kind: str, page: Page) -> None:
        """Take over what another store said, revisions and mark included."""
        await self._run(lambda: self._copy(kind, page))

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """See Store."""
        return await self._run(lambda: self._lease(name, owner, seconds))

    async def close(self) -> None:
        """See Store."""
        if self._closed:
            return
        self._closed = True
        if self._connection is not None:
            # Behind whatever is under way on that thread.
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._closed:
            raise StoreError(f"the registry's file {self._path} is closed: the broker is stopping")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreError(
                f"the registry's file {self._path} cannot be used ({said}): check its directory, owner and disk"
            ) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its -wal and -shm files the mode of the file itself.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._path.chmod(0o600)
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > _SCHEMA_VERSION:
            connection.close()
            raise sqlite3.DatabaseError(f"it was written by a newer tollbridge, with schema {found}")
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _mark(self, kind: str) -> int:
        row = self._opened().execute("SELECT mark FROM marks WHERE kind = ?", (kind,)).fetchone()
        return row[0] if row else 0

    def _changes(self, kind: str, since: int | None) -> Page:
        connection = self._opened()
        connection.execute("BEGIN")  # one snapshot for both questions
        try:
            mark = self._mark(kind)
            whole = since is None or since > mark
            rows = connection.execute(_ALL, (kind,)) if whole else connection.execute(_SINCE, (kind, since))
            items = tuple(map(_item, rows))
        finally:
            connection.execute("COMMIT")
        return Page(mark, items, whole)

    def _write(self, kind: str, changes: Sequence[Change], by: str) -> tuple[Item, ...]:
        now = self._clock.now()
        made = []
        with self._transaction() as connection:
            mark = self._mark(kind) + 1
            for change in changes:
                row = connection.execute(
                    "SELECT revision, deleted FROM items WHERE kind = ? AND name = ?", (kind, change.name)
                ).fetchone()
                revision, deleted = row or (0, 1)
                if change.expected is not None and change.expected != (0 if deleted else revision):
                    raise Conflict(change.name, revision, deleted=bool(deleted))
                item = Item(
                    name=change.name,
                    revision=revision + 1,
                    document=change.document or "",
                    written_at=now,
                    written_by=by,
                    deleted=change.document is None,
                )
                self._put(connection, kind, item, mark)
                made.append(item)
            self._put_mark(connection, kind, mark)
            old = (now - timedelta(seconds=TOMBSTONE_SECONDS)).isoformat()
            connection.execute("DELETE FROM items WHERE kind = ? AND deleted AND written_at < ?", (kind, old))
        return tuple(made)

    def _copy(self, kind: str, page: Page) -> None:
        with self._transaction() as connection:
            if page.whole:
                connection.execute("DELETE FROM items WHERE kind = ?", (kind,))
            for item in page.items:
                self._put(connection, kind, item, page.mark)
            self._put_mark(connection, kind, page.mark)

    def _lease(self, name: str, owner: str, seconds: float) -> bool:
        now = self._clock.now().timestamp()
        with self._transaction() as connection:
            row = connection.execute("SELECT owner, ends_at FROM leases WHERE name = ?", (name,)).fetchone()
            if row and row[0] != owner and row[1] > now:
                return False
            if seconds > 0:
                connection.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (name, owner, now + seconds))
            else:
                connection.execute("DELETE FROM leases WHERE name = ?", (name,))
        return True

    @staticmethod
    def _put(connection: sqlite3.Connection, kind: str, item: Item, mark: int) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO items (kind, name, revision, mark, document, written_at, written_by, deleted)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                kind,
                item.name,
                item.revision,
                mark,
                item.document,
                item.written_at.astimezone(UTC).isoformat(),
                item.written_by,
                int(item.deleted),
            ),
        )

    @staticmethod
    def _put_mark(connection: sqlite3.Connection, kind: str, mark: int) -> None:
        connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (kind, mark))


def _item(row: tuple[str, int, str, str, str, int]) -> Item:
    name, revision, document, at, written_by, deleted = row
    return Item(
        name=name,
        revision=revision,
        document=document,
        written_at=written_at(at),
        written_by=written_by,
        deleted=bool(deleted),
    )
