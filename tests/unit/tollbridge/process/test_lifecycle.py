from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import UTC

import pytest

from tollbridge.process.lifecycle import Lifecycle, SystemClock

PROGRAM = """
import asyncio
from tollbridge.process.lifecycle import Lifecycle, run

async def main():
    life = Lifecycle()
    life.on_reload(lambda: 1 / 0)
    life.on_reload(lambda: print("reload", flush=True))
    with life.signals():
        print(type(asyncio.get_running_loop()).__module__, flush=True)
        await life.draining()
        print("draining", flush=True)
        if not await life.drained_by(60, asyncio.Event().wait()):
            print("hurried", flush=True)
    print("leaving", flush=True)
    await asyncio.sleep(0.3)
    print("left", flush=True)
    return 0

raise SystemExit(run(main()))
"""


def test_signals_drain_then_hurry_and_a_late_one_does_not_kill() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        heard = [process.stdout.readline()]
        for number, answer in (
            (signal.SIGHUP, "reload\n"),
            (signal.SIGTERM, "draining\n"),
            (signal.SIGINT, "hurried\n"),
        ):
            process.send_signal(number)
            heard.append(process.stdout.readline())
            assert heard[-1] == answer
        assert process.stdout.readline() == "leaving\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "left\n"
        assert process.wait(10) == 0
    assert heard[0] == "uvloop\n"


def test_the_clock_is_aware_and_moves_forward() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()


async def test_a_drain_ends_with_its_work() -> None:
    assert await Lifecycle().drained_by(60, asyncio.sleep(0))


async def test_a_drain_ends_at_its_limit() -> None:
    assert not await Lifecycle().drained_by(0.01, asyncio.Event().wait())


async def test_a_failure_of_the_work_is_not_hidden() -> None:
    async def fail() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(ExceptionGroup) as caught:
        await Lifecycle().drained_by(60, fail())
    assert caught.group_contains(RuntimeError, match="a bug")


async def test_asking_twice_is_to_hurry() -> None:
    life = Lifecycle()
    life.request_stop()
    assert life.is_draining
    async with asyncio.TaskGroup() as group:
        drain = group.create_task(life.drained_by(60, asyncio.Event().wait()))
        await asyncio.sleep(0)
        life.request_stop()
        assert not await drain
