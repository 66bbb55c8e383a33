"""All account sessions: one keeper per chain and per prefix of a chain, so that first hops are shared."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from broker.audit import Counters
from broker.errors import BrokerError
from broker.model import AccountSession, ChainKey, Sts
from broker.sessions.checks import check_partition
from broker.sessions.errors import SessionGone
from broker.sessions.keeper import Keeper, Surroundings, Verdict
from tollbridge.clock import Clock
from tollbridge.reasons import Reason

MAX_CHAINS: Final = 4096
"""Sessions held at once. One per role; one per role and workload where attribution asks for it."""
IDLE_SECONDS: Final = 7200.0
"""A chain nobody asked for in this time is forgotten."""

_BASE: Final = ChainKey(partition="", sts_region="")
"""The broker's own identity is one, whatever region and partition the chains that start from it name."""


class Pool:
    """Sessions by chain. `close()` ends everything it started."""

    def __init__(
        self,
        *,
        sts: Sts,
        clock: Clock,
        jitter: Callable[[], float],
        counters: Counters,
        max_chains: int = MAX_CHAINS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._sts = sts
        self._clock = clock
        self._max_chains = max_chains
        self._idle_seconds = idle_seconds
        self._world = Surroundings(now=self.now, monotonic=clock.monotonic, jitter=jitter, counters=counters.sessions)
        self._keepers: OrderedDict[ChainKey, tuple[Keeper[AccountSession], float]] = OrderedDict()
        self._on_dead: list[Callable[[str], None]] = []
        self._closed = False
        self._base = self._new_keeper(_BASE)

    def now(self) -> datetime:
        """AWS's time: our clock, corrected by the skew measured on STS's answers."""
        return self._clock.now() + timedelta(seconds=self._sts.clock_skew_seconds())

    def when_dead(self, forget: Callable[[str], None]) -> None:
        """Have `forget(access_key_id)` called when a session turns out dead: what it signed is worth nothing."""
        self._on_dead.append(forget)

    async def base_session(self) -> AccountSession:
        """The broker's own identity. Raises BASE_CREDENTIALS_MISSING."""
        return await self._base.get()

    async def session(self, key: ChainKey, *, need_seconds: float = 0.0) -> AccountSession:
        """The session a chain leads to, with `need_seconds` of life where AWS can give that. Raises BrokerError."""
        return await self._keeper(key).get(need_seconds=need_seconds)

    async def reject(self, key: ChainKey, access_key_id: str) -> Verdict:
        """A database refused what `access_key_id`, a session of `key`, signed: see `Keeper.reject`."""
        return await self._keeper(key).reject(access_key_id)

    async def close(self) -> None:
        """End all background work."""
        self._closed = True
        keepers = [keeper for keeper, _ in self._keepers.values()]
        self._keepers.clear()
        await asyncio.gather(self._base.close(), *(keeper.close() for keeper in keepers))

    def __len__(self) -> int:
        return len(self._keepers)

    def _keeper(self, key: ChainKey, *, for_a_flight: bool = False) -> Keeper[AccountSession]:
        if not key.hops:
            return self._base
        now = self._clock.monotonic()
        found = self._keepers.get(key)
        if found is None:
            if self._closed:
                raise BrokerError(Reason.BROKER_UNAVAILABLE, "the broker is stopping; ask another replica")
            if not for_a_flight:  # a chain that was let in may have its prefixes, or all would wait for each other
                self._make_room(now)
            keeper = self._new_keeper(key)
        else:
            keeper = found[0]
        self._keepers[key] = (keeper, now)
        self._keepers.move_to_end(key)
        return keeper

    def _new_keeper(self, key: ChainKey) -> Keeper[AccountSession]:
        async def fetch() -> AccountSession:
            return await self._fetch(key)

        async def is_alive(session: AccountSession) -> bool:
            return await self._sts.is_alive(session, key.sts_region)

        name = "session " + (" -> ".join(hop.role_arn for hop in key.hops) or "of the broker itself")
        return Keeper(
            name=name,
            fetch=fetch,
            is_alive=is_alive,
            on_dead=self._forget,
            can_be_forced=bool(key.hops),
            world=self._world,
        )

    async def _fetch(self, key: ChainKey) -> AccountSession:
        if not key.hops:
            return await self._sts.base_session()
        hop = key.hops[-1]
        parents = self._keeper(replace(key, hops=key.hops[:-1]), for_a_flight=True)
        parent = await parents.get()
        check_partition(parent.arn, hop.role_arn)
        try:
            return await self._sts.assume_role(parent, hop, key.sts_region)
        except SessionGone:
            # Expired early, or its role was deleted and made again: the parent is what must be renewed, once.
            parents.drop(parent.access_key_id)
        return await self._sts.assume_role(await parents.get(), hop, key.sts_region)

    def _forget(self, access_key_id: str) -> None:
        for forget in self._on_dead:
            forget(access_key_id)

    def _make_room(self, now: float) -> None:
        """Forget chains out of use; when that is not enough, the one used longest ago."""
        for key, (keeper, used) in list(self._oldest()):
            if now - used < self._idle_seconds and len(self._keepers) < self._max_chains:
                return
            if not keeper.busy:
                del self._keepers[key]
        if len(self._keepers) >= self._max_chains:
            raise BrokerError(
                Reason.BROKER_OVERLOADED, f"all {self._max_chains} account sessions are being fetched; try again"
            )

    def _oldest(self) -> list[tuple[ChainKey, tuple[Keeper[AccountSession], float]]]:
        # Enough to find an idle one; a scan of all at every new chain would make a herd quadratic.
        return [item for item, _ in zip(self._keepers.items(), range(64), strict=False)]
