"""What one client may say on a connection that it shares, what is answered here, what needs one of its own. PURE.

    commands that may share (`shareable`)    forwarded, with their exact number
    HELLO and AUTH of the session's user     the greeting of the shared login, +OK; of another -WRONGPASS
    CLIENT SETNAME, GETNAME, SETINFO         answered; the name is said at a later login of the client's own
    SELECT 0                                 forwarded: a shared connection is there already
    MONITOR, SYNC, PSYNC, REPLCONF, CLIENT REPLY OFF|SKIP, WAIT, WAITAOF    refused
    QUIT                                     +OK, and goodbye
    everything else                          pins

A whole chunk of short commands is matched at once. Else commands are matched one by one, and those that are long, cut
off or to be looked at are walked, once: a walk goes on where the last chunk ended. Inline commands are read whole, and
forwarded as arrays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.engines.redis.login import HelloError, judge_auth, parse_hello
from proxy.engines.redis.refusals import NO_SUCH_LOGIN, OK, REFUSED_COMMANDS, UNSHARED_COMMANDS, refused_command
from proxy.engines.redis.shareable import ANSWERED, KNOWN, SHAREABLE, short_command, whole_commands
from proxy.engines.redis.wire import (
    ARGUMENTS_LIMIT,
    COMMAND_LIMIT,
    NAME_LIMIT,
    Command,
    encode_command,
    number,
    read_bulk_length,
    read_command,
    read_line,
)
from proxy.errors import PeerViolation
from proxy.multiplex import Forward, Leave, Pin, Say, Step
from proxy.script import CLIENT

INLINE: Final = "many inline commands"
LONG: Final = "long command"
OTHER: Final = "other command"
NOTHING: Final = Command((), 0)
SHORTEST: Final = 6
"""Bytes of an argument: `$0` and two ends of lines."""

INLINE_LIMIT: Final = 64
"""Inline commands in what is looked at in one go: a health check says one or a few. A chunk holds 65,000, and nobody
else is served while they are read, for 5 us each."""

_HEAD: Final = re.compile(rb"\*([1-9][0-9]{0,4})\r\n(?=\$([1-9][0-9]?)\r\n)").match
"""How most commands begin; `enter` knows what the others mean."""
_LENGTH: Final = re.compile(rb"\$(0|[1-9][0-9]{0,4})\r\n").match
"""Most lengths; `read_bulk_length` knows what the others mean."""

_EMPTY: Final = re.compile(rb"(?:\*(?:0|-[1-9][0-9]{0,18})\r\n)*+").match
"""Commands that do nothing, any number: a chunk holds 16,000, and one by one they would take 0.1 s."""

BAD_NAME: Final = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"


def is_name(text: bytes) -> bool:
    """Whether a server would take it for a client's name."""
    return all(0x21 <= byte <= 0x7E for byte in text)


@dataclass(slots=True)
class Walk:
    """One command on its way in, as far as it was looked at."""

    name: bytes
    """Lower case; empty for a command that does nothing."""
    count: int
    """Arguments, the name included."""
    left: int
    """Those still to come."""
    past: int
    """Bytes of it that were looked at."""

    def follow(self, data: bytes, begins: int) -> int | None:
        """Where the command ends whose first byte is at `begins`; None when it goes on. 0: it is too long to be kept.
        Raises PeerViolation."""
        at, left, size = begins + self.past, self.left, len(data)
        while left:
            if (found := _LENGTH(data, at)) is not None:
                ends = found.end() + int(found[1])
            elif (bulk := read_bulk_length(data, at)) is not None:
                ends = bulk[1] + bulk[0]
            else:
                break
            if ends + 2 + (left - 1) * SHORTEST > begins + COMMAND_LIMIT:
                return 0
            if ends + 2 > size:
                break
            if data[ends : ends + 2] != b"\r\n":
                raise PeerViolation(CLIENT, "an argument that does not end where its length says")
            at = ends + 2
            left -= 1
        self.past, self.left = at - begins, left
        return None if left else at


def enter(data: bytes, begins: int) -> Walk | str | None:
    """The command whose first byte is at `begins` and is no inline command's, why it needs a connection of its own, or
    None until it has a name. Raises PeerViolation."""
    if (found := _HEAD(data, begins)) is not None:
        count, at, length = int(found[1]), found.end(), int(found[2])
        named = at + len(found[2]) + 3
    else:
        head = read_line(data, begins, CLIENT)
        if head is None:
            return None
        count, at = number(head[0][1:], CLIENT), head[1]
        if count <= 0:
            return Walk(b"", 0, 0, at - begins)
        bulk = read_bulk_length(data, at)
        if bulk is None:
            return None
        length, named = bulk
    if length > NAME_LIMIT:
        return OTHER
    if named + length > len(data):
        return None
    name = data[named : named + length].lower()
    if name in SHAREABLE or (name in ANSWERED and count <= ARGUMENTS_LIMIT):
        return LONG if count * SHORTEST > COMMAND_LIMIT else Walk(name, count, count, at - begins)
    return name.decode() if name in KNOWN else OTHER


class RedisSharer:
    """`proxy.multiplex.Sharer` for one client."""

    __slots__ = ("_default", "_greeting", "_head", "_names", "_short", "_version", "_walk", "kept", "name", "whole")

    def __init__(
        self, *, version: bytes, greeting: bytes, names: frozenset[bytes], default: bool, name: bytes | None = None
    ) -> None:
        """`version`: of the protocol, 2 or 3. `greeting`: the answer to its HELLO. `names`, `default`: as a guard's."""
        self._version = version
        self._greeting = greeting
        self._names = names
        self._default = default
        self._short = short_command().match
        self._head = b""
        """Begin of a command that is not all there."""
        self._walk: Walk | None = None
        """How far it was looked at, once it has a name."""
        self.kept = False
        self.whole = whole_commands()
        self.name = name or None
        """What the client calls itself."""

    def take(self, data: bytes) -> Sequence[Step]:
        data, self._head, self.kept = self._head + data, b"", False
        steps: list[Step] = []
        at = inline = 0
        while True:
            begins = at = at if self._walk is not None else _EMPTY(data, at).end()  # type: ignore[union-attr]
            at, answers, ends = self._shareable(data, begins)
            if answers:
                steps.append(Forward(data[begins:at], answers))
            if isinstance(ends, str):
                return [*steps, Pin(data[at:], ends)]
            if ends is None:
                self._head, self.kept = data[at:], at < len(data)
                return steps
            self._walk = None
            inline += data[at] != 0x2A
            if inline > INLINE_LIMIT:
                return [*steps, Pin(data[at:], INLINE)]
            command = read_command(data, at) or NOTHING
            said = self._answer(command.arguments)
            if isinstance(said, str):
                return [*steps, Pin(data[at:], said)]
            if said is None:
                steps.append(Forward(encode_command(*command.arguments), 1))
            elif said:
                steps.append(Say(said))
            if command.name == b"quit":
                return [*steps, Leave()]
            at = ends

    def _shareable(self, data: bytes, at: int) -> tuple[int, int, int | str | None]:
        """Past commands that may share: where they end, how many they are, and what is behind them.

        That is where another whole command ends, why the next needs a connection of its own, or None: no whole command.
        """
        answers = 0
        while True:
            if self._walk is None:
                while (found := self._short(data, at)) is not None:
                    at = found.end()
                    answers += 1
            ends = self._follow(data, at)
            if not isinstance(ends, int) or self._walk is None or self._walk.name not in SHAREABLE:
                return at, answers, ends
            self._walk = None
            at = ends
            answers += 1

    def _follow(self, data: bytes, at: int) -> int | str | None:
        """Where the command at `at` ends, why it needs a connection of its own, or None when it is not all there."""
        if self._walk is None:
            if at < len(data) and data[at] != 0x2A:
                inline = read_command(data, at)
                return None if inline is None else inline.end
            entered = enter(data, at) if at < len(data) else None
            if not isinstance(entered, Walk):
                return entered
            self._walk = entered
        ends = self._walk.follow(data, at)
        return LONG if ends == 0 else ends

    def _answer(self, arguments: Sequence[bytes]) -> bytes | str | None:
        """What the client hears without the server, why it needs a connection of its own, or None: it shares."""
        match [word.lower() for word in arguments[:2]]:
            case []:
                return b""
            case [name, *_] if name in SHAREABLE:
                return None
            case [b"quit", *_]:
                return OK
            case [b"auth", *_]:
                return judge_auth(arguments, names=self._names, default=self._default)
            case [b"hello", *_]:
                return self._hello(arguments)
            case [b"select", b"0"] if len(arguments) == 2:
                return None
            case [b"client", subcommand]:
                return self._client(subcommand, arguments)
            case [name, *_] if name in REFUSED_COMMANDS or name in UNSHARED_COMMANDS:
                return refused_command(name)
            case [name, *_] if name in KNOWN:
                return name.decode()
        return OTHER

    def _hello(self, arguments: Sequence[bytes]) -> bytes | str:
        try:
            hello = parse_hello(arguments)
        except HelloError as error:
            return error.line
        if hello.user is not None and hello.user not in self._names:
            return NO_SUCH_LOGIN
        if hello.version not in (None, self._version):
            return "hello"
        if hello.name is not None:
            if not is_name(hello.name):
                return BAD_NAME
            self.name = hello.name or None
        return self._greeting

    def _client(self, subcommand: bytes, arguments: Sequence[bytes]) -> bytes | str:
        """CLIENT, by what stands behind it. What is said wrong pins: the server has the words for it."""
        match subcommand, arguments[2:]:
            case b"setname", [name]:
                if not is_name(name):
                    return BAD_NAME
                self.name = name or None
                return OK
            case b"getname", []:
                return self._bulk(self.name)
            case b"setinfo", [attribute, value] if attribute.lower() in (b"lib-name", b"lib-ver"):
                if is_name(value):
                    return OK
                return b"-ERR %s cannot contain spaces, newlines or special characters.\r\n" % attribute.lower()
            case b"maint_notifications", _:
                return b"-ERR unknown subcommand '%s'. Try CLIENT HELP.\r\n" % arguments[1]
            case b"reply", [mode, *_] if mode.lower() != b"on":
                return refused_command(b"client reply")
        return "client"

    def _bulk(self, text: bytes | None) -> bytes:
        if text is None:
            return b"_\r\n" if self._version == b"3" else b"$-1\r\n"
        return b"$%d\r\n%s\r\n" % (len(text), text)
