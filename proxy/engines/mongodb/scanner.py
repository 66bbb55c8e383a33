"""Reads of each message what decides about it: its command, its `$db`, whether an answer will come. PURE.

`judge` looks at a message that is wholly there, which is the rule and costs some microseconds. `LongMessage` looks at
one that goes by piece by piece, and keeps nothing of it but a name. Both read the same and refuse the same.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from proxy.engines.mongodb.bson import COUNTED, FIXED, LEAST, NAME_LIMIT, BsonError, value_size
from proxy.engines.mongodb.wire import CHECKSUM, HEADER_BYTES, KNOWN_FLAGS, MORE_TO_COME, OP_MSG, OPCODES
from proxy.errors import PeerViolation
from proxy.script import CLIENT

DB_NAME_MAX: Final = 255
"""Bytes of a `$db`. MongoDB takes 63."""
_BODY, _SEQUENCE = 0, 1
"""Kinds of sections."""
_DB: Final = b"$db\0"
_int32: Final = Struct("<i").unpack_from


class Request(NamedTuple):
    """What decides about a message."""

    command: str
    """As it was written."""
    database: str
    answered: bool
    """Whether the server will answer: not when the client says that more is to come."""


def judge(data: bytes, at: int, end: int) -> Request:
    """A whole OP_MSG from `at` to `end`. Raises PeerViolation."""
    command, database, answered = scan(data, at, end)
    return Request(_decode(command), _db_name(database), answered)


def scan(data: bytes, at: int, end: int) -> tuple[bytes, bytes | None, bool]:
    """The same as bytes, the database as it stands there, with the zero at its end. Runs for each message."""
    flags = int.from_bytes(data[at + 16 : at + 20], "little")
    if flags & 0xFFFF & ~KNOWN_FLAGS:
        raise _wrong(f"flags 0x{flags:x}")
    stop = end - 4 if flags & CHECKSUM else end
    at += 20
    command = database = None
    while at < stop:
        kind = data[at]
        size = int.from_bytes(data[at + 1 : at + 5], "little")
        after = at + 1 + size
        if size < 5 or after > stop:
            raise _wrong("a section that is longer than its message")
        if kind == _BODY:
            if command is not None:
                raise _wrong("two bodies")
            command, database = _body(data, at + 5, after - 1)
        elif kind != _SEQUENCE:
            raise _wrong(f"a section of kind {kind}")
        elif data.startswith(_DB, at + 5):
            raise _wrong("a `$db` beside its body")
        at = after
    if command is None or at != stop:
        raise _wrong("no body")
    return command, database, not flags & MORE_TO_COME


def _body(data: bytes, at: int, end: int) -> tuple[bytes, bytes | None]:
    """Command and `$db` of a document whose elements stand from `at` to `end`."""
    command = database = None
    if data[end] != 0:
        raise _wrong("a document without an end")
    find, fixed, counted = data.find, FIXED.get, COUNTED.get
    while at < end:
        kind = data[at]
        value = find(b"\0", at + 1, end) + 1
        if not 0 < value - at <= NAME_LIMIT + 2:
            raise _wrong("an element without a name, or with one that is too long")
        size = fixed(kind)
        if size is None:
            # What `value_size` does, without the call; it says what is wrong where something is.
            more = counted(kind)
            if more is None or end - value < 4 or (count := _int32(data, value)[0]) < LEAST[kind]:
                _size_or_wrong(data, kind, value)
                raise _wrong("a value that is longer than its document")
            size = count + more
        after = value + size
        if after > end:
            raise _wrong("a value that is longer than its document")
        if command is None:
            command = data[at + 1 : value - 1]
        elif value - at == 5 and data[at + 1 : value - 1] == b"$db":
            if database is not None or kind != 0x02:
                raise _wrong("a `$db` that is not one string")
            database = data[value + 4 : after]
        at = after
    return command or b"", database


def _size_or_wrong(data: bytes, kind: int, at: int) -> int:
    """`bson.value_size`, whose complaint is the client's."""
    try:
        return value_size(data, kind, at)
    except BsonError as error:
        raise _wrong(str(error)) from error


class LongMessage:
    """An OP_MSG of which the first bytes have come. Feed it in order; `request` is there once it is known."""

    def __init__(self, length: int) -> None:
        self.left = length
        """Bytes still to come."""
        self.request: Request | None = None
        self._carry = b""
        self._skip = HEADER_BYTES
        """Bytes of something that need not be read."""
        self._flags = -1
        self._body_left = -1
        """Bytes of the body still to come; -1 outside."""
        self._command: bytes | None = None
        self._database: bytes | None = None
        self._bodies = 0

    def feed(self, data: bytes) -> None:
        """The next bytes, at most `left`. Raises PeerViolation."""
        self.left -= len(data)
        data = self._carry + data
        at = 0
        while True:
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                if self._skip:
                    break
            taken = self._token(data, at)
            if not taken:
                break
            at += taken
        self._carry = data[at:]
        if not self.left:
            tail = 4 if self._flags > 0 and self._flags & CHECKSUM else 0
            if self._skip or self._body_left >= 0 or len(self._carry) != tail:
                raise _wrong("a section that is longer than its message")
            self._finish()

    def _token(self, data: bytes, at: int) -> int:
        """Read what stands at `at`, if it is wholly there; how many bytes it takes. 0: wait for more."""
        there = len(data) - at
        if self._flags < 0:
            if there < 4:
                return 0
            self._flags = int.from_bytes(data[at : at + 4], "little")
            if self._flags & 0xFFFF & ~KNOWN_FLAGS:
                raise _wrong(f"flags 0x{self._flags:x}")
            return 4
        if self._body_left >= 0:
            return self._element(data, at)
        # Between sections, where a checksum may stand instead of one.
        if there < 5 or (self._flags & CHECKSUM and there + self.left <= 4):
            return 0
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 5], "little")
        limit = there + self.left - 1 - (4 if self._flags & CHECKSUM else 0)
        if size < 5 or size > limit:
            raise _wrong("a section that is longer than its message")
        if kind == _BODY:
            self._bodies += 1
            if self._bodies > 1:
                raise _wrong("two bodies")
            self._body_left = size - 4
        elif kind == _SEQUENCE:
            return self._sequence(data, at, size)
        else:
            raise _wrong(f"a section of kind {kind}")
        return 5

    def _sequence(self, data: bytes, at: int, size: int) -> int:
        """The begin of a section of documents, once so much of its name is there as decides."""
        if size >= 4 + len(_DB) and len(data) - at < 5 + len(_DB):
            return 0
        if data.startswith(_DB, at + 5):
            raise _wrong("a `$db` beside its body")
        self._skip = size - 4
        return 5

    def _element(self, data: bytes, at: int) -> int:
        """One element of the body: its name, and its value unless that can be skipped."""
        if len(data) == at:
            return 0
        if self._body_left == 1:
            if data[at] != 0:
                raise _wrong("a document without an end")
            self._body_left = -1
            self._know()
            return 1
        return self._named(data, at, at + self._body_left - 1)

    def _named(self, data: bytes, at: int, end: int) -> int:
        """As `_element`, where one begins; the body's own elements end at `end`."""
        kind = data[at]
        stop = data.find(b"\0", at + 1, min(end, at + 2 + NAME_LIMIT))
        if stop < 0:
            if len(data) >= min(end, at + 2 + NAME_LIMIT):
                raise _wrong("an element without a name, or with one that is too long")
            return 0
        value = stop + 1
        if kind in COUNTED and kind not in FIXED and len(data) < value + 4:
            if value + 4 > end:
                raise _wrong("a value that is cut short")
            return 0
        size = _size_or_wrong(data, kind, value)
        if value + size > end:
            raise _wrong("a value that is longer than its document")
        name = data[at + 1 : stop]
        if self._command is None:
            self._command = name
        elif name == b"$db" and not self._take_database(kind, data[value : value + size], size):
            return 0
        self._body_left -= value + size - at
        self._skip = size
        return value - at

    def _take_database(self, kind: int, value: bytes, size: int) -> bool:
        """`$db`, once it is wholly there."""
        if self._database is not None or kind != 0x02:
            raise _wrong("a `$db` that is not one string")
        if size > DB_NAME_MAX + 5:
            raise _wrong("a `$db` that is too long")
        if len(value) < size:
            return False
        self._database = value[4:]
        return True

    def _know(self) -> None:
        """The body is over: what it says is all there is to know."""
        answered = not self._flags & MORE_TO_COME
        self.request = Request(_decode(self._command or b""), _db_name(self._database), answered)

    def _finish(self) -> None:
        if self.request is None:
            raise _wrong("no body")


def check_opcode(opcode: int) -> None:
    """Raise PeerViolation for all but OP_MSG: the others are older than every driver in use, or hide what they hold."""
    if opcode != OP_MSG:
        name = OPCODES.get(opcode, f"opcode {opcode}")
        raise _wrong(f"{name}: tollbridge takes OP_MSG without compression")


def _decode(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise _wrong("a command that is not UTF-8") from error


def _db_name(value: bytes | None) -> str:
    if value is None:
        raise _wrong("a message without `$db`")
    if not 2 <= len(value) <= DB_NAME_MAX + 1 or value[-1] != 0 or b"\0" in value[:-1]:
        raise _wrong("a `$db` that is no name")
    return _decode(value[:-1])


def _wrong(what: str) -> PeerViolation:
    return PeerViolation(CLIENT, f"the message holds {what}")
