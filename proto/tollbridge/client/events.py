"""What a watch yields."""

from __future__ import annotations

from dataclasses import dataclass

from tollbridge.model import Database


@dataclass(frozen=True, slots=True)
class Upsert:
    """A database is new or has changed."""

    database: Database
    policy_version: str


@dataclass(frozen=True, slots=True)
class Delete:
    """The database of this name is gone."""

    name: str
    policy_version: str


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything that exists has been yielded. Comes once per watch."""

    policy_version: str


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """Rules changed: decisions made under another policy version must be asked for again."""

    policy_version: str


Event = Upsert | Delete | Synced | PolicyChanged
