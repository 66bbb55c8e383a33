"""Play a whole login against an engine, with a world that answers everything but bytes.

An engine joins the property tests by adding its `Login`s to `tests.property.logins.LOGINS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from proxy.engine import Engine
from proxy.model import Door, Location, Outcome, PeerFacts, SealedGrant, Side, SocketAddress
from proxy.script import (
    CLIENT,
    UPSTREAM,
    Connect,
    Effect,
    KeepFacts,
    Locate,
    Now,
    OwnAddress,
    Peek,
    Random,
    Recall,
    RecallFacts,
    Receive,
    RequestGrant,
    Reveal,
    RevealKey,
    Script,
    Send,
    SignChallenge,
    StartTls,
)
from tests.support.clock import FakeClock
from tests.support.playbook import Playbook
from tollbridge.model import Endpoint, SigningKey, StsProof, TlsFacts
from tollbridge.secret import Secret

WORKLOAD = "spiffe://td/shop"
PASSWORD = "token-of-the-broker"
DOOR = Door(name="main", tls_available=True, tls_required=False, workload=WORKLOAD, database="orders")
CLIENT_FACTS = PeerFacts(alpn="postgresql")
LOCATION = Location(database="orders", endpoint=Endpoint(host="orders.example", port=4000), tls=TlsFacts())
GRANT = SealedGrant(location=LOCATION, decision_id="d-1", credential_id="c-1", user="app", reused=True)
SIGNING_KEY = SigningKey(
    access_key_id="ASIAIOSFODNN7EXAMPLE",
    session_token=Secret("token-of-the-session"),
    region="us-west-2",
    service="cassandra",
    keys={FakeClock().now().strftime("%Y%m%d"): Secret("ab" * 32)},
)

PROOF = StsProof(
    authorization=Secret("AWS4-HMAC-SHA256 ..."), date="20300101T000000Z", session_token=Secret("token-of-the-session")
)

Turn = tuple[Side, bytes]
Cut = Callable[[bytes], Iterable[bytes]]


def random_bytes(count: int) -> bytes:
    """What Random answers here."""
    return bytes(range(count))


def whole(data: bytes) -> Iterable[bytes]:
    """One segment for each turn."""
    return (data,)


def bytewise(data: bytes) -> Iterable[bytes]:
    """One segment for each byte."""
    return (data[at : at + 1] for at in range(len(data)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One conversation that ends well: whose turn it is, and what that side says."""

    name: str
    turns: tuple[Turn, ...]
    door: Door = DOOR
    client_facts: PeerFacts = CLIENT_FACTS
    facts: bytes | None = None
    """What is known of the endpoint, for protocols whose server speaks first."""
    after: tuple[Turn, ...] = ()
    """What may already have arrived behind the last turn, and must be left for the relay."""


@dataclass(slots=True)
class Result:
    """What came of it."""

    outcome: Outcome | None
    error: BaseException | None
    running: bool
    written: dict[Side, bytes]
    unread: dict[Side, bytes]
    effects: list[Effect] = field(repr=False)

    @property
    def essence(self) -> tuple[Any, ...]:
        """What two runs of the same bytes must agree on."""
        key = getattr(self.outcome, "cancel_key", None)
        return type(self.outcome), key, repr(self.error), self.running, self.written, self.unread

    @property
    def largest_wish(self) -> int:
        """The most bytes that the script wanted to have at once."""
        return max((e.count for e in self.effects if isinstance(e, Receive | Peek)), default=0)


def rehearse(engine: Engine, login: Login, turns: Iterable[Turn], cut: Cut = whole, *, hang_up: bool = False) -> Result:
    """Say the turns, segment by segment; with `hang_up` both sides close after the last byte."""
    effects: list[Effect] = []
    book = Playbook(_watched(engine.login(login.door), effects))
    written = {CLIENT: b"", UPSTREAM: b""}

    def settle() -> None:
        while (effect := book.waiting) is not None:
            if isinstance(effect, Send):
                written[effect.side] += effect.data
            elif not _answers(effect):
                return
            book.expect(effect, _answer(effect, login))

    settle()
    for side, data in turns:
        for segment in cut(data):
            book.client(segment) if side is CLIENT else book.upstream(segment)
            settle()
    if hang_up:
        for side in (CLIENT, UPSTREAM):
            book.closes(side)
            settle()
    outcome, error = book.ended
    return Result(
        outcome=outcome,
        error=error,
        running=book.waiting is not None,
        written=written,
        unread={side: book.unread(side) for side in (CLIENT, UPSTREAM)},
        effects=effects,
    )


def _answers(effect: Effect) -> bool:
    answered = StartTls | Connect | RequestGrant | Locate | RecallFacts | KeepFacts | Recall | Reveal | Random | Now
    return isinstance(effect, answered | RevealKey | SignChallenge | OwnAddress)


def _answer(effect: Effect, login: Login) -> object:
    match effect:
        case StartTls(side):
            return login.client_facts if side is CLIENT else PeerFacts()
        case RequestGrant():
            return GRANT
        case Locate():
            return LOCATION
        case RecallFacts():
            return login.facts
        case Reveal():
            return PASSWORD
        case RevealKey():
            return SIGNING_KEY
        case SignChallenge():
            return PROOF
        case OwnAddress():
            return SocketAddress(host="127.0.0.1", packed=b"\x7f\0\0\1", port=9042)
        case Random(count):
            return random_bytes(count)
        case Now():
            return FakeClock().now()
        case _:
            return None


def _watched(script: Script[Outcome], effects: list[Effect]) -> Script[Outcome]:
    """The same script, with every effect written down."""
    step, value = script.send, None
    while True:
        try:
            effect = step(value)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        effects.append(effect)
        try:
            step, value = script.send, (yield effect)
        except Exception as error:  # noqa: BLE001 - handed to the script, which decides
            step, value = script.throw, error
