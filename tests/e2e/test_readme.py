"""What README.md shows works as it stands there: only ports and paths are this run's."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.settings import load as load_broker
from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge
from proxy.settings import load as load_proxy
from tests.e2e.clients import PROGRAM_SECONDS, environment, run
from tollbridge.process.settings import Loaded

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def example(name: str) -> str:
    """The fenced block that follows `<!-- test: NAME -->`."""
    found = re.search(rf"<!-- test: {re.escape(name)} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no example {name!r}"
    return found[1]


def here(text: str, bridge: Bridge) -> str:
    """An example with this run's ports and files."""
    for shown, port in (("5432", "app"), ("6432", "mtls"), ("8443", "broker")):
        text = re.sub(rf"(port=|localhost:){shown}\b", rf"\g<1>{bridge.ports[port]}", text)
    for file in ("mesh-ca.crt", "client.crt", "client.key", "proxy.yaml"):
        text = re.sub(rf"(?<![\w/]){re.escape(file)}", bridge.file(file), text)
    return text


def test_every_psql_line_gets_in(bridge: Bridge) -> None:
    """The two ways to connect."""
    lines = [line for line in here(example("connect"), bridge).splitlines() if line.startswith("psql")]
    assert len(lines) == 2
    for line in lines:
        answer = run("bash", "-c", f"{line} --no-psqlrc -w -Atc 'select current_user'")
        assert (answer.returncode, answer.stdout.strip()) == (0, "app"), answer.stderr


def test_the_python_example_gets_in(bridge: Bridge) -> None:
    """psycopg, as shown."""
    answer = run(sys.executable, "-c", here(example("python"), bridge))
    assert answer.stdout.strip() == "('app',)", answer.stderr


def test_the_check_example_walks_the_whole_way(bridge: Bridge) -> None:
    """`tollbridge-proxy check`, as shown, ends with the query."""
    command = here(example("check"), bridge).replace("tollbridge-proxy", f"{sys.executable} -m proxy")
    answer = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PROGRAM_SECONDS
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "select 1" in answer.stdout


def test_the_http_examples_get_in(http_bridge: Bridge, aws_cli: Path) -> None:
    """The AWS CLI and curl, and boto3 with the same environment."""
    text = example("http")
    for shown, database in (("8000", "tables"), ("9200", "search")):
        text = text.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{http_bridge.ports[database]}")
    script = f"set -e\nPATH={aws_cli.parent}:$PATH\n{text}\n{sys.executable} -c '{example('boto3')}'"
    answer = run("bash", "-c", script)
    assert answer.returncode == 0, answer.stderr
    assert '"Count": 3' in answer.stdout
    assert '"cluster_name":"sandbox"' in answer.stdout
    assert answer.stdout.endswith("3\n")


@pytest.mark.parametrize(
    ("name", "shown", "door", "said"),
    [("cassandra", "9042", "cql-open", "Ada"), ("mongodb", "27017", topology.DOCUMENTDB.name, "Ada")],
)
def test_the_nosql_examples_get_in(nosql_bridge: Bridge, name: str, shown: str, door: str, said: str) -> None:
    """Drivers as they come."""
    code = example(name)
    assert shown in code
    answer = run(sys.executable, "-c", code.replace(shown, str(nosql_bridge.ports[door])))
    assert answer.stdout.strip() == said, answer.stderr


@pytest.mark.parametrize(("name", "load"), [("broker.yaml", load_broker), ("proxy.yaml", load_proxy)])
def test_both_configurations_load(name: str, load: Callable[[Path], Loaded[Any]], tmp_path: Path) -> None:
    """Without an error, and without a warning."""
    (tmp_path / name).write_text(example(name))
    assert load(tmp_path / name).warnings == []


def test_the_certificates_for_a_trial_fit_both_configurations(tmp_path: Path) -> None:
    """check-config has nothing to say about them."""
    made = run("bash", "-ec", f"cd {tmp_path}\n{example('certificates')}")
    assert made.returncode == 0, made.stderr
    for daemon in ("broker", "proxy"):
        text = example(f"{daemon}.yaml").replace("/etc/tollbridge/tls.", f"{tmp_path}/{daemon}.")
        (tmp_path / f"{daemon}.yaml").write_text(text.replace("/etc/tollbridge/", f"{tmp_path}/"))
        checked = run(sys.executable, "-m", daemon, "check-config", "--config", str(tmp_path / f"{daemon}.yaml"))
        assert (checked.returncode, checked.stderr) == (0, "")
    authority = f"{tmp_path}/mesh-ca.crt"
    for name in ("broker", "proxy", "operator"):
        assert run("openssl", "verify", "-CAfile", authority, f"{tmp_path}/{name}.crt").returncode == 0


def test_the_client_example_gets_a_grant(bridge: Bridge) -> None:
    """A service that calls the broker itself."""
    code = here(example("client"), bridge)
    program = "import asyncio\n\nasync def main():\n" + textwrap.indent(code, "    ")
    program += "\n    print(grant.token.user, grant.token.password)\n\nasyncio.run(main())\n"
    answer = run(sys.executable, "-c", program)
    assert answer.stdout.strip() == "app Secret(hidden)", answer.stderr
