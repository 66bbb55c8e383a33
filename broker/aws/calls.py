"""A call to AWS from its first attempt to its last: retried within the budget, signed anew when the clock was wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from broker.audit import CallCounters
from broker.aws.clients import WORKERS, AwsClients, SkewMeter
from broker.aws.errors import AwsFault, Kind
from broker.aws.retries import Retries
from broker.model import AccountSession
from tollbridge.clock import Clock

_RESIGN_SECONDS: Final = 60.0
"""A signature refused is made again when the clock turned out to be this much wrong."""

_R = TypeVar("_R", bound=Mapping[str, Any])


class Calls:
    """Calls of a group of APIs. `close()` when done."""

    def __init__(
        self,
        *,
        name: str,
        clock: Clock,
        counters: CallCounters,
        skew: SkewMeter,
        workers: int = WORKERS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.clients = AwsClients(name=name, clock=clock, counters=counters, skew=skew, workers=workers)
        self._retries = Retries(monotonic=clock.monotonic, counters=counters, sleep=sleep)

    async def run(
        self, service: str, region: str, signer: AccountSession, name: str, operation: Callable[[Any], _R]
    ) -> _R:
        """What AWS answers. `operation` is handed the SDK's client of the service. Raises AwsFault."""

        async def attempt() -> _R:
            skew = self.clients.skew
            signed_with = skew.seconds
            try:
                return await self.clients.call(service, region, signer, name, operation)
            except AwsFault as fault:
                # The refusal itself told the time: sign again with it, once.
                if fault.kind is not Kind.SIGNATURE or abs(skew.seconds - signed_with) < _RESIGN_SECONDS:
                    raise
            return await self.clients.call(service, region, signer, name, operation)

        return await self._retries.run(signer.account_id, attempt)

    def close(self) -> None:
        """Let go of the threads; what runs ends within its timeouts."""
        self.clients.close()
