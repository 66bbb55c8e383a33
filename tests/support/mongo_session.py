"""A session of the MongoDB guard without sockets: verdicts are carried out as the relay does, by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from proxy.engines.mongodb.guard import MongoGuard
from proxy.errors import Refused, Side
from proxy.guard import Answer, Drop, Inject, Pass, Permit, Refuse, Release, Stop, Verdict
from proxy.script import CLIENT, UPSTREAM
from tollbridge.reasons import Reason

Cut = Callable[[bytes], Iterable[bytes]]
ADDRESS = "127.0.0.1:27017"


def in_one(data: bytes) -> Iterable[bytes]:
    """As it was written."""
    return (data,)


def bytewise(data: bytes) -> Iterable[bytes]:
    """A byte at a time."""
    return (data[at : at + 1] for at in range(len(data)))


class MongoSession:
    """A guard, a client and a server that only keep what they hear."""

    def __init__(
        self, *, allowed: Iterable[str] | None = ("shop",), primary: bool = True, limit: int = 48_000_000
    ) -> None:
        """`allowed`: what the broker says yes to at once; None: it does not answer until `answers`."""
        self.guard = MongoGuard(address=ADDRESS, db_user="role/reader", message_bytes=limit, primary=primary)
        self.allowed = None if allowed is None else set(allowed)
        self.server = b""
        self.client = b""
        self.asked: list[str] = []
        self.refusal: Refused | None = None
        self.stopped = False
        self._behind = b""

    def says(self, data: bytes, cut: Cut = in_one) -> MongoSession:
        """The client."""
        for piece in cut(data):
            self._client(piece)
        return self

    def hears(self, data: bytes, cut: Cut = in_one) -> MongoSession:
        """The server answers."""
        for piece in cut(data):
            if self.refusal is not None:
                break
            if self.guard.passes_upstream(piece):
                self.client += piece
            else:
                self._carry_out(self.guard.upstream_bytes(piece), UPSTREAM, piece)
                self._catch_up()
        return self

    def answers(self, db_name: str, refusal: Refused | None = None) -> MongoSession:
        """The broker."""
        self._carry_out(self.guard.permitted(db_name, refusal), None, b"")
        self._catch_up()
        return self

    def _client(self, data: bytes) -> None:
        if self.refusal is not None:
            return
        if self.stopped:
            self._behind += data
            return
        if self.guard.passes(data):
            self.server += data
            return
        self._carry_out(self.guard.client_bytes(data), CLIENT, data)
        self._catch_up()

    def _write(self, verdict: Answer | Inject) -> None:
        if isinstance(verdict, Answer):
            self.client += verdict.data
        else:
            self.server += verdict.data

    def _catch_up(self) -> None:
        while self._behind and not self.stopped and self.refusal is None:
            data, self._behind = self._behind, b""
            self._client(data)

    def _carry_out(self, verdicts: Sequence[Verdict], side: Side | None, shown: bytes) -> None:
        at, asked = 0, []
        for verdict in verdicts:
            match verdict:
                case Pass(count):
                    part, at = shown[at : at + count], at + count
                    if side is CLIENT:
                        self.server += part
                    else:
                        self.client += part
                case Drop(count):
                    at += count
                case Answer() | Inject():
                    self._write(verdict)
                case Stop(which):
                    assert which is CLIENT
                    self.stopped = True
                case Release(which):
                    assert which is CLIENT
                    self.stopped = False
                case Permit(db_name):
                    self.asked.append(db_name)
                    asked.append(db_name)
                case Refuse(refusal):
                    self.refusal = refusal
                    return
                case _:
                    raise AssertionError(verdict)
        assert at == len(shown), "a guard decides about every byte that it was shown"
        if self.allowed is not None:
            for db_name in asked:
                no = Refused(Reason.DB_NAME_NOT_ALLOWED, f"not its database {db_name!r}")
                self._carry_out(self.guard.permitted(db_name, None if db_name in self.allowed else no), None, b"")
