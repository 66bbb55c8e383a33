"""A session of the Cassandra guard without sockets: what is said to it, and what came of that on each side."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from proxy.engines.cassandra.guard import CassandraGuard
from proxy.engines.cassandra.results import Whereabouts
from proxy.errors import Refused
from proxy.guard import Answer, Drop, Inject, Pass, Refuse, Verdict

HERE = Whereabouts(address=b"\x7f\0\0\1", port=9042, host_id=b"H" * 16)
Cut = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> Iterable[bytes]:
    """In one piece."""
    return (data,)


def bytewise(data: bytes) -> Iterable[bytes]:
    """A byte at a time."""
    return (data[at : at + 1] for at in range(len(data)))


def frames(said: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """Version, flags, stream, opcode and body of whole frames: written apart from the engine's own."""
    found = []
    while said:
        version, flags, stream, opcode, length = struct.unpack(">BBhBI", said[:9])
        assert len(said) >= 9 + length, "a frame that is not whole"
        found.append((version, flags, stream, opcode, said[9 : 9 + length]))
        said = said[9 + length :]
    return found


class CqlSession:
    """Carries out verdicts as `proxy.net.guarded` does."""

    def __init__(self, cut: Cut = whole, *, version: int = 4) -> None:
        self.guard = CassandraGuard(version, HERE)
        self.cut = cut
        self.heard = b""
        """By the client."""
        self.upstream = b""
        """What went there."""
        self.unseen = 0
        """Pieces of upstream's that passed at a glance."""
        self.refusal: Refused | None = None

    def ask(self, data: bytes) -> None:
        """The client says this."""
        for piece in self.cut(data):
            if self.refusal is not None:
                return
            if self.guard.passes(piece):
                self.upstream += piece
            else:
                self.upstream += self._carried_out(self.guard.client_bytes(piece), piece)

    def say(self, data: bytes) -> None:
        """Upstream says this."""
        for piece in self.cut(data):
            if self.refusal is not None:
                return
            if self.guard.passes_upstream(piece):
                self.unseen += 1
                self.heard += piece
            else:
                self.heard += self._carried_out(self.guard.upstream_bytes(piece), piece)

    def _carried_out(self, verdicts: Iterable[Verdict], shown: bytes) -> bytes:
        said, at = b"", 0
        for verdict in verdicts:
            match verdict:
                case Pass(count):
                    said, at = said + shown[at : at + count], at + count
                case Drop(count):
                    at += count
                case Answer(data) | Inject(data):
                    said += data
                case Refuse(refusal):
                    self.refusal = refusal
                    return said
                case _:
                    raise AssertionError(verdict)
        assert at == len(shown), "a byte that nobody decided about"
        return said
