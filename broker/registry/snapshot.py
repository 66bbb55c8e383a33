"""The registered databases at one moment, merged from where they came from. PURE.

Static beats dynamic beats discovered, and older beats newer: who comes first in `merge` keeps the name. A loser is not
dropped: it is served as name-product-region-account and listed, so that the collision can be seen and resolved.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from broker.model import Origin, RegisteredDatabase
from tollbridge.model import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """A database that lost its name to another."""

    wanted: str
    served_as: str
    """Empty when even the longer name is taken: the same database registered twice. It is not served."""
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Immutable. Two snapshots of the same databases have the same version."""

    by_name: Mapping[str, RegisteredDatabase] = field(default_factory=lambda: MappingProxyType({}))
    version: str = ""
    renamed: tuple[Renamed, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """What a watcher must be told to get from one snapshot to another."""

    upserts: tuple[Database, ...] = ()
    deletes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.upserts or self.deletes)


def merge(
    static: Iterable[RegisteredDatabase] = (),
    dynamic: Iterable[RegisteredDatabase] = (),
    discovered: Iterable[RegisteredDatabase] = (),
) -> Snapshot:
    """One snapshot of all; each input oldest first."""
    by_name: dict[str, RegisteredDatabase] = {}
    everything = (*static, *dynamic, *discovered)
    losers = [database for database in everything if by_name.setdefault(database.name, database) is not database]
    renamed = []
    # Only once every name is taken by its rightful owner: a loser's longer name must not push a later database aside.
    for loser in losers:
        name = longer_name(loser.facts)
        served = by_name.setdefault(name, _named(loser, name)).facts == dataclasses.replace(loser.facts, name=name)
        renamed.append(Renamed(wanted=loser.name, served_as=name if served else "", origin=loser.origin))
    return Snapshot(by_name=MappingProxyType(by_name), version=_version(by_name), renamed=tuple(renamed))


def longer_name(facts: Database) -> str:
    """`name-product-region-account`: what a database is called when its own name is taken."""
    return "-".join(filter(None, (facts.name, facts.product.value, facts.region, facts.account_id)))


def difference(before: Mapping[str, Database], after: Mapping[str, Database]) -> Difference:
    """What changed, in the order of names."""
    return Difference(
        upserts=tuple(after[name] for name in sorted(after) if before.get(name) != after[name]),
        deletes=tuple(sorted(before.keys() - after.keys())),
    )


def _named(database: RegisteredDatabase, name: str) -> RegisteredDatabase:
    return dataclasses.replace(database, facts=dataclasses.replace(database.facts, name=name))


def _version(by_name: Mapping[str, RegisteredDatabase]) -> str:
    """Hash of what decides about and describes each database. The external ID enters as a digest only."""
    content = hashlib.sha256()
    for name in sorted(by_name):
        database = by_name[name]
        secret = hashlib.sha256(database.access.external_id.reveal().encode()).hexdigest()
        for part in (
            database.facts,
            database.access,
            secret,
            database.origin,
            database.attribution,
            database.session_policy,
        ):
            content.update(f"{part!r}\n".encode())
        content.update(f"{sorted(database.resource_ids.items())!r}\n".encode())
    return content.hexdigest()[:16]
