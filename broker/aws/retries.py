"""The only retry towards AWS: jittered, bounded, and paid for from a budget per account."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt, wait_random_exponential

from broker.audit import CallCounters
from broker.aws.errors import TRANSIENT, AwsFault

ATTEMPTS: Final = 3
GIVE_UP_SECONDS: Final = 4.0
"""No attempt starts later than this after the first. A call that hung for its 5 s is not repeated: callers have
deadlines of about 10 s, and are to hear that AWS does not answer rather than nothing."""
BUDGET: Final = 10.0
"""Retries an account may make at once."""
BUDGET_PER_SECOND: Final = 1.0
"""And how fast it earns new ones: in an outage retries must not multiply the load."""

_MAX_ACCOUNTS: Final = 1024
_T = TypeVar("_T")


class RetryBudget:
    """A token bucket."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._tokens = BUDGET
        self._filled_at = monotonic()

    def take(self) -> bool:
        """Whether one more retry is allowed; if so, it is paid for."""
        now = self._monotonic()
        self._tokens = min(BUDGET, self._tokens + (now - self._filled_at) * BUDGET_PER_SECOND)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Retries:
    """Runs attempts of calls."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        counters: CallCounters,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._counters = counters
        self._sleep = sleep
        self._budgets: OrderedDict[str, RetryBudget] = OrderedDict()

    async def run(self, account: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Attempt until it succeeds, fails for good, or no retry is left. Raises the last AwsFault.

        `account` is the one whose quota the call is charged to: that of the identity that signs it.
        """
        started = self._monotonic()

        def again(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            if not isinstance(error, AwsFault):
                return False
            self._counters.failure(error.kind)
            late = self._monotonic() - started >= GIVE_UP_SECONDS
            if error.kind not in TRANSIENT or late or state.attempt_number >= ATTEMPTS:
                return False
            if not self._budget(account).take():
                self._counters.retries_withheld += 1
                return False
            self._counters.retries += 1
            return True

        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=2.0),
            retry=again,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(attempt)

    def _budget(self, account: str) -> RetryBudget:
        budget = self._budgets.get(account)
        if budget is None:
            budget = RetryBudget(monotonic=self._monotonic)
            self._budgets[account] = budget
            if len(self._budgets) > _MAX_ACCOUNTS:
                self._budgets.popitem(last=False)
        self._budgets.move_to_end(account)
        return budget
