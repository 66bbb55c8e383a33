"""`python -m tests.bench [NAME...] [--rounds N] [--seconds S] [--only WORKLOAD]`: what `make bench` runs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench import cassandra, http, mongodb, mysql, postgres, redis
from tests.bench.report import Bench, write
from tests.bench.runner import Options

SUITES: Mapping[str, Callable[[Path, Options], list[Bench]]] = {
    "postgres": postgres.measure,
    "mysql": mysql.measure,
    "redis": redis.measure,
    "http": http.measure,
    "cassandra": cassandra.measure,
    "mongodb": mongodb.measure,
}


def main() -> int:
    """Run what was asked for, print its tables, write its rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUITES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of each workload (default 5)")
    parser.add_argument("--seconds", type=int, default=6, help="length of one load generator's run (default 6)")
    parser.add_argument("--only", default="", help="run the workloads whose names contain this")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - SUITES.keys():
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    options = Options(rounds=arguments.rounds, seconds=arguments.seconds, only=arguments.only)
    for name in arguments.names or SUITES:
        with tempfile.TemporaryDirectory(prefix="tollbridge-bench-") as directory:
            Path(directory).chmod(0o755)  # peers may run as somebody else
            print(f"{name}: starting AWS emulator, databases, broker, proxy and peers", flush=True)
            benches = SUITES[name](Path(directory), options)
        if benches:
            print(f"\nall rounds: {write(name, benches, Path('bench-results'))}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
