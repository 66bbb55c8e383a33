"""A PostgreSQL client made of a socket and bytes: for saying what no real client would, and reading the answer exactly.

Shares nothing with `proxy.engines.postgres`: the bytes here are written down once more, from the protocol's pages.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")
GSSENC_REQUEST: Final = bytes.fromhex("0000000804d21630")
PROTOCOL_3_0: Final = 0x0003_0000
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
TCP_REPAIR: Final = 19
"""linux/tcp.h: a socket closed in this mode says nothing to its peer."""


def startup(**parameters: str) -> bytes:
    """A StartupMessage of protocol 3.0."""
    return startup_of(tuple(parameters.items()))


def startup_of(parameters: tuple[tuple[str, str], ...], version: int = PROTOCOL_3_0) -> bytes:
    """A StartupMessage whose parameters may repeat."""
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters) + b"\0"
    return struct.pack("!II", 8 + len(body), version) + body


def cancel_request(process_id: int, key: bytes) -> bytes:
    """A CancelRequest."""
    return struct.pack("!III", 12 + len(key), 80877102, process_id) + key


def query(text: str) -> bytes:
    """A simple Query."""
    return b"Q" + struct.pack("!I", 5 + len(text.encode())) + text.encode() + b"\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeError:
    """An ErrorResponse."""

    severity: str
    sqlstate: str
    message: str
    detail: str
    hint: str

    @property
    def text(self) -> str:
        """Everything a person reads."""
        return f"{self.message}\n{self.detail}\n{self.hint}"


def parse_error(body: bytes) -> NativeError:
    """The body of an ErrorResponse."""
    fields = {field[:1]: field[1:].decode() for field in body.split(b"\0") if field}
    return NativeError(
        severity=fields.get(b"V", ""),
        sqlstate=fields.get(b"C", ""),
        message=fields.get(b"M", ""),
        detail=fields.get(b"D", ""),
        hint=fields.get(b"H", ""),
    )


def first_error(answer: bytes) -> NativeError | None:
    """The first ErrorResponse in everything that a server said."""
    while len(answer) >= 5:
        (length,) = struct.unpack("!I", answer[1:5])
        if answer[:1] == b"E":
            return parse_error(answer[5 : 1 + length])
        answer = answer[1 + length :]
    return None


class RawClient:
    """One connection. Every wait ends within `seconds` of its beginning, in a TimeoutError."""

    def __init__(self, where: int | Path, *, seconds: float = 30.0) -> None:
        """`where`: a port of 127.0.0.1, or a unix socket."""
        self.seconds = seconds
        if isinstance(where, Path):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(seconds)
            self.socket.connect(str(where))
        else:
            self.socket = socket.create_connection(("127.0.0.1", where), timeout=seconds)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        """Write all of it; a peer that has gone is no error here."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.socket.sendall(data)
        return self

    def drip(self, data: bytes, every: float) -> None:
        """Send byte by byte, until the peer has had enough."""
        for at in range(len(data)):
            try:
                self.socket.sendall(data[at : at + 1])
            except OSError:
                return
            if self._closed_within(every):
                return

    def read(self, count: int) -> bytes:
        """Exactly so many bytes. Raises EOFError when there are fewer."""
        data = b""
        while len(data) < count:
            if not (more := self.socket.recv(count - len(data))):
                raise EOFError(f"closed after {data!r}")
            data += more
        return data

    def read_to_end(self) -> bytes:
        """Everything until the peer closes, however it does. Raises TimeoutError when it does not."""
        data = b""
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                more = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLError):
                return data
            if not more:
                return data
            data += more
        raise TimeoutError(f"not closed after {self.seconds} s; it said {data[:200]!r}")

    def error(self) -> NativeError | None:
        """What the peer says until it closes, if that holds an ErrorResponse."""
        return first_error(self.read_to_end())

    def start_tls(self, context: ssl.SSLContext, server_name: str = "localhost", *, ask: bool = True) -> Self:
        """SSLRequest and a handshake; without `ask`, the handshake at once."""
        if ask:
            self.send(SSL_REQUEST)
            answer = self.read(1)
            if answer != b"S":
                raise AssertionError(f"asked for TLS, answered {answer!r}")
        self.socket = context.wrap_socket(self.socket, server_hostname=server_name)
        return self

    def log_in(self, **parameters: str) -> NativeError | None:
        """Startup, and on to ReadyForQuery (None) or the refusal."""
        self.send(startup(**parameters))
        while True:
            kind, body = self.message()
            if kind == b"E":
                return parse_error(body)
            if kind == b"Z":
                return None

    def message(self) -> tuple[bytes, bytes]:
        """The next typed message."""
        head = self.read(5)
        return head[:1], self.read(struct.unpack("!I", head[1:])[0] - 4)

    def ask(self, text: str) -> list[bytes]:
        """A query's DataRow bodies."""
        self.send(query(text))
        rows = []
        while True:
            kind, body = self.message()
            if kind == b"D":
                rows.append(body)
            if kind == b"Z":
                return rows

    def half_close(self) -> Self:
        """Nothing more from us, but we still listen."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Close with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def vanish(self) -> bool:
        """Go as a machine goes that lost its power: no FIN, no RST. False where the kernel does not let us."""
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            return False
        self.socket.close()
        return True

    def _closed_within(self, seconds: float) -> bool:
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) != b""
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.socket.settimeout(self.seconds)


def attempt(
    where: int | Path, *, user: str, database: str = "app", seconds: float = 30.0, more: Mapping[str, str] = NOTHING
) -> NativeError | None:
    """Log in in plaintext, and leave: None when let in, else the refusal. Raises EOFError when closed without one.

    `more`: further startup parameters.
    """
    with RawClient(where, seconds=seconds) as client:
        return client.log_in(user=user, database=database, **more)
