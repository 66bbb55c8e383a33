"""Rounds: every contender of a workload in turn, again and again, so that a slow minute is everybody's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.bench.contenders import Contender
from tests.bench.report import Bench, Figures

C = TypeVar("C", bound=Contender)
CLIENT_TIMEOUT_SECONDS = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line said."""

    rounds: int
    seconds: int
    """Length of one run of a load generator."""
    only: str
    """Part of a workload's name."""


@dataclass(frozen=True, slots=True)
class Plan(Generic[C]):
    """A workload and who takes part."""

    bench: Bench
    contenders: Sequence[C]
    workload: Callable[[C], Figures]


def run(plans: Iterable[Plan[Any]], options: Options) -> list[Bench]:
    """Those that were asked for, each with a table when it is done."""
    done = []
    for plan in plans:
        bench = plan.bench
        if options.only not in bench.name:
            continue
        for number in range(options.rounds):
            for contender in plan.contenders:
                print(f"  {bench.name}: round {number + 1}/{options.rounds}, {contender.name}", file=sys.stderr)
                bench.add(contender.name, plan.workload(contender))
        print(f"\n{bench.table()}", flush=True)
        done.append(bench)
    return done


def client(contender: Contender, *command: str, cwd: Path | None = None) -> tuple[str, float]:
    """A load generator's output, and what the process in between spent meanwhile in CPU seconds.

    Raises RuntimeError when the generator fails.
    """
    cpu_before = contender.cpu_seconds()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_SECONDS, env=environment(), cwd=cwd
    )
    if done.returncode:
        # Not the command: a password may be in it.
        raise RuntimeError(f"{command[0]} through {contender.name}: {(done.stderr + done.stdout)[-500:]}")
    return done.stdout, contender.cpu_seconds() - cpu_before


def environment() -> dict[str, str]:
    """Ours, without settings that libpq would take for arguments."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def number(pattern: str, text: str) -> float:
    """The number that a load generator printed. Raises RuntimeError when it did not."""
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"no {pattern!r} in:\n{text}")
    return float(found[1])
