"""What exists: the broker's list of databases, kept current by one long-lived watch.

    broker --upsert*, synced, (upsert | delete | policy)*--> Listing (pure) --> locate(name)

A stream starts whole every time. While the broker is away the last list stands; after a reconnect, what was not sent
again before `synced` is gone. The catalog asks nobody for permission and knows no secret: it says where a database is.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from proxy.errors import Refused
from proxy.model import Location
from tollbridge import names
from tollbridge.client import Delete, Event, PolicyChanged, RpcFailed, Synced, Upsert
from tollbridge.clock import Clock
from tollbridge.model import Database
from tollbridge.reasons import Reason

FIRST_RETRY_SECONDS: Final = 0.2
LAST_RETRY_SECONDS: Final = 15.0
STEADY_SECONDS: Final = 10.0
"""A stream that lived so long was healthy: the next break begins with short waits again."""

MAX_SHOWN: Final = 100
"""Characters of a name that a client chose, in a message."""

_log = logging.getLogger(__name__)


class Watchable(Protocol):
    """What this module needs of `tollbridge.client.Client`."""

    def watch_databases(self) -> AsyncIterator[Event]:
        """One stream, from its start to its break. Raises RpcFailed."""
        ...


class Listing:
    """Databases by name, as one stream after another describes them. No I/O."""

    def __init__(self) -> None:
        self._databases: dict[str, Database] = {}
        self._pending: set[str] | None = set()
        """Names this stream has sent so far; None once it has said that it is complete."""
        self._changes = 0
        self._changed: dict[str, int] = {}
        """When each row last changed, counted in changes."""
        self.complete_once = False
        self.policy_version = ""

    def __len__(self) -> int:
        return len(self._databases)

    def begin(self) -> None:
        """A new stream starts."""
        self._pending = set()

    def apply(self, event: Event) -> None:
        """One event of the stream. What it says holds at once; only removal by silence waits for `synced`."""
        self.policy_version = event.policy_version or self.policy_version
        match event:
            case Upsert(database):
                if self._databases.get(database.name) != database:
                    self._changes += 1
                    self._changed[database.name] = self._changes
                self._databases[database.name] = database
                if self._pending is not None:
                    self._pending.add(database.name)
            case Delete(name):
                self._remove(name)
            case Synced():
                self._complete()
            case PolicyChanged():
                pass

    def find(self, name: str) -> Database | None:
        """The database of that name."""
        return self._databases.get(name)

    def nearest(self, name: str) -> str:
        """A known name that looks like this one, or nothing."""
        return names.nearest(name, self._databases, cutoff=0.7)

    def basis(self, name: str) -> str:
        """What a decision about a database rests on: equal while neither policy nor the database's row has changed."""
        return f"{self._changed.get(name, 0)} {self.policy_version}"

    def _remove(self, name: str) -> None:
        self._databases.pop(name, None)
        self._changed.pop(name, None)

    def _complete(self) -> None:
        if self._pending is not None:
            for name in self._databases.keys() - self._pending:
                self._remove(name)
        self._pending = None
        self.complete_once = True


def retry_seconds(failures: int, draw: float) -> float:
    """How long to wait after so many breaks in a row: exponential, the upper half jittered by `draw` in [0, 1).

    So a broker that comes back meets its proxies spread out and not at once.
    """
    step = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16))
    return step * (0.5 + 0.5 * draw)


class Catalog:
    """Runs the watch. Implements `proxy.net`'s `Catalog`."""

    def __init__(
        self,
        source: Watchable,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._listing = Listing()
        self._trouble = ""
        self.first_sync = asyncio.Event()
        """Set once a stream has been complete: the proxy knows what exists."""
        self.connected = False
        """A stream is open and complete now."""
        self.breaks = 0
        """Streams that ended."""

    def __len__(self) -> int:
        return len(self._listing)

    @property
    def ready(self) -> bool:
        """Whether a stream has ever been complete."""
        return self._listing.complete_once

    @property
    def trouble(self) -> str:
        """Why the watch does not stand now; empty while it does."""
        return self._trouble

    def policy_version(self) -> str:
        """Of the rules in force, as last heard."""
        return self._listing.policy_version

    def basis(self, name: str) -> str:
        """What a decision about a database rests on, as last heard. A grant made on another must be asked for again."""
        return self._listing.basis(name)

    def known(self, name: str) -> Database | None:
        """A database's row, if it is in the list."""
        return self._listing.find(name)

    def find(self, name: str) -> Database:
        """What is known about a database. Raises Refused."""
        database = self.known(name)
        if database is not None:
            return database
        if not self.ready:
            why = f" ({self._trouble})" if self._trouble else ""
            raise Refused(
                Reason.BROKER_UNAVAILABLE,
                f"this proxy has not yet heard from the broker which databases exist{why}: try again in some seconds",
            )
        nearest = self._listing.nearest(name)
        hint = (
            f"did you mean {nearest!r}?"
            if nearest
            else "check its name, and that this proxy's row in the broker's `proxies:` covers it"
        )
        raise Refused(Reason.DATABASE_UNKNOWN, f"no database {name[:MAX_SHOWN]!r} is served here: {hint}")

    def locate(self, name: str) -> Location:
        """Where a database is. Raises Refused."""
        database = self.find(name)
        return Location(
            database=database.name,
            endpoint=database.endpoint,
            tls=database.tls,
            server_version=database.server_version,
        )

    async def run(self) -> None:
        """Watch until cancelled. Never fails: a broken stream is opened again."""
        failures = 0
        while True:
            opened = self._clock.monotonic()
            await self._watch_once()
            self.connected = False
            self.breaks += 1
            lived = self._clock.monotonic() - opened
            failures = 1 if lived >= STEADY_SECONDS else failures + 1
            wait = retry_seconds(failures, self._draw())
            _log.warning("the watch ended, opening it again", extra={"why": self._trouble, "wait_seconds": wait})
            await self._sleep(wait)

    async def _watch_once(self) -> None:
        """One stream, to its end."""
        self._listing.begin()
        try:
            async for event in self._source.watch_databases():
                self._listing.apply(event)
                if isinstance(event, Synced):
                    self._synced()
        except RpcFailed as failed:
            self._trouble = failed.message
        except Exception:  # noqa: BLE001 - a bug here must not end the sessions that run
            _log.exception("the watch failed for a reason of our own")
            self._trouble = "internal error in the proxy: its log has the details"
        else:
            self._trouble = "the broker ended the stream"

    def _synced(self) -> None:
        self.connected = True
        self._trouble = ""
        self.first_sync.set()
        _log.info("the list of databases is complete", extra={"databases": len(self._listing)})
