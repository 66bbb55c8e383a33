"""One bridge before Keyspaces and DocumentDB, with a door for every way in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.world import World
from tests.support.sockets import connected_to

USER: Final = "role/DatabaseUserRole"
READER: Final = "role/ReaderRole"
POWERLESS: Final = "role/PowerlessUserRole"
DOORS: Final = ("cql-open", "cql-names", "mongo-mtls")
"""cql-open: the listener says who logs in. The others know clients by their certificates; cql-names is routed by login
name."""


def bridge(world: World, directory: Path) -> Bridge:
    """Not started."""
    ports = {name: free_port() for name in DOORS}

    def doors(document: dict[str, Any]) -> None:
        own = {listener["name"]: listener for listener in document["listeners"]}
        files = own["mtls"]["tls"]
        for name, base, changes in (
            ("cql-open", topology.KEYSPACES.name, {"db_user": USER}),
            ("cql-names", topology.KEYSPACES.name, {"tls": files, "route": "login_name"}),
            ("mongo-mtls", topology.DOCUMENTDB.name, {"tls": files}),
        ):
            if base not in own:
                continue  # this proxy does not speak it
            door = {**own[base], "name": name, "address": f"127.0.0.1:{ports[name]}", **changes}
            if name != "cql-open":
                del door["workload"]
            if name == "cql-names":
                del door["database"]
            document["listeners"].append(door)

    return Bridge(world, directory, change_proxy=doors, ports=ports)


def bypassed(world: World, database: str, pid: int = 0) -> set[tuple[str, int]]:
    """Connections of a process (this one: 0) that go past the proxy: to the database itself, or to some neighbour."""
    port = world.database(database).local_port
    ends = connected_to(pid or os.getpid())
    return {(host, number) for host, number in ends if number == port or host != "127.0.0.1"}
