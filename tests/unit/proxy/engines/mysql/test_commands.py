"""The guard: no other user on a granted session, however the bytes are cut, and nothing else in the way."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engines.mysql.commands import CommandGuard
from proxy.guard import Pass, Refuse
from tests.support import mysql_bytes as my

QUERY = my.packet(b"\x03select 1", 0)
CHANGE_USER = my.packet(b"\x11root\0\0\0\0", 0)
RESET = my.packet(b"\x1f", 0)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """In pieces."""
    ends = sorted({0, len(data), *(a for a in at if a <= len(data))})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def passes(guard: CommandGuard, pieces: list[bytes]) -> bool:
    """Whether all of it goes on."""
    return all(guard.passes(piece) for piece in pieces)


@pytest.mark.parametrize("command", [b"\x01", b"\x02app", b"\x0e", b"\x16select ?", b"\x1f", b"\x17\x11\x11", b"\xfa"])
def test_every_other_command_passes(command: bytes) -> None:
    assert CommandGuard().passes(my.packet(command, 0))


def test_change_user_is_refused_and_reset_connection_is_not() -> None:
    assert CommandGuard().passes(RESET)
    guard = CommandGuard()
    assert not guard.passes(CHANGE_USER)
    (verdict,) = guard.client_bytes(CHANGE_USER)
    assert isinstance(verdict, Refuse)
    assert "COM_CHANGE_USER" in verdict.refusal.message


@given(st.lists(st.integers(0, 200), max_size=12), st.lists(st.sampled_from([QUERY, RESET]), max_size=8))
def test_it_is_found_however_the_bytes_are_cut(at: list[int], before: list[bytes]) -> None:
    good = b"".join(before)
    assert passes(CommandGuard(), cut(good, at))
    assert not passes(CommandGuard(), cut(good + CHANGE_USER, at))


@given(st.lists(st.integers(0, 120), max_size=12), st.binary(max_size=100))
def test_what_is_inside_a_packet_is_no_command(at: list[int], inside: bytes) -> None:
    data = my.packet(b"\x03" + inside + CHANGE_USER, 0) + RESET
    assert passes(CommandGuard(), cut(data, at))


def test_the_parts_of_a_long_command_are_no_commands() -> None:
    part = b"\x11" * 0xFFFFFF
    long = my.packet(b"\x03" + part[1:], 0) + my.packet(part, 1) + my.packet(b"\x11tail", 2)
    guard = CommandGuard()
    assert passes(guard, [long[at : at + 65536] for at in range(0, len(long), 65536)])
    assert not guard.passes(CHANGE_USER)


def test_a_long_command_of_exactly_one_packet_ends_with_an_empty_one() -> None:
    guard = CommandGuard()
    assert guard.passes(my.packet(b"\x03" + b"x" * 0xFFFFFE, 0))
    assert guard.passes(my.packet(b"", 1))
    assert guard.passes(QUERY)
    assert not guard.passes(CHANGE_USER)


def test_a_file_may_begin_with_anything_where_files_are_allowed() -> None:
    data = my.packet(b"\x11data of a file", 2) + my.packet(b"", 3)
    assert CommandGuard(uploads=True).passes(data)
    assert not CommandGuard(uploads=True).passes(CHANGE_USER)


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 255), st.binary(min_size=1, max_size=20))
def test_no_file_leaves_where_files_are_not_allowed(at: list[int], sequence: int, content: bytes) -> None:
    """The server may ask for one whatever was agreed on, and some clients send it."""
    load = my.packet(b"\x03load data local infile", 0)
    data = load + my.packet(content, sequence)
    assert not passes(CommandGuard(), cut(data, at))
    assert passes(CommandGuard(uploads=True), cut(data, at))
    assert passes(CommandGuard(), cut(load + my.packet(b"", sequence) + QUERY, at))  # a client that declines


def test_what_is_refused_is_named() -> None:
    guard = CommandGuard()
    for data, word in ((CHANGE_USER, "COM_CHANGE_USER"), (my.packet(b"\x11", 2), "LOCAL INFILE")):
        (verdict,) = guard.client_bytes(QUERY + data)
        assert isinstance(verdict, Refuse)
        assert word in verdict.refusal.message


def test_after_a_no_nothing_has_happened() -> None:
    guard = CommandGuard()
    assert guard.passes(QUERY[:3])
    assert not guard.passes(QUERY[3:] + CHANGE_USER)
    assert guard.passes(QUERY[3:])


def test_upstream_is_not_watched() -> None:
    assert not CommandGuard.watches_upstream
    guard = CommandGuard()
    assert guard.upstream_bytes(b"rows") == (Pass(4),)
    assert guard.client_bytes(QUERY) == (Pass(len(QUERY)),)
    assert guard.granted("app", "x") == ()


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_any_bytes_are_judged(pieces: list[bytes]) -> None:
    guard = CommandGuard()
    for piece in pieces:
        assert guard.passes(piece) in (True, False)
