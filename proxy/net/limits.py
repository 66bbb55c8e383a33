"""How much one source may ask for before it has said who it is."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from tollbridge.clock import Clock

SOURCES_LIMIT: Final = 4096
"""Sources remembered. A forgotten one starts with a full bucket, so an attacker needs that many addresses."""


class SourceLimiter:
    """A token bucket per source."""

    def __init__(self, *, per_second: float, burst: int, clock: Clock) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, source: str) -> bool:
        """Whether a source may go ahead; counts it when it may."""
        now = self._clock.monotonic()
        tokens, at = self._buckets.pop(source, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - at) * self._per_second)
        admitted = tokens >= 1.0
        self._buckets[source] = (tokens - 1.0 if admitted else tokens, now)
        if len(self._buckets) > SOURCES_LIMIT:
            self._buckets.popitem(last=False)
        return admitted
