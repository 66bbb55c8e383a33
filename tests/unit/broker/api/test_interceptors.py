"""What the interceptor keeps by itself; the rest is seen over mTLS in tests/contract."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress

import pytest

from broker.api.interceptors import Guard, Room, RpcMetrics
from broker.api.table import Load
from broker.errors import BrokerError
from tests.support.clock import FakeClock
from tollbridge.process.telemetry import Counters
from tollbridge.reasons import Reason


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


def taken(room: Room, load: Load, caller: str, stack: ExitStack) -> int:
    """How many places a caller that takes all it can get."""
    count = 0
    with suppress(BrokerError):
        while True:
            stack.enter_context(room.take(load, caller))
            count += 1
    return count


@pytest.mark.parametrize("load", [Load.CALL, Load.WATCH])
def test_who_takes_all_it_can_get_keeps_nobody_else_out(load: Load) -> None:
    """One stolen certificate, with as many connections as it likes."""
    room = Room(max_calls=320, max_watches=320)
    with ExitStack() as greedy:
        assert taken(room, load, "spiffe://td/stolen", greedy) == 280
        with pytest.raises(BrokerError, match="for others than spiffe://td/stolen") as caught:
            greedy.enter_context(room.take(load, "spiffe://td/stolen"))
        assert caught.value.reason is Reason.BROKER_OVERLOADED
        others = [ExitStack() for _ in range(4)]
        assert [taken(room, load, f"spiffe://td/{n}", stack) for n, stack in enumerate(others)] == [10] * 4
        with pytest.raises(BrokerError, match="all of its 320"):
            greedy.enter_context(room.take(load, "spiffe://td/late"))
        for stack in others:
            stack.close()
    assert room.taken[load] == 0
    assert not room._held
    with ExitStack() as again:
        assert taken(room, load, "spiffe://td/0", again) == 280


def test_a_small_room_is_anybodys() -> None:
    with ExitStack() as stack:
        assert taken(Room(max_calls=3), Load.CALL, "spiffe://td/app", stack) == 3
