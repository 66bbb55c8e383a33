"""How the command line finds its broker: flags, then environment, then a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from broker.ctl.__main__ import main
from broker.ctl.failure import Failure
from broker.ctl.where import CliSettings, default_file, find
from tollbridge.process import settings as loader

ROOT = Path(__file__).parents[4]
NOTHING = dict.fromkeys(("broker", "server_name", "cert", "key", "ca"), "")
THREE = {"cert": "a.crt", "key": "a.key", "ca": "ca.crt"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's configuration."""
    for name in ("BROKER", "CERT_FILE", "KEY_FILE", "CA_FILE", "SERVER_NAME", "CONFIG"):
        monkeypatch.delenv(f"TOLLBRIDGE_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def write(home: Path, text: str) -> None:
    """The file."""
    file = home / "tollbridge" / "config.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def test_the_example_loads() -> None:
    found = loader.load(ROOT / "deploy/config/tollbridge.example.yaml", CliSettings)
    assert found.warnings == []
    assert found.value.broker.address
    assert found.value.proxy.command


def test_without_any_the_three_ways_are_told(home: Path) -> None:
    with pytest.raises(Failure) as caught:
        find(NOTHING)
    assert all(way in caught.value.fix for way in ("--broker", "TOLLBRIDGE_BROKER", str(default_file())))


def test_a_flag_beats_the_file_value_by_value(home: Path) -> None:
    write(home, "broker: {address: 'file:1', server_name: name}")
    found = find({**NOTHING, "broker": "flag:1", **THREE})
    assert (found.address, found.server_name, found.cert_file) == ("flag:1", "name", "a.crt")


@pytest.mark.parametrize("missing", sorted(THREE))
def test_a_part_of_a_certificate_is_refused_and_the_missing_named(missing: str) -> None:
    with pytest.raises(Failure, match=f"--{missing} is missing"):
        find({**NOTHING, "broker": "x:1", **THREE, missing: ""})


def test_a_file_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLBRIDGE_CONFIG", "/nonexistent.yaml")
    with pytest.raises(Failure, match=r"/nonexistent\.yaml"):
        find(NOTHING)


def test_a_wrong_file_is_told_as_configurations_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, "broker: {adress: 'x:1', tls: {cert_file: a}}")
    with pytest.raises(Failure):
        find(NOTHING)
    said = capsys.readouterr().err
    assert "did you mean 'address'?" in said
    assert "broker.tls.key_file" in said


def complete(words: str, position: int) -> list[str]:
    """What a shell is offered."""
    environment = {"_TOLLBRIDGE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    answer = CliRunner().invoke(main, [], env=environment, prog_name="tollbridge")
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return [line.partition(",")[2] for line in answer.stdout.splitlines() if line]


def test_commands_are_completed() -> None:
    assert complete("tollbridge do", 1) == ["doctor"]


@pytest.mark.parametrize("command", ["get", "rm", "forget", "doctor", "token"])
def test_names_are_completed_with_none_when_no_broker_answers(command: str) -> None:
    """And nothing is said: the person is in the middle of a line."""
    assert complete(f"tollbridge {command} rds", 2) == []


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, by the words that run it."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(main, [*path, "--help"])
    assert answer.exit_code == 0
    assert len(answer.stdout.splitlines()) > 5
