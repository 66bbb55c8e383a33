"""The ways to one and the same PostgreSQL: straight, through pgbouncer, through tollbridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from deploy.sandbox import MissingEngine
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.world import World

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PASSWORD_USER = "scramuser"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to the database. Its client side is plain unless the name says otherwise; its server side is TLS."""

    name: str
    dsn: str = field(repr=False)
    pid: int | None = None
    """The process in between; None where there is none."""

    def cpu_seconds(self) -> float:
        """User and system time of the process in between, so far."""
        if self.pid is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_SECONDS

    def memory_bytes(self) -> int:
        """Resident memory of the process in between."""
        if self.pid is None:
            return 0
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES


def direct(world: World) -> Contender:
    """Password login over TLS, as an application without a proxy."""
    database = world.database("rds-postgres")
    password = world.password_users[PASSWORD_USER]
    dsn = f"host=127.0.0.1 port={database.local_port} user={PASSWORD_USER} password={password} dbname=app"
    return Contender(name="direct", dsn=f"{dsn} sslmode=require")


def tollbridge(bridge: Bridge, *, tls: bool) -> Contender:
    """The proxy's loopback listener, plain or TLS."""
    if bridge.proxy.process is None:
        raise RuntimeError("the bridge is not up")
    mode = "require" if tls else "disable"
    dsn = f"host=127.0.0.1 port={bridge.ports['app']} user=app dbname=app sslmode={mode}"
    return Contender(name="tollbridge" + (", TLS" if tls else ""), dsn=dsn, pid=bridge.proxy.process.pid)


class PgBouncer:
    """pgbouncer in session mode, TLS to the server: what tollbridge's relay is measured against."""

    def __init__(self, world: World, directory: Path, certificate: Path, key: Path) -> None:
        if shutil.which("pgbouncer") is None:
            raise MissingEngine("pgbouncer is not installed. Install it: apt-get install pgbouncer")
        self._port = free_port()
        self._directory = directory
        directory.mkdir(parents=True)
        database = world.database("rds-postgres")
        password = world.password_users[PASSWORD_USER]
        for source, name in ((certificate, "client.crt"), (key, "client.key")):
            shutil.copy(source, directory / name)
        (directory / "pgbouncer.ini").write_text(
            f"""[databases]
app = host=127.0.0.1 port={database.local_port} dbname=app user={PASSWORD_USER} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port}
unix_socket_dir =
auth_type = any
pool_mode = session
default_pool_size = 1200
max_client_conn = 1500
server_tls_sslmode = require
client_tls_sslmode = allow
client_tls_cert_file = {directory}/client.crt
client_tls_key_file = {directory}/client.key
server_check_query =
server_reset_query =
log_connections = 0
log_disconnections = 0
logfile = {directory}/pgbouncer.log
"""
        )
        command = ["pgbouncer", "-q", str(directory / "pgbouncer.ini")]
        if os.geteuid() == 0:  # it refuses root
            # The directories above are the owner's alone; it reads its files through a handed-over copy of its own.
            shutil.chown(directory, "postgres")
            for path in directory.iterdir():
                shutil.chown(path, "postgres")
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._dsn = f"host=127.0.0.1 port={self._port} user={PASSWORD_USER} dbname=app"

    def contender(self, *, tls: bool) -> Contender:
        """Plain or TLS on the client side."""
        mode = "require" if tls else "disable"
        name = "pgbouncer" + (", TLS" if tls else "")
        return Contender(name=name, dsn=f"{self._dsn} sslmode={mode}", pid=self._process.pid)

    def wait_ready(self, seconds: float = 10.0) -> None:
        """Until a login through it works. Raises the last login's error."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(f"{self._dsn} sslmode=disable connect_timeout=2").close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """SIGINT is its quick shutdown."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
