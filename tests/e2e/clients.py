"""Where clients connect, and how the programs among them are run."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pytest

from deploy.sandbox.bridge import Bridge
from tests.e2e.arrangement import Arrangement

SIDES: Final = ("plain", "tls")
"""Ways between client and proxy: without TLS, and with it, verified."""
PATIENCE_SECONDS: Final = 60.0
"""How long to wait for what another process does, on a machine however busy. No claim about time: where a test makes
one, it has a bound of its own."""
PROGRAM_SECONDS: Final = 3 * PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Clients:
    """Of the shared bridge."""

    bridge: Bridge
    arrangement: Arrangement

    def dsn(self, side: str, *, door: str = "app", **more: str | int) -> str:
        """A libpq connection string for user app in database app; no password anywhere."""
        parts: dict[str, str | int] = {"port": self.bridge.ports[door], "user": "app", "dbname": "app"}
        if side == "tls":
            parts |= {"host": "localhost", "hostaddr": "127.0.0.1", "sslmode": "verify-full"}
            parts |= {"sslrootcert": self.bridge.file("mesh-ca.crt")}
        else:
            parts |= {"host": "127.0.0.1", "sslmode": "disable"}
        return connection_string(parts | more)

    def mtls(self, certificate: str = "client", *, user: str = "app@rds-postgres", **more: str | int) -> str:
        """The door that knows clients by their certificates."""
        files = {"sslcert": self.bridge.file(f"{certificate}.crt"), "sslkey": self.bridge.file(f"{certificate}.key")}
        return self.dsn("tls", door="mtls", user=user, **files, **more)

    def sni(self, server_name: str, **more: str | int) -> str:
        """The door routed by server name."""
        return self.dsn("tls", door="sni", host=server_name, **more)


def connection_string(parts: dict[str, str | int]) -> str:
    """For libpq, quoted where needed."""
    return " ".join(f"{key}='{str(value).replace(chr(39), chr(92) + chr(39))}'" for key, value in parts.items())


def environment() -> dict[str, str]:
    """Nothing that could hold a password: what gets in, gets in without one."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "AWS_"))}
    return {**clean, "PGPASSFILE": "/nonexistent", "PGSERVICEFILE": "/nonexistent"}


def run(*command: str, stdin: str = "", seconds: float = PROGRAM_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command, check=False, env=environment(), input=stdin, capture_output=True, text=True, timeout=seconds
    )


def psql(dsn: str, *statements: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """psql, bare output, stopping at the first error."""
    options = ["--no-psqlrc", "--no-password", "--quiet", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    for statement in statements:
        options += ["-c", statement]
    return run("psql", *options, dsn, stdin=stdin)


def audit_line(
    bridge: Bridge, daemon: str, *, after: int = 0, seconds: float = PATIENCE_SECONDS, **wanted: object
) -> dict[str, Any]:
    """The newest line, past the first `after`, with these values; waits for the audit's writer."""
    deadline = time.monotonic() + seconds
    while True:
        lines = bridge.audit(daemon)[after:]
        for line in reversed(lines):
            if wanted.items() <= {key: value for key, value in line.items() if key in wanted}.items():
                return line
        assert time.monotonic() < deadline, f"no line of the {daemon} with {wanted} among {lines[-5:]}"
        time.sleep(0.02)


def assert_cancelled(connection: psycopg.Connection[tuple[Any, ...]], cancel: Callable[[], None]) -> None:
    """`cancel` stops a running query long before its end, and the session goes on."""
    timer = threading.Timer(1.0, cancel)  # by then the server has it
    timer.start()
    started = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("select pg_sleep(60)")
    timer.join()
    assert time.monotonic() - started < 30
    assert connection.execute("select 'alive'").fetchone() == ("alive",)
