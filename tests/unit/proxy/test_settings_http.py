"""The `http` section: defaults that carry, and everything that is wrong with one, with its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.app import make_door
from proxy.files import file_findings
from proxy.settings import ProxySettings
from tollbridge.process.settings import SettingsError, json_schema, load_text

HEAD = "broker: {address: 127.0.0.1:8443}\nlisteners:\n  - {name: web, address: '127.0.0.1:8000', workload: w, "


def settings(rest: str) -> ProxySettings:
    """With one listener."""
    return load_text(f"{HEAD}{rest}}}\n", ProxySettings).value


@pytest.mark.parametrize("protocol", ["dynamodb", "opensearch"])
def test_nothing_needs_to_be_said(protocol: str) -> None:
    """A listener of either is like any other."""
    assert settings(f"protocol: {protocol}, database: shop").listeners[0].http is None


def test_databases_by_host() -> None:
    """Instead of one database."""
    door = make_door(settings("protocol: opensearch, http: {hosts: {logs.internal: logs}}").listeners[0])
    assert (door.database, door.hosts) == (None, {"logs.internal": "logs"})


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("protocol: postgres, database: a, http: {}", r"http: means nothing where postgres is spoken"),
        ("protocol: dynamodb, database: a, http: {hosts: {b: c}}", r"exactly one route, not database and http\.hosts"),
        ("protocol: dynamodb, http: {}", r"exactly one route, not none"),
        ("protocol: dynamodb, http: {hosts: {B.Example: c}}", r"http\.hosts.*lower-case name without a port"),
        ("protocol: dynamodb, http: {hosts: {'b.example:80': c}}", r"http\.hosts.*lower-case name without a port"),
        ("protocol: dynamodb, database: a, http: {max_buffer_bytes: 1000}", r"max_buffer_bytes: is less than"),
        ("protocol: dynamodb, database: a, http: {spool_dir: spool}", r"spool_dir: must be an absolute path"),
        ("protocol: dynamodb, database: a, http: {max_body_bytes: -1}", r"max_body_bytes"),
        ("protocol: dynamodb, database: a, http: {answer_seconds: 0}", r"answer_seconds"),
        ("protocol: dynamodb, database: a, http: {upstream_connections: 0}", r"upstream_connections"),
        ("protocol: dynamodb, database: a, http: {max_bodies: 1}", r"max_bodies: unknown key"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(rest: str, problem: str) -> None:
    """And nothing is guessed."""
    with pytest.raises(SettingsError, match=problem):
        settings(rest)


def test_a_spool_that_is_not_there(tmp_path: Path) -> None:
    """Found by check-config, which opens files, and not before."""
    there = settings(f"protocol: dynamodb, database: a, http: {{spool_dir: {tmp_path}}}")
    assert list(file_findings(there)) == []
    gone = settings(f"protocol: dynamodb, database: a, http: {{spool_dir: {tmp_path}/gone}}")
    (finding,) = file_findings(gone)
    assert finding.where == ("listeners", 0, "http", "spool_dir")
    assert not finding.warning


def test_editors_know_the_section() -> None:
    """The JSON Schema has it, with what each line means."""
    assert "spool_dir" in str(json_schema(ProxySettings))


def test_requests_are_written_down_where_a_database_says_so() -> None:
    """And nowhere else."""
    text = f"{HEAD}protocol: dynamodb, database: a}}\ndatabases: {{a: {{audit_requests: true}}}}\n"
    loaded = load_text(text, ProxySettings).value
    assert loaded.limits_of("a").audit_requests
    assert not loaded.limits_of("b").audit_requests
