"""What ends a command: a message with its fix, and an exit code that scripts can rely on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import IO, Any, Final

import click

from tollbridge.process.settings import Problem, SettingsError
from tollbridge.reasons import ROWS, Reason


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    OK = 0
    NO = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_PERMITTED = 4
    UNKNOWN = 5
    CONFLICT = 6
    AWS = 7
    INTERNAL = 70


EXIT_MEANINGS: Final = {
    Exit.OK: "done; allowed; healthy",
    Exit.NO: "the answer is no: not allowed, a rule test failed, doctor found something broken",
    Exit.USAGE: "the command line, a configuration or a document is wrong",
    Exit.UNREACHABLE: "the broker does not answer, or is overloaded",
    Exit.NOT_PERMITTED: "the broker does not let this caller do that",
    Exit.UNKNOWN: "no such database",
    Exit.CONFLICT: "it exists already, or somebody changed it meanwhile",
    Exit.AWS: "AWS refused, or does not answer",
    Exit.INTERNAL: "a bug",
}

EXIT_HELP: Final = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in EXIT_MEANINGS.items())

_BY_REASON: Final = {
    Reason.INVALID_REQUEST: Exit.USAGE,
    Reason.CALLER_UNIDENTIFIED: Exit.NOT_PERMITTED,
    Reason.CALLER_NOT_ALLOWED: Exit.NOT_PERMITTED,
    Reason.DATABASE_UNKNOWN: Exit.UNKNOWN,
    Reason.DATABASE_NOT_ALLOWED: Exit.NOT_PERMITTED,
    Reason.DB_USER_NOT_ALLOWED: Exit.NOT_PERMITTED,
    Reason.DB_NAME_NOT_ALLOWED: Exit.NOT_PERMITTED,
    Reason.DENIED_BY_RULE: Exit.NOT_PERMITTED,
    Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD: Exit.NOT_PERMITTED,
    Reason.PROXY_MAY_NOT_SERVE_DATABASE: Exit.NOT_PERMITTED,
    Reason.DATABASE_EXISTS: Exit.CONFLICT,
    Reason.REVISION_CONFLICT: Exit.CONFLICT,
    Reason.REGISTRY_UNAVAILABLE: Exit.UNREACHABLE,
    Reason.REGISTRY_DISABLED: Exit.USAGE,
    Reason.BROKER_UNAVAILABLE: Exit.UNREACHABLE,
    Reason.BROKER_OVERLOADED: Exit.UNREACHABLE,
    Reason.DRAINING: Exit.UNREACHABLE,
    Reason.INTERNAL: Exit.INTERNAL,
}


class Failure(click.ClickException):
    """Ends the command. Shown as `error: MESSAGE`, its fix on the next line."""

    def __init__(self, message: str, *, fix: str = "", code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.fix = fix
        self.exit_code = int(code)  # type: ignore[misc]  # click declares it for the class

    def show(self, file: IO[Any] | None = None) -> None:
        """On standard error."""
        click.echo(f"error: {printable(self.message)}", err=True)
        if self.fix:
            click.echo(f"  fix: {printable(self.fix)}", err=True)


def exit_for(reason: Reason) -> Exit:
    """The code of a refusal: by its reason, or by who can fix it."""
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    return Exit.AWS if ROWS[reason].fixer.value in ("AWS", "operator") else Exit.NO


def near(name: str, known: Sequence[str]) -> str:
    """Which of the known ones may be meant; empty when none is close."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}?" if found else ""


def printable(text: str) -> str:
    """Without control characters: tags, labels and servers' words are other people's text, and terminals obey."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def tell_problems(source: object, problems: Sequence[Problem], severity: str) -> None:
    """Problems of a file as compilers show them, on standard error."""
    for problem in problems:
        click.echo(printable(problem.told(source, severity)), err=True)


@contextmanager
def file_problems(source: object) -> Iterator[None]:
    """A file that cannot be used ends the command, every problem told."""
    try:
        yield
    except SettingsError as error:
        if len(error.problems) == 1 and not error.problems[0].path and not error.problems[0].line:
            raise Failure(error.problems[0].message, fix=error.problems[0].hint) from error
        tell_problems(source, error.problems, "error")
        count = len(error.problems)
        raise Failure(f"{source} has {count} problem{'' if count == 1 else 's'}") from error
