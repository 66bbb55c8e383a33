"""What is measured. Each workload runs one contender once and returns figures of that round."""

from __future__ import annotations

import os
import re
import subprocess
import time

import psycopg

from tests.bench.contenders import Contender

Figures = dict[str, float]

COPY_MEGABYTES = 400
COPY = f"copy (select repeat('x', 999) from generate_series(1, {COPY_MEGABYTES * 1000})) to stdout"
IDLE_SESSIONS = 1000


def transactions(contender: Contender, *, clients: int, seconds: int) -> Figures:
    """pgbench -S, simple protocol: transactions per second and CPU per transaction."""
    output, cpu_seconds = _pgbench(contender, "-S", "-c", str(clients), "-T", str(seconds))
    count = _number(r"number of transactions actually processed: (\d+)", output)
    return {
        "transactions/s": _number(r"tps = ([\d.]+)", output),
        "CPU us/transaction": cpu_seconds / count * 1e6,
    }


def logins(contender: Contender, *, clients: int, seconds: int) -> Figures:
    """pgbench -C: a login for each transaction."""
    output, cpu_seconds = _pgbench(contender, "-S", "-C", "-c", str(clients), "-T", str(seconds))
    count = _number(r"number of transactions actually processed: (\d+)", output)
    return {"logins/s": _number(r"tps = ([\d.]+)", output), "CPU ms/login": cpu_seconds / count * 1e3}


def bulk_copy(contender: Contender) -> Figures:
    """COPY of 400 MB out: megabytes per second and CPU per byte."""
    cpu_before, started = contender.cpu_seconds(), time.monotonic()
    subprocess.run(
        ["psql", "--no-psqlrc", "-q", "-c", COPY, contender.dsn],
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
        env=_environment(),
    )
    seconds = time.monotonic() - started
    cpu_seconds = contender.cpu_seconds() - cpu_before
    return {
        "seconds": seconds,
        "MB/s": COPY_MEGABYTES / seconds,
        "CPU ns/byte": cpu_seconds / COPY_MEGABYTES * 1e3,
    }


def idle_memory(contender: Contender) -> Figures:
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


def _pgbench(contender: Contender, *arguments: str) -> tuple[str, float]:
    """Output and CPU seconds of the process in between."""
    cpu_before = contender.cpu_seconds()
    run = subprocess.run(
        ["pgbench", "-n", "-j", "1", *arguments, contender.dsn],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=_environment(),
    )
    if run.returncode:
        raise RuntimeError(f"pgbench through {contender.name}: {run.stderr[-500:]}")
    return run.stdout, contender.cpu_seconds() - cpu_before


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"no {pattern!r} in:\n{text}")
    return float(found[1])
