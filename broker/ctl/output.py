"""What commands answer: tables for people, JSON and YAML for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import click
import yaml

from broker.ctl.failure import printable

F = TypeVar("F", bound=Callable[..., Any])

TEXT: Final = "text"


def output_option(command: F) -> F:
    """`-o text|json|yaml`."""
    decorate: Callable[[F], F] = click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice([TEXT, "json", "yaml"]),
        default=TEXT,
        show_default=True,
        help="For people, or for programs.",
    )
    return decorate(command)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they must be, two spaces between; the last one is as long as it likes."""
    cells = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in (list(headers), *cells)) for index in range(len(headers))]
    lines = []
    for row in (list(headers), *cells):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines) + "\n"


def dump(value: object, form: str) -> str:
    """As JSON or YAML."""
    if form == "yaml":
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def show(value: object, form: str, text: Callable[[], str]) -> None:
    """To standard output, in the form that was asked for."""
    click.echo(text() if form == TEXT else dump(value, form), nl=False)
