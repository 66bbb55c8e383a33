"""How time reaches code that decides: as a value, from a clock that was handed in."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Reads the time. `tollbridge.process.lifecycle.SystemClock` is the real one; tests move their own."""

    def now(self) -> datetime:
        """The instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        ...
