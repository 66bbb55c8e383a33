"""What `--help` says of every command of the three programs fits where it is listed, on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from broker.__main__ import main as broker
from broker.ctl.__main__ import main as tollbridge
from proxy.__main__ import main as proxy


def groups(command: click.Command, *names: str) -> Iterator[tuple[click.Command, tuple[str, ...]]]:
    """A program and the groups below it, with the words that lead there."""
    if isinstance(command, click.Group):
        yield command, names
        for name, inner in command.commands.items():
            yield from groups(inner, *names, name)


EVERY = [
    pytest.param(program, words, id=" ".join((name, *words)))
    for name, program in (("tollbridge", tollbridge), ("tollbridge-broker", broker), ("tollbridge-proxy", proxy))
    for _group, words in groups(program)
]


def test_all_groups_are_walked() -> None:
    assert len(EVERY) >= 6


@pytest.mark.parametrize(("program", "words"), EVERY)
def test_no_command_is_listed_with_half_a_sentence(program: click.Command, words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(program, [*words, "--help"], terminal_width=80).output
    _usage, _heading, listed = said.partition("Commands:\n")
    rows = listed.partition("\n\n")[0].splitlines()
    assert rows
    assert not [
        row for row in rows if row.rstrip().endswith("...") or (not row.rstrip().endswith(".") and "?" not in row)
    ]
