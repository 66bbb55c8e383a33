"""One sandbox and one bridge for the run; a bridge of its own for each test that breaks things."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import psycopg
import pytest

from deploy.sandbox import MissingEngine, Sandbox, ministack_venv
from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e import nosql
from tests.e2e.arrangement import Arrangement
from tests.e2e.clients import Clients

WHOLE: Final = ("postgres", "rdsproxy", "dsql", "mariadb", "valkey", "redshift")
"""Engines of the whole world; those that run on the JVM have worlds of their own, for their tests alone."""
CLIENTS_LINE: Final = "apt-get install -y --no-install-recommends postgresql-client"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is end to end."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def missing(why: str) -> NoReturn:
    """Skip, or fail where the engines were promised."""
    if os.environ.get("TOLLBRIDGE_REQUIRE_ENGINES") == "1":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three AWS accounts and their databases."""
    if shutil.which("psql") is None or shutil.which("pgbench") is None:
        missing(f"psql and pgbench are not installed. Install them: {CLIENTS_LINE}")
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    try:
        world = sandbox.up()
    except MissingEngine as error:
        missing(str(error))
    try:
        yield world
    finally:
        sandbox.down()


@pytest.fixture(scope="session")
def whole_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same accounts with MariaDB, Valkey and Redshift beside PostgreSQL."""
    sandbox = Sandbox(tmp_path_factory.mktemp("whole-sandbox"), engine_names=WHOLE)
    try:
        world = sandbox.up()
    except MissingEngine as error:
        missing(str(error))
    try:
        yield world
    finally:
        sandbox.down()


@pytest.fixture(scope="session")
def http_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same accounts with what is spoken to over HTTP: DynamoDB and OpenSearch."""
    sandbox = Sandbox(tmp_path_factory.mktemp("http-sandbox"), engine_names=("dynamodb", "opensearch"))
    try:
        world = sandbox.up()
    except MissingEngine as error:
        missing(str(error))
    try:
        yield world
    finally:
        sandbox.down()


@pytest.fixture(scope="session")
def http_bridge(http_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Broker and proxy in front of it. Two of its listeners have a user of their own."""

    def change_proxy(document: Document) -> None:
        for row in document["listeners"]:
            if row["name"] in ("analytics-tables", "serverless-search"):
                row["db_user"] = "role/DatabaseUserRole"

    with Bridge(http_world, tmp_path_factory.mktemp("http-bridge"), change_proxy=change_proxy) as bridge:
        yield bridge
        pages = [daemon.admin("/metrics")[1] for daemon in (bridge.broker, bridge.proxy)]
        assert Leaks(http_world).found_in("\n".join(pages)) == []
    assert_kept_secrets(bridge, Leaks(http_world))


@pytest.fixture(scope="session")
def nosql_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same accounts with Keyspaces and DocumentDB."""
    sandbox = Sandbox(tmp_path_factory.mktemp("nosql-sandbox"), engine_names=("cassandra", "mongodb"))
    try:
        world = sandbox.up()
    except MissingEngine as error:
        missing(str(error))
    try:
        yield world
    finally:
        sandbox.down()


@pytest.fixture(scope="session")
def nosql_bridge(nosql_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Broker and proxy before Keyspaces and DocumentDB. Tests leave it as they found it."""
    with nosql.bridge(nosql_world, tmp_path_factory.mktemp("nosql") / "bridge") as bridge:
        yield bridge
    assert_kept_secrets(bridge, Leaks(nosql_world))


@pytest.fixture(scope="session")
def aws_cli() -> Path:
    """The AWS CLI's program, in an environment of its own."""
    locked = ministack_venv.REPOSITORY / "requirements" / "aws-cli.txt"
    try:
        python = ministack_venv.ensure_locked("aws-cli", "the AWS CLI", locked, lambda _line: None)
    except MissingEngine as error:
        missing(str(error))
    return python.with_name("aws")


@pytest.fixture(scope="session")
def control(world: World) -> Control:
    """The sandbox's levers."""
    return Control(world.aws_endpoint)


@dataclass(frozen=True, slots=True)
class Leaks:
    """What must never be seen outside a grant."""

    world: World

    def found_in(self, text: str) -> list[str]:
        """Names of what leaked into a text."""
        fixed = {
            "the broker's secret key": self.world.broker_secret_access_key,
            **{f"the external ID of {d.name}": d.external_id for d in self.world.databases if d.external_id},
            "an external ID": "not-the-agreed-one",
            "a private key": "PRIVATE KEY",
        }
        found = [name for name, value in fixed.items() if value in text]
        if re.search(r"X-Amz-Signature(=|%3D)", text):
            found.append("a token")
        if re.search(r"IQoJb3JpZ2luX2Vj", text):
            found.append("a session token")
        return found


@pytest.fixture(scope="session")
def leaks(world: World) -> Leaks:
    """Looks for secrets."""
    return Leaks(world)


def assert_kept_secrets(bridge: Bridge, leaks: Leaks) -> None:
    """Whatever the daemons wrote holds no secret."""
    for file in bridge.directory.iterdir():
        if file.suffix in (".log", ".jsonl"):
            assert leaks.found_in(file.read_text()) == [], file.name


@pytest.fixture(scope="session")
def arrangement(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrangement]:
    """Servers, roles and configuration of the shared bridge."""
    arrangement = Arrangement(world, tmp_path_factory.mktemp("shared") / "arranged")
    yield arrangement
    arrangement.stop()


@pytest.fixture(scope="session")
def bridge(arrangement: Arrangement, leaks: Leaks) -> Iterator[Bridge]:
    """Broker and proxy with every door and every broken database. Tests leave it as they found it."""
    with arrangement.bridge() as bridge:
        yield bridge
        pages = [daemon.admin("/metrics")[1] for daemon in (bridge.broker, bridge.proxy)]
        assert leaks.found_in("\n".join(pages)) == []
    assert_kept_secrets(bridge, leaks)


@pytest.fixture(scope="session")
def clients(bridge: Bridge, arrangement: Arrangement) -> Clients:
    """Connection strings and programs."""
    return Clients(bridge, arrangement)


@dataclass(slots=True)
class Workshop:
    """Makes bridges for one test."""

    world: World
    directory: Path
    made: list[Bridge] = field(default_factory=list)

    def bridge(self, *, up: bool = True, **changes: Any) -> Bridge:
        """A bridge with the sandbox's three databases; `changes` as Bridge takes them."""
        bridge = Bridge(self.world, self.directory / f"bridge-{len(self.made)}", **changes)
        self.made.append(bridge)
        if up:
            bridge.up()
        return bridge


@pytest.fixture
def workshop(world: World, leaks: Leaks, tmp_path: Path) -> Iterator[Workshop]:
    """For tests that stop, starve or rotate what they stand on."""
    workshop = Workshop(world, tmp_path)
    try:
        yield workshop
    finally:
        for bridge in workshop.made:
            bridge.down()
    for bridge in workshop.made:
        assert_kept_secrets(bridge, leaks)


@pytest.fixture
def superuser(world: World) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """rds-postgres from behind, to see what arrived there."""
    with psycopg.connect(world.postgres_superuser_dsn, autocommit=True) as connection:
        yield connection
