"""Moves the bytes of an established session, until both directions have ended or the proxy ends it.

Per message nothing runs here: the links push to each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.errors import LocalFault, Refused
from proxy.model import Established
from proxy.net.channel import Channel
from proxy.net.driver import Driver
from proxy.net.guarded import Guarded
from proxy.net.lifetime import Lifetime, SessionLimits
from proxy.net.transport import Link
from tollbridge.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a session went."""

    ended: str
    """`client` or `upstream`: who ended first; `proxy`: we did, `refusal` says why."""
    refusal: Refused | None
    seconds: float
    bytes_to_client: int
    bytes_to_upstream: int


def relay_of(driver: Driver, session: Established, *, limits: SessionLimits, clock: Clock) -> Relay:
    """The session that a driver's script has ended in."""
    if driver.client is None or driver.upstream is None or driver.place is None:
        raise LocalFault("a script says Established and is not connected upstream")
    return Relay(
        driver.client,
        driver.upstream,
        session,
        limits=limits,
        clock=clock,
        renew=driver.renew,
        permit=driver.permit,
        last_words=driver.last_words,
    )


class Relay:
    """One session. `run` it once; `end` may be called at any time."""

    def __init__(
        self,
        client: Link,
        upstream: Link,
        session: Established,
        *,
        limits: SessionLimits,
        clock: Clock,
        renew: Callable[[], Awaitable[tuple[str, str]]],
        permit: Callable[[str], Awaitable[None]],
        last_words: bytes = b"",
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._session = session
        self._clock = clock
        self._renew = renew
        self._permit = permit
        self._ended = ""
        self._refusal: Refused | None = None
        self._fault: Exception | None = None
        self._guarded: Guarded | None = None
        self._done = asyncio.get_running_loop().create_future()
        self._life = Lifetime(limits, lambda: client.relayed + upstream.relayed, self.end)
        upstream.tail = last_words

    @property
    def bytes_to_client(self) -> int:
        """Relayed so far."""
        return self._upstream.relayed

    @property
    def bytes_to_upstream(self) -> int:
        """Relayed so far."""
        return self._client.relayed

    async def run(self) -> Summary:
        """Relay until the end; both links are closed or closing then. Raises what a guard that misbehaves raised."""
        try:
            self._join()
            if not self._done.done():
                self._life.watch()
            if self._guarded is None:
                await self._done
            else:
                await self._guarded.run(self._done)
        finally:
            self._life.stop()
            self._client.close()
            self._upstream.close()
        if self._fault is not None:
            raise self._fault
        return Summary(
            ended=self._ended,
            refusal=self._refusal,
            seconds=self._life.seconds,
            bytes_to_client=self.bytes_to_client,
            bytes_to_upstream=self.bytes_to_upstream,
        )

    def end(self, refusal: Refused) -> None:
        """End the session: the protocol's goodbye where it cannot land inside a message, then close."""
        if self._done.done():
            return
        if self._session.at_rest(self._upstream.tail):
            self._client.write(self._session.farewell(refusal))
        self._refusal = refusal
        self._finish("proxy")

    # What links tell

    def on_eof(self, link: Channel) -> None:
        """One direction has ended: pass that on, and keep the other."""
        other = self._upstream if link is self._client else self._client
        self._ended = self._ended or str(link.side)
        if self._guarded is not None and self._guarded.holds(link.side):
            return  # held bytes go first; Guarded comes back here
        other.write_eof()
        if other.ended:
            self._finish(self._ended)

    def on_lost(self, link: Channel) -> None:
        """A link is gone or broken: the other one gets what was written and a clean end."""
        self._finish(self._ended or str(link.side))

    def on_fault(self, fault: Exception) -> None:
        """A guard broke its rules."""
        self._fault = self._fault or fault
        self._finish("fault")

    def _join(self) -> None:
        client, upstream = self._client, self._upstream
        if client.lost or upstream.lost:
            self._finish(str((client if client.lost else upstream).side))
            return
        guarded = client_sink = upstream_sink = None
        if self._session.guard is not None:
            guarded = self._guarded = Guarded(
                self._session.guard, client, upstream, self, self._clock, self._renew, self._permit
            )
            guarded.begin()
            client_sink = guarded.client_bytes
            upstream_sink = guarded.upstream_bytes if guarded.watches else None
        # The client last: of what it sent behind its login a guard may want to watch the answers.
        if not self._done.done():
            upstream.push_to(client, self, upstream_sink)
        if not self._done.done():
            client.push_to(upstream, self, client_sink)
        if guarded is not None and not self._done.done():
            guarded.open()

    def _finish(self, ended: str) -> None:
        if self._done.done():
            return
        self._ended = ended
        self._done.set_result(None)
        # At once, not when the task runs: until then a pump could write to a link that is gone.
        self._client.close()
        self._upstream.close()
