"""Many logins at once and logins without pause, and bridges with databases that only one test breaks."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, broker_trust_policy, rds_policy
from deploy.sandbox.bridge import TRUST_DOMAIN, Bridge, Change, Document
from deploy.sandbox.world import World
from tests.e2e.clients import PATIENCE_SECONDS, connection_string

AT_ONCE: Final = 100
"""Logins under way at one time, unless told otherwise."""
LOGIN_SECONDS: Final = 180
"""When a client gives up; it must never come to that."""

REFUSAL_SECONDS: Final = 7.5
"""The shortest time for which the broker remembers a refusal that somebody must fix."""

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


def workload(number: int) -> str:
    """One of many in the shop."""
    return f"{TRUST_DOMAIN}/ns/shop/sa/worker-{number:02}"


def issue_workloads(bridge: Bridge, count: int) -> list[str]:
    """A client certificate for each workload. Their names."""
    names = [f"worker-{number:02}" for number in range(count)]
    for number, name in enumerate(names):
        bridge.issue(name, workload(number))
    return names


def mtls(bridge: Bridge, user: str = "app@rds-postgres", certificate: str = "client", **more: str | int) -> str:
    """The door that knows clients by their certificates and databases by login names."""
    parts: dict[str, str | int] = {
        "host": "localhost",
        "hostaddr": "127.0.0.1",
        "port": bridge.ports["mtls"],
        "user": user,
        "dbname": "app",
        "sslmode": "verify-full",
        "sslrootcert": bridge.file("mesh-ca.crt"),
        "sslcert": bridge.file(f"{certificate}.crt"),
        "sslkey": bridge.file(f"{certificate}.key"),
        "connect_timeout": LOGIN_SECONDS,
    }
    return connection_string(parts | more)


def app(bridge: Bridge, user: str = "app") -> str:
    """The loopback door of one workload, without TLS."""
    return connection_string(
        {
            "host": "127.0.0.1",
            "port": bridge.ports["app"],
            "user": user,
            "dbname": "app",
            "sslmode": "disable",
            "connect_timeout": LOGIN_SECONDS,
        }
    )


@dataclass(frozen=True, slots=True)
class Crowd:
    """What became of many logins. Those that were let in are held open."""

    let_in: list[Connection] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What each of the others was told."""
    seconds: list[float] = field(default_factory=list)
    """How long each login took."""


@asynccontextmanager
async def crowd(connection_strings: Sequence[str], *, at_once: int = AT_ONCE) -> AsyncIterator[Crowd]:
    """All of them, no more than `at_once` under way, none closed before the end."""
    result, turn = Crowd(), asyncio.Semaphore(at_once)

    async def log_in(dsn: str) -> None:
        async with turn:
            began = time.monotonic()
            try:
                result.let_in.append(await psycopg.AsyncConnection.connect(dsn, autocommit=True))
            except psycopg.OperationalError as error:
                result.refused.append(str(error))
            result.seconds.append(time.monotonic() - began)

    try:
        async with asyncio.TaskGroup() as group:
            for dsn in connection_strings:
                group.create_task(log_in(dsn))
        yield result
    finally:
        for connection in result.let_in:
            await connection.close()


async def enter(dsn: str) -> str:
    """One login and a query. Returns the server's idea of the user. Raises psycopg.OperationalError."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute("select current_user::text")
        row = await cursor.fetchone()
        assert row is not None
        return str(row[0])


async def refusal(dsn: str) -> str:
    """What a login is told that must not get in."""
    try:
        await enter(dsn)
    except psycopg.OperationalError as error:
        return str(error)
    pytest.fail("the login was let in")


@dataclass(slots=True)
class Traffic:
    """Logins one after the other, in the background."""

    logins: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    stopped: bool = False

    async def run(self, dsn: Callable[[], str]) -> None:
        """Until stopped."""
        while not self.stopped:
            began = time.monotonic()
            try:
                await enter(dsn())
            except psycopg.Error as error:
                self.failures.append(str(error))
            self.logins += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            await asyncio.sleep(0.01)

    async def more(self, logins: int, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for so many further logins."""
        wanted = self.logins + logins
        await until(lambda: self.logins >= wanted, seconds=seconds)


@asynccontextmanager
async def traffic(*doors: Callable[[], str]) -> AsyncIterator[Traffic]:
    """Logins at each door as long as the block lasts; a door is asked anew for each login."""
    running = Traffic()
    async with asyncio.TaskGroup() as group:
        for door in doors:
            group.create_task(running.run(door))
        try:
            yield running
        finally:
            running.stopped = True


async def until(condition: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS, what: str = "") -> None:
    """Wait for something that will come true; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not true after {seconds} s: {what or condition}")
        await asyncio.sleep(0.05)


async def until_let_in(dsn: str, *, seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until a login that is refused now succeeds. How long that took."""
    began = time.monotonic()
    while True:
        try:
            await enter(dsn)
        except psycopg.OperationalError:
            if time.monotonic() - began > seconds:
                raise
            await asyncio.sleep(0.2)
        else:
            return time.monotonic() - began


def role(name: str) -> str:
    """A role of the example account that only one test uses."""
    return topology.TEST_ROLES_ARN.replace("test-*", f"test-{name}")


def make_role(world: World, name: str) -> None:
    """As example-role, for databases of `with_roles`."""
    Accounts(world.aws_endpoint).create_role(
        role(name),
        trust=broker_trust_policy(topology.EXAMPLE_EXTERNAL_ID),
        permissions=rds_policy(topology.RDS_POSTGRES),
    )


def with_roles(names: Iterable[str], **more: Any) -> Change:
    """A broker's configuration with rds-postgres once more under each name, entered by the role of that name.

    `more` replaces whole sections of the configuration.
    """

    def change(document: Document) -> None:
        databases = document["db_service"]["databases"]
        example = next(entry for entry in databases if entry["name"] == "rds-postgres")
        for name in names:
            aws = {"assume_role_arn": role(name), "external_id": topology.EXAMPLE_EXTERNAL_ID}
            databases.append({**example, "name": name, "aws": aws})
        document.update(more)

    return change


def decisions(bridge: Bridge, **fields: object) -> list[Document]:
    """The broker's audit lines with these fields."""
    return [line for line in bridge.audit("broker") if all(line.get(key) == value for key, value in fields.items())]


def state(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Say a figure, for whoever watches the run; no test depends on it."""
    with capsys.disabled():
        sys.stdout.write(f" [{text}] ")
