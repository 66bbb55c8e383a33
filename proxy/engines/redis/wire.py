"""RESP as bytes: whole commands, inline commands, replies of any kind. PURE.

Format: https://redis.io/docs/latest/develop/reference/protocol-spec/. What a server would read in a second way is
refused, so that nobody can say one thing to the proxy and another to the server behind it: numbers are as strict as
Redis's string2ll, every line ends in CRLF (Redis does not look at the LF), inline commands hold no NUL.
Parsing raises PeerViolation and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import PeerViolation, Side
from proxy.script import CLIENT

COMMAND_LIMIT: Final = 64 * 1024
"""Bytes of a command that is read whole: PROTO_INLINE_MAX_SIZE, the longest inline command that Redis takes. Before a
login Redis allows 16 KiB for one argument."""
ARGUMENTS_LIMIT: Final = 128
"""Of a command that is read whole. Redis allows 10 before a login; CLIENT TRACKING may list prefixes."""
NAME_LIMIT: Final = 64
"""No command that the proxy knows has a longer name."""
LINE_LIMIT: Final = 32
"""Of a line that holds a number: 64 bits are 20 characters."""
BULK_LIMIT: Final = 2**40
"""Of one value. Redis allows proto-max-bulk-len, 512 MB unless configured otherwise; nothing is kept of it here."""

REPLY_LIMIT: Final = 64 * 1024
"""Bytes of a reply that is read whole: HELLO's, with its list of modules, is 200 to 2,000."""
ELEMENTS_LIMIT: Final = 4096
"""Elements of a reply that is read whole, all levels together."""

PUSH: Final = b">"
"""How a message of RESP3 begins that answers nothing."""

_NUMBER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}", re.ASCII)
_KINDS: Final = b"+-:_,#($=!*~>%|"
"""What replies begin with. Looked at before a line's end has come: garbage may have none."""
_TEXTS: Final = b"+-:_,#("
"""Of those, what is one line and no more."""
_SPACE: Final = b" \t\n\v\f\r"
_ENDS_WORD: Final = b" \t\n\r"
"""Not all that is skipped between words ends one: so does sdssplitargs read, and nobody may read otherwise."""
_ESCAPES: Final = {ord("n"): b"\n", ord("r"): b"\r", ord("t"): b"\t", ord("b"): b"\b", ord("a"): b"\a"}
_HEX: Final = re.compile(rb"\\x([0-9a-fA-F]{2})")


def number(text: bytes, side: Side) -> int:
    """A length or count, as string2ll reads it."""
    if _NUMBER.fullmatch(text) is None:
        raise PeerViolation(side, f"the {side} sent a length that is no number")
    return int(text)


@dataclass(frozen=True, slots=True)
class Command:
    """A command read whole."""

    arguments: tuple[bytes, ...] = field(repr=False)
    """Name first; none for an empty line. May hold a password."""
    end: int
    """Where the bytes behind it begin."""

    @property
    def name(self) -> bytes:
        """Lower case; empty for an empty line."""
        return self.arguments[0].lower() if self.arguments else b""


def encode_command(*arguments: bytes) -> bytes:
    """As an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


def read_line(data: bytes, at: int, side: Side) -> tuple[bytes, int] | None:
    """A short line without its CRLF and where the next byte is; None when its end is not there yet."""
    end = data.find(b"\r\n", at, at + LINE_LIMIT)
    if end >= 0:
        return data[at:end], end + 2
    if len(data) - at >= LINE_LIMIT:
        raise PeerViolation(side, f"the {side} sent a length of more than {LINE_LIMIT} characters")
    return None


def read_bulk_length(data: bytes, at: int) -> tuple[int, int] | None:
    """The length of the client's next argument and where it begins; None when that is not known yet."""
    line = read_line(data, at, CLIENT)
    if line is None:
        if at < len(data) and data[at] != 0x24:
            raise PeerViolation(CLIENT, "the client sent an argument that is no bulk string")
        return None
    text, begins = line
    if text[:1] != b"$":
        raise PeerViolation(CLIENT, "the client sent an argument that is no bulk string")
    length = number(text[1:], CLIENT)
    if not 0 <= length <= BULK_LIMIT:
        raise PeerViolation(CLIENT, f"the client announced an argument of {length} bytes")
    return length, begins


def read_command(data: bytes, at: int) -> Command | None:
    """The client's next command, read whole; None when it is not all there. A null or empty array counts as one."""
    return CommandReader().read(data, at)


class CommandReader:
    """Reads one command that comes in pieces: no argument is looked at twice, however small they are."""

    __slots__ = ("_arguments", "_count", "_read")

    def __init__(self) -> None:
        self._count = -1
        """Of its arguments, once that is known."""
        self._arguments: list[bytes] = []
        self._read = 0
        """Bytes of the command that are read."""

    def read(self, data: bytes, at: int = 0) -> Command | None:
        """As `read_command`. After a None it wants all of the command again, with more behind it."""
        if data[at : at + 1] not in (b"", b"*"):
            return _read_inline(data, at)
        if self._count < 0:
            head = read_line(data, at, CLIENT)
            if head is None:
                return None
            count = number(head[0][1:], CLIENT)
            if count > ARGUMENTS_LIMIT:
                raise PeerViolation(CLIENT, f"a command of {count} arguments; the limit here is {ARGUMENTS_LIMIT}")
            self._count, self._read = max(count, 0), head[1] - at
        arguments, begins = self._arguments, at + self._read
        while len(arguments) < self._count:
            bulk = read_bulk_length(data, begins)
            if bulk is not None and bulk[1] - at + bulk[0] > COMMAND_LIMIT:
                raise PeerViolation(
                    CLIENT, f"a command of more than {COMMAND_LIMIT} bytes where the proxy must read it"
                )
            if bulk is None or bulk[1] + bulk[0] + 2 > len(data):
                return None
            end = bulk[1] + bulk[0]
            if data[end : end + 2] != b"\r\n":
                raise PeerViolation(CLIENT, "an argument that does not end where its length says")
            arguments.append(data[bulk[1] : end])
            begins = end + 2
            self._read = begins - at
        return Command(tuple(arguments), begins)


def read_name(data: bytes) -> bytes | None:
    """The name of the command that data begins with, lower case, as soon as it is there; empty for a command that does
    nothing. One too long to be any that the proxy knows is given as `?`."""
    if data[:1] not in (b"", b"*"):
        command = _read_inline(data, 0)
        return None if command is None else command.name
    head = read_line(data, 0, CLIENT)
    if head is None:
        return None
    if number(head[0][1:], CLIENT) <= 0:
        return b""
    bulk = read_bulk_length(data, head[1])
    if bulk is None:
        return None
    length, begins = bulk
    if length > NAME_LIMIT:
        return b"?"
    return data[begins : begins + length].lower() if begins + length <= len(data) else None


def _read_inline(data: bytes, at: int) -> Command | None:
    newline = data.find(b"\n", at, at + COMMAND_LIMIT)
    if newline < 0:
        if len(data) - at >= COMMAND_LIMIT:
            raise PeerViolation(CLIENT, f"an inline command of more than {COMMAND_LIMIT} bytes")
        return None
    return Command(tuple(split_inline(data[at:newline].removesuffix(b"\r"))), newline + 1)


def split_inline(line: bytes) -> list[bytes]:
    """Arguments of an inline command, by the rules of sdssplitargs: quotes of both kinds, escapes in double ones."""
    if b"\0" in line:
        raise PeerViolation(CLIENT, "an inline command with a NUL")
    arguments: list[bytes] = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in _SPACE:
            at += 1
        if at == end:
            return arguments
        argument = bytearray()
        while at < end and line[at] not in _ENDS_WORD:
            if line[at] in b"\"'":
                at = _quoted(line, at, argument)
                if at < end and line[at] not in _SPACE:
                    raise PeerViolation(CLIENT, "an inline command with unbalanced quotes")
                break
            argument.append(line[at])
            at += 1
        arguments.append(bytes(argument))


def _quoted(line: bytes, at: int, argument: bytearray) -> int:
    """Read a quoted part that begins at `at`; returns where it has ended."""
    quote, at = line[at], at + 1
    while at < len(line):
        byte = line[at]
        if byte == quote:
            return at + 1
        if quote == 0x22 and byte == 0x5C and at + 1 < len(line):
            if found := _HEX.match(line, at):
                argument.append(int(found[1], 16))
                at += 4
                continue
            argument += _ESCAPES.get(line[at + 1], line[at + 1 : at + 2])
            at += 2
        elif quote == 0x27 and line[at : at + 2] == b"\\'":
            argument += b"'"
            at += 2
        else:
            argument.append(byte)
            at += 1
    raise PeerViolation(CLIENT, "an inline command with unbalanced quotes")


Skip = Callable[[bytes, int, int], tuple[int, int]]


class Frame:
    """Follows one reply of the server through its bytes, of RESP2 or RESP3, keeping none of a value."""

    __slots__ = ("_inside", "_line", "_pending", "_side", "_skip", "kind")

    def __init__(self, side: Side = Side.UPSTREAM) -> None:
        self._side = side
        self._pending = 1
        self._skip = 0
        self._line = b""
        self._inside = False
        """Its first line is over. A push comes between replies, never inside one."""
        self.kind = b""
        """First byte of the reply, once known: `>` is a push."""

    @property
    def complete(self) -> bool:
        """Whether its last byte was seen."""
        return not self._pending and not self._skip

    @property
    def owed(self) -> tuple[int, int]:
        """Elements and bytes of the current one that are still to come, as far as announced."""
        return self._pending, self._skip

    def feed(self, data: bytes, at: int, skip: Skip | None = None) -> int:
        """Follow the reply from `at`; returns where it ends, or the end of the data.

        `skip` follows some of so many whole elements that hold no others, and says where it stopped and how many are
        left.
        """
        while not self.complete:
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                if self._skip:
                    return at
                continue
            if skip is not None and self.kind and not self._line:
                at, self._pending = skip(data, at, self._pending)
                if not self._pending:
                    return at
            newline = data.find(b"\n", at)
            piece = data[at:] if newline < 0 else data[at : newline + 1]
            self._line += piece
            at += len(piece)
            self.kind = self.kind or self._line[:1]
            if self._line[:1] not in _KINDS:
                raise PeerViolation(self._side, f"the {self._side} sent {self._line[:1]!r}, which begins no reply")
            if self._line[:1] in _TEXTS:
                self._line = self._line[:1] + self._line[1:][-2:]  # scripts may answer with a text of any length
            elif len(self._line) > REPLY_LIMIT:
                raise PeerViolation(self._side, f"the {self._side} sent a line of more than {REPLY_LIMIT} bytes")
            if newline < 0:
                return at
            self._element(self._line)
            self._line = b""
        return at

    def _element(self, line: bytes) -> None:
        kind, text = line[:1], line[1:-2]
        if line[-2:] != b"\r\n" or not kind:
            raise PeerViolation(self._side, f"the {self._side} sent a line that does not end in CRLF")
        if self._inside and kind == PUSH:
            raise PeerViolation(self._side, f"the {self._side} sent a push inside a reply")
        self._inside = True
        self._pending -= 1
        if kind in _TEXTS:
            return
        size = number(text, self._side)
        if kind in b"$=!":
            self._skip = size + 2 if size >= 0 else 0
        else:
            self._pending += max(size, 0) * (2 if kind in b"%|" else 1) + (kind == b"|")


def reply_size(data: bytes) -> int | None:
    """Length of the reply that data begins with; None when it is not all there. For replies that are read whole."""
    frame = Frame()
    size = frame.feed(data, 0)
    elements, more = frame.owed
    if elements > ELEMENTS_LIMIT or size + more > REPLY_LIMIT:
        raise PeerViolation(Side.UPSTREAM, "upstream's answer to the login is too large")
    return size if frame.complete else None
