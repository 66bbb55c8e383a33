"""One of our processes, as tests, demo and benchmarks run it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.sandbox.errors import SandboxError

START_SECONDS = 60.0
STOP_SECONDS = 60.0
PAGE_SECONDS = 30.0
"""Of a busy machine. No claim about time: those are the tests' own."""
REPOSITORY = Path(__file__).parents[2]


@dataclass(slots=True, kw_only=True)
class Daemon:
    """One of our processes, started as an operator would start it."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(repr=False)
    admin_port: int
    log_file: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self, *, wait: bool = True) -> None:
        """Start it and, unless told otherwise, wait until it is ready. Raises SandboxError with its log's end."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environment),
                cwd=REPOSITORY,
                start_new_session=True,  # Ctrl-C reaches whoever owns it first
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Until /readyz says yes."""
        deadline = time.monotonic() + seconds
        while not self.ready():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(self.log().splitlines()[-15:])
                self.stop()
                raise SandboxError(f"the {self.name} did not become ready; its log ends:\n{tail}")
            time.sleep(0.03)

    def ready(self) -> bool:
        """What /readyz says now."""
        try:
            return self.admin("/readyz")[0] == 200
        except OSError:
            return False

    def admin(self, path: str) -> tuple[int, str]:
        """Status and body of a page on the admin port."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.admin_port}{path}", timeout=PAGE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def log(self) -> str:
        """Everything it has written so far, over all its starts."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def send(self, number: int) -> None:
        """A signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def resident_bytes(self) -> int:
        """Its memory now."""
        if self.process is None:
            return 0
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    def open_files(self) -> int:
        """Files and sockets it holds now."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd")) if self.process is not None else 0

    def stop(self, seconds: float = STOP_SECONDS) -> int | None:
        """SIGTERM, then SIGKILL. Returns the exit code."""
        if self.process is None:
            return None
        self.send(signal.SIGCONT)  # a test may have stopped it
        self.send(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL: as when a machine goes away."""
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(STOP_SECONDS)
