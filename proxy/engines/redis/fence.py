"""Finds one place in the server's answers without having counted them. PURE.

To say something of its own, the proxy must know where in the stream of replies its turn is, and it does not look at
replies. So it sends upstream a command that no server has, named by a word that nobody can guess:

    client --> [GET a] [GET b] [AUTH me x] ... held                 upstream <-- [GET a] [GET b] [tollbridge:5f0c...]
    client <-- [1] [2] [+OK, said here]                             upstream --> [1] [2] [-ERR unknown command 'toll...]

Everything before the error that quotes the word answers the client; the error is swallowed and stands for what the
proxy says, or is followed by the answers to what it sent behind the word (AUTH). An unknown command is refused before
permissions, subscriptions and transactions are looked at: it works for every user and everywhere, and in a MULTI it
has the effect that a command refused there has: the transaction is not executed.
"""

from __future__ import annotations

from typing import Final

from proxy.engines.redis.wire import Frame, encode_command
from proxy.errors import PeerViolation, Side

PREFIX: Final = b"tollbridge:"
QUOTE_LIMIT: Final = 256
"""Within so many bytes of its line the error quotes the word."""
LINE_LIMIT: Final = 1024
"""Of the error's whole line, and of the answer to AUTH."""
MESSAGES: Final = (b">", b"*")
"""What subscriptions say in RESP3 and in RESP2; RESET and AUTH, the only replies waited for here, have no such."""


class Fence:
    """One place in the server's answers, and how many of ours come behind it."""

    __slots__ = ("_answer", "_carry", "_frame", "_passing", "_swallowed", "_swallowing", "_word", "done")

    def __init__(self, word: bytes, *, answer: bytes = b"", passing: int = 0, swallowing: int = 0) -> None:
        """At the place the client is told `answer`, then gets `passing` replies, and never sees `swallowing` more."""
        self._word = PREFIX + word
        self._answer = answer
        self._passing = passing
        self._swallowing = swallowing
        self._carry = b""
        self._frame: Frame | None = None
        """The reply under way, once the place is found."""
        self._swallowed = b""
        self.done = False

    @property
    def command(self) -> bytes:
        """What is sent upstream."""
        return encode_command(self._word)

    @property
    def swallowed(self) -> bytes:
        """The last reply that the client did not see."""
        return self._swallowed

    def feed(self, data: bytes) -> bytes:
        """What the server said -> what the client hears. Raises PeerViolation for answers that make no sense."""
        heard = []
        data = self._carry + data
        self._carry = b""
        at = 0
        if self._frame is None:
            passes, at = self._find(data)
            heard.append(data[:passes])
            if at < 0:
                self._carry = data[passes:]
                return heard[0]
            heard.append(self._answer)
            self._frame = Frame()
        while at < len(data) and (self._passing or self._swallowing):
            at = self._reply(data, at, heard)
        self.done = not (self._passing or self._swallowing)
        heard.append(data[at:])
        return b"".join(heard)

    def _find(self, data: bytes) -> tuple[int, int]:
        """How much lies before the error's line, and where it ends: -1 while that is not known."""
        quoted = data.find(self._word)
        line = data.rfind(b"\n", 0, quoted if quoted >= 0 else len(data)) + 1
        if quoted >= 0:
            if data[line : line + 1] != b"-":
                raise PeerViolation(Side.UPSTREAM, "upstream quotes an unknown command in something that is no error")
            end = data.find(b"\r\n", quoted)
            if end < 0 and len(data) - line > LINE_LIMIT:
                raise PeerViolation(Side.UPSTREAM, "upstream answers an unknown command at great length")
            return line, end + 2 if end >= 0 else -1
        maybe = data[line : line + 1] == b"-" and len(data) - line < QUOTE_LIMIT
        return (line if maybe else len(data)), -1

    def _reply(self, data: bytes, at: int, heard: list[bytes]) -> int:
        """One reply, or a part of it. Messages of subscriptions come between replies and are the client's."""
        frame = self._frame = self._frame or Frame()
        kind = frame.kind or data[at : at + 1]
        end = frame.feed(data, at)
        part = data[at:end]
        if kind in MESSAGES or self._passing:
            heard.append(part)
        else:
            self._swallowed += part
            if len(self._swallowed) > LINE_LIMIT:
                raise PeerViolation(Side.UPSTREAM, "upstream answers AUTH at great length")
        if frame.complete:
            self._frame = Frame()
            if kind not in MESSAGES:
                self._count()
        return end

    def _count(self) -> None:
        if self._passing:
            self._passing -= 1
        else:
            self._swallowing -= 1
            if self._swallowing:
                self._swallowed = b""
