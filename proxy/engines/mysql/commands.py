"""The guard of a session: what a client may not ask for once it is logged in. PURE.

Only the first bytes of the client's packets are looked at; what upstream sends is not seen at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.engines.mysql.wire import HEADER_BYTES, MAX_PAYLOAD
from proxy.errors import Refused
from proxy.guard import Guard, Pass, Refuse, Verdict
from tollbridge.reasons import Reason

CHANGE_USER: Final = 0x11

_ANOTHER_USER: Final = (
    "COM_CHANGE_USER is refused: this session was granted to one user; log in on a connection of its own "
    "(mysql_reset_connection cleans a session and is allowed)"
)
_A_FILE: Final = (
    "LOCAL INFILE is refused: the server asked for a file of the client's, which it was told it must not; where it "
    "may, the listener says `mysql.local_infile: true`"
)


class CommandGuard(Guard):
    """Refuses COM_CHANGE_USER: another user is another decision, and so another connection. (COM_RESET_CONNECTION,
    which pools use to clean a session, passes.) And files that a server asks for whatever was agreed on: a client with
    LOCAL INFILE turned on for the sake of another server sends them."""

    watches_upstream = False

    def __init__(self, *, uploads: bool = False) -> None:
        """`uploads`: the client may send files (LOCAL INFILE), in packets that are no commands."""
        self._uploads = uploads
        self._skip = 0
        """Bytes of the packet that is under way, still to come."""
        self._head = b""
        """A header that is not whole yet, with the command behind it."""
        self._continued = False
        """The next packet goes on with the last one."""
        self._why = _ANOTHER_USER
        """For what `passes` said no to."""

    def passes(self, data: bytes) -> bool:
        """Whether no forbidden command begins in these bytes."""
        at, size = self._skip, len(data)
        if at > size:
            self._skip = at - size
            return True
        head = self._head
        if not head and not self._continued and not at and size > HEADER_BYTES:
            # The common case: one whole packet, which is one command.
            length = data[0] | data[1] << 8 | data[2] << 16
            if length and length + HEADER_BYTES == size and not data[3] and data[HEADER_BYTES] != CHANGE_USER:
                return True
        if head:
            data, at, size = head + data, 0, size + len(head)
        continued = self._continued
        while size - at > HEADER_BYTES:
            length = data[at] | data[at + 1] << 8 | data[at + 2] << 16
            if length and not continued and self._forbidden(data[at + HEADER_BYTES], data[at + 3]):
                return False
            continued = length == MAX_PAYLOAD
            at += HEADER_BYTES + length
        if size - at == HEADER_BYTES and data[at : at + 3] == b"\0\0\0":  # an empty packet has no command to wait for
            at, continued = size, False
        self._continued = continued
        self._skip = max(0, at - size)
        self._head = data[at:]
        return True

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        """What `passes` did not let through."""
        if self.passes(data):
            return (Pass(len(data)),)
        return (Refuse(Refused(Reason.FEATURE_REFUSED, self._why)),)

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        """Never shown."""
        return (Pass(len(data)),)

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        """Never asked for."""
        return ()

    def _forbidden(self, command: int, sequence: int) -> bool:
        """A packet numbered 0 is a command. Others are parts of a file, which may begin with any byte. (A client that
        has no file to give says so with an empty packet.)"""
        if sequence:
            self._why = _A_FILE
            return not self._uploads
        self._why = _ANOTHER_USER
        return command == CHANGE_USER
