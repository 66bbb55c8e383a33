"""Plain numbers, added to on the event loop and read when scraped: a metric call costs a hundred times as much."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

LOGIN_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds, in seconds, of the login histogram."""


@dataclass(slots=True)
class Counters:
    """All listeners of a process share one."""

    connections_open: int = 0
    connections_total: int = 0
    sessions_open: int = 0
    logins: dict[str, int] = field(default_factory=dict)
    """By outcome: `ok`, `finished` (a cancel request) or the name of a Reason."""
    sessions_ended: dict[str, int] = field(default_factory=dict)
    """By who ended them (`client`, `upstream`), or why the proxy did (the name of a Reason)."""
    crashes: int = 0
    bytes_to_client: int = 0
    """Of sessions that have ended; `Listener.live_bytes` has those of running ones."""
    bytes_to_upstream: int = 0
    login_seconds: list[int] = field(default_factory=lambda: [0] * (len(LOGIN_BUCKETS) + 1))
    """Successful logins by time, one more than LOGIN_BUCKETS: the last is everything above. Not cumulative."""
    login_seconds_sum: float = 0.0

    def login(self, outcome: str) -> None:
        """A login came to its end."""
        self.logins[outcome] = self.logins.get(outcome, 0) + 1

    def session_ended(self, why: str) -> None:
        """A session is over."""
        self.sessions_ended[why] = self.sessions_ended.get(why, 0) + 1

    def login_took(self, seconds: float) -> None:
        """A login succeeded after so long."""
        self.login_seconds[bisect_left(LOGIN_BUCKETS, seconds)] += 1
        self.login_seconds_sum += seconds
