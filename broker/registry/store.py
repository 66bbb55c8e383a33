"""What brokers remember together: documents by kind and name, each with a revision, and leases.

`broker.registry.sqlite` keeps them in a file, `broker.aws.dynamodb` in a table that several brokers share. Kinds are
apart from one another: `db` holds the dynamic databases, `discovered` what discovery found.

    revision   of one item: 1, 2, 3, ... It goes on after a delete, so that a name made anew is never taken for the old
    mark       of one kind: moves with every write to any of its items. Equal marks: nothing changed

A reader that holds a mark asks for `changes` since then and gets items and tombstones; tombstones are kept for
TOMBSTONE_SECONDS, so whoever was away longer must load everything anew (`since` None), as at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

DATABASES: Final = "db"
"""Kind of the dynamic databases."""
DISCOVERED: Final = "discovered"
"""Kind of what discovery found."""

MAX_NAME_CHARS: Final = 512
MAX_DOCUMENT_BYTES: Final = 256 * 1024
"""Of one item. DynamoDB takes 400 KB with everything."""
MAX_CHANGES: Final = 90
"""In one write. A transaction of DynamoDB has room for 100 items."""
TOMBSTONE_SECONDS: Final = 7 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One document as it is stored."""

    name: str
    revision: int
    document: str
    """Empty for a tombstone."""
    written_at: datetime
    written_by: str = ""
    """The caller who wrote it last."""
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A wish: this document under that name."""

    name: str
    document: str | None
    """None: remove it."""
    expected: int | None = None
    """The revision it must have now; 0: it must not exist; None: whatever it is."""


@dataclass(frozen=True, slots=True)
class Page:
    """What changed, and the mark that leads to."""

    mark: int
    items: tuple[Item, ...]
    """Tombstones among them only when a `since` was given. Oldest change first."""
    whole: bool
    """Everything there is: what is not among the items does not exist."""
    copied: bool = False
    """As the store was when it last answered: it does not now, and the mark leads nowhere."""


def written_at(text: str) -> datetime:
    """When an item says it was written; the epoch for what is no instant.

    Whoever may write into the store may write nonsense: an item is listed with what is wrong with its document, and
    must not end the brokers that read it.
    """
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)


class Conflict(Exception):
    """An item was not as the writer expected it. Nothing of that write happened."""

    def __init__(self, name: str, found: int, *, deleted: bool) -> None:
        super().__init__(f"{name} is at revision {found}{' (deleted)' if deleted else ''}")
        self.name = name
        self.found = found
        """Its revision; 0: there never was one."""
        self.deleted = deleted


class StoreError(Exception):
    """The store cannot be reached or used. The message says why and what to do; it may be tried again."""


class Store(Protocol):
    """Safe to call from many tasks. Every method raises StoreError."""

    @property
    def shared(self) -> bool:
        """Whether brokers on other machines see it too."""
        ...

    async def open(self) -> None:
        """Make it ready for use, creating what is missing where the settings allow that."""
        ...

    async def mark(self, kind: str) -> int:
        """The mark of a kind now, consistently; 0 before the first write. Cheap: brokers ask each second."""
        ...

    async def changes(self, kind: str, since: int | None) -> Page:
        """Items changed after mark `since`; everything for None, or when `since` is too old to be answered."""
        ...

    async def write(self, kind: str, changes: Sequence[Change], *, by: str) -> tuple[Item, ...]:
        """Write at most MAX_CHANGES items, all or none, and answer how they are now. Raises Conflict."""
        ...

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or keep a lease for so long. False: another owner's has not ended. 0 seconds gives one's own back."""
        ...

    async def close(self) -> None:
        """Let go of files, threads and connections."""
        ...
