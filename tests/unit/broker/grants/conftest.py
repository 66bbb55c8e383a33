"""A broker whose one database has an external ID."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.issuers import close_issuers
from tests.support.clock import FakeClock
from tests.unit.broker.grants.bridges import Bridge, build
from tests.unit.broker.issuers.databases import database


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    bridge = build(FakeClock(), database(external_id="ext-1"), external_id="ext-1")
    yield bridge
    await close_issuers(bridge.issuers)
    await bridge.pool.close()
    assert len(asyncio.all_tasks()) == 1
