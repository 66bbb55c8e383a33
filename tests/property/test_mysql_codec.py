"""MySQL's codec: what is written is read again, and nothing but PeerViolation comes out of any bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engines.mysql import capabilities as caps
from proxy.engines.mysql.refusals import encode
from proxy.engines.mysql.upstream import Facts
from proxy.engines.mysql.wire import (
    Greeting,
    Response,
    as_lenenc,
    attributes_of,
    ends_an_answer,
    frame,
    lenenc,
    parse_error,
    parse_greeting,
    parse_response,
)
from proxy.errors import PeerViolation, Refused
from proxy.inbox import Cursor
from proxy.script import CLIENT
from tollbridge.reasons import LOGIN_REASONS, Reason

strings = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b""))
words = st.integers(0, 2**32 - 1)


@given(words, words, st.integers(0, 255), strings, st.binary(max_size=300), strings, strings, st.binary(max_size=300))
def test_responses_come_back(
    flags: int, extended: int, charset: int, user: bytes, auth: bytes, schema: bytes, plugin: bytes, attributes: bytes
) -> None:
    """Whatever the flags; what a flag leaves out is empty."""
    flags |= caps.HANDSHAKE
    response = Response(
        capabilities=flags,
        extended=0 if flags & caps.CLIENT_MYSQL else extended,
        charset=charset,
        user=user,
        auth=auth,
        schema=schema if flags & caps.CONNECT_WITH_DB else b"",
        plugin=plugin,
        attributes=attributes if flags & caps.CONNECT_ATTRS else b"",
    )
    assert parse_response(response.encoded()) == response


@given(words, words, st.integers(0, 255), strings, st.binary(min_size=20, max_size=20), strings, words)
def test_greetings_come_back(
    flags: int, extended: int, charset: int, version: bytes, salt: bytes, plugin: bytes, thread: int
) -> None:
    """And the facts kept of them."""
    flags |= caps.SECURE_CONNECTION | caps.PLUGIN_AUTH
    greeting = Greeting(
        version=version,
        capabilities=flags,
        extended=0 if flags & caps.CLIENT_MYSQL else extended,
        charset=charset,
        salt=salt,
        plugin=plugin,
        thread_id=thread,
    )
    assert parse_greeting(greeting.encoded()) == greeting
    assert Facts.decoded(Facts.of(greeting).encoded()) == Facts.of(greeting)


@given(st.integers(0, 2**24 - 1))
def test_lengths_come_back(number: int) -> None:
    cursor = Cursor(as_lenenc(number), CLIENT)
    assert lenenc(cursor, CLIENT) == number
    cursor.finish()


@pytest.mark.parametrize("parse", [parse_greeting, parse_response, parse_error, attributes_of])
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(parse: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(PeerViolation):
        parse(data)


@given(st.binary(max_size=200))
def test_any_tail_is_judged(tail: bytes) -> None:
    assert ends_an_answer(tail) in (True, False)
    assert ends_an_answer(tail[-100:] + frame(b"\0\0\0\2\0\0\0", 1))


@given(st.sampled_from(LOGIN_REASONS), st.text(max_size=900), st.text(max_size=80), st.integers(0, 300))
def test_any_refusal_is_one_packet_within_what_clients_keep(
    reason: Reason, message: str, decision: str, sequence: int
) -> None:
    packet = encode(Refused(reason, message, decision_id=decision), sequence)
    assert int.from_bytes(packet[:3], "little") == len(packet) - 4
    assert packet[3] == sequence & 0xFF
    assert len(packet[13:]) <= 511
