"""How the demo talks to a terminal: numbered steps, facts below them, a tick or a cross."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Narrator:
    """Prints the story and remembers whether every step of it came true."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._number = 0
        self.failures: list[str] = []

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def say(self, text: str = "") -> None:
        """A line as it is."""
        print(text, flush=True)

    def progress(self, text: str) -> None:
        """A line about work under way."""
        self.say(self._paint("2", f"      {text}"))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A numbered step; an exception inside is shown, remembered, and does not stop the story."""
        self._number += 1
        self.say()
        self.say(self._paint("1", f"{self._number:>3}.  {title}"))
        started = time.monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001  # the story goes on and the exit code tells
            self.failures.append(title)
            self.say(self._paint("31", f"      FAILED: {error}"))
        else:
            self.say(self._paint("32", f"      ok ({time.monotonic() - started:.1f} s)"))

    def fact(self, name: str, value: object) -> None:
        """A fact below a step."""
        self.say(f"      {self._paint('36', f'{name:<14}')} {value}")

    def quote(self, text: str) -> None:
        """What a program printed."""
        for line in text.strip().splitlines():
            self.say(self._paint("33", f"      | {line}"))
