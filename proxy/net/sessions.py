"""Which running session a cancel key belongs to, and the very address it is connected to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.model import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a connection went: a name stands for several servers, an address does not."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A location, and the address its name meant when the session was connected."""

    location: Location
    address: Address


class Sessions:
    """The running sessions of this process that can be cancelled."""

    def __init__(self) -> None:
        self._places: dict[bytes, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: bytes, place: Place) -> None:
        """A session began."""
        self._places[key] = place

    def remove(self, key: bytes, place: Place) -> None:
        """A session ended. Another one that was given the same key by its server stays."""
        if self._places.get(key) is place:
            del self._places[key]

    @contextlib.contextmanager
    def running(self, key: bytes | None, place: Place) -> Iterator[None]:
        """While the block runs, so does the session of this key; None: it cannot be cancelled."""
        if key is None:
            yield
            return
        self.add(key, place)
        try:
            yield
        finally:
            self.remove(key, place)

    def recall(self, key: bytes) -> Place | None:
        """Where the session of this key is connected."""
        return self._places.get(key)
