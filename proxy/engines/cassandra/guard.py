"""A session: frames pass unread, but for what would lead a driver past the proxy. PURE.

    client     AUTH_RESPONSE, STARTUP and what nobody says here: refused. See `requests`
               EXECUTE of a statement about the cluster: rewritten, see `statements`
    upstream   EVENT about nodes: dropped; about the schema: passed
               RESULT about system.local and system.peers: rewritten, see `results`
               everything else passes; of a result, the place where it names its keyspace is looked at

Nothing grows with the requests, and a statement that was prepared on another connection or through another proxy is
treated alike. A server that names another table than it was asked for is believed: its certificate was.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from proxy.engines.cassandra import results, statements, wire
from proxy.engines.cassandra.reading import Short
from proxy.engines.cassandra.refusals import StreamRefused
from proxy.engines.cassandra.requests import Requests
from proxy.engines.cassandra.results import What, Whereabouts
from proxy.engines.cassandra.wire import COMPRESSED, ERROR, EVENT, FRAME_LIMIT, HEADER, HEADER_BYTES, RESULT
from proxy.errors import PeerViolation
from proxy.guard import Answer, Drop, Guard, Inject, Refuse, Verdict
from proxy.script import UPSTREAM

FIRST_LOOK: Final = 64
"""Bytes of a result that are waited for when its first do not say enough."""

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
        self._requests = Requests(version)
        self._executed = self._requests.executed
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
        return self._requests.passes(data)

    def gate(self) -> Callable[[bytes], object] | None:
        return self._requests.passes

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        said: list[bytes] = []
        refused: list[Verdict] = []
        try:
            self._requests.carefully(data, said)
        except StreamRefused as refusal:
            refused.append(Refuse(refusal))
        return [Inject(b"".join(said)), Drop(len(data)), *refused]

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
            if said != begin or length > FRAME_LIMIT:
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
            elif opcode == EVENT or (opcode == ERROR and self._executed):
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
            elif opcode == ERROR and self._executed and length <= results.HEAD_LIMIT:
                done = self._judge_error(data, at, total, said)
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
            instead = results.marked(data[at + HEADER_BYTES : at + total], flags, self._version)
        said.append(HEADER.pack(version, flags, stream, opcode, len(instead)) + instead)
        self._dropping = total
        return True

    def _judge_error(self, data: bytes, at: int, total: int, said: list[bytes]) -> bool:
        """The same for an ERROR, which may say that a statement is not prepared."""
        if len(data) - at < total:
            self._wanted = total
            return False
        version, flags, stream, opcode, _ = HEADER.unpack_from(data, at)
        instead = statements.remarked(data[at + HEADER_BYTES : at + total], flags, self._executed)
        said.append(HEADER.pack(version, flags, stream, opcode, len(instead)) + instead)
        self._dropping = total
        return True


def _body(data: bytes, at: int, total: int) -> bytes:
    """What is there of a frame's body, as far as anybody looks."""
    return data[at + HEADER_BYTES : at + min(total, HEADER_BYTES + results.HEAD_LIMIT)]
