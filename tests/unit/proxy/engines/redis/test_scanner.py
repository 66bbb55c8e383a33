"""The pattern for most traffic: exact about lengths, and blind to no command that is watched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engines.redis import wire
from proxy.engines.redis.patterns import SHORT
from proxy.engines.redis.scanner import FEW, SHORT_NAME, WATCHED, Scanner, whole_commands
from proxy.engines.redis.wire import CommandReader, encode_command

GET = encode_command(b"GET", b"key")


@pytest.mark.parametrize("name", sorted(WATCHED))
def test_no_watched_command_gets_past_whatever_it_looks_like(name: bytes) -> None:
    """Alone, behind others, with any number of arguments, in any case."""
    for spelling in (name, name.upper(), name.title(), name.swapcase()):
        for count in range(FEW):
            command = encode_command(spelling, *[b"x"] * count)
            assert not whole_commands(command)
            assert not whole_commands(GET + command + GET)


@pytest.mark.parametrize("name", sorted(WATCHED))
def test_a_watched_name_is_only_a_word_elsewhere(name: bytes) -> None:
    """As an argument, as a part of a name, in front of one, inside a value that looks like a command."""
    assert whole_commands(
        encode_command(b"GET", name) + encode_command(name + b"x", b"1") + encode_command(b"x" + name)
    )
    assert whole_commands(encode_command(b"SET", b"key", encode_command(name)))


@pytest.mark.parametrize("count", range(1, FEW + 1))
def test_every_length_is_followed_to_the_byte(count: int) -> None:
    """One byte more or less anywhere is no whole command."""
    for length in range(SHORT + 1):
        command = encode_command(
            b"X" * min(length, SHORT_NAME), *[b"*1\r\n$4\r\nauth\r\n"[:length].ljust(length)] * (count - 1)
        )
        assert whole_commands(command * 2)
        assert not whole_commands(command[:-1])
        assert not whole_commands(command + b"\n")
        longer = command.replace(b"$%d" % length, b"$%d" % (length + 1), 1)
        assert longer == command or not whole_commands(longer)


def test_what_is_longer_than_the_pattern_takes_the_long_way() -> None:
    """Long names, long arguments, many arguments."""
    assert not whole_commands(encode_command(b"X" * (SHORT_NAME + 1)))
    assert not whole_commands(encode_command(b"SET", b"x" * (SHORT + 1)))
    assert not whole_commands(encode_command(*[b"X"] * (FEW + 1)))


@pytest.mark.parametrize("step", [1, 7])
def test_a_watched_command_that_comes_in_crumbs_is_read_once(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Each crumb costs the same, wherever it falls: with less than that a client could keep the event loop busy."""
    looks = 0
    read = wire.read_bulk_length

    def counted(data: bytes, at: int) -> tuple[int, int] | None:
        nonlocal looks
        looks += 1
        return read(data, at)

    monkeypatch.setattr(wire, "read_bulk_length", counted)
    words = [b"CLIENT", *[b"x" * (number % 40) for number in range(100)]]
    data, scanner = encode_command(*words), Scanner()
    for end in range(step, len(data), step):
        assert scanner.advance(data[:end], 0) == (0, None)
    at, command = scanner.advance(data + GET, 0)
    assert (at, command and command.arguments, command and command.end) == (0, tuple(words), len(data))
    assert looks <= len(data) // step + len(words) + 1
    assert scanner.advance(data + GET, len(data)) == (len(data) + len(GET), None)


@given(
    st.lists(st.binary(max_size=12), min_size=1, max_size=6),
    st.lists(st.integers(0, 90), max_size=8),
    st.integers(0, 3),
)
def test_pieces_of_a_command_make_the_same_command(words: list[bytes], ends: list[int], at: int) -> None:
    """Wherever it is cut, and whatever stands before and behind it."""
    data, reader = b"?" * at + encode_command(*words), CommandReader()
    for end in sorted(end for end in ends if end + at < len(data)):
        assert reader.read(data[: at + end], at) is None
    assert reader.read(data + GET, at) == wire.read_command(data, at)
