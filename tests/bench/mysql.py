"""MySQL's protocol: sysbench against MariaDB direct, through haproxy and through tollbridge; and pgbench beside it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deploy.sandbox import Sandbox
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import World
from tests.bench import postgres
from tests.bench.contenders import Contender, program, proxy_pid, running
from tests.bench.report import Bench, Figures, Goal
from tests.bench.runner import Options, Plan, client, number, run

DATABASE = "rds-mariadb"
USER = "nativeuser"
"""The one who may come without TLS: haproxy's client side is plain, and so is what MariaDB sees behind a front."""
ROWS = 100_000
CPU = "CPU us/query"
PEER, POSTGRES = "haproxy", "pgbench -S"
NOTE = (
    f"{PEER} is the best TCP/TLS peer that Debian has, where MaxScale and ProxySQL are missing: plain from the client, "
    "TLS to the server, nobody logged in. MySQL's STARTTLS it does not know: another one, not counted, ends its TLS in "
    f"front of MariaDB. {POSTGRES} is tollbridge in front of PostgreSQL with as many threads"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlContender(Contender):
    """How sysbench gets there."""

    options: tuple[str, ...] = field(repr=False)
    files: Path
    """sysbench takes what TLS needs from its working directory, under names of its own."""


def measure(directory: Path, options: Options) -> list[Bench]:
    """sysbench oltp_point_select with 8 threads and with one, and pgbench -S in the same rounds."""
    with (
        Sandbox(directory / "sandbox", engine_names=("postgres", "mariadb")) as world,
        Bridge(world, directory / "bridge") as bridge,
        _haproxy(world, directory / "haproxy") as peer,
    ):
        _prepare(world)
        postgres.prepare(world)
        relay = postgres.tollbridge(bridge, tls=False, name=POSTGRES)
        files = _tls_files(world, directory)
        contenders: list[Contender] = [
            _direct(world, files),
            peer,
            _tollbridge(bridge, files, tls=False),
            relay,
            _tollbridge(bridge, files, tls=True),
        ]
        plans = [
            Plan(
                Bench(f"sysbench oltp_point_select, {many}", note=NOTE, goals=[Goal(POSTGRES, CPU, 1.3)]),
                contenders,
                partial(_queries, threads=threads, seconds=options.seconds),
            )
            for threads, many in ((8, "8 threads"), (1, "1 thread"))
        ]
        return run(plans, options)


def point_selects(contender: MysqlContender, *, threads: int, seconds: int) -> Figures:
    """One row by its key, as text and without a transaction around it: queries per second and CPU per query."""
    output, cpu_seconds = client(
        contender,
        *_sysbench(*contender.options),
        "--db-ps-mode=disable",
        "--skip-trx=on",
        f"--threads={threads}",
        f"--time={seconds}",
        "--events=0",
        "run",
        cwd=contender.files,
    )
    return {
        "queries/s": number(r"queries: +\d+ +\(([\d.]+) per sec", output),
        CPU: cpu_seconds / number(r"queries: +(\d+)", output) * 1e6,
    }


def _queries(contender: Contender, *, threads: int, seconds: int) -> Figures:
    if isinstance(contender, MysqlContender):
        return point_selects(contender, threads=threads, seconds=seconds)
    assert isinstance(contender, postgres.PostgresContender)
    figures = postgres.transactions(contender, clients=threads, threads=threads, seconds=seconds)
    return {"queries/s": figures["transactions/s"], CPU: figures["CPU us/transaction"]}


def _sysbench(*options: str) -> list[str]:
    table = ("--tables=1", f"--table-size={ROWS}", "--mysql-db=app", "--db-driver=mysql")
    return [program("sysbench"), "oltp_point_select", *table, *options]


def _prepare(world: World) -> None:
    login = world.database(DATABASE).superuser_dsn.replace("--", "--mysql-").split()
    subprocess.run([*_sysbench(*login), "prepare"], check=True, capture_output=True, timeout=120)


def _tls_files(world: World, directory: Path) -> Path:
    """The names that sysbench looks for; the client certificate is one that nobody asks for."""
    files = directory / "sysbench"
    files.mkdir()
    authority = CertificateAuthority.load(Path(world.ca_cert_file), Path(world.ca_key_file))
    authority.issue(files / "client-cert.pem", files / "client-key.pem", dns_names=["sysbench.example.org"])
    return files


def _direct(world: World, files: Path) -> MysqlContender:
    (files / "cacert.pem").write_bytes(Path(world.ca_cert_file).read_bytes())
    options = (*_login(world), f"--mysql-port={world.database(DATABASE).local_port}", "--mysql-ssl=on")
    return MysqlContender(name="direct", options=options, files=files)


def _tollbridge(bridge: Bridge, files: Path, *, tls: bool) -> MysqlContender:
    options = ["--mysql-host=127.0.0.1", f"--mysql-port={bridge.ports[DATABASE]}", "--mysql-user=app"]
    if tls:
        files = files.with_name("sysbench-tls")
        files.mkdir()
        for name, source in (("cacert", "mesh-ca.crt"), ("client-cert", "client.crt"), ("client-key", "client.key")):
            (files / f"{name}.pem").write_bytes(Path(bridge.file(source)).read_bytes())
        options.append("--mysql-ssl=on")
    name = "tollbridge" + (", TLS" if tls else "")
    return MysqlContender(name=name, options=tuple(options), files=files, pid=proxy_pid(bridge))


def _login(world: World) -> tuple[str, ...]:
    return ("--mysql-host=127.0.0.1", f"--mysql-user={USER}", f"--mysql-password={world.password_users[USER]}")


@contextlib.contextmanager
def _haproxy(world: World, directory: Path) -> Iterator[MysqlContender]:
    """The peer, and the front that gives MariaDB the TLS it can reach."""
    directory.mkdir(mode=0o700)
    database = world.database(DATABASE)
    certificate, key = directory / "front.crt", directory / "front.key"
    authority = CertificateAuthority.load(Path(world.ca_cert_file), Path(world.ca_key_file))
    authority.issue(certificate, key, dns_names=[database.host])
    (directory / "front.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    front, peer = free_port(), free_port()
    with (
        _one_haproxy(
            directory / "front.cfg",
            front,
            f"bind 127.0.0.1:{front} ssl crt {directory}/front.pem",
            f"server db 127.0.0.1:{database.local_port}",
        ),
        _one_haproxy(
            directory / "peer.cfg",
            peer,
            f"bind 127.0.0.1:{peer}",
            f"server db 127.0.0.1:{front} ssl verify required ca-file {world.ca_cert_file} "
            f"sni str({database.host}) verifyhost {database.host}",
        ) as pid,
    ):
        options = (*_login(world), f"--mysql-port={peer}")
        yield MysqlContender(name=PEER, options=options, files=directory, pid=pid)


@contextlib.contextmanager
def _one_haproxy(settings: Path, port: int, *lines: str) -> Iterator[int]:
    settings.write_text(
        "global\n  nbthread 1\ndefaults\n  mode tcp\n"
        "  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        "listen mysql\n" + "".join(f"  {line}\n" for line in lines)
    )
    command = [program("haproxy"), "-db", "-f", str(settings)]
    with running(command, port, settings.with_suffix(".log")) as pid:
        yield pid
