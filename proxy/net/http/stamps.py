"""The time to sign with: this host's, corrected by what a server that refused it said, written once a second."""

from __future__ import annotations

from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from proxy.sigv4 import Stamp
from tollbridge.clock import Clock

SKEW_LIMIT: Final = timedelta(minutes=15)
"""Grants hold keys for days this far around now; a clock that is further off is for an operator to mend."""

SKEW_NOTICED: Final = timedelta(seconds=30)
"""A Date header is a moment old when it arrives, and AWS bears five minutes."""

REFRESH_SECONDS: Final = 0.2


class Stamps:
    """For one host: what AWS's clock there is thought to be."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._skew = timedelta()
        self._monotonic = clock.monotonic
        self._read_again_at = float("-inf")
        self._stamp = Stamp("", b"")

    @property
    def skew(self) -> timedelta:
        """What is added to this host's clock."""
        return self._skew

    def now(self) -> Stamp:
        """To sign with. At most `REFRESH_SECONDS` old; the same object for as long as it says the same."""
        at = self._monotonic()
        if at >= self._read_again_at:
            self._read_again_at = at + REFRESH_SECONDS
            stamp = Stamp.of(self._clock.now() + self._skew)
            if stamp != self._stamp:
                self._stamp = stamp
        return self._stamp

    def learn(self, date: bytes) -> timedelta | None:
        """Take over the time of a server that refused ours. The new skew, or None when it explains nothing."""
        try:
            there = parsedate_to_datetime(date.decode("ascii"))
        except (ValueError, TypeError, OverflowError):
            return None
        there = there.replace(tzinfo=UTC) if there.tzinfo is None else there
        skew = there - self._clock.now()
        if abs(skew - self._skew) < SKEW_NOTICED:
            return None
        if abs(skew) <= SKEW_LIMIT:
            self._skew = skew
            self._read_again_at = float("-inf")
        return skew
