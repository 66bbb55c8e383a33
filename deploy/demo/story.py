"""The story, step by step. Each step checks what it tells: a step that did not come true fails the demo."""

from __future__ import annotations

import copy
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.demo.narrator import Narrator
from deploy.demo.tours import client_environment
from deploy.sandbox import topology
from deploy.sandbox.bridge import APP_WORKLOAD, Bridge
from deploy.sandbox.control import Control

QUESTION = "select current_user, inet_server_addr(), version()"
WRONG_EXTERNAL_ID, NO_CONNECT = "wrong-external-id", "no-connect"


def add_broken_databases(document: dict[str, Any]) -> None:
    """Two more databases for the broker's configuration: an operator's typical mistakes."""
    example = next(entry for entry in document["db_service"]["databases"] if entry["name"] == "rds-postgres")
    for name, aws in (
        (WRONG_EXTERNAL_ID, {"assume_role_arn": topology.EXAMPLE_ROLE_ARN, "external_id": "not-the-agreed-one"}),
        (
            NO_CONNECT,
            {"assume_role_arn": topology.NO_CONNECT_ROLE_ARN, "external_id": topology.EXAMPLE_EXTERNAL_ID},
        ),
    ):
        # Values of its own: YAML would write shared ones as anchors.
        document["db_service"]["databases"].append({**copy.deepcopy(example), "name": name, "aws": aws})


@dataclass(frozen=True, slots=True)
class Story:
    """Tells the story over a running bridge."""

    bridge: Bridge
    narrator: Narrator

    def tell(self) -> None:
        """All steps, in order."""
        self._allowed_login()
        self._second_login()
        self._check()
        self._refusal(
            "Refused: an external ID that the other account never agreed to",
            user=f"app@{WRONG_EXTERNAL_ID}",
            expected="external ID",
        )
        self._refusal("Refused: a database user that no rule allows", user="admin@rds-postgres", expected="admin")
        self._refusal(
            "Refused: a role whose policy has no rds-db:connect",
            user=f"app@{NO_CONNECT}",
            expected="rds-db:connect",
        )

    def _allowed_login(self) -> None:
        with self.narrator.step(f"psql, as {APP_WORKLOAD}, asks for database rds-postgres of account 222222222222"):
            self.narrator.progress(self.psql_line())
            answer = self._psql(self._plain_dsn())
            if answer.returncode:
                raise RuntimeError(answer.stderr)
            self.narrator.quote(answer.stdout)
            decision = self._last_line("broker-audit.jsonl", database="rds-postgres")
            session = self._last_line("proxy-audit.jsonl", database="rds-postgres")
            self.narrator.fact("assumed role", " -> ".join(decision["role_chain"]))
            self.narrator.fact("external ID", topology.EXAMPLE_EXTERNAL_ID)
            self.narrator.fact("allowed by", f"rule {decision['rule']!r}, decision {decision['decision_id']}")
            self.narrator.fact("signed by", f"temporary key {decision['access_key_id']}")
            self.narrator.fact("token expires", decision["expires_at"])
            self.narrator.fact("session", f"{session['workload']} as {session['db_user']} (proxy's audit)")

    def _second_login(self) -> None:
        with self.narrator.step("A hundred more logins: one AssumeRole serves them all"):
            script = Path(self.bridge.file("one.sql"))
            script.write_text("select 1;\n")
            subprocess.run(
                ["pgbench", "-n", "-C", "-c", "10", "-t", "10", "-f", str(script), self._plain_dsn()],
                env=client_environment(os.environ),
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            calls = Control(self.bridge.world.aws_endpoint).counters().assume_role
            self.narrator.fact(
                "AssumeRole", f"{calls.get(topology.EXAMPLE_ROLE_ARN, 0)} call(s) to example-role so far"
            )

    def _check(self) -> None:
        with self.narrator.step("The proxy checks the way itself: grant, DNS, TCP, TLS peer, login, query"):
            command = [sys.executable, "-m", "proxy", "check", "rds-postgres", "--db-user", "app", "--db-name", "app"]
            command += ["--workload", APP_WORKLOAD, "--config", self.bridge.file("proxy.yaml")]
            answer = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2]
            )
            self.narrator.quote(answer.stdout + answer.stderr)
            if answer.returncode:
                raise RuntimeError(f"check exited {answer.returncode}")

    def _refusal(self, title: str, *, user: str, expected: str) -> None:
        with self.narrator.step(title):
            answer = self._psql(self._mtls_dsn(user))
            if answer.returncode == 0:
                raise RuntimeError("it was let in")
            self.narrator.quote(answer.stderr)
            if expected not in answer.stderr:
                raise RuntimeError(f"the message does not mention {expected!r}")

    def psql_line(self) -> str:
        """What a person pastes."""
        return f'psql "{self._plain_dsn()}"'

    def python_line(self) -> str:
        """The same from Python."""
        return (
            f"{os.path.relpath(sys.executable)} -c 'import psycopg; "
            f'print(psycopg.connect("{self._plain_dsn()}").execute("select current_user").fetchone())\''
        )

    def mtls_line(self) -> str:
        """The listener that knows clients by their certificates."""
        return f'psql "{self._mtls_dsn("app@analytics")}"'

    def operator_lines(self) -> tuple[str, ...]:
        """The operator's command line, with a file that says which broker and as whom."""
        program = shlex.quote(os.path.relpath(Path(sys.executable).with_name("tollbridge")))
        proxy = f"--proxy-config {self.bridge.file('proxy.yaml')}"
        return (
            f"export TOLLBRIDGE_CONFIG={self.bridge.file('operator.yaml')}",
            f"{program} ls",
            f"{program} explain --workload {APP_WORKLOAD} --database rds-postgres --db-user root --db-name app",
            f"{program} doctor {NO_CONNECT} --workload {APP_WORKLOAD} {proxy}",
        )

    def write_operator_file(self) -> None:
        """What `operator_lines` names."""
        files = {"cert_file": "operator.crt", "key_file": "operator.key", "ca_file": "mesh-ca.crt"}
        tls = {key: self.bridge.file(name) for key, name in files.items()}
        document = {"broker": {"address": f"localhost:{self.bridge.ports['broker']}", "tls": tls}}
        Path(self.bridge.file("operator.yaml")).write_text(yaml.safe_dump(document))

    def _plain_dsn(self) -> str:
        return f"host=127.0.0.1 port={self.bridge.ports['app']} user=app dbname=app"

    def _mtls_dsn(self, user: str) -> str:
        files = f"sslrootcert={self.bridge.file('mesh-ca.crt')} sslcert={self.bridge.file('client.crt')}"
        return (
            f"host=localhost port={self.bridge.ports['mtls']} user={user} dbname=app "
            f"sslmode=verify-full {files} sslkey={self.bridge.file('client.key')}"
        )

    def _psql(self, dsn: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["psql", "--no-psqlrc", "--no-password", "-x", "-c", QUESTION, dsn],
            check=False,
            env=client_environment(os.environ),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def _last_line(self, name: str, **wanted: str) -> dict[str, Any]:
        lines = [json.loads(line) for line in Path(self.bridge.file(name)).read_text().splitlines()]
        return next(line for line in reversed(lines) if wanted.items() <= line.items() and "decision_id" in line)
