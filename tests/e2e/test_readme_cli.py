"""What README.md shows of the operator's command line is what it says: help, tables and errors, run as they stand.

A block is a transcript: lines that begin with `$ ` are run, one after the other, and must say what follows them. Only
times, ports and versions are this run's.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.world import World
from tests.e2e.arrangement import MISTAKES
from tests.e2e.clients import PROGRAM_SECONDS, environment
from tests.e2e.test_cli import DOCUMENT
from tests.e2e.test_readme import example

VARIABLE = (
    (re.compile(r" *\d+ ms"), " N ms"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"PostgreSQL \d\S*( \(.*?\))?"), "PostgreSQL"),
    (re.compile(r"decision [0-9a-f]{32}"), "decision ID"),
)


def same(text: str) -> str:
    """Without what differs from run to run."""
    for pattern, stand_in in VARIABLE:
        text = pattern.sub(stand_in, text)
    return "\n".join(re.sub(r" +", " ", line).strip() for line in text.strip().splitlines())


def transcript(block: str, directory: Path, names: dict[str, str]) -> str:
    """The block's commands and what they say now, standard output first."""
    said = []
    for line in block.splitlines():
        if not line.startswith("$ "):
            continue
        command = line.removeprefix("$ ").replace("tollbridge ", f"{sys.executable} -m broker.ctl ", 1)
        answer = subprocess.run(
            ["bash", "-c", command],
            cwd=directory,
            env={**environment(), "PYTHONPATH": ":".join(sys.path), **names},
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
        )
        said.append(f"{line}\n{answer.stdout}{answer.stderr}")
    return "".join(said)


def as_shown(name: str, directory: Path, names: dict[str, str]) -> None:
    """The block of that name is what is said."""
    block = example(name)
    assert "$ " in block
    assert same(transcript(block, directory, names)) == same(block)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A directory with the README's own configuration."""
    (tmp_path / "broker.yaml").write_text(example("broker.yaml"))
    return tmp_path


@pytest.fixture(scope="module")
def counter(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge that takes dynamic databases, with one whose role may not connect."""
    directory = tmp_path_factory.mktemp("readme")

    def change(document: dict[str, Any]) -> None:
        databases = document["db_service"]["databases"]
        databases.append({**databases[0], "name": "no-connect", "aws": dict(MISTAKES["no-connect"])})
        document["db_service"]["resources"] = [{"labels": {"*": "*"}}]
        document["registry"] = {"file": str(directory / "registry.db")}
        document["account_links"] = [
            {"name": "example", "role_arns": [topology.EXAMPLE_ROLE_ARN], "external_id": topology.EXAMPLE_EXTERNAL_ID}
        ]

    (directory / "database.yaml").write_text(DOCUMENT.replace('"dynamic"', '"orders"'))
    with Bridge(world, directory, change) as bridge:
        yield bridge


def broker(bridge: Bridge) -> dict[str, str]:
    """The broker and the operator, named by the environment."""
    return {
        "TOLLBRIDGE_BROKER": f"localhost:{bridge.ports['broker']}",
        "TOLLBRIDGE_CERT_FILE": bridge.file("operator.crt"),
        "TOLLBRIDGE_KEY_FILE": bridge.file("operator.key"),
        "TOLLBRIDGE_CA_FILE": bridge.file("mesh-ca.crt"),
    }


def test_the_exit_codes_are_those_of_the_help(desk: Path) -> None:
    shown = example("exit codes")
    said = transcript("$ tollbridge --help\n", desk, {})
    assert same(shown) in same(said.partition("Exit codes:")[2])


@pytest.mark.parametrize("name", ["explain", "iam print", "iam table"])
def test_what_needs_no_broker(name: str, desk: Path) -> None:
    as_shown(name, desk, {})


@pytest.mark.parametrize("name", ["doctor", "registry"])
def test_what_a_broker_answers(name: str, counter: Bridge) -> None:
    as_shown(name, counter.directory, broker(counter))
