"""What a watch has shown so far, so that one continuous view survives a change of streams. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tollbridge.client import convert
from tollbridge.client.events import Delete, Event, PolicyChanged, Synced, Upsert
from tollbridge.model import Database
from tollbridge.v1 import catalog_service_pb2, database_pb2

_log = logging.getLogger(__name__)


class View:
    """Turns the messages of one stream after another into events; only differences are events."""

    def __init__(self) -> None:
        self._shown: dict[str, Database] = {}
        self._version: str | None = None
        self._missing: set[str] = set()
        self.whole = False
        """Whether the current stream has sent everything that exists."""

    def begin(self) -> None:
        """A new stream begins: what it does not name before it is whole is gone."""
        self.whole = False
        self._missing = set(self._shown)

    def apply(self, message: catalog_service_pb2.WatchDatabasesResponse) -> Iterator[Event]:
        """What follows from one message."""
        version = message.policy_version
        match message.WhichOneof("change"):
            case "upsert":
                self._missing.discard(message.upsert.name)
                database = known(message.upsert)
                if database is not None and self._shown.get(database.name) != database:
                    self._shown[database.name] = database
                    yield Upsert(database, version)
            case "delete":
                yield from self._delete([message.delete], version)
            case "synced":
                yield from self._delete(sorted(self._missing), version)
                self._missing.clear()
                self.whole = True
                if self._version is None:
                    self._version = version
                    yield Synced(version)
                yield from self._policy(version)
            case "policy_changed":
                yield from self._policy(version)

    def _delete(self, names: list[str], version: str) -> Iterator[Event]:
        for name in names:
            if self._shown.pop(name, None) is not None:
                yield Delete(name, version)

    def _policy(self, version: str) -> Iterator[Event]:
        if version != self._version:
            self._version = version
            yield PolicyChanged(version)


def known(message: database_pb2.Database) -> Database | None:
    """A catalog entry, or None for one of a kind that is newer than this client."""
    try:
        return convert.database(message)
    except convert.NotUnderstood as error:
        _log.warning("database %s is left out, this client is older than the broker: %s", message.name, error)
        return None
