"""MySQL servers that are not what they say; run them with `hostile_postgres.HostileServer`, which knows no protocol."""

from __future__ import annotations

import ssl
from typing import Final

from tests.support import mysql_bytes as my
from tests.support.hostile_postgres import Behaviour, Peer

VERSION: Final = "8.0.99-hostile"
WANTED: Final = "/etc/os-release"
"""A file that every Linux has."""


def _take(peer: Peer) -> bytes:
    head = peer.receive(4)
    return peer.receive(int.from_bytes(head[:3], "little"))


def skips_tls(peer: Peer) -> None:
    """Has no TLS to offer, and asks for the password at once."""
    peer.send(my.packet(my.greeting(VERSION, my.SERVER & ~my.SSL), 0) + my.packet(my.ASKS_TOKEN, 2))
    peer.linger()


def asks_behind_its_greeting(peer: Peer) -> None:
    """mysql_clear_password before anybody has said a word."""
    peer.send(my.packet(my.greeting(VERSION), 0) + my.packet(my.ASKS_TOKEN, 2))
    peer.linger()


def asks_instead_of_tls(peer: Peer) -> None:
    """mysql_clear_password where its ServerHello belongs."""
    peer.send(my.packet(my.greeting(VERSION), 0))
    _take(peer)
    peer.send(my.packet(my.ASKS_TOKEN, 2))
    peer.linger()


def asks_instead_of_greeting(peer: Peer) -> None:
    """mysql_clear_password as its first word."""
    peer.send(my.packet(my.ASKS_TOKEN, 0))
    peer.linger()


def _asks_on_tls(peer: Peer) -> None:
    assert peer.context is not None
    peer.send(my.packet(my.greeting(VERSION), 0))
    _take(peer)
    peer.socket = peer.context.wrap_socket(peer.socket, server_side=True)
    _take(peer)
    peer.send(my.packet(my.ASKS_TOKEN, 3))


def only_tls(peer: Peer) -> None:
    """A good greeting and a certificate that is not good."""
    _asks_on_tls(peer)
    peer.linger()


def is_full(peer: Peer) -> None:
    """No connection left, said before TLS as MySQL does."""
    peer.send(my.packet(my.error(1040, "Too many connections", ""), 0))


def garbage(peer: Peer) -> None:
    """Another protocol."""
    peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    peer.linger()


def wants_a_file(peer: Peer) -> None:
    """What it says it is, until somebody selects: then it asks for a file of the client's, whatever was agreed on."""
    _asks_on_tls(peer)
    _take(peer)
    peer.send(my.packet(my.OK, 5))
    while not _take(peer).startswith(b"\x03select"):
        peer.send(my.packet(my.OK, 1))
    peer.send(my.packet(b"\xfb" + WANTED.encode(), 1))
    peer.linger()


HOSTILE: Final[dict[str, Behaviour]] = {
    "skips-tls": skips_tls,
    "asks-behind-its-greeting": asks_behind_its_greeting,
    "asks-instead-of-tls": asks_instead_of_tls,
    "asks-instead-of-greeting": asks_instead_of_greeting,
    "wrong-name": only_tls,
    "foreign-ca": only_tls,
    "is-full": is_full,
    "garbage": garbage,
    "wants-a-file": wants_a_file,
}
"""By the database each one stands for."""


def plain_context(certificate: str, key: str) -> ssl.SSLContext:
    """A server's, from files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
