"""Which store the settings ask for."""

from __future__ import annotations

from pathlib import Path

from broker.audit import CallCounters
from broker.aws.clients import SkewMeter
from broker.registry.sqlite import SqliteStore
from broker.registry.store import Store
from broker.sessions.pool import Pool
from broker.settings import Settings
from tollbridge.clock import Clock


def make_store(settings: Settings, pool: Pool, *, clock: Clock, counters: CallCounters, skew: SkewMeter) -> Store:
    """The file."""
    return SqliteStore(Path(settings.registry.file), clock)
