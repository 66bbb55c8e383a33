"""Bytes as libpq and PostgreSQL send them, and lengths that nobody sends."""

from __future__ import annotations

import struct

import pytest

from proxy.engines.postgres import scram, wire
from proxy.engines.postgres.notes import NOTE_LIMIT, note_words, option_names
from proxy.errors import LocalFault, PeerViolation, Refused
from proxy.script import CLIENT, UPSTREAM
from tests.support.playbook import Playbook
from tests.unit.proxy.engines.postgres.conversation import asks, native, opened, reaches_upstream, shows_token
from tollbridge.reasons import Reason


def test_bytes_captured_from_libpq_18() -> None:
    """SSLRequest, a cancel request's head, the startup body and an empty password."""
    assert wire.SSL_REQUEST_PACKET.hex() == "0000000804d2162f"
    assert wire.CancelRequest(b"pidxkeyx").encoded().hex().startswith("0000001004d2162e")
    packet = wire.Startup(version=0x30002, parameters=((b"user", b"u"), (b"database", b"d")))
    assert packet.encoded() == b"\0\0\0\x1b\0\3\0\2user\0u\0database\0d\0\0"
    assert wire.parse_startup(packet.encoded()[4:]) == packet
    assert wire.password_message(b"x").hex() == "70000000067800"


def test_a_negotiation_carries_the_whole_version_number() -> None:
    """libpq takes a bare minor number for a downgrade to protocol 2."""
    assert wire.Negotiation(0x30000).encoded().hex() == "760000000c0003000000000000"


def test_scram_against_rfc_7677() -> None:
    """The RFC's example: user `user`, password `pencil`."""
    exchange = scram.Exchange(b"rOprNGfwEbeRWgbNEkqO", user=b"user")
    assert exchange.first == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    server_first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final, signature = exchange.answer(server_first, "pencil")
    assert final == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    scram.check_final(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", signature)


@pytest.mark.parametrize("length", [0, 4, 7, 10_001, 2**31 - 5, 2**31, 2**32 - 5, 2**32 - 1])
def test_startup_lengths_are_refused_before_a_byte_behind_them_is_taken(length: int) -> None:
    """The packet's four bytes are enough to say no."""
    book = opened().client(struct.pack("!I", length))
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.CLIENT_PROTOCOL


@pytest.mark.parametrize("kind", [b"R", b"E", b"v"])
@pytest.mark.parametrize("length", [0, 3, 30_001, 2**31 - 5, 2**31, 2**32 - 1])
def test_message_lengths_are_refused_the_same_way(kind: bytes, length: int) -> None:
    """The five bytes of a message's head are enough to say no."""
    book = reaches_upstream(opened()).upstream(kind + struct.pack("!I", length))
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


def test_a_cancel_key_over_its_limit_is_refused_in_the_greeting() -> None:
    """256 bytes is protocol 3.2's longest."""
    book = shows_token(reaches_upstream(opened())).upstream(asks(0) + b"K" + struct.pack("!I", 4 + 4 + 257))
    assert native(book.sent(CLIENT))["C"] == "08P01"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\3\0",
        b"\0\3\0\0",
        b"\0\3\0\0user\0app\0",
        b"\0\3\0\0user\0",
        b"\0\3\0\0user\0app\0\0x",
        b"\0\3\0\0user",
        b"\4\xd2\x16\x2fx",
        b"\4\xd2\x16\x30x",
        b"\4\xd2\x16\x31",
    ],
)
def test_startup_bodies_that_do_not_parse(body: bytes) -> None:
    """Cut short, too long, or a request nobody knows."""
    with pytest.raises(PeerViolation):
        wire.parse_startup(body)


@pytest.mark.parametrize("body", [b"", b"S", b"SFATAL", b"SFATAL\0", b"SFATAL\0\0x"])
def test_errors_that_do_not_parse(body: bytes) -> None:
    """An ErrorResponse ends with a NUL of its own, and there."""
    with pytest.raises(PeerViolation):
        wire.error_fields(body, UPSTREAM)


def test_a_negotiation_cannot_announce_more_than_it_holds() -> None:
    """The count is checked against the bytes that are there."""
    with pytest.raises(PeerViolation):
        wire.parse_negotiation(struct.pack("!II", 0x30000, 2**32 - 1), UPSTREAM)


def test_a_nul_never_reaches_the_wire_inside_a_string() -> None:
    """It would end a parameter early and start another."""
    with pytest.raises(LocalFault):
        wire.password_message(b"a\0b")
    assert native(wire.error_response((("M", "a\0b"),)))["M"] == "a b"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (b"", []),
        (b"-c role=boss", [b"role"]),
        (b"-crole=boss --statement-timeout=5s", [b"role", b"statement_timeout"]),
        (b"-c search_path=a\\ --b=c -c x.y=1", [b"search_path", b"x.y"]),
        (b"-Pc role=boss -F-role=boss", [b"role", b"role"]),
        (b"-d 5 -c a=1 -h-c", [b"a"]),
        (b"-c", [b""]),
        (b"-c a\\=b", [b"a"]),
        (b"plain words \\", []),
    ],
)
def test_names_in_options_as_the_server_reads_them(options: bytes, names: list[bytes]) -> None:
    """Names, never values; flags in one word and escaped blanks hide nothing."""
    assert list(option_names(options)) == names


def test_notes_are_short_and_printable() -> None:
    """An audit line is not the client's to write."""
    packet = wire.Startup(version=0x30000, parameters=((b"application_name", b"a\n\xff" + b"x" * 500),))
    book = Playbook(note_words(packet))
    assert book.notes["application_name"] == "a??" + "x" * (NOTE_LIMIT - 3)
