"""One connection to the server, shared: requests go out in the order they come, answers go back by count.

Answers are handed out as `Answers` counts them and never kept. Whatever does not add up ends the connection, and
nothing more of what the server has said reaches anybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from proxy.errors import LocalFault, PeerViolation, Refused, Side
from proxy.multiplex import SharedLogin
from proxy.net import crashes
from proxy.net.channel import Channel
from proxy.net.sessions import Place
from proxy.net.transport import Link
from tollbridge.clock import Clock
from tollbridge.reasons import Reason

if TYPE_CHECKING:
    from proxy.net.shared.seat import Seat

_log = logging.getLogger(__name__)

HOLD_TRUNK: Final = 8
"""On a client: what it asks could not be sent now."""
HOLD_QUEUE: Final = 16
"""On a trunk: more requests wait for an answer than should."""
HOLD_READER: Final = 32
"""On the server: the client whose answer it sends does not read."""

QUEUE_LIMIT: Final = 16_384
"""Requests that wait for an answer. A chunk of a client's is one, however many it holds."""

STALL_SECONDS: Final = 5.0
"""For so long in each minute a client that does not read may hold up those whose answers come behind its own."""
STALL_ALL_SECONDS: Final = 2 * STALL_SECONDS
"""For so long all clients of a connection may, one behind the other."""
STALL_LEAST_SECONDS: Final = 0.1
"""Then each has so long, if it reads,"""
STALL_DEAF_SECONDS: Final = 0.02
"""and so long if it does not: who waits behind hundreds of them already cannot go elsewhere."""
STALL_WINDOW_SECONDS: Final = 60.0

UNSENT_ALL_LIMIT: Final = 64 * 1024 * 1024
"""About as many bytes are kept for clients that do not read, where they are many: each has its share."""
UNSENT_LEAST: Final = 64 * 1024
"""A share is no smaller: as much as is kept for a client with a connection of its own."""

KEEP_SECONDS: Final = 60.0
"""A connection without clients is kept for the next one: many are short-lived. Unless another waits for its place."""

OVERDUE_SECONDS: Final = 10.0
"""A server that owes an answer for so long is asked nothing more over this connection: it may be gone."""

LOOK_SECONDS: Final = 1.0

EXPECT_SECONDS: Final = 1.0
"""Who has joined takes its seat some turns of the loop later; until then the connection is not taken for one that
nobody needs."""

UNNEEDED: Final = Refused(Reason.UPSTREAM_CLOSED, "the shared connection is not needed any more")


class Trunk:
    """Implements `proxy.net.channel`'s `Owner` and `Source`."""

    __slots__ = (
        "_advance", "_begun", "_clock", "_expected_until", "_head", "_head_at", "_held", "_loop", "_on_ended",
        "_outgoing", "_patience", "_queue", "_seats", "_skip", "_stalled", "_timer", "_unread", "_wanted", "_window_at",
        "empty_at", "ended", "link", "login", "open", "place",
    )  # fmt: skip

    def __init__(
        self,
        link: Link,
        login: SharedLogin,
        place: Place,
        *,
        clock: Clock,
        wanted: Callable[[], bool],
        on_ended: Callable[[Trunk], None],
    ) -> None:
        """`wanted`: whether somebody waits for its place at the database."""
        self.link = link
        self.login = login
        self.place = place
        self.open = True
        """Takes requests."""
        self.ended = False
        self._clock = clock
        self._wanted = wanted
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._advance = login.answers.advance
        self._skip = login.answers.skip
        self._queue: deque[tuple[Seat, int]] = deque()
        """Who waits for how many answers, in the order of their requests."""
        self._begun = False
        """Some of the first one's answers have come, and maybe the beginning of another."""
        self._outgoing: list[bytes] = []
        self._seats: set[Seat] = set()
        self._stalled: dict[Seat, asyncio.TimerHandle] = {}
        self._unread: set[Seat] = set()
        """Clients that do not read."""
        self._window_at = float("-inf")
        self._patience = STALL_ALL_SECONDS
        self._held = 0
        self.empty_at = clock.monotonic()
        """When the last client left, while there is none."""
        self.expect()
        self._head: tuple[Seat, int] | None = None
        self._head_at = 0.0
        self._timer = self._loop.call_later(LOOK_SECONDS, self.look)
        link.join(self)
        link.serve(self, self._answered)

    @property
    def clients(self) -> int:
        """Seats taken."""
        return len(self._seats)

    @property
    def spare(self) -> bool:
        """It is only kept: nobody uses it or is about to, and the server owes nothing."""
        in_use = self.ended or self._seats or self._queue
        return not in_use and self._clock.monotonic() >= self._expected_until

    def expect(self) -> None:
        """A client is about to join."""
        self._expected_until = self._clock.monotonic() + EXPECT_SECONDS

    def takes_requests(self) -> bool:
        """Whether a client may join."""
        if self.open and self._clock.now() >= self.login.retire_at:
            self.retire()
        return self.open

    def sit(self, seat: Seat) -> None:
        """A client joins."""
        self._seats.add(seat)
        self._expected_until = float("-inf")
        if self._held:
            seat.client.hold(HOLD_TRUNK)

    def leave(self, seat: Seat) -> None:
        """A client is gone; answers it still waits for are thrown away when they come."""
        if seat not in self._seats:
            return
        self.reads(seat)
        self._seats.discard(seat)
        seat.client.release(HOLD_TRUNK)
        if not self._seats:
            self.empty_at = self._clock.monotonic()
            self._make_room()

    def send(self, seat: Seat, data: bytes, answers: int) -> None:
        """Requests of a client, which have so many answers. What comes in one turn of the loop goes out as one."""
        outgoing = self._outgoing
        if not outgoing:
            self._loop.call_soon(self._flush)
        outgoing.append(data)
        self._queue.append((seat, answers))
        seat.waiting += 1

    def answers_partly(self, seat: Seat) -> bool:
        """Whether the client may have the beginning of an answer, and not its end."""
        return self._begun and self._queue[0][0] is seat

    def share(self, seat: Seat) -> int:
        """Bytes that may be kept for a client that does not read now."""
        self._unread.add(seat)
        return max(UNSENT_LEAST, UNSENT_ALL_LIMIT // len(self._unread))

    def stall(self, seat: Seat) -> None:
        """Read nothing more from the server until this client has read, or has had its time."""
        if seat in self._stalled:
            return
        now = self._loop.time()
        if now - self._window_at > STALL_WINDOW_SECONDS:
            self._window_at, self._patience = now, STALL_ALL_SECONDS
        if now - seat.window_at > STALL_WINDOW_SECONDS:
            seat.window_at, seat.patience = now, STALL_SECONDS
        seat.stalled_at = now
        seconds = max(0.0, min(seat.patience, max(STALL_LEAST_SECONDS, self._patience)))
        if self._patience > 0:
            self._stalled[seat] = self._loop.call_later(seconds, seat.give_up)
        else:
            deaf = partial(self._give_up_deaf, seat, seat.client.unsent_bytes, seconds - STALL_DEAF_SECONDS)
            self._stalled[seat] = self._loop.call_later(min(seconds, STALL_DEAF_SECONDS), deaf)
        self.link.hold(HOLD_READER)
        if self._patience <= 0:
            self.retire()  # who comes now, or waits for nothing, need not wait behind those who are left

    def reads(self, seat: Seat) -> None:
        """It has read, or is gone."""
        self._unread.discard(seat)
        timer = self._stalled.pop(seat, None)
        if timer is not None:
            timer.cancel()
            seconds = self._loop.time() - seat.stalled_at
            seat.patience -= seconds
            self._patience -= seconds
            if not self._stalled:
                self.link.release(HOLD_READER)

    def retire(self) -> None:
        """Take no new requests: who waits for nothing goes elsewhere with the next one, the others after that."""
        if self.open:
            self.open = False
            for seat in list(self._seats):
                seat.loosen()

    def close(self, refusal: Refused) -> None:
        """End it in good order. Those who wait for answers are told why."""
        self._end(refusal)

    def look(self) -> None:
        """Runs every second, and rules what is not worth a thought per message."""
        if self.ended:
            return
        self._timer = self._loop.call_later(LOOK_SECONDS, self.look)
        now = self._clock.monotonic()
        head = self._queue[0] if self._queue else None
        if head is None or head is not self._head:
            self._head, self._head_at = head, now
        elif now - self._head_at >= OVERDUE_SECONDS:
            self.retire()
        self.takes_requests()
        unneeded = not self.open and (head is None or not self._seats)
        if unneeded or (not self._seats and now - self.empty_at >= KEEP_SECONDS):
            self._end(UNNEEDED)
        self._make_room()

    # What the link tells

    def hold(self, why: int) -> None:
        """No client is read while what they say cannot be sent."""
        if not self._held:
            for seat in self._seats:
                seat.client.hold(HOLD_TRUNK)
        self._held |= why

    def release(self, why: int) -> None:
        """Clients are read again, when nothing else is in the way."""
        if self._held & why:
            self._held &= ~why
            if not self._held:
                for seat in list(self._seats):
                    seat.client.release(HOLD_TRUNK)

    def on_eof(self, link: Channel) -> None:
        """The server sends nothing more."""
        self._end(Refused(Reason.UPSTREAM_CLOSED, "the server closed the connection"))

    def on_lost(self, link: Channel) -> None:
        """The connection is gone."""
        if link.failure is not None:
            self._end(link.failure.as_refusal())
        else:
            self._end(Refused(Reason.UPSTREAM_CLOSED, "the connection to the server is gone"))

    def _give_up_deaf(self, seat: Seat, unsent: int, seconds: float) -> None:
        """It has had its first moment; who has read some of what was unsent has so many more seconds."""
        if seconds > 0 and seat.client.unsent_bytes < unsent:
            self._stalled[seat] = self._loop.call_later(seconds, seat.give_up)
        else:
            seat.give_up()

    def _make_room(self) -> None:
        if self.spare and self._wanted():
            self._end(UNNEEDED)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if outgoing:
            self.link.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))
            if len(self._queue) > QUEUE_LIMIT:
                self.hold(HOLD_QUEUE)

    def _answered(self, data: bytes) -> None:
        """Bytes of the server. The hot path."""
        try:
            self._hand_out(data)
        except PeerViolation as violation:
            self._end(violation.as_refusal(), at_once=True)
        except Exception as fault:  # noqa: BLE001 - a bug of ours ends this connection and no other
            crashes.report(_log, "a shared connection", fault)
            self._end(Refused(Reason.INTERNAL, "internal error in the proxy: its log has the details"), at_once=True)

    def _hand_out(self, data: bytes) -> None:
        queue, advance = self._queue, self._advance
        at, size = 0, len(data)
        while at < size:
            if not queue:
                at = self._past_messages(data, at)
                continue
            seat, count = queue[0]
            end, left = advance(data, at, count)
            if not at <= end <= size or (at == end and not left):
                raise LocalFault("an engine counts answers that are not there")
            piece = data[at:end]
            at = end
            if left:
                if piece:
                    self._hand_part(seat, left, piece)
                if at < size:
                    at = self._past_messages(data, at)
                continue
            queue.popleft()
            self._begun = False
            seat.bytes_to_client += len(piece)
            seat.write(piece)
            seat.waiting -= 1
            if seat.steps and not seat.waiting:
                seat.advance()
        if self._held & HOLD_QUEUE and len(queue) < QUEUE_LIMIT // 2:
            self.release(HOLD_QUEUE)

    def _hand_part(self, seat: Seat, left: int, piece: bytes) -> None:
        """Not all that the first one waits for."""
        self._queue[0] = (seat, left)
        self._begun = True
        seat.bytes_to_client += len(piece)
        seat.write(piece)

    def _past_messages(self, data: bytes, at: int) -> int:
        """Where what is nobody's ends. Raises PeerViolation when it is something else."""
        end = self._skip(data, at)
        if not at < end <= len(data):
            raise PeerViolation(Side.UPSTREAM, "the server sent an answer that nobody has asked for")
        return end

    def _end(self, refusal: Refused, *, at_once: bool = False) -> None:
        if self.ended:
            return
        self.ended = True
        self.open = False
        self._timer.cancel()
        self._outgoing.clear()
        if at_once:
            self.link.abort()
        else:
            self.link.close()
        for seat in list(self._seats):
            seat.strand(refusal)
        self._queue.clear()
        self._begun = False
        self._on_ended(self)
