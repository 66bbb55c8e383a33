"""A MongoDB server that is entered as Amazon DocumentDB is: TLS, MONGODB-AWS, a replica set of names.

The server is SecantusDB (PyPI, in an environment of its own): it speaks MongoDB's protocol over a real storage engine,
with cursors and transactions. It checks nobody and listens for the front alone (``docdb``), which lets in whoever STS
says is one of the cluster's users. DocumentDB's own limits are not there.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from deploy.sandbox import commands, ministack_venv, processes, topology
from deploy.sandbox.errors import SandboxError, did_not_start
from deploy.sandbox.ground import Ground
from deploy.sandbox.world import Database, World

REQUIREMENTS = ministack_venv.REPOSITORY / "requirements" / "mongodb.txt"
PORT_ATTEMPTS = 5
NODES = 2
FRONT = "documentdb front"

_CODE = Path(__file__).resolve().parent


def check() -> None:
    """It brings all it needs but Python."""


def fetch(progress: Callable[[str], None]) -> Path:
    """Its environment's Python, made once. Raises MissingEngine."""
    return ministack_venv.ensure_locked("mongodb", "a MongoDB server", REQUIREMENTS, progress)


def launch(ground: Ground, specs: tuple[topology.DatabaseSpec, ...]) -> list[Database]:
    """One server and one front for each cluster."""
    python = fetch(lambda _line: None)
    return [_launch(ground, spec, python) for spec in specs]


def nodes(spec: topology.DatabaseSpec) -> list[str]:
    """host:port of a cluster's instances, as AWS names them. None of them is to be had here."""
    _, cluster, rest = spec.host.split(".", 2)
    suffix = f"{cluster.removeprefix('cluster-')}.{rest}:{spec.port}"
    return [f"docdb-{number + 1}.{suffix}" for number in range(NODES)]


def fail_over(world: World, *, restart: bool = True) -> str:
    """Another node becomes primary; with ``restart`` the old one drops its connections. The new one's host:port."""
    directory = Path(world.directory)
    log_file = _log_file(directory / "logs", topology.DOCUMENTDB)
    before = _primaries(log_file)
    for process in processes.Ledger.load(directory / "started.json").processes:
        if process.name == f"{FRONT} {topology.DOCUMENTDB.name}":
            process.send(signal.SIGUSR1 if restart else signal.SIGUSR2)
    deadline = time.monotonic() + processes.START_SECONDS
    while time.monotonic() < deadline:
        if len(after := _primaries(log_file)) > len(before):
            return after[-1]
        time.sleep(processes.POLL_SECONDS)
    raise SandboxError(f"the primary did not change; the log is {log_file}")


def _primaries(log_file: Path) -> list[str]:
    lines = log_file.read_text(errors="replace").splitlines()
    return [line.rpartition("primary: ")[2] for line in lines if "primary: " in line]


def _log_file(logs: Path, spec: topology.DatabaseSpec) -> Path:
    return logs / f"documentdb-{spec.name}.log"


def _launch(ground: Ground, spec: topology.DatabaseSpec, python: Path) -> Database:
    home = ground.make_directory(spec.name)
    server_port = _start_server(home, ground, spec, python)
    port = _start_front(home, ground, spec, python, server_port)
    return Database.of(
        spec,
        local_port=port,
        superuser_dsn=f"mongodb://127.0.0.1:{server_port}/?directConnection=true",
    )


def _start_server(home: Path, ground: Ground, spec: topology.DatabaseSpec, python: Path) -> int:
    log_file = ground.logs / f"mongodb-{spec.name}.log"
    for _ in range(PORT_ATTEMPTS):
        port = commands.free_port()
        process = processes.start(
            f"mongodb {spec.name}",
            (str(python), "-m", "secantus", "--host", "127.0.0.1", "--port", str(port),
             "--storage-path", str(home / "data"), "--cache-size", "128M", "--log-level", "WARNING"),
            log_file=log_file,
            environment=_environment(home),
            stop_signal=signal.SIGKILL,  # nothing here is worth a clean shutdown
        )  # fmt: skip
        ground.ledger.add_process(process)
        if _wait_until_listening(process, port):
            return port
    raise did_not_start(f"the database server {spec.name}", log_file)


def _start_front(home: Path, ground: Ground, spec: topology.DatabaseSpec, python: Path, server_port: int) -> int:
    certificate, key, settings_file = home / "server.crt", home / "server.key", home / "front.json"
    hosts = [node.partition(":")[0] for node in nodes(spec)]
    ground.authority.issue(certificate, key, dns_names=[spec.host, *hosts])
    log_file = _log_file(ground.logs, spec)
    for _ in range(PORT_ATTEMPTS):
        port = commands.free_port()
        settings = {
            "port": port,
            "certificate": str(certificate),
            "key": str(key),
            "nodes": nodes(spec),
            "sts_host": f"sts.{topology.REGION}.amazonaws.com",
            "users": [topology.DATABASE_USER_ROLE_ARN, topology.READER_ROLE_ARN],
            "server_port": server_port,
            "aws_ready_file": str(ground.runtime / "aws.ready"),
            "ready_file": str(home / "ready"),
        }
        settings_file.write_text(json.dumps(settings))
        process = processes.start(
            f"{FRONT} {spec.name}",
            (str(python), "-m", "docdb", str(settings_file)),
            log_file=log_file,
            environment={**_environment(home), "PYTHONPATH": str(_CODE)},
            stop_signal=signal.SIGKILL,
        )
        ground.ledger.add_process(process)
        if _wait_until_listening(process, port) and _wait_until_seeded(process, home / "ready"):
            return port
    raise did_not_start(f"the front of {spec.name}", log_file)


def _wait_until_listening(process: processes.StartedProcess, port: int) -> bool:
    deadline = time.monotonic() + processes.START_SECONDS
    while process.alive() and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(processes.POLL_SECONDS)
        else:
            return process.alive()
    return False


def _wait_until_seeded(process: processes.StartedProcess, ready_file: Path) -> bool:
    deadline = time.monotonic() + processes.START_SECONDS
    while process.alive() and time.monotonic() < deadline:
        if ready_file.exists():
            return True
        time.sleep(processes.POLL_SECONDS)
    return False


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
