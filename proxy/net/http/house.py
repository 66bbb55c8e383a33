"""What all requests of one listener share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.engine import HttpEngine
from proxy.model import Door
from proxy.net.counters import Counters
from proxy.net.events import RequestLog
from proxy.net.http.bodies import Budget
from proxy.net.http.pool import Pools

if TYPE_CHECKING:
    from proxy.net.http.passes import Passes


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one listener allows. A body up to `body_bytes` is kept in memory until it is answered."""

    head_seconds: float = 15.0
    """From the first byte of a request to the end of its head."""
    idle_seconds: float = 300.0
    """Between two requests of a client."""
    stall_seconds: float = 30.0
    """For a client that sends a body, or takes an answer, and does not go on."""
    answer_seconds: float = 300.0
    """From the end of a request to the beginning of its answer."""
    body_bytes: int = 20 * 1024 * 1024
    """Of a request's body in memory. DynamoDB takes 16 MiB and some."""
    buffer_bytes: int = 256 * 1024 * 1024
    """Of all bodies in memory together."""
    spool_dir: Path | None = None
    spool_bytes: int = 0
    """Of all bodies in `spool_dir` together."""


@dataclass(slots=True)
class HttpCounters:
    """Plain numbers, read when scraped."""

    answers: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    """By status, the proxy's own among them."""
    refused: dict[str, int] = field(default_factory=dict)
    """Answers of the proxy itself, by Reason."""
    resigned: int = 0
    """Requests sent again with a fresh grant, or a corrected clock."""
    repeated: int = 0
    """Requests sent again because their connection broke before an answer."""
    aborted: int = 0
    """Answers that the client saw broken off."""


@dataclass(slots=True, kw_only=True)
class House:
    """One listener's."""

    door: Door
    engine: HttpEngine
    passes: Passes
    pools: Pools
    limits: HttpLimits
    log: RequestLog
    counters: Counters
    http: HttpCounters
    budget: Budget
    spool: Budget
    crashed: Callable[[Exception], None]
    """Told of our own bugs."""
    tick: float = 0.0
    """The loop's clock when it was last looked at, some tenths of a second ago: exact enough for deadlines."""
    draining: bool = False
