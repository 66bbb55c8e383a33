"""A session of the Redis guard without sockets: a client, the guard's verdicts carried out, and a server that parses.

The server answers each command with what it heard, as one bulk string, so that a reply shows which command it is for.
It knows no command named `tollbridge:...` and takes the proxy's credential alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proxy.engines.redis.guard import RedisGuard, Schedule
from proxy.engines.redis.wire import encode_command
from proxy.errors import Refused
from proxy.guard import Answer, Deadline, Drop, Inject, NeedGrant, Pass, Refuse, Release, Stop, Verdict, Watch
from proxy.script import CLIENT
from tests.support.clock import FakeClock

Cut = Callable[[bytes], Iterable[bytes]]
TOKEN = "fresh-token"


def parse(data: bytes) -> tuple[list[list[bytes]], bytes]:
    """Multibulk commands and what is left: written apart from the engine's own."""
    commands: list[list[bytes]] = []
    while True:
        rest = data
        if rest[:1] not in (b"", b"*"):
            line, newline, rest = rest.partition(b"\n")
            if not newline:
                return commands, data
            if words := line.split():
                commands.append(words)
            data = rest
            continue
        head, newline, rest = rest.partition(b"\r\n")
        if not newline:
            return commands, data
        words = []
        for _ in range(int(head[1:])):
            size, newline, rest = rest.partition(b"\r\n")
            if not newline or len(rest) < int(size[1:]) + 2:
                return commands, data
            words.append(rest[: int(size[1:])])
            rest = rest[int(size[1:]) + 2 :]
        if words:
            commands.append(words)
        data = rest


class Server:
    """Hears commands, answers them."""

    def __init__(self) -> None:
        self.left = b""
        self.heard: list[list[bytes]] = []
        """Without the proxy's own."""
        self.logins = 0
        self.accepts = True
        self.silent = False
        """Blocked: it answers later."""
        self.multi = False
        self.pushes = b""
        """Sent before each reply."""

    def hear(self, data: bytes) -> bytes:
        """Bytes that reached it -> bytes it says."""
        self.left += data
        if self.silent:
            return b""
        commands, self.left = parse(self.left)
        return b"".join(self.pushes + self.reply(words) for words in commands)

    def reply(self, words: list[bytes]) -> bytes:
        """To one command."""
        name = words[0].lower()
        if name.startswith(b"tollbridge:"):
            return b"-ERR unknown command '%s', with args beginning with: \r\n" % words[0]
        if name == b"auth":
            assert words[1:] == [b"app", TOKEN.encode()], "the server heard a client's AUTH"
            assert not self.multi, "the server heard AUTH inside MULTI"
            self.logins += 1
            return b"+OK\r\n" if self.accepts else b"-WRONGPASS no\r\n"
        self.heard.append(words)
        if name == b"multi":
            self.multi = True
        elif name in (b"exec", b"discard", b"reset"):
            self.multi = False
        return b"+RESET\r\n" if name == b"reset" else echo(words)


def echo(words: list[bytes]) -> bytes:
    """The server's reply to a command without a meaning here."""
    said = encode_command(*words)
    return b"$%d\r\n%s\r\n" % (len(said), said)


class RedisSession:
    """Carries out verdicts as `proxy.net.guarded` does."""

    def __init__(
        self, cut: Cut = lambda data: (data,), *, default: bool = True, life: float = 1000.0, shared: bool = False
    ) -> None:
        self.schedule = Schedule(life_seconds=life, spread=0.5, since=FakeClock().now())
        self.guard = RedisGuard(
            names=frozenset({b"app"}), default=default, schedule=self.schedule, seed=b"seed" * 8, shared=shared
        )
        self.server = Server()
        self.cut = cut
        self.client = b""
        """What the client has heard."""
        self.upstream = b""
        """What went upstream."""
        self.refusal: Refused | None = None
        self.wants_grant: NeedGrant | None = None
        self.deadline: Deadline | None = None
        self._stopped = False
        self._behind = b""
        self._watched = False
        self._answers = b""
        self._carry_out(self.guard.start(), b"", from_client=True)

    @property
    def stopped(self) -> bool:
        """Whether the client is not read."""
        return self._stopped

    def say(self, data: bytes) -> None:
        """The client says something, and the server answers all that reaches it."""
        for piece in self.cut(data):
            self._client(piece)
            self.settle()

    def settle(self) -> None:
        """Let the server answer, and the guard hear it."""
        while self._answers and self.refusal is None:
            said, self._answers = self._answers, b""
            for piece in self.cut(said):
                self._hear(piece)

    def resume(self) -> None:
        """The server is no longer blocked."""
        self.server.silent = False
        self._answers += self.server.hear(b"")
        self.settle()

    def grant(self) -> None:
        """The credential that the guard asked for."""
        self.wants_grant = None
        self._carry_out(self.guard.granted("app", TOKEN), b"", from_client=True)
        self.settle()

    def _client(self, data: bytes) -> None:
        if self.refusal is not None:
            return
        if self._stopped:
            self._behind += data
        elif self.guard.passes(data):
            self._upward(data)
        else:
            self._carry_out(self.guard.client_bytes(data), data, from_client=True)

    def _hear(self, data: bytes) -> None:
        if not self._watched:
            self.client += data
            return
        self._carry_out(self.guard.upstream_bytes(data), data, from_client=False)
        while self._behind and not self._stopped and self.refusal is None:
            behind, self._behind = self._behind, b""
            self._carry_out(self.guard.client_bytes(behind), behind, from_client=True)

    def _upward(self, data: bytes) -> None:
        self.upstream += data
        self._answers += self.server.hear(data)

    def _carry_out(  # noqa: C901 - one row per verdict
        self, verdicts: Iterable[Verdict], shown: bytes, *, from_client: bool
    ) -> None:
        at = 0
        for verdict in verdicts:
            match verdict:
                case Pass(count):
                    part, at = shown[at : at + count], at + count
                    self._upward(part) if from_client else self._downward(part)
                case Drop(count):
                    at += count
                case Inject(data):
                    self._upward(data)
                case Answer(data):
                    self._downward(data)
                case Stop(side):
                    assert side is CLIENT
                    self._stopped = True
                case Release(side):
                    assert side is CLIENT
                    self._stopped = False
                case Watch(on):
                    self._watched = on
                case Refuse(refusal):
                    self.refusal = refusal
                    return
                case NeedGrant():
                    self.wants_grant = verdict
                case Deadline():
                    self.deadline = verdict
                case _:
                    raise AssertionError(verdict)
        assert at <= len(shown)
        if self._stopped and from_client:
            self._behind = shown[at:] + self._behind
        else:
            assert at == len(shown)

    def _downward(self, data: bytes) -> None:
        self.client += data
