"""The file that audit lines go to."""

from __future__ import annotations

import os


class AuditFile:
    """Where decisions are written: `-` is standard output. Each line is in the file before its credential leaves."""

    def __init__(self, path: str) -> None:
        self._path = "" if path == "-" else path
        self._descriptor = self._open()
        self._torn = False
        """A line's beginning was written and its end was not."""

    def write(self, line: str) -> None:
        """Append one line. Raises OSError: then no credential is handed out."""
        # What a full disk left of another line must not take this one with it: readers drop a line that is no JSON.
        data = (b"\n" if self._torn else b"") + line.encode() + b"\n"
        left = data
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        finally:
            if len(left) < len(data):
                self._torn = bool(left)

    def reopen(self) -> None:
        """After a log rotation moved the file away (SIGHUP)."""
        if not self._path:
            return
        old, self._descriptor = self._descriptor, self._open()
        self._torn = False
        os.close(old)

    def _open(self) -> int:
        if not self._path:
            return 1
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
