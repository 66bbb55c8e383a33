"""What servers that speak first were last heard to say, per endpoint, for greeting the next client without dialling.

One login at a time finds out about an endpoint: a burst of clients (or of health checks) is one connection. What is
kept are bytes of an engine's own; nothing here reads them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from types import TracebackType
from typing import Final

from proxy.errors import LocalFault, Refused
from proxy.model import Location
from proxy.net.sessions import Place
from proxy.script import FACTS_LIMIT
from tollbridge.model import Endpoint

MAX_ENDPOINTS: Final = 4096
"""Endpoints come from the catalog alone, so that no client can fill this."""


class EndpointFacts:
    """All logins of a process share one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Endpoint, bytes] = OrderedDict()
        self._flights: dict[Endpoint, asyncio.Future[Refused | None]] = {}

    def get(self, endpoint: Endpoint) -> bytes | None:
        """What is known."""
        return self._kept.get(endpoint)

    def keep(self, endpoint: Endpoint, data: bytes) -> None:
        """Know this from now on; who waited to know it goes on."""
        if len(data) > FACTS_LIMIT:
            raise LocalFault(f"a script keeps {len(data)} bytes about {endpoint}; the limit is {FACTS_LIMIT}")
        self._kept[endpoint] = data
        self._kept.move_to_end(endpoint)
        while len(self._kept) > MAX_ENDPOINTS:
            self._kept.popitem(last=False)
        self._land(endpoint, None)

    async def find_out(self, endpoint: Endpoint) -> bytes | None:
        """What is known, or None for the one caller that is to `keep` it, or to `give_up`. Raises Refused when another
        tried meanwhile and was refused."""
        while (kept := self._kept.get(endpoint)) is None:
            flight = self._flights.get(endpoint)
            if flight is None:
                self._flights[endpoint] = asyncio.get_running_loop().create_future()
                return None
            refusal = await asyncio.shield(flight)
            if refusal is not None:
                raise Refused(refusal.reason, refusal.message)
        return kept

    def give_up(self, endpoint: Endpoint, refusal: Refused | None) -> None:
        """The one that was to find out did not. With a refusal, it is everybody's who waits; without, another tries."""
        self._land(endpoint, refusal)

    def _land(self, endpoint: Endpoint, refusal: Refused | None) -> None:
        flight = self._flights.pop(endpoint, None)
        if flight is not None and not flight.done():
            flight.set_result(refusal)


class Inquiry:
    """One login's part in it. Leaving the block gives up what it was to find out and did not."""

    def __init__(self, facts: EndpointFacts) -> None:
        self._facts = facts
        self._finding_out: Endpoint | None = None

    async def recall(self, destination: Location | Place | None, find_out: bool) -> bytes | None:
        """As the effect RecallFacts says."""
        if not isinstance(destination, Location):
            raise LocalFault("a script recalls facts and has not said of what: Locate comes first")
        if not find_out:
            return self._facts.get(destination.endpoint)
        kept = await self._facts.find_out(destination.endpoint)
        self._finding_out = destination.endpoint if kept is None else None
        return kept

    def keep(self, place: Place | None, data: bytes) -> None:
        """As the effect KeepFacts says."""
        if place is None:
            raise LocalFault("a script keeps facts about a server that it is not connected to")
        self._facts.keep(place.location.endpoint, data)
        if self._finding_out == place.location.endpoint:
            self._finding_out = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finding_out is not None:
            self._facts.give_up(self._finding_out, error if isinstance(error, Refused) else None)
            self._finding_out = None
