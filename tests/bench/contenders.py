"""A way to a database, and the process in between whose CPU and memory are counted."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox import MissingEngine
from deploy.sandbox.bridge import Bridge

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way. Its client side is plain unless the name says otherwise; its server side is TLS unless a note does."""

    name: str
    pid: int | None = None
    """The process in between; None where there is none."""

    def cpu_seconds(self) -> float:
        """User and system time of the process in between, all its threads, so far."""
        if self.pid is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_SECONDS

    def memory_bytes(self) -> int:
        """Resident memory of the process in between."""
        if self.pid is None:
            return 0
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES


def proxy_pid(bridge: Bridge) -> int:
    """Of tollbridge's proxy."""
    if bridge.proxy.process is None:
        raise RuntimeError("the bridge is not up")
    return bridge.proxy.process.pid


def program(name: str, package: str = "") -> str:
    """Where a program is; servers live in sbin, which an ordinary user's PATH may lack. Raises MissingEngine."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingEngine(f"{name} is not installed. Install it: apt-get install {package or name}")
    return found


@contextlib.contextmanager
def running(command: Sequence[str], port: int, log_file: Path, seconds: float = 60.0) -> Iterator[int]:
    """The pid of a server that listens on a loopback port, stopped in the end. Raises RuntimeError with its log."""
    with log_file.open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_listening(process, port, log_file, seconds)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_listening(process: subprocess.Popen[bytes], port: int, log_file: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen:\n{log_file.read_text()[-1000:]}")
