"""The session of a client that shares a connection, also after it was given one of its own."""

from __future__ import annotations

import asyncio

from proxy.errors import LocalFault, PeerClosed, PeerViolation, Refused, Side
from proxy.model import Established, Shared
from proxy.multiplex import Pin
from proxy.net.driver import Driver
from proxy.net.lifetime import Lifetime, SessionLimits
from proxy.net.relay import Relay, Summary, relay_of
from proxy.net.services import Services
from proxy.net.shared.seat import Seat
from tollbridge.reasons import Reason

PINNED = "pinned"
"""The note that says why."""


class SharedSession:
    """One session. `run` it once; `end` may be called at any time."""

    def __init__(
        self,
        driver: Driver,
        shared: Shared,
        *,
        services: Services,
        limits: SessionLimits,
        login_seconds: float,
    ) -> None:
        """`driver`: has logged the client in, and logs it in again where that is needed, each time for at most
        `login_seconds`."""
        if driver.client is None or driver.joining.trunk is None:
            raise LocalFault("a script says Shared and has not shared a connection")
        self._driver = driver
        self._client = driver.client
        self._shared = shared
        self._services = services
        self._login_seconds = login_seconds
        self._seat = Seat(self._client, shared, self._wake)
        self._turn = asyncio.Event()
        self._relay: Relay | None = None
        self._refusal: Refused | None = None
        self._life = Lifetime(limits, lambda: self.bytes_to_client + self.bytes_to_upstream, self.end)

    @property
    def bytes_to_client(self) -> int:
        """Handed out and relayed so far."""
        return self._seat.bytes_to_client + (self._relay.bytes_to_client if self._relay is not None else 0)

    @property
    def bytes_to_upstream(self) -> int:
        """Sent and relayed so far."""
        return self._client.relayed

    async def run(self) -> Summary:
        """Until the end; the client's link is closed or closing then. Raises what an engine that misbehaves raised."""
        trunk = self._driver.joining.trunk
        if trunk is None:
            raise LocalFault("a shared session without a shared connection")
        seat = self._seat
        try:
            seat.begin(trunk)
            if not seat.over:
                self._life.watch()
            while not seat.over:
                await self._turn.wait()
                self._turn.clear()
                if seat.pin is not None and not seat.over:
                    return await self._pinned(seat.pin)
                if seat.adrift and not seat.over:
                    await self._rejoin()
        finally:
            self._life.stop()
            if not seat.over:
                seat.finish("proxy")
            self._client.close()
        if seat.fault is not None:
            raise seat.fault
        return self._summary(seat.ended, seat.refusal)

    def end(self, refusal: Refused) -> None:
        """End the session: the protocol's goodbye where it cannot land inside an answer, then close."""
        if self._relay is not None:
            self._relay.end(refusal)
        elif not self._seat.over:
            self._seat.end(refusal)
        elif self._refusal is None:
            self._refusal = refusal
            self._driver.interrupt(refusal)

    def _wake(self) -> None:
        self._turn.set()
        seat = self._seat
        if seat.over and seat.adrift:
            self._driver.interrupt(seat.refusal or Refused(Reason.CLIENT_PROTOCOL, "the client has left"))

    async def _rejoin(self) -> None:
        """The connection that was shared is gone or too old, and the client has something to ask."""
        seat, driver = self._seat, self._driver
        try:
            await driver.run(driver.joining.again(), self._login_seconds)
        except Refused as refusal:
            seat.end(refusal)
        except PeerViolation as violation:
            seat.end(violation.as_refusal())
        else:
            if driver.joining.trunk is not None:
                seat.sit(driver.joining.trunk)

    async def _pinned(self, pin: Pin) -> Summary:
        """The client goes on with a connection of its own."""
        driver, client = self._driver, self._client
        driver.note(PINNED, pin.why)
        self._services.trunks.pinned(pin.why)
        client.pull(pin.rest + self._seat.take_leave())
        try:
            session = await driver.run(self._shared.pin(client.relayed > 0), self._login_seconds)
        except Refused as refusal:
            return self._refused(refusal)
        except PeerViolation as violation:
            if isinstance(violation, PeerClosed) and violation.side is Side.CLIENT:
                return self._summary("client", None)
            return self._refused(violation.as_refusal())
        return await self._relayed(session)

    async def _relayed(self, session: Established) -> Summary:
        driver, services = self._driver, self._services
        relay = self._relay = relay_of(driver, session, limits=SessionLimits(), clock=services.clock)
        if driver.place is None:
            raise LocalFault("a session with a connection of its own, and nobody knows where")
        if self._refusal is not None:
            relay.end(self._refusal)
        with services.sessions.running(session.cancel_key, driver.place):
            summary = await relay.run()
        return self._summary(summary.ended, summary.refusal)

    def _refused(self, refusal: Refused) -> Summary:
        self._client.write(self._shared.farewell(refusal))
        return self._summary("proxy", refusal)

    def _summary(self, ended: str, refusal: Refused | None) -> Summary:
        return Summary(
            ended=ended,
            refusal=refusal,
            seconds=self._life.seconds,
            bytes_to_client=self.bytes_to_client,
            bytes_to_upstream=self.bytes_to_upstream,
        )
