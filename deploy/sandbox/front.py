"""TLS in front of what has none: haproxy ends it and passes the bytes on, one process for all doors of an engine.

Of the terminators tried it costs the least (a third of stunnel's CPU at one Redis command per round trip, half at
sixteen), so that a benchmark through it measures the proxy.
"""

import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox import commands, processes
from deploy.sandbox.errors import MissingEngine, did_not_start
from deploy.sandbox.ground import Ground

INSTALL_LINE = "RUNLEVEL=1 apt-get install -y --no-install-recommends haproxy"
PORT_ATTEMPTS = 5

_SETTINGS = """\
global
  nbthread 1
  maxconn {max_connections}
defaults
  mode tcp
  timeout connect 5s
  timeout client 24h
  timeout server 24h
"""
_DOOR = """\
frontend {name}
  bind 127.0.0.1:{port} ssl crt {certificate} ssl-min-ver TLSv1.2
  default_backend {name}
backend {name}
  server behind {behind}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One port with a certificate of its own."""

    name: str
    dns_names: tuple[str, ...]
    behind: str
    """Where the bytes go, as haproxy writes it: unix@PATH or HOST:PORT. Need not be up yet."""


def check() -> None:
    """Raises MissingEngine."""
    if _haproxy() is None:
        raise MissingEngine(f"haproxy, which ends TLS in the sandbox, is not installed. Install it: {INSTALL_LINE}")


def start(name: str, doors: Sequence[Door], ground: Ground) -> list[int]:
    """Ports of the doors, in their order. Blocks until they listen. Raises SandboxError."""
    directory, log_file = ground.make_directory(f"{name}-front"), ground.logs / f"{name}-front.log"
    settings = directory / "haproxy.cfg"
    certificates = [_certificate(door, directory, ground) for door in doors]
    for _ in range(PORT_ATTEMPTS):
        ports = [commands.free_port() for _ in doors]
        blocks = (
            _DOOR.format(name=door.name, port=port, certificate=certificate, behind=door.behind)
            for door, port, certificate in zip(doors, ports, certificates, strict=True)
        )
        # Never the limit: that is the servers' to have.
        limit = (ground.max_connections + 100) * len(doors)
        settings.write_text(_SETTINGS.format(max_connections=limit) + "".join(blocks))
        commands.give(directory, ground.quarters.uid, ground.quarters.gid)
        process = processes.start(
            f"{name} front",
            (*ground.quarters.run_as, str(_haproxy()), "-db", "-f", str(settings)),
            log_file=log_file,
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            stop_signal=signal.SIGKILL,  # nothing here is worth a clean shutdown
        )
        ground.ledger.add_process(process)
        if _wait_until_listening(ports, process):
            return ports
        # Somebody may have taken a port between our asking for it and the front's bind.
        if "cannot bind" not in log_file.read_text(errors="replace").lower():
            break
    raise did_not_start(f"the TLS of {name}", log_file)


def _certificate(door: Door, directory: Path, ground: Ground) -> Path:
    """Certificate and key in one file, as haproxy wants them."""
    certificate, key = directory / f"{door.name}.crt", directory / f"{door.name}.key"
    ground.authority.issue(certificate, key, dns_names=door.dns_names)
    both = directory / f"{door.name}.pem"
    both.touch(mode=0o600)
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return both


def _wait_until_listening(ports: list[int], process: processes.StartedProcess) -> bool:
    deadline = time.monotonic() + processes.START_SECONDS
    waiting = list(ports)
    while process.alive() and time.monotonic() < deadline:
        try:
            while waiting:
                socket.create_connection(("127.0.0.1", waiting[0]), timeout=1).close()
                waiting.pop(0)
        except OSError:
            time.sleep(processes.POLL_SECONDS)
        else:
            return process.alive()
    return False


def _haproxy() -> str | None:
    # It lives in sbin, which an ordinary user's PATH may lack.
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
