"""Whether the broker may take traffic, and whether AWS answers it.

Ready: the registry is loaded and base credentials were obtained once since start. What fails towards STS later makes a
broker degraded, not unready: it still issues from the sessions it holds, and its replicas would fail the same way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from broker.errors import BrokerError
from broker.model import AccountSession, Hop, Sts
from tollbridge.clock import Clock
from tollbridge.reasons import Reason

T = TypeVar("T")

_OURS_OR_AWS: Final = frozenset({Reason.BASE_CREDENTIALS_MISSING, Reason.AWS_UNAVAILABLE, Reason.AWS_THROTTLED})
"""Failures that concern every database. Others belong to one role."""


class WatchedSts:
    """An `Sts` that remembers whether AWS answered last time."""

    def __init__(self, sts: Sts, clock: Clock) -> None:
        self._sts = sts
        self._clock = clock
        self._failure: tuple[float, str] | None = None

    @property
    def degraded(self) -> str:
        """Why and since when AWS cannot be reached; empty while it answers."""
        if self._failure is None:
            return ""
        since, message = self._failure
        return f"AWS has not answered for {self._clock.monotonic() - since:.0f} s: {message}"

    async def base_session(self) -> AccountSession:
        """See broker.model.Sts."""
        return await self._note(self._sts.base_session())

    async def assume_role(self, parent: AccountSession, hop: Hop, region: str) -> AccountSession:
        """See broker.model.Sts."""
        return await self._note(self._sts.assume_role(parent, hop, region))

    async def is_alive(self, session: AccountSession, region: str) -> bool:
        """See broker.model.Sts."""
        return await self._note(self._sts.is_alive(session, region))

    def clock_skew_seconds(self) -> float:
        """See broker.model.Sts."""
        return self._sts.clock_skew_seconds()

    async def _note(self, call: Awaitable[T]) -> T:
        try:
            answer = await call
        except BrokerError as error:
            if error.reason in _OURS_OR_AWS:
                since = self._failure[0] if self._failure else self._clock.monotonic()
                self._failure = (since, error.message)
            else:
                self._failure = None
            raise
        self._failure = None
        return answer


class Readiness:
    """What /readyz and the health service say."""

    def __init__(self, sts: WatchedSts) -> None:
        self._sts = sts
        self.base_obtained = False
        self.draining = False
        self.waiting_for = "base credentials"
        """Why it is not ready yet."""
        self.remarks: list[Callable[[], str]] = []
        """What else an operator should know: each gives a line, or nothing."""

    def ready(self) -> tuple[bool, str]:
        """Ready or not, and a line that says why."""
        if self.draining:
            return False, "not ready: draining"
        if not self.base_obtained:
            return False, f"not ready: waiting for {self.waiting_for}"
        degraded = self._sts.degraded
        remarks = "; ".join(said for remark in self.remarks if (said := remark()))
        return True, ", ".join(filter(None, ("ready", degraded and f"degraded: {degraded}", remarks)))
