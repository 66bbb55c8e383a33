"""Multiplexing: requests of several clients over one connection to the server, as pure decisions. PURE.

It is for protocols whose server answers requests in their order, one answer to each. `proxy.net.shared` moves the
bytes: it sends what a `Sharer` lets through, in the order it comes, counts the answers with `Answers`, and gives each
client its own. What needs a connection to itself (a subscription, a transaction, a request that waits, or any whose
effect on the connection is not known) pins its client to one, for good.

Counting is what keeps clients apart: a request or answer counted wrong would hand one client what is another's. So a
connection is shared by clients of one workload and one database user alone, a count is proved by the bytes and never
estimated, and an answer nobody asked for ends the connection. What a protocol has for news, which are no answers, is
skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Forward:
    """Send whole requests that may share. They have exactly `answers` answers."""

    data: bytes = field(repr=False)
    answers: int


@dataclass(frozen=True, slots=True)
class Say:
    """Answer the client ourselves, when its requests before this one are answered."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pin:
    """The client needs a connection of its own from here on. Always the last step."""

    rest: bytes = field(repr=False)
    """What it has said that was not forwarded, beginning with the request that needs the connection."""
    why: str
    """For the audit log; never anything a client has written."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The client says goodbye: close when its requests are answered. Always the last step."""


Step = Forward | Say | Pin | Leave


class Sharer(Protocol):
    """One client's half: decides what it may send over a shared connection."""

    kept: bool
    """The beginning of a request is kept here: what comes next is for `take`."""

    whole: Callable[[bytes], int]
    """How many answers a chunk will have, when nothing is kept and it is whole requests that may share, all of it;
    0: `take` it. The hot path: it remembers nothing and never raises."""

    def take(self, data: bytes) -> Sequence[Step]:
        """What becomes of the bytes that came. Raises PeerViolation. Keeps a bounded beginning of a request."""
        ...


class Answers(Protocol):
    """The server's half, one for each shared connection: where answers end."""

    def advance(self, data: bytes, at: int, count: int) -> tuple[int, int]:
        """Follow at most `count` answers from `at`.

        Returns where they end, and how many of them are not whole yet: then that is the end of the data, and the next
        call goes on in their middle; or a message stands there that is to be skipped. Nothing is kept of an answer.
        Raises PeerViolation for what is none.
        """
        ...

    def skip(self, data: bytes, at: int) -> int:
        """Past messages that answer nothing and may come between answers: where they end, or the data does in the
        middle of one; `at` where there is none. They are nobody's. Raises PeerViolation when they do not end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLogin:
    """What the login of a connection that clients will share has found."""

    answers: Answers
    user: str
    """Who the server takes it for."""
    greeting: bytes = field(repr=False)
    """What the server said to the login, for clients who begin with the same."""
    retire_at: datetime
    """From this instant on it takes no further requests."""
