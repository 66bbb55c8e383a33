"""The pattern for most traffic: exact about lengths, and blind to no command that is watched."""

from __future__ import annotations

import pytest

from proxy.engines.redis.patterns import SHORT
from proxy.engines.redis.scanner import FEW, SHORT_NAME, WATCHED, whole_commands
from proxy.engines.redis.wire import encode_command

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
