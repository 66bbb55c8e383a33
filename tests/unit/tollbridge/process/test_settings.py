"""The shared loader: every error at once, with its place, whatever else is broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from tollbridge.process.settings import (
    Finding,
    Problem,
    SecretText,
    Section,
    SettingsError,
    TextList,
    json_schema,
    load,
    load_text,
)
from tollbridge.process.yamltree import where_text
from tollbridge.secret import Secret


class Item(Section):
    name: str
    account_id: str = ""
    port: int = 1

    def findings(self) -> Iterator[Finding]:
        if self.account_id and len(self.account_id) != 12:
            yield Finding(self.at("account_id"), "must be 12 digits", "like 222222222222")


class Nested(Section):
    item: Item = Field(default_factory=lambda: Item(name="default", account_id="1"))


class Top(Section):
    known_elsewhere: ClassVar = frozenset({"legacy"})
    items: list[Item] = Field(default_factory=list)
    tags: dict[str, TextList] = Field(default_factory=dict)
    secret: SecretText = Field(default_factory=lambda: Secret(""))
    flag: bool = False
    ratio: float = 0.5
    nested: Nested | None = None


def problems(text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(SettingsError) as caught:
        load_text(text, Top)
    return [(p.line, p.path, p.message) for p in caught.value.problems]


def test_findings_run_beside_what_is_malformed_and_keep_their_index() -> None:
    text = "items:\n- {port: x}\n- {name: a, zone: 1}\n- name: b\n  account_id: 123\n"
    assert problems(text) == [
        (2, "items[0].name", "is required"),
        (2, "items[0].port", "must be a whole number"),
        (3, "items[1].zone", "unknown key"),
        (5, "items[2].account_id", "must be 12 digits"),
    ]


def test_findings_about_a_default_stand_where_it_would_be_written() -> None:
    assert problems("nested: {}\n") == [(1, "nested.item.account_id", "must be 12 digits")]


def test_no_finding_judges_the_default_of_what_was_malformed() -> None:
    assert problems("nested:\n  item: text\n") == [(2, "nested.item", "must be a mapping of keys to values")]


def test_scalars_are_the_text_that_was_written() -> None:
    text = "items: [{name: 8.10, account_id: 012345678901, port: '7'}]\nflag: yes\nratio: 1e-3\n"
    text += "tags: {a: no, b: [on, 1]}\n"
    value = load_text(text, Top).value
    assert (value.items[0].name, value.items[0].account_id, value.items[0].port) == ("8.10", "012345678901", 7)
    assert (value.flag, value.ratio, value.tags) == (True, 0.001, {"a": ["no"], "b": ["on", "1"]})


def test_empty_values_are_absent() -> None:
    value = load_text("items:\ntags: ~\nnested: null\nsecret: 'null'\n", Top).value
    assert (value.items, value.tags, value.nested, value.secret) == ([], {}, None, Secret("null"))
    assert load_text("", Top).value == load_text("# nothing\n", Top).value


def test_keys_known_elsewhere_are_warnings() -> None:
    loaded = load_text("legacy: {a: [1]}\n", Top)
    assert loaded.warnings == [
        Problem(path="legacy", line=1, message="known to Teleport, not implemented here: ignored"),
    ]


def test_every_duplicate_key_is_an_error() -> None:
    said = problems("flag: true\nitems: [{name: a, name: b}]\nflag: false\nflag: true\n")
    assert said == [(2, "items[0].name", "duplicate key"), (3, "flag", "duplicate key"), (4, "flag", "duplicate key")]


def test_anchors_work_and_their_bombs_do_not() -> None:
    assert load_text("tags: {a: &x [1, 2], b: *x}\n", Top).value.tags == {"a": ["1", "2"], "b": ["1", "2"]}
    levels = [f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 10 if i else ['x'] * 10)}]" for i in range(9)]
    assert problems("\n".join(levels)) == [(None, "", "more than 1000000 values once aliases are followed")]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: " + "[" * 100_000, 1, "nested deeper"),
        ("a: &a {b: *a}\n", 1, "alias"),
        ("a: *nobody\n", 1, "alias"),
        ("? [a]\n: b\n", 1, "a key must be text"),
        ("{a: b}: c\n", 1, "a key must be text"),
        ("flag: !!bool yes\n", 1, "tags"),
        ("flag: \x00\n", None, "characters that YAML does not allow"),
        ("just text\n", 1, "mapping of sections"),
        ("flag: true\n---\nflag: false\n", 2, "several"),
    ],
)
def test_what_is_no_document_says_where(text: str, line: int | None, words: str) -> None:
    [(said_line, path, message)] = problems(text)
    assert (said_line, path) == (line, "")
    assert words in message


def test_values_are_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        load_text("secret: [hunter2]\nratio: hunter2\nflag: hunter2\nitems: hunter2\n", Top)
    assert len(caught.value.problems) == 4
    assert "hunter2" not in str(caught.value)


def test_a_secret_never_prints() -> None:
    assert "hunter2" not in repr(load_text("secret: hunter2\n", Top))


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfflag: true\n")
    assert load(path, Top).value.flag
    path.write_bytes(b"flag: true\nitems: \xff\n")
    with pytest.raises(SettingsError, match="line 2: the file is not UTF-8 text"):
        load(path, Top)
    path.write_bytes(b"#" * (8 * 1024 * 1024 + 1))
    with pytest.raises(SettingsError, match="larger than"):
        load(path, Top)
    with pytest.raises(SettingsError, match="cannot read"):
        load(tmp_path, Top)


def test_further_checks_join_the_rest() -> None:
    def also(top: Top) -> Iterator[Finding]:
        yield Finding(top.at("flag"), "looked at elsewhere")

    with pytest.raises(SettingsError) as caught:
        load_text("flag: true\nzzz: 1\n", Top, also=also)
    assert [p.path for p in caught.value.problems] == ["flag", "zzz"]


def test_a_problem_reads_as_one_would_write_it() -> None:
    problem = Problem(path="items[2].name", line=7, message="is required", hint="a name")
    assert str(problem) == "line 7: items[2].name: is required\n    hint: a name"
    assert where_text(("a", 0, "b.c", "", "d-e")) == "a[0]['b.c'][''].d-e"


def test_the_schema_is_closed_and_shows_texts_as_text_or_list() -> None:
    schema = json_schema(Top)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["tags"]["additionalProperties"]["anyOf"][0] == {"type": "string"}
    assert schema["properties"]["secret"]["type"] == "string"
