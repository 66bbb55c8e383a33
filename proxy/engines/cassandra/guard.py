"""A session: frames pass unread, but for what would lead a driver past the proxy. PURE.

    client     AUTH_RESPONSE, STARTUP and what nobody says here: refused. Only headers are looked at
    upstream   EVENT about nodes: dropped; about the schema: passed
               RESULT about system.local and system.peers: rewritten, see `results`
               everything else passes; of a result, the place where it names its keyspace is looked at

Nothing is remembered of a request, so nothing grows with them, and a statement that was prepared on another connection
or through another proxy is treated alike.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from proxy.engines.cassandra import results, wire
from proxy.engines.cassandra.refusals import StreamRefused
from proxy.engines.cassandra.results import Short, What, Whereabouts
from proxy.engines.cassandra.wire import COMPRESSED, EVENT, FRAME_LIMIT, HEADER, HEADER_BYTES, RESULT
from proxy.errors import PeerViolation
from proxy.guard import Answer, Drop, Guard, Pass, Refuse, Verdict
from proxy.script import UPSTREAM
from tollbridge.reasons import Reason

FIRST_LOOK: Final = 64
"""Bytes of a result that are waited for when its first do not say enough."""

_ASKED: Final = frozenset({wire.OPTIONS, wire.QUERY, wire.PREPARE, wire.EXECUTE, wire.REGISTER, wire.BATCH})
"""What a client may say once it is logged in."""
_REQUEST: Final = struct.Struct(">BxxxBI").unpack_from
_ANSWER: Final = struct.Struct(">HxxBII").unpack_from
"""Version and flags, opcode, length, and what comes first in a body: a result's kind."""
_ANSWER_BYTES: Final = 13


class CassandraGuard(Guard):
    """One session."""

    def __init__(self, version: int, here: Whereabouts) -> None:
        self._version = version
        self._answer_version = version | wire.RESPONSE
        self._answer_begin = self._answer_version << 8
        """Of a frame without flags."""
        self._here = here
        self._skip = 0
        """Bytes of the client's frame that is under way, still to come."""
        self._head = b""
        """Of the client's: a header that is not whole yet, and was passed on."""
        self._passing = 0
        """Bytes of upstream's frame that is under way, still to be passed."""
        self._dropping = 0
        """The same, to be dropped."""
        self._kept = bytearray()
        """The begin of a frame of upstream's that cannot be judged yet; the client has not seen it."""
        self._wanted = 0
        """How long that must be."""
        self._judged = -1
        """The stream of upstream's frame that was looked at last."""

    @property
    def at_rest(self) -> bool:
        """Whether the client has been sent whole frames."""
        return not self._passing

    def passes(self, data: bytes) -> bool:
        at, size = self._skip, len(data)
        if at >= size:
            self._skip = at - size
            return True
        if self._head:
            data, at = self._head + data, 0
            size = len(data)
        version = self._version
        while size - at >= HEADER_BYTES:
            said, opcode, length = _REQUEST(data, at)
            if said != version or opcode not in _ASKED or length > FRAME_LIMIT:
                return False
            at += HEADER_BYTES + length
        if at < size:
            self._head, self._skip = data[at:], 0
        else:
            self._head, self._skip = b"", at - size
        return True

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        if self.passes(data):
            return [Pass(len(data))]
        at = 0 if self._head else self._skip
        data_and_head = self._head + data
        while True:
            said, _, stream, opcode, length = HEADER.unpack_from(data_and_head, at)
            if said != self._version or length > FRAME_LIMIT:
                message = (
                    f"a frame of version byte {said:#04x} and {length} bytes; version {self._version} was agreed on"
                )
                return [Drop(len(data)), Refuse(StreamRefused(Reason.CLIENT_PROTOCOL, message, stream))]
            if opcode not in _ASKED:
                return [Drop(len(data)), Refuse(_forbidden(opcode, stream))]
            at += HEADER_BYTES + length

    def passes_upstream(self, data: bytes) -> bool:
        if self._kept or self._dropping:
            return False
        size = len(data)
        end = self._glance(data, self._passing, size)
        if end < size:
            return False
        self._passing = end - size
        return True

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        said: list[bytes] = []
        refused: list[Verdict] = []
        try:
            self._carefully(data, said)
        except PeerViolation as violation:
            refused.append(Refuse(StreamRefused(violation.as_refusal().reason, violation.message, self._judged)))
        return [Answer(b"".join(said)), Drop(len(data)), *refused]

    def _glance(self, data: bytes, at: int, size: int) -> int:
        """From the begin of a frame: where the first one begins that must be looked at with care. At `size` or behind
        it when none does.

        Most results name one table for all their columns, or none because the client has the columns already. Of the
        flags that say so the last byte has all that anybody knows.
        """
        begin = self._answer_begin
        while size - at >= _ANSWER_BYTES:
            said, opcode, length, kind = _ANSWER(data, at)
            if said != begin or opcode == EVENT or length > FRAME_LIMIT:
                return at
            if opcode == RESULT:
                if kind == results.ROWS:
                    if at + 29 > size:
                        return at
                    about = data[at + 16]
                    if not about & results.NO_METADATA and (
                        about != results.GLOBAL or data[at + 21 : at + 29] == results.SYSTEM
                    ):
                        return at
                elif kind == results.PREPARED:
                    return at
            at += HEADER_BYTES + length
        return at

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        """Never asked for."""
        return ()

    def _carefully(self, data: bytes, said: list[bytes]) -> None:
        """What is said to the client for these bytes, in order. Raises PeerViolation."""
        if self._kept:
            self._kept += data
            if len(self._kept) < self._wanted:
                return
            data = bytes(self._kept)
            self._kept.clear()
        at, size = 0, len(data)
        while at < size:
            if self._passing:
                part = data[at : at + self._passing]
                self._passing -= len(part)
                said.append(part)
                at += len(part)
            elif self._dropping:
                count = min(self._dropping, size - at)
                self._dropping -= count
                at += count
            elif (plain := self._glance(data, at, size)) > at:
                said.append(data[at:plain])
                self._passing = max(plain - size, 0)
                at = plain
            elif not self._judge(data, at, said):
                self._kept += data[at:]
                break

    def _judge(self, data: bytes, at: int, said: list[bytes]) -> bool:
        """Decide about the frame that begins here: what is passed or dropped of it, and what is said in its place.

        False: more of it is needed, `_wanted` bytes.
        """
        there = len(data) - at
        if there < HEADER_BYTES:
            self._wanted = HEADER_BYTES
            return False
        version, flags, self._judged, opcode, length = HEADER.unpack_from(data, at)
        if version != self._answer_version or length > FRAME_LIMIT or flags & COMPRESSED:
            message = f"upstream sent a frame of version byte {version:#04x}, flags {flags:#04x} and {length} bytes"
            raise PeerViolation(UPSTREAM, message)
        total = HEADER_BYTES + length
        try:
            if opcode == RESULT:
                done = self._judge_result(data, at, total, said)
            else:
                drops = opcode == EVENT and results.concerns_nodes(_body(data, at, total), flags)
                self._passing, self._dropping, done = (0, total, True) if drops else (total, 0, True)
        except Short:
            most = min(total, HEADER_BYTES + results.HEAD_LIMIT)
            if there >= most:
                raise PeerViolation(UPSTREAM, "upstream sent a frame that cannot be read") from None
            self._wanted, done = min(most, max(2 * there, FIRST_LOOK)), False
        return done

    def _judge_result(self, data: bytes, at: int, total: int, said: list[bytes]) -> bool:
        """The same for a RESULT. Raises Short where `_judge` knows how much more may be waited for."""
        version, flags, stream, opcode, _ = HEADER.unpack_from(data, at)
        head = _body(data, at, total)
        about = results.what(head, flags)
        if about is What.OPAQUE:
            self._passing = total
            return True
        if about is What.PEERS:
            instead = results.without_rows(head, flags)
        elif total > HEADER_BYTES + results.WHOLE_LIMIT:
            raise PeerViolation(UPSTREAM, f"upstream sent {total} bytes of {about.value}")
        elif len(data) - at < total:
            self._wanted = total
            return False
        elif about is What.LOCAL:
            instead = results.as_local(data[at + HEADER_BYTES : at + total], flags, self._here)
        else:
            instead = results.without_columns(data[at + HEADER_BYTES : at + total], flags, self._version)
        said.append(HEADER.pack(version, flags, stream, opcode, len(instead)) + instead)
        self._dropping = total
        return True


def _body(data: bytes, at: int, total: int) -> bytes:
    """What is there of a frame's body, as far as anybody looks."""
    return data[at + HEADER_BYTES : at + min(total, HEADER_BYTES + results.HEAD_LIMIT)]


def _forbidden(opcode: int, stream: int) -> StreamRefused:
    if opcode in (wire.STARTUP, wire.AUTH_RESPONSE):
        return StreamRefused(
            Reason.FEATURE_REFUSED,
            "this session is logged in, and granted to one role: log in as another on a connection of its own",
            stream,
        )
    return StreamRefused(Reason.CLIENT_PROTOCOL, f"opcode {opcode:#04x} is no request of a session", stream)
