"""Small things that every engine needs done on the machine."""

import contextlib
import os
import random
import shlex
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from deploy.sandbox.errors import SandboxError


def run(*command: str | Path, stdin: Path = Path(os.devnull)) -> None:
    """Raises SandboxError with what the command said."""
    with stdin.open("rb") as given, tempfile.TemporaryFile() as said:
        # Into a file, not a pipe: a server that pg_ctl starts keeps its output open.
        code = subprocess.run(command, stdin=given, stdout=said, stderr=said, cwd="/", check=False).returncode
        said.seek(0)
        text = said.read().decode(errors="replace").strip()
    if code != 0:
        raise SandboxError(f"{shlex.join(map(str, command))} failed:\n{text[-2000:]}")


def copy(source: Path, target: Path) -> None:
    """A directory with its owners and modes; at once where the file system can share blocks."""
    run("cp", "-a", "--reflink=auto", source, target)


def give(directory: Path, uid: int, gid: int) -> None:
    """Make a directory and all in it another user's."""
    if uid != os.geteuid():
        run("chown", "-R", f"{uid}:{gid}", directory)


def free_port() -> int:
    """A port of 127.0.0.1 for a server that starts later: nobody listens on it now, and no other process is given it.

    Processes share the ports out in blocks. A block is had by binding an abstract unix socket of its name: it ends with
    the process however that dies, and counts in the same network namespace as the ports do. Within a process no port is
    given twice. From below the range that outgoing connections take their ports from (32768 and up): one of those could
    take it before the server for whom it is meant. Raises SandboxError when there are none left.
    """
    with _giving:
        while True:
            while _mine:
                port = _mine.pop()
                with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                    return port
            _claim_block()


_PORTS = range(10240, 32768)
_BLOCK = 256
_giving = threading.Lock()
_mine: list[int] = []


def _claim_block() -> None:
    blocks = list(range(_PORTS.start, _PORTS.stop, _BLOCK))
    # Not the same one in run after run: whoever was told of a server that is gone meets nobody, and no other server.
    random.shuffle(blocks)
    for first in blocks:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0tollbridge-ports-{first}")
        except OSError:  # another process has it, or we had it before
            claim.close()
            continue
        claim.detach()  # open, and so held, as long as this process lives
        _mine.extend(range(first, first + _BLOCK))
        random.shuffle(_mine)
        return
    raise SandboxError(f"no free port is left in {_PORTS.start} to {_PORTS.stop}: what runs here takes them all")
