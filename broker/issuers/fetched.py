"""Passwords that AWS makes when it is asked: kept to the end that AWS states, each with a single flight.

They are kept like account sessions: renewed behind a login rather than before it, a failed renewal never replaces a
good one, and a refusal is remembered for some seconds, so that 1,000 logins make one call.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from broker.errors import BrokerError
from broker.issuers.token_cache import TokenKey
from broker.model import IssuedCredential
from broker.sessions.keeper import CHECK_SECONDS, Keeper, Surroundings
from tollbridge.reasons import Reason

MAX_PASSWORDS: Final = 4096
IDLE_SECONDS: Final = 3600.0
"""The longest life AWS gives them: what nobody asked for in that time is over."""
NEED_SECONDS: Final = 120.0
"""One with less life left is not handed out while AWS gives another: a grant stops being used 60 s before its end."""


class FetchedPasswords:
    """Passwords by key, bounded. `close()` ends what is under way."""

    def __init__(self, *, world: Surroundings, capacity: int = MAX_PASSWORDS) -> None:
        self._world = world
        self._capacity = capacity
        self._keepers: OrderedDict[TokenKey, tuple[Keeper[IssuedCredential], float]] = OrderedDict()
        self._closed = False
        self._refused_at: OrderedDict[TokenKey, float] = OrderedDict()

    async def get(self, key: TokenKey, name: str, fetch: Callable[[], Awaitable[IssuedCredential]]) -> IssuedCredential:
        """The password of that key, fetched with `fetch` where it must be. Raises BrokerError."""
        return await self._keeper(key, name, fetch).get(need_seconds=NEED_SECONDS)

    def forget(self, key: TokenKey) -> None:
        """A database did not take it: the next login gets another, for the user may have been made since.

        At most every 30 s, or a storm of refused logins would be one of calls.
        """
        now = self._world.monotonic()
        if now - self._refused_at.get(key, float("-inf")) < CHECK_SECONDS:
            return
        self._refused_at[key] = now
        self._refused_at.move_to_end(key)
        if len(self._refused_at) > self._capacity:
            self._refused_at.popitem(last=False)
        self._drop(key)

    def forget_session(self, access_key_id: str) -> None:
        """Drop everything that was fetched with a dead session."""
        for key in [key for key in self._keepers if key.access_key_id == access_key_id]:
            self._drop(key)

    async def close(self) -> None:
        """End what is under way. Whoever waits is told that the broker is stopping."""
        self._closed = True
        keepers = [keeper for keeper, _ in self._keepers.values()]
        self._keepers.clear()
        await asyncio.gather(*(keeper.close() for keeper in keepers))

    def __len__(self) -> int:
        return len(self._keepers)

    def _drop(self, key: TokenKey) -> None:
        if (found := self._keepers.get(key)) is not None:
            found[0].drop(key.access_key_id)

    def _keeper(
        self, key: TokenKey, name: str, fetch: Callable[[], Awaitable[IssuedCredential]]
    ) -> Keeper[IssuedCredential]:
        now = self._world.monotonic()
        found = self._keepers.get(key)
        if found is None:
            if self._closed:
                raise BrokerError(Reason.BROKER_UNAVAILABLE, "the broker is stopping; ask another replica")
            self._make_room(now)
            keeper = Keeper(
                name=name,
                fetch=fetch,
                is_alive=_not_asked,
                on_dead=lambda _key_id: None,
                can_be_forced=True,
                world=self._world,
            )
        else:
            keeper = found[0]
        self._keepers[key] = (keeper, now)
        self._keepers.move_to_end(key)
        return keeper

    def _make_room(self, now: float) -> None:
        # Enough to find an idle one; a scan of all at every new key would make a herd quadratic.
        oldest = [item for item, _ in zip(self._keepers.items(), range(64), strict=False)]
        for key, (keeper, used) in oldest:
            if now - used < IDLE_SECONDS and len(self._keepers) < self._capacity:
                return
            if not keeper.busy:
                del self._keepers[key]
        if len(self._keepers) >= self._capacity:
            raise BrokerError(
                Reason.BROKER_OVERLOADED, f"all {self._capacity} passwords are being fetched; try again in a moment"
            )


async def _not_asked(_credential: IssuedCredential) -> bool:
    """Whether it lives is asked of its session, never of a password."""
    return True
