"""PostgreSQL: transactions, bulk copy, logins and idle sessions, direct, through pgbouncer and through tollbridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from deploy.sandbox import Sandbox
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.world import World
from tests.bench.contenders import Contender, program, proxy_pid
from tests.bench.report import Bench, Figures
from tests.bench.runner import Options, Plan, client, environment, number, run

DATABASE = "rds-postgres"
PASSWORD_USER = "scramuser"
SCALE = 10
"""pgbench's: a million rows, all in memory."""
COPY_MEGABYTES = 400
COPY = f"copy (select repeat('x', 999) from generate_series(1, {COPY_MEGABYTES * 1000})) to stdout"
IDLE_SESSIONS = 1000
BACKENDS = 2300
"""Server connections: a thousand idle sessions, and a thousand of the contender before, which may still be closing."""
MEMORY = "memory over 1,000 idle sessions"
LOGINS_NOTE = "pgbouncer reuses server connections: it logs in upstream once, tollbridge each time"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresContender(Contender):
    """How libpq gets there."""

    dsn: str = field(repr=False)


def measure(directory: Path, options: Options) -> list[Bench]:
    """Every workload, its contenders interleaved; memory last, because it wants fresh processes."""
    with (
        Sandbox(directory / "sandbox", max_connections=BACKENDS) as world,
        Bridge(world, directory / "bridge", change_proxy=_no_limits) as bridge,
    ):
        prepare(world)
        peer = PgBouncer(world, bridge, directory / "pgbouncer")
        try:
            peer.wait_ready()
            benches = run(_plans(world, bridge, peer, options), options)
        finally:
            peer.stop()
        if options.only in MEMORY:
            benches.append(_idle(world, bridge, directory))
    return benches


def prepare(world: World) -> None:
    """pgbench's tables, readable by every contender's user."""
    dsn = world.database(DATABASE).superuser_dsn
    subprocess.run(["pgbench", "-i", "-q", "-s", str(SCALE), dsn], check=True, capture_output=True, timeout=300)
    grant = "grant select on all tables in schema public to public"
    subprocess.run(["psql", "--no-psqlrc", "-q", "-c", grant, dsn], check=True, capture_output=True, timeout=60)


def transactions(
    contender: PostgresContender, *, clients: int, seconds: int, threads: int = 1, rate: float = 0
) -> Figures:
    """pgbench -S, simple protocol: transactions per second and CPU per transaction. Fewer `threads` than clients come
    in bursts, which cost everybody less; `rate`: so many a second and no more, if there are to be."""
    pace = ("-R", str(round(rate))) if rate else ()
    shape = ("-c", str(clients), "-j", str(threads), "-T", str(seconds))
    output, cpu_seconds = _pgbench(contender, "-S", *shape, *pace)
    count = number(r"number of transactions actually processed: (\d+)", output)
    return {
        "transactions/s": number(r"tps = ([\d.]+)", output),
        "CPU us/transaction": cpu_seconds / count * 1e6,
    }


def logins(contender: PostgresContender, *, clients: int, seconds: int) -> Figures:
    """pgbench -C: a login for each transaction."""
    output, cpu_seconds = _pgbench(contender, "-S", "-C", "-c", str(clients), "-j", "1", "-T", str(seconds))
    count = number(r"number of transactions actually processed: (\d+)", output)
    return {"logins/s": number(r"tps = ([\d.]+)", output), "CPU ms/login": cpu_seconds / count * 1e3}


def bulk_copy(contender: PostgresContender) -> Figures:
    """COPY of 400 MB out: megabytes per second and CPU per byte."""
    cpu_before, started = contender.cpu_seconds(), time.monotonic()
    subprocess.run(
        ["psql", "--no-psqlrc", "-q", "-c", COPY, contender.dsn],
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
        env=environment(),
    )
    seconds = time.monotonic() - started
    cpu_seconds = contender.cpu_seconds() - cpu_before
    return {
        "seconds": seconds,
        "MB/s": COPY_MEGABYTES / seconds,
        "CPU ns/byte": cpu_seconds / COPY_MEGABYTES * 1e3,
    }


def idle_memory(contender: PostgresContender) -> Figures:
    """Memory of the process in between for each of 1,000 idle sessions."""
    before = contender.memory_bytes()
    sessions = []
    try:
        for _ in range(IDLE_SESSIONS):
            session = psycopg.connect(contender.dsn, autocommit=True)
            session.execute("select 1")
            sessions.append(session)
        time.sleep(1)
        grown = contender.memory_bytes() - before
    finally:
        for session in sessions:
            session.close()
    return {"KB/session": grown / IDLE_SESSIONS / 1024}


def direct(world: World) -> PostgresContender:
    """Password login over TLS, as an application without a proxy."""
    port, password = world.database(DATABASE).local_port, world.password_users[PASSWORD_USER]
    dsn = f"host=127.0.0.1 port={port} user={PASSWORD_USER} password={password} dbname=app sslmode=require"
    return PostgresContender(name="direct", dsn=dsn)


def tollbridge(bridge: Bridge, *, tls: bool, name: str = "") -> PostgresContender:
    """The proxy's loopback listener, plain or TLS."""
    mode = "require" if tls else "disable"
    dsn = f"host=127.0.0.1 port={bridge.ports['app']} user=app dbname=app sslmode={mode}"
    name = name or "tollbridge" + (", TLS" if tls else "")
    return PostgresContender(name=name, dsn=dsn, pid=proxy_pid(bridge))


class PgBouncer:
    """pgbouncer in session mode, TLS to the server: what tollbridge's relay is measured against."""

    def __init__(self, world: World, bridge: Bridge, directory: Path) -> None:
        pgbouncer = program("pgbouncer")
        directory.mkdir(parents=True)
        for source, name in (("proxy.crt", "client.crt"), ("proxy.key", "client.key")):
            shutil.copy(bridge.file(source), directory / name)
        self._port = free_port()
        server, password = world.database(DATABASE).local_port, world.password_users[PASSWORD_USER]
        (directory / "pgbouncer.ini").write_text(
            f"""[databases]
app = host=127.0.0.1 port={server} dbname=app user={PASSWORD_USER} password={password}
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
        command = [pgbouncer, "-q", str(directory / "pgbouncer.ini")]
        if os.geteuid() == 0:  # it refuses root
            # The directories above are the owner's alone; it reads its files through a handed-over copy of its own.
            shutil.chown(directory, "postgres")
            for path in directory.iterdir():
                shutil.chown(path, "postgres")
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._dsn = f"host=127.0.0.1 port={self._port} user={PASSWORD_USER} dbname=app"

    def contender(self, *, tls: bool) -> PostgresContender:
        """Plain or TLS on the client side."""
        mode = "require" if tls else "disable"
        name = "pgbouncer" + (", TLS" if tls else "")
        return PostgresContender(name=name, dsn=f"{self._dsn} sslmode={mode}", pid=self._process.pid)

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


def _plans(world: World, bridge: Bridge, peer: PgBouncer, options: Options) -> list[Plan[PostgresContender]]:
    plain = [direct(world), peer.contender(tls=False), tollbridge(bridge, tls=False)]
    every = [*plain, peer.contender(tls=True), tollbridge(bridge, tls=True)]
    seconds = options.seconds
    return [
        Plan(Bench("pgbench -S, 8 clients"), every, partial(transactions, clients=8, seconds=seconds)),
        Plan(Bench("pgbench -S, 1 client"), plain, partial(transactions, clients=1, seconds=seconds)),
        Plan(Bench(f"COPY out of {COPY_MEGABYTES} MB"), every, bulk_copy),
        Plan(
            Bench("pgbench -C logins, 4 clients", note=LOGINS_NOTE), every, partial(logins, clients=4, seconds=seconds)
        ),
    ]


def _idle(world: World, bridge: Bridge, directory: Path) -> Bench:
    """Memory of idle sessions, each time in a process that has held none before."""
    bench = Bench(MEMORY)
    for tls in (False, True):
        peer = PgBouncer(world, bridge, directory / f"pgbouncer-idle-{tls}")
        try:
            peer.wait_ready()
            contender = peer.contender(tls=tls)
            bench.add(contender.name, idle_memory(contender))
        finally:
            peer.stop()
        bridge.proxy.stop()
        bridge.proxy.start()
        contender = tollbridge(bridge, tls=tls)
        bench.add(contender.name, idle_memory(contender))
    print(f"\n{bench.table()}", flush=True)
    return bench


def _no_limits(document: dict[str, Any]) -> None:
    """Room for a thousand sessions."""
    document["listeners"][0]["limits"] = {"max_connections": 2000}


def _pgbench(contender: PostgresContender, *arguments: str) -> tuple[str, float]:
    """Output and CPU seconds of the process in between."""
    return client(contender, "pgbench", "-n", *arguments, contender.dsn)
