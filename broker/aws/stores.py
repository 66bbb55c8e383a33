"""Which store the settings ask for."""

from __future__ import annotations

from pathlib import Path

from broker.audit import CallCounters
from broker.aws.base import profile_region
from broker.aws.clients import SkewMeter
from broker.aws.dynamodb import DynamoStore
from broker.registry.mirror import MirroredStore
from broker.registry.sqlite import SqliteStore
from broker.registry.store import Store
from broker.sessions.pool import Pool
from broker.settings import Settings
from tollbridge.clock import Clock


def make_store(settings: Settings, pool: Pool, *, clock: Clock, counters: CallCounters, skew: SkewMeter) -> Store:
    """A file; or a table that brokers share, and the file as its copy."""
    file = SqliteStore(Path(settings.registry.file), clock)
    section = settings.registry.dynamodb
    if not section.table:
        return file
    table = DynamoStore(
        section.table,
        section.region or settings.aws.region or profile_region(),
        pool.base_session,
        clock=clock,
        counters=counters,
        skew=skew,
        create=section.create_table,
    )
    return MirroredStore(table, file)
