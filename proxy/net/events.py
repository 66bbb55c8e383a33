"""What the network side tells the audit log: frozen events and the log they go to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tollbridge.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFacts:
    """What is known of a connection so far. Fields the login did not get to are empty."""

    peer: str
    """The client's address."""
    door: str
    """The listener's name."""
    workload: str = ""
    database: str = ""
    db_user: str = ""
    db_name: str = ""
    decision_id: str = ""
    credential_id: str = ""
    reused: bool = False
    """The proxy had the grant before this login asked."""
    upstream: str = ""
    """The address upstream was dialled at."""
    encrypted: bool = False
    """The client's side is on TLS."""
    notes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the engine noted for the audit lines."""

    @property
    def source(self) -> str:
        """The client's host: its address without the port; `unix` on a socket of that kind."""
        return self.peer.rpartition(":")[0] or self.peer


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStart:
    """A login succeeded."""

    facts: LoginFacts
    seconds: float
    """How long the login took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """A session that had started is over."""

    facts: LoginFacts
    ended: str
    """Who ended it: `client`, `upstream`, `proxy`, or `fault` (our bug)."""
    reason: Reason | None
    """Why, where the proxy ended it."""
    message: str
    seconds: float
    bytes_to_client: int
    bytes_to_upstream: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRefusal:
    """A connection that did not become a session."""

    facts: LoginFacts
    reason: Reason
    message: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDone:
    """One request of an HTTP session, where its database wants them in the log."""

    facts: LoginFacts
    method: str
    names: Mapping[str, str]
    """What the engine says it is: target, path, table, index. Never content."""
    status: int
    bytes_to_client: int
    """Of the answer's body."""
    bytes_to_upstream: int
    """Of the request's body."""
    seconds: float
    """From the whole request's head to the end of its answer."""


class SessionLog(Protocol):
    """Where the events go. Called on the event loop: must not block. What it raises ends only that connection."""

    def on_start(self, event: SessionStart) -> None: ...

    def on_end(self, event: SessionEnd) -> None: ...

    def on_refusal(self, event: SessionRefusal) -> None: ...


class RequestLog(SessionLog, Protocol):
    """The same for HTTP listeners."""

    def on_request(self, event: RequestDone) -> None: ...
