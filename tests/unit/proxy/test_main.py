"""The command line: exit codes, and what is said on which stream."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from proxy.__main__ import main
from tests.contract.house import APP, House
from tests.support.ca import TestCa
from tests.unit.proxy.whole import configuration, written

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> Result:
    """One command."""
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def config(house: House, tmp_path: Path) -> Path:
    """A file that can be used."""
    return written(tmp_path, configuration(house, tmp_path, 1, "localhost:1"))


def test_help_names_every_command_and_exit_code() -> None:
    """A person finds out without the manual."""
    said = run("--help").output
    for command in ("serve", "check-config", "schema", "check"):
        assert command in said
    checking = run("check", "--help").output
    assert all(f"exit code {code}" in checking.lower() for code in (0, 3, 4, 5, 6, 7))


def test_a_good_file_exits_0(config: Path) -> None:
    """And says so."""
    result = run("check-config", "--config", str(config))
    assert (result.exit_code, result.output) == (0, f"{config}: ok: 2 listeners\n")


def test_a_bad_file_exits_2_with_every_problem(tmp_path: Path) -> None:
    """On standard error, each with its line."""
    file = tmp_path / "proxy.yaml"
    file.write_text("broker: {address: broker:1}\nlisteners: []\nbogus: 1\n")
    result = run("check-config", "-c", str(file))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{file}:1: error: broker.tls: is required" in result.stderr
    assert "listeners: must hold at least one listener" in result.stderr
    assert f"{file}:3: error: bogus: unknown key" in result.stderr
    assert f"{file}: 3 problems" in result.stderr


def test_files_that_do_not_fit_exit_2(config: Path, house: House, tmp_path: Path) -> None:
    """A key of another certificate, a bundle that is none; --no-files looks at neither."""
    other = TestCa(tmp_path)
    (tmp_path / "proxy.key").write_bytes(other.files(other.leaf("x"))[1].read_bytes())
    document = yaml.safe_load(config.read_text())
    document["trust"] = {"aws_rds": str(config)}
    written(tmp_path, document)
    result = run("check-config", "-c", str(config))
    assert result.exit_code == 2
    assert "broker.tls: " in result.stderr
    assert "are not a certificate and its private key" in result.stderr
    assert "trust.aws_rds: " in result.stderr
    assert run("check-config", "-c", str(config), "--no-files").exit_code == 0


def test_files_that_are_not_there_are_named_all_at_once(config: Path) -> None:
    """Each under its own key, with its line; the audit file's directory, too."""
    document = yaml.safe_load(config.read_text())
    document["broker"]["tls"] = {"cert_file": "no.crt", "key_file": "no.key", "ca_file": "no-ca.crt"}
    document["audit"] = {"file": "/nowhere/audit.jsonl"}
    written(config.parent, document)
    said = run("check-config", "-c", str(config)).stderr
    for key, file in (("cert_file", "no.crt"), ("key_file", "no.key"), ("ca_file", "no-ca.crt")):
        assert f": error: broker.tls.{key}: {file} does not exist" in said
    assert ": error: audit.file: directory /nowhere does not exist" in said
    assert f"{config}: 4 problems" in said


def test_a_certificate_that_names_no_workload_is_warned_of(config: Path, tmp_path: Path) -> None:
    """The broker would not know this proxy; and with the configuration's own certificate there is no warning."""
    assert run("check-config", "-c", str(config)).stderr == ""
    ca = TestCa(tmp_path)
    certificate, key = ca.files(ca.leaf("proxy.example"))
    document = yaml.safe_load(config.read_text())
    document["broker"]["tls"] |= {"cert_file": str(certificate), "key_file": str(key)}
    written(config.parent, document)
    result = run("check-config", "-c", str(config))
    assert result.exit_code == 0
    assert f"warning: broker.tls.cert_file: {certificate} does not name exactly one SPIFFE ID" in result.stderr


def test_an_expired_certificate_is_warned_of(config: Path, tmp_path: Path) -> None:
    """It may be replaced before the proxy starts."""
    ca = TestCa(tmp_path)
    leaf = ca.leaf("spiffe://example.org/proxy", expires_at=datetime.now(UTC) - timedelta(days=1))
    certificate, key = ca.files(leaf)
    document = yaml.safe_load(config.read_text())
    document["broker"]["tls"] |= {"cert_file": str(certificate), "key_file": str(key)}
    written(config.parent, document)
    result = run("check-config", "-c", str(config))
    assert result.exit_code == 0
    assert f"warning: broker.tls.cert_file: {certificate} expired at" in result.stderr


def test_a_missing_file_exits_2(tmp_path: Path) -> None:
    """Not with a traceback."""
    result = run("serve", "-c", str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert "cannot read" in result.stderr


def test_the_schema_is_json() -> None:
    """For editors."""
    assert "listeners" in json.loads(run("schema").stdout)["properties"]


def test_check_wants_a_user(config: Path) -> None:
    """No listener sets one."""
    result = run("check", "orders", "-c", str(config))
    assert result.exit_code == 2
    assert "--db-user" in result.stderr


def test_check_wants_one_workload(config: Path) -> None:
    """Two listeners of the database disagree."""
    document = yaml.safe_load(config.read_text())
    second = {**document["listeners"][0], "name": "second", "workload": APP + "2", "db_user": "app"}
    document["listeners"].append(second)
    written(config.parent, document)
    result = run("check", "orders", "-c", str(config))
    assert result.exit_code == 2
    assert "--workload" in result.stderr


def test_check_without_a_broker_exits_3(config: Path) -> None:
    """Text and JSON."""
    result = run("check", "orders", "-c", str(config), "--db-user", "app")
    assert result.exit_code == 3
    assert result.stdout.startswith("FAILED broker")
    result = run("check", "orders", "-c", str(config), "--db-user", "app", "-o", "json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["steps"][0]["reason"] == "BROKER_UNAVAILABLE"


def test_serve_ends_with_0_on_sigterm(config: Path) -> None:
    """As a process: logs are JSON on standard error, audit lines alone would be on standard output."""
    command = [sys.executable, "-m", "proxy", "serve", "-c", str(config)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert first["message"] == "listening"
    assert (process.returncode, out) == (0, "")
    assert json.loads(err.splitlines()[-1])["message"] == "stopped"


def test_serve_that_cannot_start_exits_1(config: Path) -> None:
    """With the listener's name."""
    document = yaml.safe_load(config.read_text())
    document["listeners"][0]["address"] = "unix:/nowhere/at/all"
    written(config.parent, document)
    command = [sys.executable, "-m", "proxy", "serve", "-c", str(config)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "listener 'app' cannot listen on unix:/nowhere/at/all" in result.stderr
    assert "Traceback" not in result.stderr
