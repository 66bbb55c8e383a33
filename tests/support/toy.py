"""A protocol small enough to test the network side with: nothing in proxy.net knows that it is not Postgres.

    client: [S -> S, TLS] <length><login>                      -> OK | ERR REASON
            X<4 bytes key>                                      a cancel request
    upstream: S -> S, TLS, <length><password> -> OK<4 bytes key>
A message ends in a newline; `refuse` and the farewell are ERR REASON and BYE REASON lines.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from proxy.errors import PeerViolation, Refused
from proxy.guard import Guard
from proxy.model import Door, Established, Finished, Location, Outcome, PeerFacts, SealedGrant
from proxy.net.events import SessionEnd, SessionRefusal, SessionStart
from proxy.script import (
    CLIENT,
    UPSTREAM,
    Script,
    await_close,
    buffered,
    connect,
    note,
    peek,
    recall,
    receive,
    refusing,
    request_grant,
    reveal,
    send,
    start_tls,
)
from tests.support.proofs import NoProofs
from tollbridge.model import Credential, Endpoint, TlsFacts, Token
from tollbridge.reasons import Reason
from tollbridge.secret import Secret


def encode(refusal: Refused) -> bytes:
    """A refusal in the toy's own words."""
    return b"ERR %s\n" % refusal.reason.encode()


class ToyEngine:
    """An `Engine`. `sabotage` runs at the named point of the login and may raise."""

    alpn: tuple[str, ...] = ()

    def __init__(self, guard: Callable[[], Guard] | None = None, sabotage: Callable[[str], None] | None = None) -> None:
        self._guard = guard
        self._sabotage = sabotage or (lambda _point: None)

    def login(self, door: Door) -> Script[Outcome]:
        """A client's connection."""
        return refusing(self._login(door), encode)

    def _login(self, door: Door) -> Script[Outcome]:
        self._sabotage("start")
        facts: PeerFacts | None = None
        head = yield from peek(CLIENT, 1)
        if head == b"\x16":
            facts = yield from start_tls(CLIENT, self.alpn)
        elif head == b"S":
            yield from receive(CLIENT, 1)
            if (yield from buffered(CLIENT)):
                raise PeerViolation(CLIENT, "the client sent bytes before TLS began")
            yield from send(CLIENT, b"S")
            facts = yield from start_tls(CLIENT, self.alpn)
        if (yield from peek(CLIENT, 1)) == b"X":
            return (yield from self._cancel())
        login = yield from receive(CLIENT, (yield from receive(CLIENT, 1))[0])
        yield from note("login", login.decode())
        target = door.route(login.decode(), facts)
        grant = yield from request_grant(
            workload=door.workload_of(facts), database=target.database, db_user=target.db_user, db_name=""
        )
        key = yield from self._upstream(grant)
        yield from send(CLIENT, b"OK\n")
        return Established(
            farewell=lambda refusal: b"BYE %s\n" % refusal.reason.encode(),
            at_rest=lambda tail: tail.endswith(b"\n"),
            guard=self._guard() if self._guard else None,
            cancel_key=key,
        )

    def _upstream(self, grant: SealedGrant) -> Script[bytes]:
        yield from connect()
        yield from send(UPSTREAM, b"S")
        if (yield from receive(UPSTREAM, 1)) != b"S":
            raise PeerViolation(UPSTREAM, "upstream refused TLS")
        self._sabotage("before TLS")
        yield from start_tls(UPSTREAM)
        password = yield from reveal(grant)
        yield from send(UPSTREAM, bytes([len(password)]) + password.encode())
        if (yield from receive(UPSTREAM, 2)) != b"OK":
            raise Refused(Reason.DATABASE_REFUSED, "the toy database refused the password")
        return (yield from receive(UPSTREAM, 4))

    def _cancel(self) -> Script[Outcome]:
        key = (yield from receive(CLIENT, 5))[1:]
        if (yield from recall(key)) is None:
            return Finished()
        yield from connect()
        yield from send(UPSTREAM, b"X" + key)
        yield from await_close(UPSTREAM)
        return Finished()

    def probe(self, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
        """The upstream half."""
        grant = yield from request_grant(workload=workload, database=database, db_user=db_user, db_name=db_name)
        yield from self._upstream(grant)
        return "ok"

    def refuse(self, reason: Reason, message: str) -> bytes:
        """A refusal for a client that has said nothing yet."""
        return encode(Refused(reason, message))


class ToyGrants(NoProofs):
    """A `Grants` and a `Catalog`: one database, one password."""

    PASSWORD = "open sesame"

    def __init__(self, endpoint: Endpoint, tls: TlsFacts) -> None:
        self.location = Location(database="orders", endpoint=endpoint, tls=tls)
        self.refusal: Exception | None = None
        self.asked = 0
        self.at: list[datetime] = []

    def locate(self, database: str) -> Location:
        """Where it is."""
        return self.location

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
    ) -> tuple[SealedGrant, Credential]:
        """Allowed, unless `refusal` is set."""
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        grant = SealedGrant(
            location=self.location, decision_id=f"d{self.asked}", credential_id="c1", user=db_user, reused=False
        )
        return grant, Token(user=db_user, password=Secret(self.PASSWORD))


class ListLog:
    """A `SessionLog` that keeps everything."""

    def __init__(self) -> None:
        self.starts: list[SessionStart] = []
        self.ends: list[SessionEnd] = []
        self.refusals: list[SessionRefusal] = []

    def on_start(self, event: SessionStart) -> None:
        self.starts.append(event)

    def on_end(self, event: SessionEnd) -> None:
        self.ends.append(event)

    def on_refusal(self, event: SessionRefusal) -> None:
        self.refusals.append(event)
