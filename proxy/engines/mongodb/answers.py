"""The server's messages in a session: which question each answers, and the few that are read. PURE.

An answer passes as it comes. Answers to hello are kept until they are whole and rewritten; short ones are kept and
looked at, for an error that says the server is no primary any more is a reason to connect anew.
"""

from __future__ import annotations

from typing import Final

from proxy.engines.mongodb import greeting
from proxy.engines.mongodb.bson import BsonError
from proxy.engines.mongodb.wire import (
    HANDSHAKE_LIMIT,
    HEADER_BYTES,
    MORE_TO_COME,
    OP_MSG,
    OP_MSG_BYTES,
    OP_REPLY,
    Header,
    parse_header,
    parse_message,
    reply,
)
from proxy.errors import PeerViolation
from proxy.script import UPSTREAM

ERROR_BYTES: Final = 4_096
"""Answers up to this size are looked at; longer ones are no errors."""
NOT_PRIMARY: Final = frozenset({10107, 10058, 11602, 13435, 13436, 189, 91, 11600})
"""NotWritablePrimary, LegacyNotPrimary, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk,
NotPrimaryOrSecondary, PrimarySteppedDown, ShutdownInProgress, InterruptedAtShutdown.
https://github.com/mongodb/specifications/blob/master/source/server-discovery-and-monitoring/server-discovery-and-monitoring.md#not-writable-primary-and-node-is-recovering"""
UNANSWERED_MAX: Final = 10_000
"""Questions that may wait for answers: drivers have one per connection."""

_HEAD_BYTES: Final = HEADER_BYTES + 4
"""With OP_MSG's flags."""
_CODE: Final = b"\x10code\0"


class Answers:
    """Follows one server's messages. Feed them in order; expect what was asked before its answer can come."""

    def __init__(self, address: str, *, primary: bool) -> None:
        """`primary`: what the server was when the session began."""
        self._address = address
        self._primary = primary
        self._expected: list[int] = []
        """Ids of questions without an answer, in order."""
        self._hellos: dict[int, Header] = {}
        """Those of them that are a hello, as the client asked it."""
        self._kept = b""
        """Begin of a message that is read whole, or of its header."""
        self._left = 0
        """Bytes of a message that pass unread."""
        self._passing = Header(0, 0, 0, OP_MSG), False
        """That message, and whether another answer follows it."""
        self.lost_primary = False
        """The server was the primary and says that it is none."""

    @property
    def unanswered(self) -> Header | None:
        """The last question that waits for an answer."""
        if not self._expected:
            return None
        last = self._expected[-1]
        return self._hellos.get(last) or Header(HEADER_BYTES, last, 0, OP_MSG)

    @property
    def at_rest(self) -> bool:
        """Whether the client has whole messages only."""
        return not self._left

    def expect(self, request_id: int) -> None:
        """A question has gone to the server. Raises PeerViolation when too many wait."""
        if len(self._expected) >= UNANSWERED_MAX:
            raise PeerViolation(UPSTREAM, f"{UNANSWERED_MAX} questions without an answer")
        self._expected.append(request_id)

    def expect_hello(self, asked: Header) -> None:
        """A hello has gone to the server, in our own words."""
        self.expect(asked.request_id)
        self._hellos[asked.request_id] = asked

    def pass_whole(self, data: bytes) -> bool:
        """Whether these bytes go on as they are, without being kept: a part of a message that passes, or a whole one
        that answers the only question there is. After False nothing has happened."""
        size = len(data)
        if self._left:
            if size >= self._left:
                return False  # its end is an answer given
            self._left -= size
            return True
        if self._kept or self._hellos or size < _HEAD_BYTES + 1 or int.from_bytes(data[:4], "little") != size:
            return False
        if data[12:16] != OP_MSG_BYTES or data[16] & MORE_TO_COME:
            return False
        expected = self._expected
        if len(expected) != 1 or int.from_bytes(data[8:12], "little", signed=True) != expected[0]:
            return False
        if size <= ERROR_BYTES and _CODE in data:
            return False
        expected.clear()
        return True

    def feed(self, data: bytes) -> bytes:
        """What the client gets of the bytes kept and these. Raises PeerViolation."""
        chunk = self._kept + data
        at = 0
        heard: list[bytes] = []
        while at < len(chunk):
            if self._left:
                step = min(self._left, len(chunk) - at)
                heard.append(chunk[at : at + step])
                self._left -= step
                at += step
                if not self._left:
                    self._settle(*self._passing)
                continue
            if len(chunk) - at < _HEAD_BYTES:
                break
            header = parse_header(chunk[at : at + HEADER_BYTES], UPSTREAM)
            if header.length < _HEAD_BYTES or header.opcode not in (OP_MSG, OP_REPLY):
                raise PeerViolation(UPSTREAM, f"a message with opcode {header.opcode} and {header.length} bytes")
            more = header.opcode == OP_MSG and bool(chunk[at + HEADER_BYTES] & MORE_TO_COME)
            asked = self._hellos.get(header.response_to)
            if asked is None and header.length > ERROR_BYTES:
                self._passing = header, more
                self._left = header.length
                continue
            if header.length > HANDSHAKE_LIMIT:
                raise PeerViolation(UPSTREAM, f"an answer to hello of {header.length} bytes")
            if len(chunk) - at < header.length:
                break
            message = chunk[at : at + header.length]
            heard.append(message if asked is None else self._hello(header, asked, message))
            if asked is None and _CODE in message:
                self._look(header, message)
            self._settle(header, more)
            at += header.length
        self._kept = chunk[at:]
        return b"".join(heard)

    def _settle(self, header: Header, more: bool) -> None:
        """A question has its answer, or the first of several that answer each other."""
        if header.response_to not in self._expected:
            return
        place = self._expected.index(header.response_to)
        self._hellos.pop(header.response_to, None)
        if more:
            self._expected[place] = header.request_id
        else:
            del self._expected[place]

    def _hello(self, header: Header, asked: Header, message: bytes) -> bytes:
        body = parse_message(header, message, UPSTREAM).body
        if self._primary and not greeting.is_primary(body):
            self.lost_primary = True
            return b""
        return reply(asked, greeting.answer(body, self._address))

    def _look(self, header: Header, message: bytes) -> None:
        """An answer that may be an error. What cannot be read is for the client to judge."""
        try:
            body = parse_message(header, message, UPSTREAM).body
            failed = "ok" in body and not body["ok"].truth()
            if failed and "code" in body and body["code"].number() in NOT_PRIMARY:
                self.lost_primary = self._primary
        except (PeerViolation, BsonError):
            return
