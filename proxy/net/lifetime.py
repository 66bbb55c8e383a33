"""How long sessions may live. A timer samples a counter now and then, so that a message costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.errors import Refused
from tollbridge.reasons import Reason

SAMPLES_PER_IDLE: Final = 4
"""A session counts as idle after idle_seconds at the earliest and a quarter more at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """How long sessions may live."""

    idle_seconds: float | None = None
    max_session_seconds: float | None = None
    """The bound on revocation for sessions that are already in."""


class Lifetime:
    """Of one session, which it ends when its time is over."""

    def __init__(self, limits: SessionLimits, moved: Callable[[], int], end: Callable[[Refused], None]) -> None:
        """`moved`: bytes in both directions so far."""
        self._limits = limits
        self._moved = moved
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._started = self._active_at = self._loop.time()
        self._seen = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._loop.time() - self._started

    def watch(self) -> None:
        """Look now, and from now on."""
        now = self._loop.time()
        moved = self._moved()
        if moved != self._seen:
            self._seen, self._active_at = moved, now
        idle, longest = self._limits.idle_seconds, self._limits.max_session_seconds
        waits = []
        if longest is not None:
            if now - self._started >= longest:
                message = f"the session is over after {longest:g} s (`max_session_seconds`): log in again"
                self._end(Refused(Reason.SESSION_TOO_LONG, message))
                return
            waits.append(self._started + longest - now)
        if idle is not None:
            if now - self._active_at >= idle:
                message = f"the session was idle for {idle:g} s (`idle_seconds`): log in again"
                self._end(Refused(Reason.SESSION_IDLE, message))
                return
            waits.append(idle / SAMPLES_PER_IDLE)
        if waits:
            self._timer = self._loop.call_later(min(waits), self.watch)

    def stop(self) -> None:
        """The session is over."""
        if self._timer is not None:
            self._timer.cancel()
