"""PostgreSQL servers that take an IAM token as the password, one per database host.

All are copies of one template (initdb and ``seed.sql``, made once per PostgreSQL version) kept in ``.cache``. They
promise nothing about their data: no fsync, thrown away with the sandbox.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox import commands, ministack_venv, processes, topology
from deploy.sandbox.errors import MissingEngine, did_not_start
from deploy.sandbox.ground import Ground
from deploy.sandbox.pam import INSTALL_LINE, Quarters
from deploy.sandbox.world import Database

MAX_CONNECTIONS = 300
PORT_ATTEMPTS = 5
SEED = Path(__file__).with_name("seed.sql")

_SETTINGS = """\
listen_addresses = '127.0.0.1'
max_connections = {max_connections}
superuser_reserved_connections = 5
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '{directory}/server.crt'
ssl_key_file = '{directory}/server.key'
ssl_min_protocol_version = 'TLSv1.2'
authentication_timeout = 60s
fsync = off
synchronous_commit = off
full_page_writes = off
max_wal_size = 2GB
autovacuum_naptime = 1h
jit = off
timezone = 'UTC'
"""

# As on RDS: who is in rds_iam logs in with a token over TLS, and never without TLS.
_HBA = """\
local     all  postgres                     trust
hostssl   all  +rds_iam       127.0.0.1/32  pam pamservice={service}
hostnossl all  +rds_iam       127.0.0.1/32  reject
hostssl   all  md5user        127.0.0.1/32  md5
hostssl   all  scramuser      127.0.0.1/32  scram-sha-256
hostssl   all  cleartextuser  127.0.0.1/32  password
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where one server keeps its things; ``directory`` (which also holds its socket) belongs to the server's user."""

    name: str
    directory: Path
    log_file: Path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def certificate_file(self) -> Path:
        return self.directory / "server.crt"

    @property
    def key_file(self) -> Path:
        return self.directory / "server.key"

    def superuser_dsn(self, port: int, db_name: str) -> str:
        return f"host={self.directory} port={port} user=postgres dbname={db_name}"


def binaries() -> Path:
    """Directory of PostgreSQL 15's server programs. Raises MissingEngine."""
    candidates = [Path("/usr/lib/postgresql/15/bin")]
    if config := shutil.which("pg_config"):
        found = subprocess.run((config, "--bindir"), capture_output=True, text=True, check=False).stdout.strip()
        candidates.append(Path(found))
    for directory in candidates:
        if all((directory / program).exists() for program in ("initdb", "postgres", "pg_ctl", "psql")):
            return directory
    raise MissingEngine(f"PostgreSQL's server programs are not installed. Install them: {INSTALL_LINE}")


def major_version() -> int:
    """Of the server's programs."""
    said = subprocess.run((binaries() / "postgres", "--version"), capture_output=True, text=True, check=True).stdout
    return int(said.split()[2].partition(".")[0])


def launch(ground: Ground, specs: tuple[topology.DatabaseSpec, ...]) -> list[Database]:
    """One server for each database, all at once."""
    template = ensure_template(ministack_venv.CACHE, ground.runtime, ground.quarters)
    with ThreadPoolExecutor(max_workers=len(specs)) as pool:
        return list(pool.map(lambda spec: _launch(ground, spec, template), specs))


def _launch(ground: Ground, spec: topology.DatabaseSpec, template: Path) -> Database:
    server = Server(
        name=spec.name,
        directory=ground.make_directory(spec.name),
        log_file=ground.logs / f"postgres-{spec.name}.log",
    )
    ground.authority.issue(server.certificate_file, server.key_file, dns_names=[spec.host])
    hba = _HBA.format(service=ground.service(spec))
    prepare(server, template, ground.quarters, hba=hba, max_connections=ground.max_connections)
    port = start(server, ground.quarters, ground.ledger)
    return Database.of(spec, local_port=port, superuser_dsn=server.superuser_dsn(port, topology.DB_NAME))


_MAKING_TEMPLATE = threading.Lock()
"""Several engines stand on the template, and start at the same time."""


def ensure_template(cache: Path, runtime: Path, quarters: Quarters) -> Path:
    """A data directory to copy servers from. Built in ``runtime``, which the server's user can reach."""
    with _MAKING_TEMPLATE:
        return _ensure_template(cache, runtime, quarters)


def _ensure_template(cache: Path, runtime: Path, quarters: Quarters) -> Path:
    programs = binaries()
    version = subprocess.run((programs / "postgres", "--version"), capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256(version.encode() + SEED.read_bytes()).hexdigest()[:16]
    template = cache / f"sandbox-postgres-{key}"
    if template.is_dir():
        return template
    home = runtime / "template"
    home.mkdir(mode=0o700)
    os.chown(home, quarters.uid, quarters.gid)
    data = home / "data"
    as_user = quarters.run_as
    server: tuple[str | Path, ...] = (*as_user, programs / "pg_ctl", "--silent", "--wait", "--pgdata", data)
    options = f"-c listen_addresses='' -c unix_socket_directories='{home}' -c fsync=off"
    commands.run(*as_user, programs / "initdb", "--pgdata", data, "--username=postgres", "--auth=trust",
                 "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
    commands.run(*server, "--options", options, "start")
    try:
        commands.run(*as_user, programs / "psql", "--host", home, "--username=postgres", "--no-psqlrc", "--quiet",
                     "--set=ON_ERROR_STOP=1", "--file=-", stdin=SEED)  # fmt: skip
    finally:
        commands.run(*server, "--mode=fast", "stop")
    # Another sandbox may be doing the same; whoever renames first wins, and both are alike.
    cache.mkdir(exist_ok=True)
    draft = cache / f"{template.name}.{os.getpid()}"
    commands.copy(data, draft)
    try:
        draft.rename(template)
    except OSError:
        shutil.rmtree(draft)
    shutil.rmtree(home)
    return template


def prepare(
    server: Server, template: Path, quarters: Quarters, *, hba: str, max_connections: int, more_settings: str = ""
) -> None:
    """Everything a server needs on disk. Its certificate and key must be in its directory already."""
    commands.copy(template, server.data)
    (server.data / "postgresql.conf").write_text(
        _SETTINGS.format(max_connections=max_connections, directory=server.directory)
        + f"unix_socket_directories = '{server.directory}'\n"
        + more_settings
    )
    (server.data / "pg_hba.conf").write_text(hba)
    server.data.chmod(0o700)
    commands.give(server.directory, quarters.uid, quarters.gid)


def start(server: Server, quarters: Quarters, ledger: processes.Ledger) -> int:
    """Start it on a free port and wait until it takes connections. The port. Raises SandboxError."""
    for _ in range(PORT_ATTEMPTS):
        port = commands.free_port()
        process = processes.start(
            f"postgres {server.name}",
            (*quarters.serve_as, str(binaries() / "postgres"), "-D", str(server.data), "-p", str(port)),
            log_file=server.log_file,
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            # Immediate shutdown: nothing here is worth a checkpoint.
            stop_signal=signal.SIGQUIT,
        )
        ledger.add_process(process)
        if _wait_until_ready(server, process):
            return port
        # Somebody may have taken the port between our asking for it and the server's bind.
        if "could not bind" not in server.log_file.read_text(errors="replace"):
            break
    raise did_not_start(f"the database server {server.name}", server.log_file)


def _wait_until_ready(server: Server, process: processes.StartedProcess) -> bool:
    pid_file = server.data / "postmaster.pid"
    deadline = time.monotonic() + processes.START_SECONDS
    while process.alive() and time.monotonic() < deadline:
        try:
            # Line 8, as pg_ctl reads it.
            if pid_file.read_text().splitlines()[7].strip() == "ready":
                return True
        except (OSError, IndexError):
            pass
        time.sleep(processes.POLL_SECONDS)
    return False
