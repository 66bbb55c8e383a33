"""MySQL's packets, against bytes of real servers and clients."""

from __future__ import annotations

import pytest

from proxy.engines.mysql import capabilities as caps
from proxy.engines.mysql.wire import (
    Greeting,
    Leg,
    Response,
    as_lenenc,
    attributes_of,
    ends_an_answer,
    lenenc,
    parse_error,
    parse_greeting,
    parse_response,
)
from proxy.errors import PeerViolation
from proxy.inbox import Cursor
from proxy.script import CLIENT, UPSTREAM
from tests.support import mysql_bytes as my
from tests.support.playbook import Playbook


def test_the_greeting_of_a_real_server_is_read_and_written() -> None:
    """A greeting in the shape of MySQL 8.0.40, byte for byte."""
    greeting = parse_greeting(my.GREETING)
    assert greeting.version == b"8.0.40"
    assert greeting.thread_id == 7
    assert greeting.salt == bytes(range(1, 21))
    assert greeting.plugin == b"caching_sha2_password"
    assert greeting.capabilities & caps.SSL
    assert not greeting.capabilities & caps.COMPRESS
    assert greeting.encoded() == my.GREETING


def test_mariadbs_greeting_has_its_extended_flags_where_mysql_has_filler() -> None:
    mariadb = parse_greeting(my.greeting("5.5.5-10.11.8-MariaDB", my.MARIADB, my.MARIADB_EXTENDED))
    assert mariadb.extended == my.MARIADB_EXTENDED
    assert mariadb.encoded() == my.greeting("5.5.5-10.11.8-MariaDB", my.MARIADB, my.MARIADB_EXTENDED)
    assert parse_greeting(my.greeting(flags=my.SERVER, extended=5)).extended == 0


@pytest.mark.parametrize(
    ("payload", "flags", "max_packet", "charset"),
    [(my.PYMYSQL_SSL, 0x003AAA05, 0xFFFFFF, 45), (my.CONNECTOR_SSL, 0x083BAA0D, 1 << 30, 255)],
    ids=["PyMySQL", "mysql-connector"],
)
def test_ssl_requests_of_real_clients(payload: bytes, flags: int, max_packet: int, charset: int) -> None:
    """As captured from the clients."""
    request = parse_response(payload)
    assert (request.capabilities, request.max_packet, request.charset) == (flags, max_packet, charset)
    assert request.capabilities & caps.SSL
    assert request.ssl_request() == payload


def test_a_token_of_1801_bytes_fits_a_response_with_length_encoding() -> None:
    response = Response(capabilities=caps.HANDSHAKE, user=b"app", auth=b"t" * 1801, plugin=b"p")
    assert b"\xfc\x09\x07" + b"t" * 1801 in response.encoded()
    assert parse_response(response.encoded()) == response


def test_what_is_missing_at_the_end_of_a_response_is_empty() -> None:
    whole = my.response(schema="", attributes=b"")
    flags = int.from_bytes(whole[:4], "little")
    short = whole[:32] + b"app\0\0"
    assert parse_response(short) == Response(capabilities=flags, max_packet=1 << 24, user=b"app", charset=45)


@pytest.mark.parametrize("number", [0, 250, 251, 0xFFFF, 0x10000, 0xFFFFFF])
def test_lengths_come_back(number: int) -> None:
    assert lenenc(Cursor(as_lenenc(number), CLIENT), CLIENT) == number


@pytest.mark.parametrize("first", [0xFB, 0xFF])
def test_a_length_that_is_none_is_refused(first: int) -> None:
    with pytest.raises(PeerViolation):
        lenenc(Cursor(bytes((first,)) + bytes(9), CLIENT), CLIENT)


def test_attributes_that_end_early_are_refused() -> None:
    assert attributes_of(b"\x03_os\x05Linux") == {b"_os": b"Linux"}
    with pytest.raises(PeerViolation):
        attributes_of(b"\x03_os\x06Linux")


@pytest.mark.parametrize(
    "payload",
    [b"\x09" + my.GREETING[1:], my.GREETING[:40], b"\x0a" + b"8" * 200 + my.GREETING[7:], b"\x0a8.0"],
    ids=["protocol 9", "cut", "a version without end", "no end"],
)
def test_a_greeting_that_is_none_is_a_violation(payload: bytes) -> None:
    with pytest.raises(PeerViolation):
        parse_greeting(payload)


@pytest.mark.parametrize(
    ("head", "why"),
    [(b"\xff\xff\xff\x00", "16777215 bytes"), (b"\0\0\0\0", "0 bytes"), (b"\x01\0\0\x05", "packet 5 and packet 0")],
)
def test_a_length_is_refused_before_its_bytes_are_asked_for(head: bytes, why: str) -> None:
    book = Playbook(Leg(UPSTREAM).read())
    book.upstream(head)
    assert why in book.raises(PeerViolation).message


def test_an_error_with_and_without_sqlstate() -> None:
    assert parse_error(my.error(1045, "no", "28000")).sqlstate == "28000"
    early = parse_error(my.error(1040, "Too many connections", ""))
    assert (early.code, early.sqlstate, early.text) == (1040, "", "Too many connections")


@pytest.mark.parametrize(
    ("tail", "rest"),
    [
        (b"", True),
        (my.packet(my.OK, 1), True),
        (b"row" + my.packet(my.EOF_PACKET, 5), True),
        (b"row" + my.packet(my.error(1064, "syntax"), 1), True),
        (my.packet(b"\0\x01\0\x02\0\0\0\x28Rows matched: 1  Changed: 1  Warnings: 0", 1), True),
        (my.packet(b"\xfe\0\0\x02\0\0\0", 9), True),
        (my.packet(b"\xfe\0\0\x0a\0", 9), False),
        (my.packet(b"\0\0\0\x0a\0\0\0", 1), False),
        (my.packet(b"\x03abc", 3), False),
        (my.packet(my.OK, 1)[:-1], False),
        (b"middle of a row", False),
    ],
)
def test_a_goodbye_fits_only_behind_the_end_of_an_answer(tail: bytes, rest: bool) -> None:
    assert ends_an_answer(tail) is rest


def test_a_greeting_of_ours_survives() -> None:
    ours = Greeting(version=b"8", capabilities=caps.HANDSHAKE, extended=0, charset=45, salt=my.SALT, plugin=b"p")
    assert parse_greeting(ours.encoded()).salt == my.SALT
