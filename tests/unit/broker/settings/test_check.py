"""check-config and schema as an operator runs them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.__main__ import main
from tests.support.ca import TestCa

_BASE = """\
aws: {region: us-west-1}
access: {rules: [{name: all, workloads: '*', db_labels: {'*': '*'}, db_users: app}]}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


class Files:
    """A configuration with one TLS listener, and its certificates."""

    def __init__(self, folder: Path) -> None:
        self.ca = TestCa(folder)
        self.folder = folder

    def config(self, certificate: bytes, key: bytes, ca: bytes | None = None) -> str:
        files = {
            "cert_file": certificate,
            "key_file": key,
            "client_ca_file": self.ca.pem.encode() if ca is None else ca,
        }
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        tls = ", ".join(f"{name}: {self.folder / name}" for name in files)
        path = self.folder / "broker.yaml"
        path.write_text(f"{_BASE}listeners: [{{address: '0.0.0.0:8443', tls: {{{tls}}}}}]\n")
        return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_good_configuration_is_summed_up(files: Files) -> None:
    leaf = files.ca.leaf("spiffe://example.org/broker", "broker.example")
    result = run("check-config", "-c", files.config(leaf.certificate, leaf.key))
    assert result.exit_code == 0, result.output
    assert "ok: 0 databases in 0 accounts, 0 account links, 1 rule, 0 proxies rows, 1 listener" in result.stdout
    assert result.stderr == ""


def test_a_certificate_without_a_dns_name_is_refused(files: Files) -> None:
    leaf = files.ca.leaf("spiffe://example.org/broker")
    result = run("check-config", "-c", files.config(leaf.certificate, leaf.key))
    assert result.exit_code == 2
    assert "broker.yaml:3: error: listeners[0].tls.cert_file: " in result.stderr
    assert "has no DNS name in its SAN" in result.stderr


def test_a_common_name_is_no_dns_name(files: Files) -> None:
    leaf = files.ca.leaf("spiffe://example.org/broker", common_name="broker.example")
    assert run("check-config", "-c", files.config(leaf.certificate, leaf.key)).exit_code == 2


def test_a_key_of_another_certificate_is_refused(files: Files) -> None:
    leaf, other = files.ca.leaf("broker.example"), files.ca.leaf("broker.example")
    result = run("check-config", "-c", files.config(leaf.certificate, other.key))
    assert result.exit_code == 2
    assert "listeners[0].tls.key_file: " in result.stderr


def test_a_ca_file_that_is_none_is_refused(files: Files) -> None:
    leaf = files.ca.leaf("broker.example")
    result = run("check-config", "-c", files.config(leaf.certificate, leaf.key, ca=b"nothing"))
    assert result.exit_code == 2
    assert "listeners[0].tls.client_ca_file: " in result.stderr


def test_an_expired_certificate_is_a_warning(files: Files) -> None:
    leaf = files.ca.leaf("broker.example", expires_at=datetime.now(UTC) - timedelta(days=1))
    result = run("check-config", "-c", files.config(leaf.certificate, leaf.key))
    assert result.exit_code == 0
    assert "warning: listeners[0].tls.cert_file: " in result.stderr


def test_missing_files_are_all_named_unless_files_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "broker.yaml"
    tls = "{cert_file: /nowhere/a, key_file: /nowhere/b, client_ca_file: /nowhere/c}"
    path.write_text(f"{_BASE}listeners: [{{address: '0.0.0.0:8443', tls: {tls}}}]\naudit: {{file: /nowhere/d/e}}\n")
    result = run("check-config", "-c", str(path))
    assert result.exit_code == 2
    for name in ("/nowhere/a", "/nowhere/b", "/nowhere/c", "/nowhere/d", "4 problems"):
        assert name in result.stderr
    assert run("check-config", "--no-files", "-c", str(path)).exit_code == 0


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    result = run("check-config", "-c", str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr


def test_serving_refuses_a_bad_configuration_and_one_without_listeners(tmp_path: Path) -> None:
    path = tmp_path / "broker.yaml"
    path.write_text("awss: {}\n")
    result = run("serve", "-c", str(path))
    assert (result.exit_code, "did you mean 'aws'?" in result.stderr) == (2, True)
    path.write_text(_BASE)
    result = run("serve", "-c", str(path))
    assert (result.exit_code, "nobody could reach the broker" in result.stderr) == (2, True)


def test_the_schema_is_json() -> None:
    assert json.loads(run("schema").stdout)["title"] == "tollbridge-broker configuration"


@pytest.mark.parametrize("command", [(), ("serve",), ("check-config",), ("schema",)])
def test_every_command_helps(command: tuple[str, ...]) -> None:
    assert run(*command, "--help").exit_code == 0
