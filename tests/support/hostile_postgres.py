"""Servers that are not what they say: one behaviour each, on a port of its own.

A server remembers every byte it was told (`heard`), decrypted where it got as far as TLS, so that a test can say what
never reached it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from tests.support.noise import noise

PATIENCE_SECONDS: Final = 30.0
"""How long a server waits for its peer: longer than any deadline under test."""
CLEARTEXT, GSSAPI = 3, 7
"""Authentication codes."""
MARK: Final = "words-of-a-server-that-proved-nothing"


def message(kind: bytes, body: bytes) -> bytes:
    """A typed message."""
    return kind + struct.pack("!I", 4 + len(body)) + body


def authentication(code: int) -> bytes:
    """An Authentication request."""
    return message(b"R", struct.pack("!I", code))


def fatal(sqlstate: str, text: str) -> bytes:
    """An ErrorResponse."""
    return message(b"E", f"SFATAL\0VFATAL\0C{sqlstate}\0M{text}\0\0".encode())


@dataclass(slots=True)
class Peer:
    """One connection as the server sees it."""

    socket: socket.socket
    context: ssl.SSLContext | None
    heard: bytearray

    def receive(self, count: int) -> bytes:
        """Exactly so many bytes. Raises EOFError when the peer has gone."""
        data = b""
        while len(data) < count:
            if not (more := self.socket.recv(count - len(data))):
                raise EOFError
            self.heard += more
            data += more
        return data

    def send(self, data: bytes) -> None:
        """Write all of it."""
        self.socket.sendall(data)

    def linger(self) -> None:
        """Listen until the peer has gone."""
        while more := self.socket.recv(65536):
            self.heard += more

    def start_tls(self) -> None:
        """Answer an SSLRequest with 'S' and a handshake."""
        assert self.context is not None, "this server has no certificate"
        self.receive(8)
        self.send(b"S")
        self.socket = self.context.wrap_socket(self.socket, server_side=True)

    def take_startup(self) -> None:
        """TLS, and the StartupMessage in it."""
        self.start_tls()
        self.receive(struct.unpack("!I", self.receive(4))[0] - 4)

    def take_password(self) -> bytes:
        """TLS, startup, and the password the peer shows when asked for it in clear text."""
        self.take_startup()
        self.send(authentication(CLEARTEXT))
        self.receive(1)
        return self.receive(struct.unpack("!I", self.receive(4))[0] - 4)


Behaviour = Callable[[Peer], None]


def declines_tls(peer: Peer) -> None:
    """'N', as PostgreSQL with ssl = off."""
    peer.receive(8)
    peer.send(b"N")
    peer.linger()


def errs_before_tls(peer: Peer) -> None:
    """An ErrorResponse where 'S' belongs (CVE-2024-10977)."""
    peer.receive(8)
    peer.send(fatal("28000", MARK))
    peer.linger()


def smuggles_before_tls(peer: Peer) -> None:
    """Plaintext right behind 'S' (CVE-2021-23222)."""
    peer.receive(8)
    peer.send(b"S" + authentication(0) + fatal("28000", MARK))
    peer.linger()


def speaks_first(peer: Peer) -> None:
    """'S' and more before anybody asked."""
    peer.send(b"S" + MARK.encode())
    peer.linger()


def garbage_at_once(peer: Peer) -> None:
    """Random bytes."""
    peer.send(b"\xff" + noise(4096))
    peer.linger()


def garbage_for_tls(peer: Peer) -> None:
    """'S', and then no TLS."""
    peer.receive(8)
    peer.send(b"S")
    peer.receive(1)
    peer.send(b"\x00" + noise(4096))
    peer.linger()


def closes_at_once(peer: Peer) -> None:
    """Accept and close."""


def closes_in_tls(peer: Peer) -> None:
    """'S' and close."""
    peer.receive(8)
    peer.send(b"S")
    peer.receive(1)


def says_nothing(peer: Peer) -> None:
    """Accept and wait."""
    peer.linger()


def only_tls(peer: Peer) -> None:
    """A handshake and nothing else: the certificate is what is wrong."""
    peer.start_tls()
    peer.linger()


def garbage_in_tls(peer: Peer) -> None:
    """A good handshake, then random bytes."""
    peer.take_startup()
    peer.send(b"\x00" + noise(4096))
    peer.linger()


def oversized_message(peer: Peer) -> None:
    """An authentication request of two gigabytes."""
    peer.take_startup()
    peer.send(b"R" + struct.pack("!I", 0x7FFF_FFFF))
    with contextlib.suppress(OSError):
        while True:
            peer.send(bytes(65536))


def negative_length(peer: Peer) -> None:
    """A length below its own four bytes."""
    peer.take_startup()
    peer.send(b"R" + struct.pack("!i", -5))
    peer.linger()


def asks_for_gssapi(peer: Peer) -> None:
    """A method tollbridge does not do."""
    peer.take_startup()
    peer.send(authentication(GSSAPI))
    peer.linger()


def asks_twice(peer: Peer) -> None:
    """For the password, and once more."""
    peer.take_password()
    peer.send(authentication(CLEARTEXT))
    peer.linger()


def closes_after_password(peer: Peer) -> None:
    """Take the credential and go."""
    peer.take_password()


def endless_greeting(peer: Peer) -> None:
    """ParameterStatus for ever."""
    peer.take_password()
    peer.send(authentication(0))
    with contextlib.suppress(OSError):
        while True:
            peer.send(message(b"S", b"name\0" + b"v" * 1000 + b"\0") * 16)


def half_closes(peer: Peer) -> None:
    """Nothing more from here, in the middle of the login, and still listening."""
    peer.take_startup()
    peer.socket.shutdown(socket.SHUT_WR)
    peer.linger()


def resets(peer: Peer) -> None:
    """An RST in the middle of the login."""
    peer.take_startup()
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(peer: Peer) -> None:
    """One byte of an answer every 0.3 s."""
    peer.take_password()
    for byte in fatal("28000", MARK) * 10:
        peer.send(bytes((byte,)))
        time.sleep(0.3)


def is_full(peer: Peer) -> None:
    """As PostgreSQL over max_connections."""
    peer.take_startup()
    peer.send(fatal("53300", "sorry, too many clients already"))
    peer.linger()


def is_starting(peer: Peer) -> None:
    """As PostgreSQL while it recovers."""
    peer.take_startup()
    peer.send(fatal("57P03", "the database system is starting up"))
    peer.linger()


@dataclass(slots=True)
class HostileServer:
    """Runs one behaviour for everybody who connects."""

    behaviour: Behaviour
    context: ssl.SSLContext | None = None
    heard: bytearray = field(default_factory=bytearray)
    """What all peers said so far; ciphertext is not in it."""
    connections: int = 0
    _listener: socket.socket = field(init=False, repr=False)
    _peers: list[socket.socket] = field(init=False, default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Close everything."""
        for sock in (self._listener, *self._peers):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._peers.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE_SECONDS)
        peer = Peer(sock, self.context, self.heard)
        try:
            self.behaviour(peer)
        except (OSError, EOFError):
            pass  # the peer has had enough
        finally:
            peer.socket.close()
            sock.close()
