"""The sweep: looks at every cell from time to time, and keeps table, store and registry in step.

One broker at a time sweeps, by the store's lease; the others read its results. Either way a broker that starts serves
at once what was known when it last ran, whether or not AWS answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from broker.discovery import documents
from broker.discovery.look import Eyes
from broker.discovery.model import Cell, CellKey, CellState, DiscoveryStore, Failure, StoredCell
from broker.discovery.table import Table, changed, failed, forget, succeeded, table
from broker.errors import BrokerError
from broker.model import RegisteredDatabase
from tollbridge.clock import Clock
from tollbridge.process import telemetry
from tollbridge.reasons import Reason

CELLS_AT_ONCE: Final = 8
LOOK_SECONDS: Final = 120.0
"""A look that takes longer has failed: 500 pages at the rate AWS throttles to."""
FOLLOW_SECONDS: Final = 10.0
"""How often a broker that does not sweep reads what another found, and asks for the lease."""
LEASE_SECONDS: Final = 3 * FOLLOW_SECONDS
PUBLISH_SECONDS: Final = 3.0
"""Within a sweep, what is new is handed on this often: merging a large registry takes tens of milliseconds."""
STALE_INTERVALS: Final = 3

_log = logging.getLogger(__name__)

Publish = Callable[[Iterable[RegisteredDatabase]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """When things happen."""

    clock: Clock
    jitter: Callable[[], float]
    """From [0, 1)."""
    interval_seconds: float = 300.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def pause(self) -> float:
        """Seconds to the next sweep: brokers and accounts are not to beat in time."""
        return self.interval_seconds * (0.9 + 0.2 * self.jitter())


class Sweeper:
    """Looks at cells. `load()` once, then `run()` until cancelled. Lives on one event loop."""

    def __init__(
        self,
        *,
        cells: Sequence[Cell],
        eyes: Eyes,
        store: DiscoveryStore,
        publish: Publish,
        rhythm: Rhythm,
        owner: str,
        at_once: int = CELLS_AT_ONCE,
    ) -> None:
        """`publish` is handed every database known whenever that changes. `owner` names this broker in the lease."""
        self.cells = {cell.key: cell for cell in cells}
        self.rhythm = rhythm
        self.eyes = eyes
        self.table = table(cells)
        self.is_sweeper = False
        """Whether this broker holds the lease."""
        self.sweeps = 0
        """Whole sweeps since the start."""
        self._store = store
        self._publish = publish
        self._owner = owner
        self._room = asyncio.Semaphore(at_once)
        self._stored = Table()
        """What the store is known to hold of these cells."""
        self._read: Sequence[StoredCell] = ()
        """What the store last said: another object when it says something else."""
        self._strangers: set[str] = set()
        """Keys that the store holds of matchers that are gone."""
        self._published: Table | None = None
        self._published_at = float("-inf")
        self._woken = asyncio.Event()
        self._closed = False

    def configure(self, cells: Sequence[Cell]) -> None:
        """Look at these cells from now on: the configuration changed. What is known of cells that stay, stays."""
        self._strangers |= {key.text() for key in self.cells}
        self.cells = {cell.key: cell for cell in cells}
        self._strangers -= {key.text() for key in self.cells}
        self.table = table(cells, self.table.states.values())
        self._hand_on()
        self._woken.set()

    async def load(self) -> None:
        """Know what was known before. A store that does not answer is no reason not to start."""
        await self._follow()

    async def run(self) -> None:
        """Sweep, or follow whoever does, until cancelled or closed."""
        while not self._closed:
            self._woken.clear()
            try:
                await self._turn()
            except Exception:  # noqa: BLE001 - a bug here must not end a broker whose logins go on
                _log.exception("discovery failed for a reason nobody foresaw; it is tried again")
                await self._nap(FOLLOW_SECONDS)

    async def _turn(self) -> None:
        if not self.cells:
            await self._woken.wait()
        elif await self._lease():
            async with asyncio.TaskGroup() as group:
                hold = group.create_task(self._hold_lease(), name="discovery lease")
                if self.table is self._stored:
                    await self._follow()  # somebody may have had a database forgotten at another broker
                await self.sweep()
                await self._nap(self.rhythm.pause())
                hold.cancel()
        else:
            await self._follow()
            await self._nap(FOLLOW_SECONDS * (0.5 + self.rhythm.jitter()))

    async def close(self) -> None:
        """Let another broker sweep at once, or this one when it is started again. May be called again."""
        self._closed = True
        self._woken.set()
        if self.is_sweeper:
            self.is_sweeper = False
            with suppress(BrokerError):
                await self._store.lease(self._owner, 0)

    async def sweep(self) -> None:
        """Look at every cell once; what one finds is served without waiting for the others."""
        async with asyncio.TaskGroup() as group:
            for cell in self.cells.values():
                group.create_task(self._look(cell), name=f"discovery {cell.key.text()}")
        self._hand_on()
        try:
            await self._save()
        except BrokerError as error:
            _log.warning("what was discovered cannot be stored: %s", error.message)
        self.sweeps += 1

    async def forget(self, host: str) -> None:
        """Drop the database at a host that failed sweeps keep. Raises NotForgotten, or BrokerError from the store."""
        if not self.is_sweeper:
            await self._follow()
        after = forget(self.table, host)
        before, self.table = self.table, after
        try:
            await self._save()
        except BrokerError:
            self.table = before
            raise
        self._hand_on()

    def age_seconds(self, state: CellState) -> float | None:
        """Since the last success; None before the first."""
        if state.last_success_at is None:
            return None
        return (self.rhythm.clock.now() - state.last_success_at).total_seconds()

    def is_stale(self, state: CellState) -> bool:
        """Whether the last success is longer ago than it should be."""
        age = self.age_seconds(state)
        if age is None:
            return state.last_attempt_at is not None
        return age > STALE_INTERVALS * self.rhythm.interval_seconds

    async def _nap(self, seconds: float) -> None:
        """Sleep, or until the configuration changes."""
        loop = asyncio.get_running_loop()

        async def sleep() -> None:
            await self.rhythm.sleep(seconds)

        waits = (
            loop.create_task(sleep(), name="discovery pause"),
            loop.create_task(self._woken.wait(), name="discovery configured"),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _hold_lease(self) -> None:
        while True:
            await self.rhythm.sleep(LEASE_SECONDS / 3)
            await self._lease()

    async def _lease(self) -> bool:
        if self._closed:
            return False
        try:
            self.is_sweeper = await self._store.lease(self._owner, LEASE_SECONDS)
        except BrokerError as error:
            # Without the store nobody else's results arrive either: two brokers that sweep are better than none.
            _log.warning("the lease of discovery cannot be had: %s", error.message)
            self.is_sweeper = True
        return self.is_sweeper

    async def _look(self, cell: Cell) -> None:
        clock = self.rhythm.clock
        async with self._room:
            started = clock.monotonic()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    look = await self.eyes.look(cell)
            except TimeoutError:
                message = f"the look was given up after {LOOK_SECONDS:g} s"
                failure = Failure(reason=Reason.AWS_UNAVAILABLE, message=message, at=clock.now())
            except BrokerError as error:
                failure = Failure(reason=error.reason, message=error.message, at=clock.now())
            except Exception:  # noqa: BLE001 - a bug in reading one service's answers must not end the others' sweeps
                _log.exception("looking at %s failed for a reason nobody foresaw", cell.key.text())
                failure = Failure(
                    reason=Reason.INTERNAL, message="internal error: the broker's log has it", at=clock.now()
                )
            else:
                if (before := self.table.states.get(cell.key)) is not None:
                    state = succeeded(before, look, at=clock.now(), seconds=clock.monotonic() - started)
                    self._succeeded(before, state)
                return
            self._failed(cell.key, failure, clock.monotonic() - started)

    def _succeeded(self, before: CellState, state: CellState) -> None:
        if before.failure is not None:
            _log.info("%s answers again", state.key.text(), extra={telemetry.ACCOUNT_ID: state.account_id})
        self.table = self.table.put(state)
        if self.rhythm.clock.monotonic() - self._published_at >= PUBLISH_SECONDS:
            self._hand_on()

    def _failed(self, key: CellKey, failure: Failure, seconds: float) -> None:
        before = self.table.states.get(key)
        if before is None:
            return
        if before.failure is None or before.failure.reason is not failure.reason:
            _log.warning(
                "discovery of %s: %s",
                key.text(),
                failure.message,
                extra={telemetry.ACCOUNT_ID: key.account_id, telemetry.REASON: failure.reason.value},
            )
        self.table = self.table.put(failed(before, failure, seconds=seconds))

    def _hand_on(self) -> None:
        if self.table is self._published:
            return
        told = self.table
        self._publish(told.databases())
        self._published, self._published_at = told, self.rhythm.clock.monotonic()

    async def _follow(self) -> None:
        """Take over what the store holds."""
        try:
            read = await self._store.load()
        except BrokerError as error:
            _log.warning("what was discovered before cannot be read: %s", error.message)
            return
        if read is self._read:
            return
        self._read = read
        stored = {cell.key: cell.document for cell in read}
        # Off the loop: thousands of databases take a second, and logins go on meanwhile.
        states = await asyncio.to_thread(_unpacked, list(self.cells.values()), stored)
        self._strangers = stored.keys() - {key.text() for key in self.cells}
        self._stored = self.table = table(self.cells.values(), states)
        self._hand_on()

    async def _save(self) -> None:
        """Raises BrokerError."""
        states = changed(self._stored, self.table)
        after, strangers = self.table, self._strangers
        packed = await asyncio.to_thread(lambda: [documents.pack(state) for state in states])
        alone = await self._store.save(packed, sorted(strangers))
        self._stored = after
        self._strangers = self._strangers - strangers
        if alone:
            with suppress(BrokerError):
                self._read = await self._store.load()


def _unpacked(cells: Sequence[Cell], stored: Mapping[str, bytes]) -> list[CellState]:
    states = []
    for cell in cells:
        document = stored.get(cell.key.text())
        if document is None:
            continue
        try:
            states.append(documents.unpack(document, cell))
        except documents.Unreadable as error:
            _log.warning("what was known of %s is left out: %s", cell.key.text(), error)
    return states


class MemoryStore:
    """A store for a broker alone, without one: everything is found anew after a restart."""

    async def load(self) -> Sequence[StoredCell]:
        """Nothing."""
        return ()

    async def save(self, cells: Sequence[StoredCell], gone: Sequence[str]) -> bool:
        """Nowhere."""
        return True

    async def lease(self, owner: str, seconds: float) -> bool:
        """Always: there is nobody else."""
        return True
