"""The toy protocol with shared connections: a request is a line, and its answer the same line behind "=".

A line of the server's that begins with * is news, and answers nothing.

anything   shares                     !why...   needs a connection of its own
?...       is answered by the proxy   .         is a goodbye
%          breaks the protocol        @         crashes the engine
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from proxy.errors import PeerViolation, Refused, Side
from proxy.model import Door, Established, Outcome, Shared
from proxy.multiplex import Forward, Leave, Pin, Say, SharedLogin, Step
from proxy.script import CLIENT, Script, peek, receive, request_grant, send, share, start_tls
from tests.support.peer import Peer
from tests.support.toy import ToyEngine

SPECIAL = tuple(b"!?.%@")
FAR = datetime(2100, 1, 1, tzinfo=UTC)


def whole(data: bytes) -> int:
    """How many answers."""
    if not data.endswith(b"\n") or any(line[:1] and line[0] in SPECIAL for line in data.split(b"\n")):
        return 0
    return data.count(b"\n")


class ToySharer:
    """A `Sharer`."""

    def __init__(self) -> None:
        self._begun = b""
        self.whole: Callable[[bytes], int] = whole

    @property
    def kept(self) -> bool:
        return bool(self._begun)

    @kept.setter
    def kept(self, value: bool) -> None:
        raise AssertionError

    def take(self, data: bytes) -> Sequence[Step]:
        """Line by line."""
        steps: list[Step] = []
        *lines, self._begun = (self._begun + data).split(b"\n")
        for number, line in enumerate(lines):
            match line[:1]:
                case b"!":
                    rest = b"\n".join([*lines[number:], self._begun])
                    return [*steps, Pin(rest, line[1:].partition(b" ")[0].decode())]
                case b"?":
                    steps.append(Say(b"~" + line + b"\n"))
                case b".":
                    return [*steps, Leave()]
                case b"%":
                    raise PeerViolation(Side.CLIENT, "a toy never says %")
                case b"@":
                    raise ZeroDivisionError
                case _:
                    steps.append(Forward(line + b"\n", 1))
        return steps


class ToyAnswers:
    """An `Answers`."""

    def __init__(self) -> None:
        self._inside = False
        self._news = False
        """It is news that is under way."""

    def advance(self, data: bytes, at: int, count: int) -> tuple[int, int]:
        """Lines that begin with =."""
        while count and at < len(data):
            if self._news or (not self._inside and data[at : at + 1] == b"*"):
                break
            if not self._inside and data[at : at + 1] != b"=":
                raise PeerViolation(Side.UPSTREAM, "what the server says is no answer")
            end = data.find(b"\n", at)
            self._inside = end < 0
            if end < 0:
                return len(data), count
            at, count = end + 1, count - 1
        return at, count

    def skip(self, data: bytes, at: int) -> int:
        """Lines that begin with *."""
        while at < len(data) and (self._news or (not self._inside and data[at : at + 1] == b"*")):
            end = data.find(b"\n", at)
            self._news = end < 0
            at = len(data) if end < 0 else end + 1
        return at


class SharingToy(ToyEngine):
    """Logs clients in as the toy does, onto shared connections. `made` counts those."""

    def __init__(
        self, *, retire_at: datetime = FAR, sharer: Callable[[], ToySharer] = ToySharer, kind: str = "toy"
    ) -> None:
        super().__init__()
        self.retire_at = retire_at
        self.kind = kind
        self.made = 0
        self.made_for: str | None = None
        """Another user than asked for, as a wrong engine would."""
        self.pinned_after: list[bool] = []
        """For each pin, whether anything was asked over a shared connection before."""
        self._sharer = sharer

    def _login(self, door: Door) -> Script[Outcome]:
        if (yield from peek(CLIENT, 1)) == b"S":
            yield from receive(CLIENT, 1)
            yield from send(CLIENT, b"S")
            yield from start_tls(CLIENT)
        login = (yield from receive(CLIENT, (yield from receive(CLIENT, 1))[0])).decode()
        target = door.route(login, None)
        workload = door.workload_of(None)
        grant = yield from request_grant(
            workload=workload, database=target.database, db_user=target.db_user, db_name=""
        )

        def log_in() -> Script[SharedLogin]:
            self.made += 1
            mine = yield from request_grant(
                workload=workload, database=target.database, db_user=self.made_for or target.db_user, db_name=""
            )
            key = yield from self._upstream(mine)
            return SharedLogin(answers=ToyAnswers(), user=mine.user, greeting=key, retire_at=self.retire_at)

        def pin(used: bool) -> Script[Established]:
            self.pinned_after.append(used)
            mine = yield from request_grant(
                workload=workload, database=target.database, db_user=target.db_user, db_name=""
            )
            yield from self._upstream(mine)
            return Established(farewell=farewell, at_rest=lambda tail: tail.endswith(b"\n"))

        yield from share(grant, kind=self.kind, log_in=log_in)
        yield from send(CLIENT, b"OK\n")
        return Shared(sharer=self._sharer(), farewell=farewell, pin=pin)


def farewell(refusal: Refused) -> bytes:
    """The toy's own."""
    return b"BYE %s\n" % refusal.reason.encode()


async def answer(peer: Peer) -> None:
    """The database: every line again, behind =."""
    begun = b""
    while data := await peer.receive():
        *lines, begun = (begun + data).split(b"\n")
        await peer.send(b"".join(b"=" + line + b"\n" for line in lines))
    await peer.finish()


async def by_hand(peer: Peer) -> None:
    """The database: what the test makes `Stage.upstreams` say."""
    await asyncio.Event().wait()


async def ask(client: Peer, *lines: bytes) -> None:
    """Send requests in one go, and take exactly their answers."""
    await client.send(b"".join(line + b"\n" for line in lines))
    wanted = b"".join(b"=" + line + b"\n" for line in lines)
    assert await client.exactly(len(wanted)) == wanted
