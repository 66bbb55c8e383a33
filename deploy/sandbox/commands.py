"""Small things that every engine needs done on the machine."""

import contextlib
import os
import random
import shlex
import socket
import subprocess
import tempfile
from pathlib import Path

from deploy.sandbox.errors import SandboxError

_given_out: set[int] = set()


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
    """A port of 127.0.0.1 that nobody listens on now, never the same one twice in a process.

    From below the range that outgoing connections take their ports from (32768 and up): one of those could take it
    before the server for whom it is meant.
    """
    while True:
        port = random.randrange(10240, 32768)  # noqa: S311 - it keeps no secret
        if port in _given_out:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given_out.add(port)
            return port
