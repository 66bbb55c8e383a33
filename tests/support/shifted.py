"""`python -m tests.support.shifted FILE broker|proxy ...`: a daemon as it is, on a clock that a test can move.

The file holds one number: how many seconds its clock is ahead of the machine's, read at each look at it. `Shift` writes
it. What the daemons read is `SystemClock.now`, and, in the broker, what botocore signs with; the monotonic clock stays.
"""

from __future__ import annotations

import importlib
import mmap
import os
import runpy
import struct
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tollbridge.process import lifecycle

_NUMBER: Final = struct.Struct("d")


class Shift:
    """The number in a file, for whoever moves the clock and whoever reads it."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(_NUMBER.pack(0.0))
        descriptor = os.open(file, os.O_RDWR)
        self._memory = mmap.mmap(descriptor, _NUMBER.size)
        os.close(descriptor)

    @property
    def seconds(self) -> float:
        """Ahead of the machine."""
        return float(_NUMBER.unpack(self._memory[:])[0])

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._memory[:] = _NUMBER.pack(value)


def command(command: list[str], file: Path) -> list[str]:
    """A daemon's command, shifted by that file: python -m PACKAGE ... becomes this module's."""
    python, flag, *rest = command
    return [python, flag, __name__, str(file), *rest]


def main() -> None:
    """Shift the clocks and be the daemon."""
    _, file, package, *arguments = sys.argv
    shift = Shift(Path(file))
    true = lifecycle.SystemClock.now

    def now(self: lifecycle.SystemClock) -> datetime:
        return true(self) + timedelta(seconds=shift.seconds)

    lifecycle.SystemClock.now = now  # type: ignore[method-assign]
    if package == "broker":
        auth: Any = importlib.import_module("botocore.auth")
        reads = auth.get_current_datetime

        def current(*given: Any, **named: Any) -> Any:
            return reads(*given, **named) + timedelta(seconds=shift.seconds)

        auth.get_current_datetime = current
    sys.argv = [package, *arguments]
    runpy.run_module(f"{package}.__main__", run_name="__main__")


if __name__ == "__main__":
    main()
