"""Guards: post-login inspection as pure decisions. PURE.

Without a guard the relay is opaque and fastest. A guard is shown the bytes of each side in the order they arrive and
answers with verdicts; the relay carries them out in order. What a guard returns must account for every byte it has been
shown: each is passed, dropped or held, and held bytes are shown no second time. What a guard need not see costs least:
`passes` is asked before the client's bytes are shown and `passes_upstream` before upstream's, which are shown only
while it watches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from proxy.errors import Refused, Side


@dataclass(frozen=True, slots=True)
class Pass:
    """Relay the next `count` bytes of the side that was shown."""

    count: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Swallow the next `count` bytes of the side that was shown."""

    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Write these bytes to the client, as if upstream had sent them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Inject:
    """Write these bytes upstream, as if the client had sent them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the next `count` bytes of the side that was shown, and stop reading that side until `Release`."""

    count: int


@dataclass(frozen=True, slots=True)
class Release:
    """Relay what is held of a side and read it again."""

    side: Side


@dataclass(frozen=True, slots=True)
class Refuse:
    """End the session with this refusal."""

    refusal: Refused


@dataclass(frozen=True, slots=True)
class NeedGrant:
    """Call `Guard.granted` with a fresh credential, not before this instant and as soon as possible after."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Permit:
    """Ask whether the session's workload may use this logical database too, as this user, and call
    `Guard.permitted` with the answer. One at a time."""

    db_name: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Show no more of a side, and stop reading it, until `Release`: bytes of this call that no verdict has covered,
    and what arrives behind them, are shown then."""

    side: Side


@dataclass(frozen=True, slots=True)
class Watch:
    """Show upstream's bytes from now on, or relay them unseen (which is fastest) until another Watch."""

    on: bool


@dataclass(frozen=True, slots=True)
class Deadline:
    """End the session with this refusal at this instant, unless another Deadline has replaced this one by then.

    While one is set, a broker that cannot answer NeedGrant is asked again until it strikes.
    """

    at: datetime
    refusal: Refused


Verdict = Pass | Drop | Answer | Inject | Hold | Release | Refuse | NeedGrant | Permit | Stop | Watch | Deadline


class Guard(Protocol):
    """Looks at an established session. Methods return verdicts and do nothing else. Inherit from it: what has a body
    here is what most guards want."""

    watches_upstream: bool = True
    """Whether upstream's bytes are shown from the start; `Watch` changes that later."""

    def start(self) -> Sequence[Verdict]:
        """When the session begins: instants to be woken at."""
        return ()

    def passes(self, data: bytes) -> bool:
        """Whether all of these bytes of the client may go on as they are: the hot path, asked before `client_bytes`.

        True counts as having been shown them. After False nothing has happened, and they are shown.
        """
        return False

    def gate(self) -> Callable[[bytes], object] | None:
        """What is asked in the place of `passes` until the guard has been shown or told something else; it must never
        raise. For a guard whose answer then depends on the bytes alone: a compiled pattern's own method costs least.
        """
        return None

    def passes_upstream(self, data: bytes) -> bool:
        """The same for upstream's bytes, asked before `upstream_bytes`."""
        return False

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        """Bytes the client sent."""
        ...

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        """Bytes upstream sent."""
        ...

    def permitted(self, db_name: str, refusal: Refused | None) -> Sequence[Verdict]:
        """The answer to a Permit; None: it may."""
        return ()

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        """A fresh credential, asked for by NeedGrant; upstream is on the verified TLS it was granted for."""
        ...
