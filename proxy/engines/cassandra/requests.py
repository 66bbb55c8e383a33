"""The client's side of a session: headers are looked at, and of an EXECUTE its statement. PURE."""

from __future__ import annotations

import struct
from typing import Final

from proxy.engines.cassandra import wire
from proxy.engines.cassandra.reading import Short
from proxy.engines.cassandra.refusals import StreamRefused
from proxy.engines.cassandra.statements import MARK, parse_execute
from proxy.engines.cassandra.wire import EXECUTE, FRAME_LIMIT, HEADER, HEADER_BYTES, PAYLOAD
from tollbridge.reasons import Reason

STATEMENTS_LIMIT: Final = 64
"""Statements about the cluster that a session remembers; applications have one or two."""
LOOK_LIMIT: Final = 128 * 1024
"""Bytes of an EXECUTE that are waited for: a payload may stand before its statement. Behind more nothing is looked for,
and the server will not know a statement with a mark."""
FIRST_LOOK: Final = 64

_ASKED: Final = frozenset({wire.OPTIONS, wire.QUERY, wire.PREPARE, EXECUTE, wire.REGISTER, wire.BATCH})
"""What a client may say once it is logged in."""
_REQUEST: Final = struct.Struct(">BBxxBI").unpack_from
_NAME: Final = HEADER_BYTES + 2
"""Where the id of an EXECUTE begins that has no payload."""
_LOOK: Final = _NAME + len(MARK)


class Requests:
    """What a client says in one session."""

    def __init__(self, version: int) -> None:
        self.executed: set[bytes] = set()
        """Statements about the cluster that this session has executed, by the server's ids."""
        self._version = version
        self._passing = 0
        """Bytes of the frame that is under way, still to come."""
        self._kept = bytearray()
        """The begin of a frame that cannot be judged yet; the server has not seen it."""
        self._wanted = 0
        """How long that must be."""

    def passes(self, data: bytes) -> bool:
        """Whether all of this goes upstream as it is: for every message. It never raises."""
        if self._kept:
            return False
        size = len(data)
        end = self._glance(data, self._passing, size)
        if end < size:
            return False
        self._passing = end - size
        return True

    def carefully(self, data: bytes, said: list[bytes]) -> None:
        """What goes upstream for what `passes` did not let pass, in order. Raises StreamRefused."""
        if self._kept:
            self._kept += data
            if len(self._kept) < self._wanted:
                return
            data = bytes(self._kept)
            self._kept.clear()
        at, size = 0, len(data)
        while at < size:
            if self._passing:
                end = min(at + self._passing, size)
                self._passing -= end - at
            elif (plain := self._glance(data, at, size)) > at:
                end = min(plain, size)
                self._passing = plain - end
            else:
                read = self._judge(data, at, said)
                if read is None:
                    self._kept += data[at:]
                    return
                at += read
                continue
            said.append(data[at:end])
            at = end

    def _glance(self, data: bytes, at: int, size: int) -> int:
        """From the begin of a frame: where the first one begins that must be looked at with care. At `size` or behind
        it when none does."""
        version = self._version
        while size - at >= HEADER_BYTES:
            said, flags, opcode, length = _REQUEST(data, at)
            if said != version or opcode not in _ASKED or length > FRAME_LIMIT:
                return at
            if opcode == EXECUTE and (at + _LOOK > size or data[at + _NAME : at + _LOOK] == MARK or flags & PAYLOAD):
                return at
            at += HEADER_BYTES + length
        return at

    def _judge(self, data: bytes, at: int, said: list[bytes]) -> int | None:
        """Decide about the frame that begins here. Returns the bytes of it that `said` has something else for; None
        when more of it is needed, `_wanted` bytes."""
        there = len(data) - at
        if there < HEADER_BYTES:
            self._wanted = HEADER_BYTES
            return None
        version, flags, stream, opcode, length = HEADER.unpack_from(data, at)
        if version != self._version or length > FRAME_LIMIT:
            message = f"a frame of version byte {version:#04x} and {length} bytes; version {self._version} is spoken"
            raise StreamRefused(Reason.CLIENT_PROTOCOL, message, stream)
        if opcode not in _ASKED:
            raise _forbidden(opcode, stream)
        total = HEADER_BYTES + length
        most = min(total, HEADER_BYTES + LOOK_LIMIT)
        execution = None
        if opcode == EXECUTE:
            try:
                execution = parse_execute(data[at + HEADER_BYTES : at + most], flags)
            except Short:
                if there < most:
                    self._wanted = min(most, max(2 * there, FIRST_LOOK))
                    return None
        if execution is None:
            self._passing = total
            return 0
        if len(self.executed) < STATEMENTS_LIMIT:
            self.executed.add(execution.statement)
        said.append(HEADER.pack(version, flags, stream, opcode, length - len(MARK)) + execution.instead)
        self._passing = total - HEADER_BYTES - execution.read
        return HEADER_BYTES + execution.read


def _forbidden(opcode: int, stream: int) -> StreamRefused:
    if opcode in (wire.STARTUP, wire.AUTH_RESPONSE):
        return StreamRefused(
            Reason.FEATURE_REFUSED,
            "this session is logged in, and granted to one role: log in as another on a connection of its own",
            stream,
        )
    return StreamRefused(Reason.CLIENT_PROTOCOL, f"opcode {opcode:#04x} is no request of a session", stream)
