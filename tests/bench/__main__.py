"""`python -m tests.bench [--rounds N] [--seconds S] [--only NAME]`: what `make bench` runs."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from deploy.sandbox import Sandbox
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.world import World
from tests.bench import workloads
from tests.bench.contenders import Contender, PgBouncer, direct, tollbridge
from tests.bench.report import Bench, write

SCALE = 10
"""pgbench's: a million rows, all in memory."""
BACKENDS = 2300
"""Server connections: a thousand idle sessions, and a thousand of the contender before, which may still be closing."""
MEMORY = "memory over 1,000 idle sessions"


def main() -> int:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of each workload (default 5)")
    parser.add_argument("--seconds", type=int, default=6, help="length of one pgbench run (default 6)")
    parser.add_argument("--only", default="", help="run the workloads whose names contain this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollbridge-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # pgbouncer runs as somebody else
        print("starting AWS emulator, PostgreSQL, broker, proxy and pgbouncer", flush=True)
        with Sandbox(directory / "sandbox", max_connections=BACKENDS) as world:
            prepare(world)
            with Bridge(world, directory / "bridge", change_proxy=no_limits) as bridge:
                peer = PgBouncer(
                    world, directory / "pgbouncer", Path(bridge.file("proxy.crt")), Path(bridge.file("proxy.key"))
                )
                try:
                    peer.wait_ready()
                    benches = run(world, bridge, peer, arguments)
                finally:
                    peer.stop()
                if arguments.only in MEMORY:
                    benches.append(idle(world, bridge, directory))
    file = write(benches, Path("bench-results"))
    print(f"\nall rounds: {file}")
    return 0


def idle(world: World, bridge: Bridge, directory: Path) -> Bench:
    """Memory of idle sessions, each time in a process that has held none before."""
    bench = Bench(MEMORY)
    for tls in (False, True):
        files = [Path(bridge.file(f"proxy.{kind}")) for kind in ("crt", "key")]
        peer = PgBouncer(world, directory / f"pgbouncer-idle-{tls}", *files)
        try:
            peer.wait_ready()
            contender = peer.contender(tls=tls)
            bench.add(contender.name, workloads.idle_memory(contender))
        finally:
            peer.stop()
        bridge.proxy.stop()
        bridge.proxy.start()
        contender = tollbridge(bridge, tls=tls)
        bench.add(contender.name, workloads.idle_memory(contender))
    print(f"\n{bench.table()}", flush=True)
    return bench


def no_limits(document: dict[str, Any]) -> None:
    """Room for a thousand sessions."""
    document["listeners"][0]["limits"] = {"max_connections": 2000}


def prepare(world: World) -> None:
    """pgbench's tables, readable by every contender's user."""
    dsn = world.database("rds-postgres").superuser_dsn
    subprocess.run(["pgbench", "-i", "-q", "-s", str(SCALE), dsn], check=True, capture_output=True, timeout=300)
    grant = "grant select on all tables in schema public to public"
    subprocess.run(["psql", "--no-psqlrc", "-q", "-c", grant, dsn], check=True, capture_output=True, timeout=60)


def run(world: World, bridge: Bridge, peer: PgBouncer, arguments: argparse.Namespace) -> list[Bench]:
    """Every workload, its contenders interleaved."""
    straight = direct(world)
    plain = [straight, peer.contender(tls=False), tollbridge(bridge, tls=False)]
    every = [*plain, peer.contender(tls=True), tollbridge(bridge, tls=True)]
    seconds = arguments.seconds
    plan: list[tuple[Bench, list[Contender], Callable[[Contender], workloads.Figures], int]] = [
        (
            Bench("pgbench -S, 8 clients"),
            every,
            partial(workloads.transactions, clients=8, seconds=seconds),
            arguments.rounds,
        ),
        (
            Bench("pgbench -S, 1 client"),
            plain,
            partial(workloads.transactions, clients=1, seconds=seconds),
            arguments.rounds,
        ),
        (Bench("COPY out of 400 MB"), every, workloads.bulk_copy, arguments.rounds),
        (
            Bench(
                "pgbench -C logins, 4 clients",
                note="pgbouncer reuses server connections: it logs in upstream once, tollbridge each time",
            ),
            every,
            partial(workloads.logins, clients=4, seconds=seconds),
            arguments.rounds,
        ),
    ]
    done = []
    for bench, contenders, workload, rounds in plan:
        if arguments.only not in bench.name:
            continue
        for number in range(rounds):
            for contender in contenders:
                print(f"  {bench.name}: round {number + 1}/{rounds}, {contender.name}", file=sys.stderr, flush=True)
                bench.add(contender.name, workload(contender))
        print(f"\n{bench.table()}", flush=True)
        done.append(bench)
    return done


if __name__ == "__main__":
    sys.exit(main())
