"""The operator's command line against a running broker: register, look, change, remove; tokens for programs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import psycopg
import pytest
import yaml

from deploy.sandbox import topology
from deploy.sandbox.bridge import APP_WORKLOAD, Bridge
from deploy.sandbox.world import World
from tests.e2e.clients import PATIENCE_SECONDS, PROGRAM_SECONDS, environment, psql
from tests.e2e.conftest import Leaks

DOCUMENT: Final = f"""\
kind: db
version: v3
metadata:
  name: "dynamic"
  description: "Example dynamic database resource"
  labels:
    env: "dev"
spec:
  protocol: "postgres"
  uri: "{topology.RDS_POSTGRES.host}:5432"
  aws:
    account_id: "{topology.EXAMPLE_ACCOUNT}"
    assume_role_arn: "{topology.EXAMPLE_ROLE_ARN}"
    external_id: "{topology.EXAMPLE_EXTERNAL_ID}"
"""


class Terminal:
    """A person in front of a bridge."""

    def __init__(self, bridge: Bridge, home: Path) -> None:
        self.bridge = bridge
        self.home = home

    def run(
        self, *arguments: str, who: str = "operator", stdin: str = "", more: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.CompletedProcess[str]:
        """`tollbridge`, the broker and the identity named by the environment."""
        names = {
            "TOLLBRIDGE_BROKER": f"localhost:{self.bridge.ports['broker']}",
            "TOLLBRIDGE_CERT_FILE": self.bridge.file(f"{who}.crt"),
            "TOLLBRIDGE_KEY_FILE": self.bridge.file(f"{who}.key"),
            "TOLLBRIDGE_CA_FILE": self.bridge.file("mesh-ca.crt"),
            "XDG_CONFIG_HOME": str(self.home),
        }
        return subprocess.run(
            [str(Path(sys.executable).with_name("tollbridge")), *arguments],
            env={**environment(), **names, **more},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
        )

    def value(self, *arguments: str) -> Any:
        """Its answer for programs."""
        answer = self.run(*arguments, "-o", "json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def open_bridge(world: World, tmp_path_factory: pytest.TempPathFactory, leaks: Leaks) -> Iterator[Bridge]:
    """One that takes dynamic databases."""
    directory = tmp_path_factory.mktemp("cli")

    def change(document: dict[str, Any]) -> None:
        document["db_service"]["resources"] = [{"labels": {"*": "*"}}]
        document["registry"] = {"file": str(directory / "registry.db")}
        document["account_links"] = [
            {
                "name": "example",
                "role_arns": [topology.EXAMPLE_ROLE_ARN],
                "external_id": topology.EXAMPLE_EXTERNAL_ID,
            }
        ]

    with Bridge(world, directory, change) as bridge:
        yield bridge


@pytest.fixture
def terminal(open_bridge: Bridge, tmp_path: Path) -> Terminal:
    return Terminal(open_bridge, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "database.yaml"
    path.write_text(DOCUMENT)
    return str(path)


def test_a_database_is_created_listed_changed_and_removed(terminal: Terminal, file: str) -> None:
    created = terminal.run("create", file)
    assert (created.returncode, created.stderr) == (0, "")
    assert topology.EXAMPLE_ROLE_ARN in created.stdout
    assert {each["name"]: each["origin"] for each in terminal.value("ls")}["dynamic"] == "dynamic"

    again = terminal.run("create", file)
    assert again.returncode == 6
    assert "`create -f` replaces it" in again.stderr

    shown = terminal.run("get", "dynamic", "-o", "yaml").stdout
    assert topology.EXAMPLE_EXTERNAL_ID not in shown
    document = yaml.safe_load(shown)
    document["metadata"]["description"] = "changed"
    changed = yaml.safe_dump(document)
    assert terminal.run("create", "-f", "-", stdin=changed).returncode == 0
    assert terminal.value("get", "dynamic")["metadata"]["description"] == "changed"

    stale = terminal.run("create", "-f", "-", stdin=changed)
    assert stale.returncode == 6
    assert "get it again" in stale.stderr

    assert terminal.run("rm", "dynamic").returncode == 0
    gone = terminal.run("get", "dynamic")
    assert gone.returncode == 5


def test_what_is_created_is_entered_through_the_proxy(terminal: Terminal, file: str) -> None:
    """The cross-account page's document, `tollbridge create`, psql: no restart, no password."""
    assert terminal.run("create", file).returncode == 0
    bridge = terminal.bridge
    login = (
        f"host=localhost hostaddr=127.0.0.1 port={bridge.ports['mtls']} user=app@dynamic dbname=app sslmode=verify-full"
        f" sslrootcert={bridge.file('mesh-ca.crt')} sslcert={bridge.file('client.crt')}"
        f" sslkey={bridge.file('client.key')}"
    )
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := psql(login, "select current_user")).returncode and time.monotonic() < deadline:
            pass  # each try is a login
        assert answer.stdout.strip() == "app", answer.stderr
    finally:
        assert terminal.run("rm", "dynamic").returncode == 0


def test_check_changes_nothing(terminal: Terminal, file: str) -> None:
    assert terminal.run("create", "--check", file).returncode == 0
    assert "dynamic" not in {each["name"] for each in terminal.value("ls")}


def test_every_problem_of_a_document_is_told_with_its_line_in_the_file(terminal: Terminal, tmp_path: Path) -> None:
    bad = DOCUMENT.replace("protocol: ", "protocl: ").replace(topology.EXAMPLE_ACCOUNT, "999999999999", 1)
    path = tmp_path / "two.yaml"
    path.write_text(f"# a comment alone is no document\n---\n{bad}")
    answer = terminal.run("create", str(path))
    assert answer.returncode == 2
    lines = answer.stderr.splitlines()
    assert any(line.startswith(f"{path}:11: error: spec.protocl: unknown key") for line in lines), lines
    assert any(line.startswith(f"{path}:") and "999999999999" in line for line in lines), lines
    assert "dynamic" not in {each["name"] for each in terminal.value("ls")}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["get", "rds-postgre"], 5, "did you mean 'rds-postgres'?"),
        (["rm", "rds-postgres"], 5, "configuration file"),
        (["forget", "nothing-like-it"], 5, "tollbridge ls"),
        (["doctor", "rds-postgre"], 5, "did you mean 'rds-postgres'?"),
        (["doctor"], 2, "--all"),
        (["ls", "-l", "env"], 2, "KEY=VALUE"),
        (["create", "/nonexistent.yaml"], 2, "No such file"),
        (["create", "/dev/null"], 2, "no document"),
        (["token", "rds-postgres", "--db-user", "app", "--", "no-such-program"], 2, "there is no program"),
        (["ls", "--broker", "localhost:1"], 3, "nothing listens"),
        (["ls", "--broker", "nowhere"], 2, "host:port"),
        (["ls", "--cert", "/nonexistent.crt"], 2, "/nonexistent.crt"),
        (["discovery", "apply"], 2, "--all"),
        (["discovery", "apply", "arn:x"], 2, "not in the plan"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_told_with_what_to_do(
    terminal: Terminal, arguments: list[str], code: int, says: str
) -> None:  # fmt: skip
    answer = terminal.run(*arguments)
    assert answer.returncode == code, answer.stderr
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def test_who_is_no_operator_sees_what_rules_let_it_enter_and_changes_nothing(terminal: Terminal, file: str) -> None:
    listed = terminal.run("ls", who="client")
    assert listed.returncode == 0
    assert "rds-postgres" in listed.stdout
    for arguments in (["create", file], ["rm", "rds-postgres"], ["get", "rds-postgres"], ["doctor", "rds-postgres"]):
        refused = terminal.run(*arguments, who="client")
        assert refused.returncode == 4
        assert "operators" in refused.stderr


def test_without_a_broker_named_the_ways_to_name_it_are_told(tmp_path: Path) -> None:
    bare = {**environment(), "XDG_CONFIG_HOME": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-m", "broker.ctl", "ls"], env=bare, capture_output=True, text=True, timeout=PROGRAM_SECONDS
    )
    assert answer.returncode == 2
    assert "--broker HOST:PORT" in answer.stderr
    assert "TOLLBRIDGE_BROKER" in answer.stderr
    assert str(tmp_path / "tollbridge" / "config.yaml") in answer.stderr


def test_the_file_names_the_broker_and_flags_beat_it(open_bridge: Bridge, tmp_path: Path) -> None:
    tls = {"cert_file": "operator.crt", "key_file": "operator.key", "ca_file": "mesh-ca.crt"}
    section = {
        "address": f"localhost:{open_bridge.ports['broker']}",
        "tls": {key: open_bridge.file(name) for key, name in tls.items()},
    }
    config = tmp_path / "tollbridge" / "config.yaml"
    config.parent.mkdir()
    config.write_text(yaml.safe_dump({"broker": section}))

    def ls(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "broker.ctl", "ls", *flags],
            env={**environment(), "XDG_CONFIG_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
        )

    assert ls().returncode == 0
    assert ls("--broker", "localhost:1").returncode == 3
    config.write_text("brokr: {}\n")
    wrong = ls()
    assert wrong.returncode == 2
    assert "did you mean 'broker'?" in wrong.stderr


def test_a_program_gets_in_with_a_token_and_nothing_secret_is_seen(
    terminal: Terminal, world: World, leaks: Leaks
) -> None:
    """psql itself, without a proxy: the token, the name in the certificate and its CA all come from the environment."""
    database = world.database("rds-postgres")
    answer = terminal.run(
        *("token", "rds-postgres", "--db-user", "app", "--db-name", "app", "--ca-file", world.ca_cert_file),
        *("--", "psql", f"hostaddr=127.0.0.1 port={database.local_port}", "-XAtc", "select current_user, '{user}'"),
        who="client",
    )
    assert answer.stdout.strip() == "app|app", answer.stderr
    assert leaks.found_in(answer.stdout + answer.stderr) == []


def test_a_token_in_a_file_is_its_owners_and_opens_the_database(
    terminal: Terminal, world: World, tmp_path: Path, leaks: Leaks
) -> None:
    database = world.database("rds-postgres")
    path = tmp_path / "pgpass"
    answer = terminal.run(
        *("token", "rds-postgres", "--db-user", "app", "--db-name", "app", "--write", str(path), "--format", "pgpass"),
        who="client",
    )
    assert answer.returncode == 0, answer.stderr
    assert leaks.found_in(answer.stdout + answer.stderr) == []
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with psycopg.connect(
        host=database.host,
        hostaddr="127.0.0.1",
        port=database.local_port,
        user="app",
        dbname="app",
        # libpq looks a line up by host, port, database and user as they are given.
        passfile=_at_port(path, database.port, database.local_port),
        sslmode="verify-full",
        sslrootcert=world.ca_cert_file,
    ) as connection:
        assert connection.execute("select current_user").fetchone() == ("app",)


def _at_port(path: Path, real: int, local: int) -> str:
    """The same line for where the sandbox listens."""
    moved = path.with_name("moved")
    moved.touch(mode=0o600)
    moved.write_text(path.read_text().replace(f":{real}:", f":{local}:", 1))
    return str(moved)


def test_a_token_is_shown_only_when_that_is_asked_for(terminal: Terminal) -> None:
    asked = ("token", "rds-postgres", "--db-user", "app", "--db-name", "app")
    shown = terminal.run(*asked, "--print", "--format", "json", who="client")
    assert "X-Amz-Signature" in json.loads(shown.stdout)["password"]
    silent = terminal.run(*asked, "--", "true", who="client")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")


def test_the_program_inherits_the_environment_it_would_have_had(terminal: Terminal) -> None:
    asked = ("token", "rds-postgres", "--db-user", "app", "--db-name", "app", "--", "env", "-0")
    ran = terminal.run(*asked, who="client", more={"PGAPPNAME": "mine"})
    names = {line.partition("=")[0] for line in ran.stdout.split("\0")}
    assert {"PGAPPNAME", "PGPASSWORD"} <= names
    assert "GRPC_VERBOSITY" not in names


def test_a_broker_that_cannot_be_believed_is_one_line(terminal: Terminal) -> None:
    """Not one of gRPC's own for each attempt as well."""
    address = f"127.0.0.1:{terminal.bridge.ports['broker']}"
    answer = terminal.run("ls", "--broker", address, "--ca", terminal.bridge.file("operator.crt"))
    assert (answer.returncode, answer.stdout) == (3, "")
    assert answer.stderr.startswith("error: ")
    assert "certificate" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_explain_says_what_the_broker_would_do(terminal: Terminal) -> None:
    asked = ("explain", "--workload", APP_WORKLOAD, "--database", "rds-postgres", "--db-name", "app")
    allowed = terminal.run(*asked, "--db-user", "app", "-o", "json")
    value = json.loads(allowed.stdout)
    assert (allowed.returncode, value["rule"]) == (0, "shop-in-dev")
    assert value["role_chain"][0]["role_arn"] == topology.EXAMPLE_ROLE_ARN
    assert value["role_chain"][0]["external_id"] == "set by account link example"
    denied = terminal.run(*asked, "--db-user", "root")
    assert denied.returncode == 1
    assert "DB_USER_NOT_ALLOWED" in denied.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_know_the_program(terminal: Terminal, shell: str) -> None:
    answer = terminal.run("completion", shell)
    assert answer.returncode == 0
    assert "_TOLLBRIDGE_COMPLETE" in answer.stdout


def test_names_of_databases_are_completed(terminal: Terminal) -> None:
    words = {"_TOLLBRIDGE_COMPLETE": "bash_complete", "COMP_WORDS": "tollbridge get rds-", "COMP_CWORD": "2"}
    answer = terminal.run(more=words)
    assert answer.stdout.splitlines() == ["plain,rds-postgres"], answer.stderr
