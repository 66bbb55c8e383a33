"""A MySQL client that says exactly what it is told to, over `raw_postgres.RawClient`, which knows sockets alone."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support import mysql_bytes as my
from tests.support.raw_postgres import RawClient


@dataclass(frozen=True, slots=True)
class NativeError:
    """An ERR packet."""

    number: int
    sqlstate: str
    text: str
    sequence: int

    @property
    def code(self) -> str:
        """Number and SQLSTATE, as the command line prints them."""
        return f"{self.number} {self.sqlstate}".rstrip()


def packets(data: bytes) -> list[tuple[int, bytes]]:
    """Sequence numbers and payloads of whole packets."""
    found = []
    while len(data) >= 4:
        end = 4 + int.from_bytes(data[:3], "little")
        if len(data) < end:
            break
        found.append((data[3], data[4:end]))
        data = data[end:]
    return found


def as_error(sequence: int, payload: bytes) -> NativeError | None:
    """What an ERR packet says; None for any other."""
    if payload[:1] != b"\xff":
        return None
    text, state = payload[3:], ""
    if text[:1] == b"#":
        state, text = text[1:6].decode(), text[6:]
    return NativeError(int.from_bytes(payload[1:3], "little"), state, text.decode("utf-8", "replace"), sequence)


def first_error(data: bytes) -> NativeError | None:
    """The first ERR packet of everything that a server said."""
    return next((error for sequence, payload in packets(data) if (error := as_error(sequence, payload))), None)


class MysqlClient(RawClient):
    """One connection."""

    def packet(self) -> tuple[int, bytes]:
        """The next one's number and payload."""
        head = self.read(4)
        return head[3], self.read(int.from_bytes(head[:3], "little"))

    def mysql_error(self) -> NativeError | None:
        """What the peer says until it closes, if that holds an ERR packet."""
        return first_error(self.read_to_end())

    def enter(self, user: str, flags: int = my.CLIENT, *, schema: str | None = None) -> NativeError | None:
        """Greeting, response, and on to OK (None) or the refusal. Raises EOFError when closed without one."""
        sequence, payload = self.packet()
        if error := as_error(sequence, payload):
            return error
        self.send(my.packet(my.response(user, flags, schema=schema), 1))
        while True:
            sequence, payload = self.packet()
            if error := as_error(sequence, payload):
                return error
            if payload[:1] == b"\0":
                return None

    def run(self, statement: str) -> bytes:
        """A query, and the bytes of its answer as far as one read brings them."""
        self.send(my.packet(b"\x03" + statement.encode(), 0))
        return self.socket.recv(65536)


def attempt(
    port: int, user: str, *, flags: int = my.CLIENT, schema: str | None = None, seconds: float = 30.0
) -> NativeError | None:
    """Log in in plaintext, and leave: None when let in."""
    with MysqlClient(port, seconds=seconds) as client:
        return client.enter(user, flags, schema=schema)
