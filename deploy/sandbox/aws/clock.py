"""The clock of the whole AWS process, which tests can shift: what ministack, the verifiers and the answers' Date go by.

``install`` first, before ministack and the HTTP server are imported: they keep their own reference to ``time.time``.
Intervals are measured on the monotonic clock, which stays as it is.
"""

import time

_real_time = time.time


class _Shift:
    """Of this process."""

    seconds = 0.0


def install() -> None:
    """From now on ``time.time()`` is this clock."""
    time.time = now


def now() -> float:
    """Seconds since the epoch, shifted."""
    return _real_time() + _Shift.seconds


def shift(seconds: float) -> None:
    """So far ahead of the machine's clock from now on; negative: behind."""
    _Shift.seconds = seconds
