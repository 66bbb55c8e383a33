"""Start and stop background processes so that a later, unrelated process can stop them too, and only them.

What was started is written to a ledger before anything else happens. A process is known by its id and the time it
started: an id that the system has given to somebody else since is left alone.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

POLL_SECONDS = 0.01
START_SECONDS = 180.0
"""How long a server may take to start, on a machine however busy: one that has died is noticed at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedProcess:
    name: str
    pid: int
    started_at_ticks: int
    """Field 22 of /proc/PID/stat: clock ticks between boot and the start of the process."""
    stop_signal: int = signal.SIGTERM

    def alive(self) -> bool:
        with suppress(ChildProcessError):  # not our child, then somebody else reaps it
            os.waitpid(self.pid, os.WNOHANG)
        state, started_at_ticks = _stat(self.pid)
        return state not in ("", "Z", "X") and started_at_ticks == self.started_at_ticks

    def send(self, number: int) -> None:
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What one sandbox has made outside its directory. Every change is on disk before the method returns."""

    file: Path
    runtime: str | None = None
    """The short directory under the system's temporary directory."""
    pam_files: list[str] = field(default_factory=list)
    processes: list[StartedProcess] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def load(cls, file: Path) -> "Ledger":
        """An empty ledger when there is no file."""
        try:
            document = json.loads(file.read_text())
        except FileNotFoundError:
            return cls(file=file)
        return cls(
            file=file,
            runtime=document["runtime"],
            pam_files=document["pam_files"],
            processes=[StartedProcess(**process) for process in document["processes"]],
        )

    def set_runtime(self, runtime: Path) -> None:
        with self._lock:
            self.runtime = str(runtime)
            self._save()

    def add_pam_file(self, file: str) -> None:
        with self._lock:
            self.pam_files.append(file)
            self._save()

    def add_process(self, process: StartedProcess) -> None:
        with self._lock:
            self.processes.append(process)
            self._save()

    def _save(self) -> None:
        document = {
            "runtime": self.runtime,
            "pam_files": self.pam_files,
            "processes": [asdict(process) for process in self.processes],
        }
        draft = self.file.with_suffix(".tmp")
        draft.write_text(json.dumps(document, indent=2))
        draft.replace(self.file)


def start(
    name: str,
    command: Sequence[str],
    *,
    log_file: Path,
    environment: Mapping[str, str],
    stop_signal: int = signal.SIGTERM,
) -> StartedProcess:
    """In a session of its own, so that Ctrl-C in a terminal reaches whoever owns the sandbox first."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
        )
    _, started_at_ticks = _stat(process.pid)
    # Reaped by StartedProcess.alive; without this Popen warns when it is collected.
    process.returncode = 0
    return StartedProcess(name=name, pid=process.pid, started_at_ticks=started_at_ticks, stop_signal=stop_signal)


def stop_all(processes: Sequence[StartedProcess], *, timeout_seconds: float = 5.0) -> None:
    """Ask all of them at once, then kill what has not gone in time."""
    for process in processes:
        process.send(process.stop_signal)
    for number in (None, signal.SIGKILL):
        if number is not None:
            for process in processes:
                process.send(number)
        deadline = time.monotonic() + timeout_seconds
        while any(process.alive() for process in processes) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _stat(pid: int) -> tuple[str, int]:
    """State and start time of a process; an empty state when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    # The second field is the command in parentheses and may hold anything, parentheses included.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])
