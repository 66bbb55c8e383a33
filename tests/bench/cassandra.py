"""CQL: prepared reads against Cassandra direct, through haproxy and through tollbridge; and pgbench beside them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from deploy.sandbox import Sandbox
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.world import World
from tests.bench import haproxy, postgres
from tests.bench.contenders import Contender, proxy_pid
from tests.bench.report import OURS, Bench, Figures, Goal
from tests.bench.runner import Options, Plan, client, run
from tests.e2e.cql import superuser

DATABASE = "keyspaces"
USER = "serviceuser"
CPU, PER_BYTE, LATENCY = "CPU us/request", "CPU ns/byte", "latency us"
PEER, POSTGRES = haproxy.PEER, "pgbench -S"
LARGE_BYTES = 1_000_000
WARM_UP_SECONDS = 3
NOTE = (
    f"{PEER} passes bytes on, reads nothing and logs nobody in; {POSTGRES} is tollbridge in front of PostgreSQL with "
    "as many threads as there are connections, and as many transactions a second. Logins are not counted"
)


@dataclass(slots=True)
class Pace:
    """How many a second tollbridge passed on last: pgbench is to bring as many. The fewer, the more each one costs."""

    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CqlContender(Contender):
    """How the load gets there."""

    settings: dict[str, Any] = field(repr=False)
    directory: Path


def measure(directory: Path, options: Options) -> list[Bench]:
    """One row by its key, one at a time and 32 in flight on each of eight connections; and rows of a megabyte."""
    with (
        Sandbox(directory / "sandbox", engine_names=("postgres", "cassandra")) as world,
        Bridge(world, directory / "bridge") as bridge,
        haproxy.before(world.database(DATABASE), world.ca_cert_file, directory) as (port, pid),
    ):
        _prepare(world)
        postgres.prepare(world)
        login = {"user": USER, "password": world.password_users[USER]}
        database = world.database(DATABASE)
        tls = {"host": database.host, "ca_file": world.ca_cert_file}
        own = {"port": bridge.ports[DATABASE], "user": "role/DatabaseUserRole", "password": "any"}
        mesh = {"host": "localhost", "ca_file": bridge.file("mesh-ca.crt")}
        relay = postgres.tollbridge(bridge, tls=False, name=POSTGRES)

        def contender(name: str, settings: dict[str, Any], pid: int | None = None) -> CqlContender:
            return CqlContender(name=name, settings=settings, directory=directory, pid=pid)

        contenders: list[Contender] = [
            contender("direct", {**login, "port": database.local_port, "tls": tls}),
            contender(PEER, {**login, "port": port, "tls": None}, pid),
            contender(OURS, {**own, "tls": None}, proxy_pid(bridge)),
            contender("tollbridge, TLS", {**own, "tls": mesh}, proxy_pid(bridge)),
        ]
        for each in contenders:  # a JVM is slow until it has been at it for a while
            _requests(each, connections=8, depth=32, seconds=WARM_UP_SECONDS)
        return run(_plans(contenders, relay, options.seconds), options)


def _plans(contenders: Sequence[Contender], relay: Contender, seconds: int) -> list[Plan[Any]]:
    def plan(name: str, figure: str, at_most: float, peer: str, workload: Any) -> Plan[Any]:
        taking_part = [*contenders, relay] if peer == POSTGRES else contenders
        workload = partial(workload, pace=Pace()) if peer == POSTGRES else workload
        return Plan(Bench(name, note=NOTE, goals=[Goal(peer, figure, at_most)]), taking_part, workload)

    return [
        plan("cql: a row by its key, 8 connections", CPU, 1.5, POSTGRES,
             partial(_requests, connections=8, depth=1, seconds=seconds)),
        plan("cql: a row by its key, 1 connection", CPU, 1.5, POSTGRES,
             partial(_requests, connections=1, depth=1, seconds=seconds)),
        plan("cql: a row by its key, 8 connections, 32 in flight on each", CPU, 3.0, PEER,
             partial(_requests, connections=8, depth=32, seconds=seconds)),
        plan("cql: a row of 1 MB, 4 connections", PER_BYTE, 3.0, PEER, partial(_bytes, seconds=seconds)),
    ]  # fmt: skip


def _requests(contender: Contender, *, connections: int, depth: int, seconds: int, pace: Pace | None = None) -> Figures:
    if isinstance(contender, postgres.PostgresContender):
        shape = {"clients": connections, "threads": connections, "seconds": seconds}
        figures = postgres.transactions(contender, **shape, rate=pace.rate if pace else 0)
        rate, cpu = figures["transactions/s"], figures["CPU us/transaction"]
        return {"requests/s": rate, CPU: cpu, LATENCY: connections / rate * 1e6}
    assert isinstance(contender, CqlContender)
    statement = {"statement": "SELECT customer FROM shop.orders WHERE id = ?", "value": 2}
    figures, cpu_seconds = _load(contender, statement, connections=connections, depth=depth, seconds=seconds)
    rate = figures["operations"] / figures["seconds"]
    if pace and contender.name == OURS:
        pace.rate = rate
    latency = figures["latency_us"] or connections * depth / rate * 1e6
    return {"requests/s": rate, CPU: cpu_seconds / figures["operations"] * 1e6, LATENCY: latency}


def _bytes(contender: Contender, *, seconds: int) -> Figures:
    assert isinstance(contender, CqlContender)
    statement = {"statement": "SELECT body FROM bench.large WHERE id = ?", "value": 1}
    figures, cpu_seconds = _load(contender, statement, connections=4, depth=1, seconds=seconds)
    moved = figures["operations"] * LARGE_BYTES
    return {"MB/s": moved / figures["seconds"] / 1e6, PER_BYTE: cpu_seconds / moved * 1e9}


def _load(
    contender: CqlContender, statement: dict[str, Any], *, connections: int, depth: int, seconds: int
) -> tuple[Figures, float]:
    """What the load says, and the CPU of the process in between without its logins."""
    shape = {**contender.settings, **statement, "connections": connections, "depth": depth}
    _, logins = _one(contender, {**shape, "seconds": 0})
    figures, cpu_seconds = _one(contender, {**shape, "seconds": seconds})
    return figures, max(0.0, cpu_seconds - logins)


def _one(contender: CqlContender, settings: dict[str, Any]) -> tuple[Figures, float]:
    # In a file: a password is in it.
    file = contender.directory / "load.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(settings))
    output, cpu_seconds = client(contender, sys.executable, "-m", "tests.bench.cql_load", str(file))
    figures: Figures = json.loads(output)
    return figures, cpu_seconds


def _prepare(world: World) -> None:
    with superuser(world) as session:
        session.execute("CREATE KEYSPACE bench WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        session.execute("CREATE TABLE bench.large (id int PRIMARY KEY, body text)")
        session.execute("INSERT INTO bench.large (id, body) VALUES (1, %s)", ("x" * LARGE_BYTES,))
