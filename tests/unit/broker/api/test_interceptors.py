"""What the interceptor keeps by itself; the rest is seen over mTLS in tests/contract."""

from __future__ import annotations

import asyncio

from broker.api.interceptors import Guard, Room, RpcMetrics
from tests.support.clock import FakeClock
from tollbridge.process.telemetry import Counters


async def test_a_second_stop_may_come_while_the_first_ends_the_foreign_streams() -> None:
    room = Room()
    metrics = RpcMetrics(Counters(process_metrics=False), room, FakeClock())
    guard = Guard(lambda _context: "spiffe://td/app", room, metrics, 1.0)
    began = asyncio.Event()

    async def stream() -> None:
        began.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(guard._until_ended(stream()))
        await began.wait()
        guard.end_foreign_streams()
        (scope,) = guard._scopes
        while not scope.expired():  # noqa: ASYNC110 - this very moment
            await asyncio.sleep(0)
        guard.end_foreign_streams()
    assert not guard._scopes
