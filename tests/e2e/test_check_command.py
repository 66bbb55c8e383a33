"""`tollbridge-proxy check DATABASE` walks the way of a login and names the step that fails, with its own exit code."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import pytest

from deploy.sandbox.bridge import APP_WORKLOAD, Bridge
from tests.e2e.clients import run
from tests.e2e.conftest import Leaks


@dataclass(frozen=True, slots=True)
class Way:
    """A database, the exit code, the last step and words of its line."""

    database: str
    code: int
    step: str
    says: str


WAYS: Final = (
    Way("rds-postgres", 0, "query", "answered `select 1`"),
    Way("local", 0, "query", "answered `select 1`"),
    Way("rds-postgers", 3, "database", "rds-postgers"),
    Way("vault", 4, "grant", "nobody-in-sealed"),
    Way("wrong-external-id", 4, "grant", "external"),
    Way("down", 5, "tcp", "nothing listens"),
    Way("wrong-name", 6, "tls", "another.abcdef012345"),
    Way("foreign-ca", 6, "tls", "aws-rds"),
    Way("no-connect", 7, "login", "rds-db:connect"),
)


@pytest.mark.parametrize("way", WAYS, ids=[way.database for way in WAYS])
def test_check_goes_as_far_as_a_login_would(bridge: Bridge, leaks: Leaks, way: Way) -> None:
    command = (sys.executable, "-m", "proxy", "check", way.database, "--config", bridge.file("proxy.yaml"))
    answer = run(*command, "--db-user", "app", "--db-name", "app", "--workload", APP_WORKLOAD)
    said = answer.stdout + answer.stderr
    assert answer.returncode == way.code, said
    last = [line for line in answer.stdout.splitlines() if line[:1].strip()][-1]
    assert way.step in last.split()
    assert way.says in said
    assert leaks.found_in(said) == []
