"""Drive a script by hand: give bytes, expect effects. A test is the conversation itself.

    book = Playbook(engine.login(door))
    book.client(SSL_REQUEST).sends(CLIENT, b"S").expect(StartTls(CLIENT), PeerFacts(identity="spiffe://td/app"))
    book.client(STARTUP).expect(RequestGrant("spiffe://td/app", "orders", "app", "app"), grant)
    refusal = book.raises(Refused)

The playbook answers Receive, Peek, Buffered and AwaitClose from the bytes it was given and collects Notes; every other
effect waits until the test expects it. The script runs as far as it can after each call, as it does on a socket.
"""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar

from proxy.errors import PeerClosed, PeerViolation, Side
from proxy.inbox import Inbox
from proxy.script import AwaitClose, Buffered, Effect, Note, Peek, Receive, Script, Send, StartTls

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class Playbook(Generic[T]):
    """One script and what was said to it so far."""

    def __init__(self, script: Script[T]) -> None:
        self._script = script
        self._inbox = {Side.CLIENT: Inbox(), Side.UPSTREAM: Inbox()}
        self._closed: set[Side] = set()
        self._value: T | None = None
        self._returned = False
        self._error: BaseException | None = None
        self.notes: dict[str, str] = {}
        self.waiting: Effect | None = None
        """The effect the script waits for; None once it has ended."""
        self.given_to_tls: dict[Side, bytes] = {}
        """Unread bytes that went into the TLS engine at StartTls."""
        self._resume(None)

    def client(self, data: bytes) -> Self:
        """Bytes arrive from the client."""
        return self._feed(Side.CLIENT, data)

    def upstream(self, data: bytes) -> Self:
        """Bytes arrive from upstream."""
        return self._feed(Side.UPSTREAM, data)

    def closes(self, side: Side) -> Self:
        """A side closes."""
        self._closed.add(side)
        self._advance()
        return self

    def expect(self, effect: Effect, reply: Any = None) -> Self:
        """The script waits for exactly this effect; answer it."""
        self._must_be_running()
        assert self.waiting == effect, f"the script waits for {self.waiting!r}, not for {effect!r}"
        if isinstance(effect, StartTls):
            unread = self._inbox[effect.side].take_all()
            if unread and effect.side is Side.UPSTREAM:
                return self.fail(PeerViolation(Side.UPSTREAM, "upstream sent bytes before TLS"))
            self.given_to_tls[effect.side] = unread
        self._resume(reply)
        return self

    def answer(self, kind: type[Effect], reply: Any = None) -> Any:
        """The script waits for an effect of this kind; answer it and return the effect."""
        effect = self.waiting
        assert isinstance(effect, kind), f"the script waits for {effect!r}, not for a {kind.__name__}"
        self.expect(effect, reply)
        return effect

    def sends(self, side: Side, data: bytes) -> Self:
        """The script writes exactly these bytes to a side, in one Send or several."""
        written = b""
        while len(written) < len(data):
            self._must_be_running()
            effect = self.waiting
            assert isinstance(effect, Send), f"the script waits for {effect!r}, it should send to the {side}"
            assert effect.side is side, f"the script writes {effect.data!r} to the {effect.side}, not to the {side}"
            written += effect.data
            assert data.startswith(written), f"the script wrote {written!r}, not {data!r}"
            self._resume(None)
        return self

    def sent(self, side: Side) -> bytes:
        """Take what the script writes to a side now, in all Sends that follow each other."""
        written = b""
        while isinstance(self.waiting, Send) and self.waiting.side is side:
            written += self.waiting.data
            self._resume(None)
        return written

    def fail(self, error: BaseException) -> Self:
        """The effect the script waits for fails."""
        self._must_be_running()
        self._step(error, failed=True)
        self._advance()
        return self

    def returns(self) -> T:
        """The script has ended well: its value."""
        assert self._returned, f"the script has not returned: error {self._error!r}, waits for {self.waiting!r}"
        return self._value  # type: ignore[return-value]

    def raises(self, kind: type[E]) -> E:
        """The script has ended in this error."""
        assert isinstance(self._error, kind), f"no {kind.__name__}: {self._error!r}, waits for {self.waiting!r}"
        return self._error

    @property
    def ended(self) -> tuple[T | None, BaseException | None]:
        """The value that the script returned and the error that it raised; one of them at most."""
        return self._value, self._error

    def unread(self, side: Side) -> bytes:
        """What arrived from a side and nobody took: the relay sends it on first."""
        inbox = self._inbox[side]
        return inbox.peek(len(inbox))

    def _feed(self, side: Side, data: bytes) -> Self:
        self._inbox[side].feed(data)
        self._advance()
        return self

    def _must_be_running(self) -> None:
        assert self.waiting is not None, f"the script has ended: error {self._error!r}, value {self._value!r}"

    def _resume(self, reply: Any) -> None:
        self._step(reply)
        self._advance()

    def _advance(self) -> None:
        """Answer whatever needs nothing but bytes."""
        while True:
            match self.waiting:
                case Receive(side, count) | Peek(side, count) if len(self._inbox[side]) >= count:
                    inbox = self._inbox[side]
                    self._step(inbox.take(count) if isinstance(self.waiting, Receive) else inbox.peek(count))
                case Receive(side) | Peek(side) if side in self._closed:
                    self._step(PeerClosed(side), failed=True)
                case Buffered(side):
                    self._step(len(self._inbox[side]))
                case AwaitClose(side) if side in self._closed:
                    self._inbox[side].take_all()
                    self._step(None)
                case Note(key, value):
                    self.notes[key] = value
                    self._step(None)
                case _:
                    return

    def _step(self, value: Any, *, failed: bool = False) -> None:
        self.waiting = None
        try:
            self.waiting = self._script.throw(value) if failed else self._script.send(value)
        except StopIteration as stop:
            self._value = stop.value
            self._returned = True
        except BaseException as error:  # noqa: BLE001 - whatever ends the script is the test's to look at
            self._error = error
