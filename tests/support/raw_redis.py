"""A Redis client that says exactly what it is told to, over `raw_postgres.RawClient`, which knows sockets alone."""

from __future__ import annotations

from tests.support.raw_postgres import RawClient


def command(*words: str | bytes) -> bytes:
    """As an array of bulk strings."""
    data = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(data) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in data)


class RedisClient(RawClient):
    """One connection."""

    def line(self) -> bytes:
        """A reply's first line, without its CRLF. Raises EOFError when closed before."""
        data = b""
        while not data.endswith(b"\r\n"):
            data += self.read(1)
        return data[:-2]

    def say(self, *words: str | bytes) -> bytes:
        """One command; its answer: the line, or the bulk string."""
        self.send(command(*words))
        line = self.line()
        if line[:1] == b"$" and line != b"$-1":
            return self.read(int(line[1:]) + 2)[:-2]
        return line


def attempt(port: int, user: str, *, seconds: float = 30.0) -> str | None:
    """AUTH and PING in plaintext, and leave: None when let in, else the error line without its dash."""
    with RedisClient(port, seconds=seconds) as client:
        answer = client.say("AUTH", user, "any password")
        if answer == b"+OK":
            assert client.say("PING") == b"+PONG"
            return None
        assert answer[:1] == b"-", answer
        return answer[1:].decode()
