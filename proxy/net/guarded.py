"""Runs a guard for real: carries out its verdicts in order, and holds it to its word about every byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from proxy.errors import LocalFault, Refused, Side
from proxy.guard import (
    Answer,
    Deadline,
    Drop,
    Guard,
    Hold,
    Inject,
    NeedGrant,
    Pass,
    Permit,
    Refuse,
    Release,
    Stop,
    Verdict,
    Watch,
)
from proxy.net.channel import HOLD_GUARD, HOLD_UNREAD, Owner
from proxy.net.transport import TAIL_BYTES, Link
from tollbridge.clock import Clock
from tollbridge.reasons import ROWS

RETRY_SECONDS: Final = 5.0
"""Between two questions for a grant while the broker cannot answer and the guard's Deadline is still ahead."""


class Session(Owner, Protocol):
    """The relay, as a guard's runner needs it."""

    def end(self, refusal: Refused) -> None: ...

    def on_fault(self, fault: Exception) -> None: ...


class _Held:
    """What a guard keeps of one side, and what arrived behind it."""

    __slots__ = ("active", "behind", "data", "stopped")

    def __init__(self) -> None:
        self.active = False
        self.stopped = False
        """By Stop: what it was shown of the last call counts as not shown."""
        self.data = bytearray()
        self.behind = bytearray()
        """Not shown to the guard yet; at most one receive buffer, because reading has stopped."""


class Guarded:
    """Between two links in push mode."""

    def __init__(
        self,
        guard: Guard,
        client: Link,
        upstream: Link,
        session: Session,
        clock: Clock,
        renew: Callable[[], Awaitable[tuple[str, str]]],
        permit: Callable[[str], Awaitable[None]],
    ) -> None:
        self._guard = guard
        self._client, self._upstream = client, upstream
        self._links = {Side.CLIENT: client, Side.UPSTREAM: upstream}
        self._held = {Side.CLIENT: _Held(), Side.UPSTREAM: _Held()}
        self.watches = guard.watches_upstream
        """Whether upstream's bytes are shown."""
        self._show = {Side.CLIENT: guard.client_bytes, Side.UPSTREAM: guard.upstream_bytes}
        self._session = session
        self._clock = clock
        self._renew = renew
        self._permit = permit
        self._permits: asyncio.Queue[str] = asyncio.Queue()
        self._over = False
        self._grant_at: datetime | None = None
        self._grant_wanted = asyncio.Event()
        self._deadline: Deadline | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def client_bytes(self, data: bytes) -> None:
        """The client sent something that the guard's gate did not let pass."""
        self._arrived(Side.CLIENT, data)

    def upstream_bytes(self, data: bytes) -> None:
        """Upstream sent something that has to be shown."""
        self._arrived(Side.UPSTREAM, data)

    def holds(self, side: Side) -> bool:
        """Whether bytes of a side wait for a Release."""
        return self._held[side].active

    def begin(self) -> None:
        """Carry out what the guard wants at the start. Call it before any bytes come: they may want it otherwise."""
        try:
            self._carry_out(self._guard.start(), None, b"")
        except Exception as fault:  # noqa: BLE001 - a bug ends this session and no other
            self._fails(fault)

    def open(self) -> None:
        """Let go past the guard what need not be shown, as long as nothing is held. Call it once both links push."""
        if self._over:
            return
        gate = None if self._held[Side.CLIENT].active else self._guard.gate() or self._passes
        self._client.tap(self.client_bytes, gate)
        if not self.watches:
            self._upstream.tap(None)
        else:
            held = self._held[Side.UPSTREAM].active
            self._upstream.tap(self.upstream_bytes, None if held else self._passes_upstream)

    def _passes(self, data: bytes) -> bool:
        try:
            return self._guard.passes(data)
        except Exception as fault:  # noqa: BLE001 - a bug ends this session and no other
            return self._fails(fault)

    def _passes_upstream(self, data: bytes) -> bool:
        try:
            return self._guard.passes_upstream(data)
        except Exception as fault:  # noqa: BLE001 - a bug ends this session and no other
            return self._fails(fault)

    def _fails(self, fault: Exception) -> bool:
        self._over = True
        self._session.on_fault(fault)
        return False

    async def run(self, done: asyncio.Future[None]) -> None:
        """Until the session is over: fetch the grants that the guard asks for, when it needs them."""
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(self._renewals(), name="guard renewals"),
                group.create_task(self._permissions(), name="guard permissions"),
            ]
            await done
            self._over = True
            for task in work:
                task.cancel()
            if self._alarm is not None:
                self._alarm.cancel()

    async def _renewals(self) -> None:
        while True:
            await self._grant_wanted.wait()
            self._grant_wanted.clear()
            while self._grant_at is not None and (wait := (self._grant_at - self._clock.now()).total_seconds()) > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._grant_wanted.wait()
                except TimeoutError:
                    continue
                self._grant_wanted.clear()
            if self._grant_at is None:
                continue
            self._grant_at = None
            try:
                await self._renewal()
            except Refused as refusal:
                if self._deadline is not None and ROWS[refusal.reason].retryable:
                    self._want_grant(self._clock.now() + timedelta(seconds=RETRY_SECONDS))
                else:
                    self._session.end(refusal)
            except Exception as fault:  # noqa: BLE001 - a bug ends this session and no other
                self._session.on_fault(fault)

    async def _renewal(self) -> None:
        user, password = await self._renew()
        self._guarding(lambda: self._carry_out(self._guard.granted(user, password), None, b""))

    async def _permissions(self) -> None:
        while True:
            db_name = await self._permits.get()
            refusal: Refused | None = None
            try:
                await self._permit(db_name)
            except Refused as refused:
                refusal = refused
            except Exception as fault:  # noqa: BLE001 - a bug ends this session and no other
                self._session.on_fault(fault)
                return
            self._guarding(partial(self._permitted, db_name, refusal))

    def _permitted(self, db_name: str, refusal: Refused | None) -> None:
        self._carry_out(self._guard.permitted(db_name, refusal), None, b"")

    def _arrived(self, side: Side, data: bytes) -> None:
        if self._over:
            return
        held = self._held[side]
        if held.active:
            held.behind += data
            return
        self._guarding(lambda: self._carry_out(self._show[side](data), side, data))

    def _guarding(self, work: Callable[[], None]) -> None:
        """Run a guard and what follows from it. Its bugs end this session and no other."""
        try:
            work()
            for side in Side:
                self._catch_up(side)
            self.open()
        except Exception as fault:  # noqa: BLE001 - see above
            self._fails(fault)

    def _catch_up(self, side: Side) -> None:
        """Show what arrived behind bytes that have been released since."""
        held = self._held[side]
        while held.behind and not held.active and not self._over:
            data = bytes(held.behind)
            held.behind.clear()
            self._carry_out(self._show[side](data), side, data)
        link = self._links[side]
        if not held.active and not self._over:
            link.release(HOLD_GUARD)
            if link.ended and not self._twin(side).closing:
                self._session.on_eof(link)

    def _carry_out(  # noqa: C901 - one row per verdict
        self, verdicts: Sequence[Verdict], side: Side | None, shown: bytes
    ) -> None:
        at = 0
        for verdict in verdicts:
            if self._over:
                return
            match verdict:
                case Pass(count) | Drop(count) | Hold(count):
                    if side is None or count < 0 or at + count > len(shown):
                        raise LocalFault("a guard decides about bytes that it was not shown")
                    part, at = shown[at : at + count], at + count
                    self._dispose(verdict, side, part)
                case Answer(data):
                    self._deliver(Side.UPSTREAM, data)
                    if side is not Side.UPSTREAM and self._client.clogged:
                        self._client.hold(HOLD_UNREAD)
                case Inject(data):
                    self._deliver(Side.CLIENT, data)
                case Release(which):
                    held = self._held[which]
                    held.active = held.stopped = False
                    self._deliver(which, bytes(held.data))
                    held.data.clear()
                case Refuse(refusal):
                    self._over = True
                    self._session.end(refusal)
                    return
                case NeedGrant(instant):
                    self._want_grant(instant)
                case Permit(db_name):
                    self._permits.put_nowait(db_name)
                case Stop(which):
                    held = self._held[which]
                    held.active = held.stopped = True
                    self._links[which].hold(HOLD_GUARD)
                case Watch(on):
                    self.watches = on
                case Deadline():
                    self._deadline = verdict
                    self._set_alarm()
        if side is not None and self._held[side].stopped:
            self._held[side].behind[:0] = shown[at:]
        elif at != len(shown):
            raise LocalFault(f"a guard was shown {len(shown)} bytes and decided about {at}")

    def _want_grant(self, at: datetime) -> None:
        self._grant_at = at
        self._grant_wanted.set()

    def _set_alarm(self) -> None:
        """Strike at the deadline, or look again if the clocks disagree."""
        deadline = self._deadline
        if self._alarm is not None:
            self._alarm.cancel()
        if deadline is None or self._over:
            return
        wait = (deadline.at - self._clock.now()).total_seconds()
        if wait <= 0:
            self._over = True
            self._session.end(deadline.refusal)
        else:
            self._alarm = asyncio.get_running_loop().call_later(wait, self._set_alarm)

    def _dispose(self, verdict: Pass | Drop | Hold, side: Side, part: bytes) -> None:
        held = self._held[side]
        if isinstance(verdict, Hold):
            if part:
                held.active = True
                held.data += part
                self._links[side].hold(HOLD_GUARD)
        elif isinstance(verdict, Pass):
            if held.active:
                raise LocalFault("a guard passes bytes ahead of those it holds")
            self._deliver(side, part)

    def _deliver(self, origin: Side, data: bytes) -> None:
        """Write to the other side, as if `origin` had sent it."""
        if not data:
            return
        link = self._links[origin]
        link.relayed += len(data)
        link.tail = data[-TAIL_BYTES:] if len(data) >= TAIL_BYTES else (link.tail + data)[-TAIL_BYTES:]
        self._twin(origin).write(data)

    def _twin(self, side: Side) -> Link:
        return self._links[Side.UPSTREAM if side is Side.CLIENT else Side.CLIENT]
