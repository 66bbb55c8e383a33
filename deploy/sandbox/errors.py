"""What can go wrong while a sandbox starts."""

from pathlib import Path

_LAST_LINES = 8


class SandboxError(Exception):
    """A part of the sandbox did not start; the message names the part and where its log is."""


class MissingEngine(SandboxError):
    """Software is not installed: tests turn it into a skip. The message ends with the exact line that installs it."""


def did_not_start(what: str, log_file: Path) -> SandboxError:
    """With the end of its log: the file may be gone before anybody looks."""
    try:
        lines = log_file.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        lines = []
    said = "".join(f"\n    {line[:300]}" for line in lines)
    return SandboxError(f"{what} did not start; its log is {log_file}{said}")
