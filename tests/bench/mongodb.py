"""MongoDB's protocol: find_one direct, through haproxy and through tollbridge; and pgbench beside them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pymongo

from deploy.sandbox import Sandbox, topology
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.world import World
from tests.bench import haproxy, postgres
from tests.bench.cassandra import Pace
from tests.bench.contenders import Contender, proxy_pid
from tests.bench.report import OURS, Bench, Figures, Goal
from tests.bench.runner import Options, Plan, client, run
from tests.e2e.roles import Role

DATABASE = "documents"
CPU, PER_BYTE, LATENCY = "CPU us/command", "CPU ns/byte", "latency us"
PEER, POSTGRES = haproxy.PEER, "pgbench -S"
LARGE_BYTES = 1_000_000
NOTE = (
    f"{PEER} passes bytes on, reads nothing and logs nobody in; {POSTGRES} is tollbridge in front of PostgreSQL with "
    "as many threads and transactions a second. PyMongo and the server are slow enough to hide much of the latency. "
    "Logins are not counted"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoContender(Contender):
    """How the load gets there."""

    settings: dict[str, Any] = field(repr=False)
    directory: Path


def measure(directory: Path, options: Options) -> list[Bench]:
    """A small document by its key with eight threads and with one; and documents of a megabyte."""
    with (
        Sandbox(directory / "sandbox", engine_names=("postgres", "mongodb")) as world,
        Bridge(world, directory / "bridge") as bridge,
        haproxy.before(world.database(DATABASE), world.ca_cert_file, directory) as (port, pid),
    ):
        _prepare(world)
        postgres.prepare(world)
        keys = _signer(world)
        database = world.database(DATABASE)
        tls = {"tls": True, "tlsCAFile": world.ca_cert_file, "tlsAllowInvalidHostnames": True}
        mesh = {"tls": True, "tlsCAFile": bridge.file("mesh-ca.crt")}
        own = f"127.0.0.1:{bridge.ports[DATABASE]}/?replicaSet=rs0"

        def contender(name: str, where: str, more: dict[str, Any], pid: int | None = None) -> MongoContender:
            settings = {"uri": f"mongodb://{where}", "options": {"retryWrites": False, **more}}
            return MongoContender(name=name, settings=settings, directory=directory, pid=pid)

        # Whoever goes there directly is sent away to names that nobody here resolves, but for this option.
        straight = {**keys, "directConnection": True}
        contenders: list[Contender] = [
            contender("direct", f"127.0.0.1:{database.local_port}", {**straight, **tls}),
            contender(PEER, f"127.0.0.1:{port}", straight, pid),
            contender(OURS, own, {}, proxy_pid(bridge)),
            contender("tollbridge, TLS", own, mesh, proxy_pid(bridge)),
        ]
        relay = postgres.tollbridge(bridge, tls=False, name=POSTGRES)
        return run(_plans(contenders, relay, options.seconds), options)


def _plans(contenders: Sequence[Contender], relay: Contender, seconds: int) -> list[Plan[Any]]:
    def plan(name: str, figure: str, at_most: float, peer: str, workload: Any) -> Plan[Any]:
        taking_part = [*contenders, relay] if peer == POSTGRES else contenders
        workload = partial(workload, pace=Pace()) if peer == POSTGRES else workload
        return Plan(Bench(name, note=NOTE, goals=[Goal(peer, figure, at_most)]), taking_part, workload)

    return [
        plan("mongodb: a document by its key, 8 threads", CPU, 1.5, POSTGRES,
             partial(_commands, threads=8, seconds=seconds)),
        plan("mongodb: a document by its key, 1 thread", CPU, 1.5, POSTGRES,
             partial(_commands, threads=1, seconds=seconds)),
        plan("mongodb: a document of 1 MB, 4 threads", PER_BYTE, 3.0, PEER, partial(_bytes, seconds=seconds)),
    ]  # fmt: skip


def _commands(contender: Contender, *, threads: int, seconds: int, pace: Pace) -> Figures:
    if isinstance(contender, postgres.PostgresContender):
        shape = {"clients": threads, "threads": threads, "seconds": seconds}
        figures = postgres.transactions(contender, **shape, rate=pace.rate)
        rate = figures["transactions/s"]
        return {"commands/s": rate, CPU: figures["CPU us/transaction"], LATENCY: threads / rate * 1e6}
    assert isinstance(contender, MongoContender)
    figures, cpu_seconds = _load(contender, document=1, threads=threads, seconds=seconds)
    rate = figures["operations"] / figures["seconds"]
    if contender.name == OURS:
        pace.rate = rate
    return {
        "commands/s": rate,
        CPU: cpu_seconds / figures["operations"] * 1e6,
        LATENCY: figures["latency_us"],
    }


def _bytes(contender: Contender, *, seconds: int) -> Figures:
    assert isinstance(contender, MongoContender)
    figures, cpu_seconds = _load(contender, document=2, threads=4, seconds=seconds)
    moved = figures["operations"] * LARGE_BYTES
    return {"MB/s": moved / figures["seconds"] / 1e6, PER_BYTE: cpu_seconds / moved * 1e9}


def _load(contender: MongoContender, *, document: int, threads: int, seconds: int) -> tuple[Figures, float]:
    """What the load says, and the CPU of the process in between without its logins."""
    shape = {**contender.settings, "id": document, "threads": threads}
    _, logins = _one(contender, {**shape, "seconds": 0})
    figures, cpu_seconds = _one(contender, {**shape, "seconds": seconds})
    return figures, max(0.0, cpu_seconds - logins)


def _one(contender: MongoContender, settings: dict[str, Any]) -> tuple[Figures, float]:
    # In a file: keys are in it.
    file = contender.directory / "load.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(settings))
    output, cpu_seconds = client(contender, sys.executable, "-m", "tests.bench.mongo_load", str(file))
    figures: Figures = json.loads(output)
    return figures, cpu_seconds


def _signer(world: World) -> dict[str, Any]:
    """Options of a client that logs in by itself."""
    example = Role.assume(world, topology.EXAMPLE_ROLE_ARN)
    keys = Role.assume(world, topology.DATABASE_USER_ROLE_ARN, via=example).session.get_credentials()
    return {
        "username": keys.access_key,
        "password": keys.secret_key,
        "authMechanism": "MONGODB-AWS",
        "authSource": "$external",
        "authMechanismProperties": {"AWS_SESSION_TOKEN": keys.token},
    }


def _prepare(world: World) -> None:
    with pymongo.MongoClient[dict[str, Any]](world.database(DATABASE).superuser_dsn) as behind:
        behind.app.bench.insert_many([{"_id": 1, "customer": "Ada"}, {"_id": 2, "body": "x" * LARGE_BYTES}])
