"""Every bad document of the table gives exactly its errors: line, path, words and hint, all in one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.settings import Settings
from tollbridge.process.settings import SettingsError, load_text

_TABLE = Path(__file__).with_name("bad_documents.txt")


@dataclass(frozen=True)
class Row:
    """`=== title`, the YAML, then `>>> line: path: message` and `  > hint` for each error."""

    title: str
    text: str
    errors: tuple[str, ...]


def rows() -> list[Row]:
    made = []
    for block in _TABLE.read_text().split("=== ")[1:]:
        title, _, rest = block.partition("\n")
        text, *errors = rest.split(">>> ")
        made.append(Row(title, text, tuple(errors)))
    return made


def test_the_table_is_as_long_as_it_promises() -> None:
    assert len(rows()) >= 55
    assert len({row.title for row in rows()}) == len(rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.title)
def test_all_errors_at_once_with_path_line_and_hint(row: Row) -> None:
    with pytest.raises(SettingsError) as caught:
        load_text(row.text, Settings)
    said = []
    for problem in caught.value.problems:
        hint = f"  > {problem.hint}\n" if problem.hint else ""
        said.append(f"{problem.line or 0}: {problem.path}: {problem.message}\n{hint}")
    assert said == list(row.errors)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.title)
def test_errors_never_show_an_external_id_or_password(row: Row) -> None:
    with pytest.raises(SettingsError) as caught:
        load_text(row.text, Settings)
    for secret in ("example-external-id", "one-id", "another-id", "fine-here", "me:pw"):
        assert secret not in str(caught.value)
