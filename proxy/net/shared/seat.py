"""One client of a shared connection: what it says goes to its engine's Sharer, and what that lets through goes out.

Requests and answers stay in order: what cannot be carried out yet (a goodbye, a connection of its own, or a request
while the shared connection is being replaced) waits until every earlier request is answered, and what the client says
meanwhile waits behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.errors import LocalFault, PeerViolation, Refused
from proxy.model import Shared
from proxy.multiplex import Forward, Leave, Pin, Say, Step
from proxy.net.channel import HOLD_UNREAD, Channel
from proxy.net.shared.trunk import STALL_SECONDS, Trunk
from proxy.net.transport import Link
from tollbridge.reasons import Reason

HOLD_STEPS: Final = 16
"""On a client: what it said before waits to be carried out."""

BEHIND_LIMIT: Final = 64 * 1024
"""Kept of what a client says behind what waits, before it is read no further. Until then its end is noticed."""

UNSENT_LIMIT: Final = 1024 * 1024
"""Answers kept for a client that does not read them, before those behind them have to wait."""

TRIES: Final = 3
"""Connections that may end one after the other before a single request went out over them."""


@dataclass(frozen=True, slots=True)
class _Dismiss:
    """The client broke its protocol: say so behind the answers to what it asked before."""

    refusal: Refused


def _nothing(data: bytes) -> None:
    """What is said to a client that has left."""


class Seat:
    """Implements `proxy.net.channel`'s `Owner` and `Source`. `wake` is called whenever something here needs its
    session: `over`, `pin` or `adrift` say what."""

    __slots__ = (
        "_behind", "_eof", "_free", "_send", "_shared", "_sharer", "_tries", "_trunk", "_wake", "_whole",
        "adrift", "bytes_to_client", "client", "ended", "fault", "over", "patience", "pin", "refusal", "stalled_at",
        "steps", "waiting", "window_at", "write",
    )  # fmt: skip

    def __init__(self, client: Link, shared: Shared, wake: Callable[[], None]) -> None:
        self.client = client
        self.write: Callable[[bytes], None] = client.write
        """Where answers go."""
        self.waiting = 0
        """Entries of this client in the trunk's queue."""
        self.steps: deque[Step | _Dismiss] = deque()
        """What is not carried out yet."""
        self.bytes_to_client = 0
        self.over = False
        self.ended = ""
        """Who ended it, as in `Summary`."""
        self.refusal: Refused | None = None
        self.fault: Exception | None = None
        self.pin: Pin | None = None
        """All is answered, and from here on the client needs a connection of its own."""
        self.adrift = False
        """A request waits for a shared connection."""
        self.window_at = self.stalled_at = float("-inf")
        self.patience = STALL_SECONDS
        """For the trunk: how long this client may still hold up others."""
        self._shared = shared
        self._sharer = shared.sharer
        self._whole = shared.sharer.whole
        self._wake = wake
        self._trunk: Trunk | None = None
        self._send: Callable[[Seat, bytes, int], None] = self._unsent
        self._free = False
        """Whole requests can go out at once: nothing waits, nothing is kept, and the trunk takes them."""
        self._behind = bytearray()
        """Arrived behind what waits: at most BEHIND_LIMIT and one read."""
        self._eof = False
        self._tries = 0

    def begin(self, trunk: Trunk) -> None:
        """Take part, beginning with what the client has said already."""
        self.sit(trunk)
        if self.client.lost:
            self.finish("client")
            return
        self.client.join(self)
        self.client.serve(self, self.feed)

    def sit(self, trunk: Trunk) -> None:
        """Take part in another trunk; there is none, or it was left."""
        self.adrift = False
        if self.over:
            return
        self._trunk, self._send = trunk, trunk.send
        trunk.sit(self)
        self.advance()

    def feed(self, data: bytes) -> None:
        """Bytes of the client. The hot path."""
        if self._free:
            try:
                answers = self._whole(data)
            except Exception as fault:  # noqa: BLE001 - an engine's bug harms no other client
                self._crash(fault)
                return
            if answers:
                self.client.relayed += len(data)
                self._send(self, data, answers)
                return
        if not self.over:
            self._behind += data
            self.advance()

    def advance(self) -> None:
        """Carry out what waits, as far as that may be. Whatever goes wrong harms this client alone."""
        self._free = False
        try:
            while not self.over and self.pin is None and not self.adrift:
                if self.steps:
                    if not self._carry_out(self.steps[0]):
                        break
                    if self.steps:
                        self.steps.popleft()
                elif self._behind:
                    self._take()
                elif self._eof:
                    self.steps.append(Leave())
                else:
                    break
        except Exception as fault:  # noqa: BLE001 - see above
            self._crash(fault)
        if self.over:
            return
        self._free = not self.steps and self._trunk is not None and self._trunk.open and not self._sharer.kept
        if len(self._behind) < BEHIND_LIMIT:
            self.client.release(HOLD_STEPS)
        else:
            self.client.hold(HOLD_STEPS)

    def end(self, refusal: Refused) -> None:
        """End it now, with the protocol's goodbye where it cannot land inside an answer."""
        if not self.over:
            self.refusal = refusal
            self._say_goodbye(refusal)
            self.finish("proxy")

    def finish(self, ended: str) -> None:
        """The client's connection is over; what it still waits for is thrown away when it comes."""
        if self.over:
            return
        self.over, self.ended = True, ended
        self._free = False
        self.write = _nothing
        self.steps.clear()
        self._behind.clear()
        self._go_ashore()
        self.client.close()
        self._wake()

    def take_leave(self) -> bytes:
        """Leave for a connection of its own. What the client said that was not forwarded, from the Pin on."""
        unread = bytes(self._behind)
        self.over = True
        self.write = _nothing
        self.steps.clear()
        self._behind.clear()
        self._go_ashore()
        return unread

    # What the trunk tells

    def loosen(self) -> None:
        """The trunk takes no new requests."""
        self._free = False
        if not self.waiting:
            self._go_ashore()

    def strand(self, refusal: Refused) -> None:
        """The trunk is gone. Who waits for an answer is told that it will not come."""
        self._free = False
        if self.waiting and not self.over:
            self.refusal = refusal
            self._say_goodbye(refusal)
            self.finish("upstream")
        else:
            self._go_ashore()

    def give_up(self) -> None:
        """The client has held up others for too long."""
        self.refusal = Refused(
            Reason.CLIENT_PROTOCOL,
            f"answers to other clients waited too long (at most {STALL_SECONDS:g} s) behind one that this client did "
            "not read: have large answers read at once, or connect through a listener that does not multiplex",
        )
        self.client.abort()
        self.finish("proxy")

    # What the client's link tells

    def on_eof(self, link: Channel) -> None:
        """The client says nothing more; what it has asked for is still answered."""
        self._eof = True
        self.advance()

    def on_lost(self, link: Channel) -> None:
        """The client is gone."""
        self.finish("client")

    def hold(self, why: int) -> None:
        """The client does not read: what it asks next would only be answered with more."""
        self.client.hold(HOLD_UNREAD)
        if not self.over:
            self.write = self._write_unread

    def release(self, why: int) -> None:
        """It reads."""
        self.client.release(HOLD_UNREAD)
        if not self.over:
            self.write = self.client.write
        if self._trunk is not None:
            self._trunk.reads(self)

    def _write_unread(self, data: bytes) -> None:
        self.client.write(data)
        trunk = self._trunk
        if trunk is not None and self.client.unsent_bytes > min(UNSENT_LIMIT, trunk.share(self)):
            trunk.stall(self)

    def _take(self) -> None:
        data = bytes(self._behind)
        self._behind.clear()
        try:
            self.steps.extend(self._sharer.take(data))
        except PeerViolation as violation:
            self.steps.append(_Dismiss(violation.as_refusal()))

    def _carry_out(self, step: Step | _Dismiss) -> bool:
        """Do it if it may be done now."""
        match step:
            case Forward(data, answers):
                return self._forward(data, answers)
            case _ if self.waiting:
                return False
            case Say(data):
                self.bytes_to_client += len(data)
                self.client.write(data)
            case Pin():
                self.pin = step
                self._wake()
                return False
            case Leave():
                self.finish("client")
            case _Dismiss(refusal):
                self.end(refusal)
        return True

    def _forward(self, data: bytes, answers: int) -> bool:
        if answers < 1:
            raise LocalFault("an engine forwards requests that have no answer")
        trunk = self._trunk
        if trunk is not None and trunk.open:
            self._tries = 0
            self.client.relayed += len(data)
            trunk.send(self, data, answers)
            return True
        if self.waiting:
            return False  # the answers that the old one owes come first
        self._go_ashore()
        self._tries += 1
        if self._tries > TRIES:
            message = "the server closed every connection that was made for this request: see its log"
            self.end(Refused(Reason.UPSTREAM_CLOSED, message))
            return True
        self.adrift = True
        self._wake()
        return False

    def _unsent(self, seat: Seat, data: bytes, answers: int) -> None:
        raise LocalFault("a client without a shared connection sends over it")

    def _crash(self, fault: Exception) -> None:
        self.fault = self.fault or fault
        self.finish("fault")

    def _say_goodbye(self, refusal: Refused) -> None:
        """Unless it would land inside an answer: a connection cut there must not look like one that ended well."""
        if self._trunk is not None and self._trunk.answers_partly(self):
            self.client.abort()
            return
        try:
            self.client.write(self._shared.farewell(refusal))
        except Exception as fault:  # noqa: BLE001 - an engine's bug harms no other client
            self.fault = self.fault or fault

    def _go_ashore(self) -> None:
        trunk, self._trunk = self._trunk, None
        self._send = self._unsent
        if trunk is not None:
            trunk.leave(self)
