"""How a process lives: the clock it reads, the signals it hears, the loop it runs on.

    SIGTERM, SIGINT   first: drain (take no more work, finish what runs); second: hurry (end what still runs)
    SIGHUP            call the reload hooks

Nothing outside this module reads the wall clock.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

T = TypeVar("T")

_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


class SystemClock:
    """The machine's clock: a `tollbridge.clock.Clock`."""

    def now(self) -> datetime:
        """The instant, aware, in UTC."""
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)
    """Seconds that never go backwards. Read for each signed request, so nothing is put around it."""


class Lifecycle:
    """What a process was asked to do. Signals ask it; so do tests, by calling the same methods."""

    def __init__(self) -> None:
        self._draining = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._reload_hooks: list[Callable[[], None]] = []

    @property
    def is_draining(self) -> bool:
        """Whether new work is refused."""
        return self._draining.is_set()

    def request_stop(self) -> None:
        """Drain; asked a second time, hurry."""
        if self._draining.is_set():
            self._hurrying.set()
        self._draining.set()

    async def draining(self) -> None:
        """Wait until the process shall drain."""
        await self._draining.wait()

    async def hurrying(self) -> None:
        """Wait until the drain shall be cut short."""
        await self._hurrying.wait()

    async def drained_by(self, seconds: float, work: Coroutine[Any, Any, object]) -> bool:
        """Await `work`, but no longer than `seconds` and not past a request to hurry. False: it was cut short."""
        done = False

        async def finish() -> None:
            nonlocal done
            await work
            done = True
            hurry.cancel()

        async def cut_short() -> None:
            await self._hurrying.wait()
            finishing.cancel()

        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                hurry = group.create_task(cut_short(), name="hurry")
                finishing = group.create_task(finish(), name="drain")
        except TimeoutError:
            return False
        finally:
            work.close()  # not even begun, when there was a hurry from the start
        return done

    def on_reload(self, hook: Callable[[], None]) -> None:
        """Call `hook` on the loop at each SIGHUP."""
        self._reload_hooks.append(hook)

    def request_reload(self) -> None:
        """Call every reload hook; one that fails does not keep the others from running."""
        for hook in self._reload_hooks:
            try:
                hook()
            except Exception:  # noqa: BLE001 - hooks come from everywhere
                _log.exception("a reload failed; what was loaded before stays in force")

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Hear signals on the running loop.

        On leaving, SIGTERM and SIGINT are ignored: the process is about to exit, and their default action would kill
        it half way through (seen with a second SIGTERM that came after the loop had dropped its handler).
        """
        loop = asyncio.get_running_loop()
        for number in _END_SIGNALS:
            loop.add_signal_handler(number, self._heard, number)
        loop.add_signal_handler(signal.SIGHUP, self.request_reload)
        try:
            yield
        finally:
            for number in _END_SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _heard(self, number: signal.Signals) -> None:
        _log.info("%s: %s", number.name, "hurrying" if self.is_draining else "draining")
        self.request_stop()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a process's main coroutine on uvloop."""
    import uvloop

    return uvloop.run(main)
