"""npm's cassandra-driver and mongodb through the proxy: what they do most, and that they dial nothing but the proxy."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.sandbox import documentdb, topology
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.world import World
from tests.e2e.clients import PROGRAM_SECONDS, SIDES, environment, run
from tests.e2e.conftest import missing
from tests.e2e.cql import Neighbours

NODE: Final = Path(__file__).with_name("node")
sides = pytest.mark.parametrize("side", SIDES)


def need_node(client: str) -> None:
    """Skip, or fail, where it is not there."""
    if shutil.which("node") is None or not (NODE / "node_modules" / client).exists():
        missing(f"node and its {client} are not installed. Install them: apt-get install npm; make node-clients")


def node(bridge: Bridge, script: str, client: str, *arguments: str, side: str) -> dict[str, Any]:
    """What a script has seen."""
    need_node(client)
    more = [bridge.file("mesh-ca.crt")] if side == "tls" else []
    done = run("node", str(NODE / script), *arguments, *more)
    assert done.returncode == 0, done.stderr[-3000:]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@sides
def test_cassandra_driver(nosql_bridge: Bridge, nosql_world: World, side: str) -> None:
    """Prepared, a thousand at once, pages, a batch, a condition that fails, a user that no rule allows."""
    port = nosql_bridge.ports[topology.KEYSPACES.name]
    with Neighbours(nosql_world.database(topology.KEYSPACES.name).local_port) as neighbours:
        seen = node(nosql_bridge, "cql_clients.mjs", "cassandra-driver", str(port), side=side)
    assert neighbours.visitors == []
    assert (seen["version"], seen["rows"], seen["pages"]) == (4, 2000, 7)
    assert seen["hosts"] == seen["dialled"] == [f"127.0.0.1:{port}"]
    assert "role/NobodysRole" in seen["denied"]


@sides
@pytest.mark.parametrize("options", ["", "replicaSet=rs0", "directConnection=true"], ids=lambda text: text or "plain")
def test_mongodb(nosql_bridge: Bridge, options: str, side: str) -> None:
    """Reads, writes, cursors, transactions, three hundred at once, a database that no rule names."""
    port = nosql_bridge.ports[topology.DOCUMENTDB.name]
    seen = node(nosql_bridge, "mongo_clients.mjs", "mongodb", str(port), options, side=side)
    host = "localhost" if side == "tls" else "127.0.0.1"
    assert set(seen["heard"]) <= {f"{host}:{port}", f"127.0.0.1:{port}"}
    assert set(seen["dialled"]) <= {f"{host}:{port}", f"127.0.0.1:{port}"}
    code, message = seen["denied"]
    assert code == 13
    assert "payroll" in message


@pytest.mark.parametrize("restart", [True, False], ids=["the old one restarts", "the old one steps down"])
@pytest.mark.parametrize("options", ["", "replicaSet=rs0", "directConnection=true"], ids=lambda text: text or "plain")
def test_mongodb_finds_the_new_primary(nosql_bridge: Bridge, nosql_world: World, options: str, restart: bool) -> None:
    """It writes again after another node has become primary, and dials nobody but the proxy on the way."""
    need_node("mongodb")
    port = nosql_bridge.ports[topology.DOCUMENTDB.name]
    command = ["node", str(NODE / "mongo_failover.mjs"), str(port), options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        documentdb.fail_over(nosql_world, restart=restart)
        said, complaints = program.communicate("go\n", timeout=PROGRAM_SECONDS)
    assert program.returncode == 0, complaints[-3000:]
    assert set(json.loads(said)["dialled"]) == {f"127.0.0.1:{port}"}
