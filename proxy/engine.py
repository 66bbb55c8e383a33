"""What an engine is, as the driver and the listener see it. PURE."""

from __future__ import annotations

from typing import Protocol

from proxy.model import Door, Outcome
from proxy.script import Script
from tollbridge.reasons import Reason


class Engine(Protocol):
    """One protocol."""

    alpn: tuple[str, ...]
    """ALPN names offered to clients that start with TLS; empty where the protocol has none."""

    def login(self, door: Door) -> Script[Outcome]:
        """A client's connection from its first byte to Established. Every refusal ends with a native error."""
        ...

    def probe(self, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
        """The upstream half alone: grant, connect, TLS, login, one trivial query, goodbye. Returns what it saw."""
        ...

    def refuse(self, reason: Reason, message: str) -> bytes:
        """A refusal for a client that has said nothing yet (the listener is full or draining)."""
        ...
