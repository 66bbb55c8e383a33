"""Guards: post-login inspection as pure decisions. PURE.

Without a guard the relay is opaque and fastest. A guard is shown the bytes of each side in the order they arrive and
answers with verdicts; the relay carries them out in order. What a guard returns must account for every byte it has been
shown: each is passed, dropped or held, and held bytes are shown no second time.
"""

from __future__ import annotations

from collections.abc import Sequence
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


Verdict = Pass | Drop | Answer | Inject | Hold | Release | Refuse | NeedGrant


class Guard(Protocol):
    """Looks at an established session. Methods return verdicts and do nothing else."""

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        """Bytes the client sent."""
        ...

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        """Bytes upstream sent."""
        ...

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        """A fresh credential, asked for by NeedGrant; upstream is on the verified TLS it was granted for."""
        ...
