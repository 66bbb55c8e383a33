"""A Cassandra client that says exactly what it is told to, over `raw_postgres.RawClient`, which knows sockets alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.support import cql
from tests.support.raw_postgres import RawClient

SELECT = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Answer:
    """One frame of the other side's."""

    version: int
    flags: int
    stream: int
    opcode: int
    body: bytes

    @property
    def error(self) -> tuple[int, str]:
        """Code and text of an ERROR."""
        assert self.opcode == cql.ERROR, self
        code, size = struct.unpack(">IH", self.body[:6])
        return code, self.body[6 : 6 + size].decode()


def query(text: str, *, stream: int = 0, version: int = 4) -> bytes:
    """QUERY at consistency ONE, without values."""
    said = text.encode()
    return cql.frame(cql.QUERY, SELECT.pack(len(said)) + said + b"\0\1\0", stream=stream, version=version)


class CqlClient(RawClient):
    """One connection."""

    def answer(self) -> Answer:
        """The next frame. Raises EOFError when closed before."""
        version, flags, stream, opcode, length = struct.unpack(">BBhBI", self.read(9))
        assert length < 1 << 28, length
        return Answer(version, flags, stream, opcode, self.read(length))

    def request(self, frame: bytes) -> Answer:
        """One request, and the next answer."""
        self.send(frame)
        return self.answer()

    def enter(self, user: str) -> Answer:
        """STARTUP and PLAIN: what came of it."""
        answer = self.request(cql.startup(stream=7))
        if answer.opcode != cql.AUTHENTICATE:
            return answer
        return self.request(cql.plain(user, stream=9))


def attempt(port: int, user: str, *, seconds: float = 30.0) -> tuple[int, str] | None:
    """Log in in plaintext, ask something, and leave: None when let in, else the error."""
    with CqlClient(port, seconds=seconds) as client:
        answer = client.enter(user)
        if answer.opcode == cql.AUTH_SUCCESS:
            assert client.request(query("SELECT release_version FROM system.local")).opcode == cql.RESULT
            return None
        return answer.error
