"""`tollbridge explain` and `tollbridge rules test`: who may enter what, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import click
from pydantic import ConfigDict, Field

from broker.ctl import offline
from broker.ctl.failure import Exit, Failure, file_problems, printable
from broker.ctl.output import output_option, show, table
from broker.ctl.where import ask, broker_options, names
from broker.explain import Known, explain
from broker.model import AwsAccess, GrantRequest, Origin, RegisteredDatabase
from broker.registry.arns import partition_of_region
from broker.registry.products import BY_PROTOCOL
from tollbridge.model import Database, Endpoint, Product, Protocol, TlsFacts
from tollbridge.process import settings as loader
from tollbridge.process.settings import Finding, Section
from tollbridge.reasons import Reason
from tollbridge.reports import Explanation

_EXAMPLES: Final = """
\b
Examples:
  tollbridge explain --workload spiffe://example.org/ns/shop/sa/checkout --database rds-postgres --db-user app
\b
  # Before a configuration is rolled out, without a broker
  tollbridge explain --config broker.yaml --workload spiffe://... --database rds-postgres --db-user app
"""


@click.command("explain", short_help="Say whether a login is allowed, and why.", epilog=_EXAMPLES)
@click.option("--workload", required=True, metavar="ID", help="Who wants to enter, such as a SPIFFE ID.")
@click.option("--database", required=True, metavar="NAME", help="Where to.", shell_complete=names)
@click.option("--db-user", required=True, metavar="USER", help="As which user, or role.")
@click.option("--db-name", default="", metavar="NAME", help="Which logical database.")
@click.option(
    "--proxy", "caller", default="", metavar="ID", help="The proxy that asks.  [default: the workload itself]"
)
@click.option("-c", "--config", type=click.Path(path_type=Path), help="Ask this broker's YAML instead of a broker.")
@broker_options
@output_option
def explain_(
    workload: str, database: str, db_user: str, db_name: str, caller: str, config: Path | None, form: str
) -> None:
    """Say what would be decided about a login, and what would be done for it.

    Every step: the database, the proxy's row, each rule and how far it matches, the roles that would be assumed after
    everything was merged, and the credential. Nothing is asked of AWS and nothing is issued.

    Exit code 0: allowed. 1: not allowed.
    """
    if config:
        asked = GrantRequest(
            caller=caller or workload, workload=workload, database=database, db_user=db_user, db_name=db_name
        )
        answer = explain(offline.known(offline.read(config)), asked)
    else:
        answer = ask(
            lambda client: client.explain(database, db_user, workload=workload, db_name=db_name, caller=caller)
        )
    show(as_value(answer), form, lambda: as_text(answer))
    raise SystemExit(Exit.OK if answer.allowed else Exit.NO)


def as_value(answer: Explanation) -> dict[str, Any]:
    """For programs."""
    return {
        "allowed": answer.allowed,
        "reason": str(answer.reason) if answer.reason else None,
        "message": answer.message or None,
        "rule": answer.rule or None,
        "policy_version": answer.policy_version,
        "steps": [{"step": each.step, "ok": each.ok, "detail": each.detail} for each in answer.steps],
        "rules": [
            {"rule": each.rule, "deny": each.deny, "matches": each.matches, "fails_at": each.fails_at or None}
            for each in answer.rules
        ],
        "role_chain": [
            {
                "role_arn": hop.role_arn,
                "session_name": hop.session_name,
                "duration_seconds": hop.duration_seconds,
                "external_id": f"set by {hop.external_id_from}" if hop.external_id_set else "not set",
                "tags": dict(hop.tags),
                "narrowed": hop.narrowed,
            }
            for hop in answer.role_chain
        ],
        "credential": answer.credential or None,
    }


def as_text(answer: Explanation) -> str:
    """For people."""
    lines = [printable(f"{'ok' if each.ok else 'NO':<4}{each.step:<12}{each.detail}") for each in answer.steps]
    text = "\n".join(lines) + "\n"
    if answer.rules:
        rows = [
            (each.rule, "deny" if each.deny else "allow", "yes" if each.matches else f"no, {each.fails_at} differ")
            for each in answer.rules
        ]
        text += "\n" + table(("RULE", "KIND", "MATCHES"), rows)
    verdict = f"allowed by rule {answer.rule!r}" if answer.allowed else f"not allowed: {answer.reason}"
    return f"{text}\n{printable(verdict)}\n"


class RuleTest(Section):
    """One of `tests`."""

    model_config = ConfigDict(json_schema_extra={"required": ["workload", "db_user", "expect"]})
    workload: str = ""
    database: str = Field(default="", description="A registered database. For others give labels instead.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of a database that may come.")
    protocol: Protocol = Protocol.POSTGRES
    db_user: str = ""
    db_name: str = ""
    proxy: str = Field(default="", description="The proxy that asks; empty: the workload itself.")
    expect: Literal["allow", "deny", ""] = ""
    rule: str = Field(default="", description="The rule that must decide.")

    def findings(self) -> Iterable[Finding]:
        """What a row needs."""
        for key in ("workload", "db_user", "expect"):
            if not getattr(self, key):
                yield Finding(self.at(key), "is required", "allow or deny" if key == "expect" else "")
        if bool(self.database) == bool(self.labels):
            yield Finding(self.at("database"), "name a database, or give labels: one of the two", "database: orders")


class RuleTests(Section):
    """A file of rule tests."""

    model_config = ConfigDict(json_schema_extra={"required": ["tests"]})
    config: str = Field(default="", description="The broker's YAML, beside this file unless absolute.")
    tests: list[RuleTest] = Field(default_factory=list)

    def findings(self) -> Iterable[Finding]:
        """A file without tests proves nothing."""
        if not self.tests:
            yield Finding(self.at("tests"), "is empty", "add rows of workload, database, db_user and expect")


@click.group()
def rules() -> None:
    """Access rules."""


_RULES_EXAMPLE: Final = """
\b
FILE, such as:
  config: broker.yaml
  tests:
    - {workload: spiffe://example.org/ns/shop/sa/checkout, database: orders, db_user: app, expect: allow}
    - {workload: spiffe://example.org/ns/lab/sa/notebook, labels: {env: prod}, db_user: app, expect: deny}
    - {workload: spiffe://example.org/ns/shop/sa/checkout, database: orders, db_user: root, expect: deny, rule: no-root}
"""


@rules.command("test", short_help="Hold the rules against what they must decide.", epilog=_RULES_EXAMPLE)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="The broker's YAML.  [default: the file's `config`]"
)
@output_option
def test(file: Path, config: Path | None, form: str) -> None:
    """Check a configuration's rules against what they are meant to decide.

    Each row of FILE names a workload, a database (or only its labels), a user, and whether that must be allowed or
    denied; `rule` says which rule must decide. Offline: the rules are those of a broker's YAML.

    Exit code 0: every row holds. 1: some do not.
    """
    with file_problems(file):
        wanted = loader.load(file, RuleTests).value
    path = config or (file.parent / wanted.config if wanted.config else None)
    if path is None:
        raise Failure("no rules to test", fix=f"--config broker.yaml, or `config: broker.yaml` in {file}")
    known = offline.known(offline.read(path))
    results = [_judge(known, number, row) for number, row in enumerate(wanted.tests, 1)]
    failed = sum(not result["ok"] for result in results)

    def text() -> str:
        rows = [
            ("ok" if each["ok"] else "FAILED", each["test"], each["expected"], each["got"], each["why"])
            for each in results
        ]
        ending = f"{failed} of {len(results)} failed" if failed else f"all {len(results)} hold"
        return table(("", "TEST", "EXPECTED", "GOT", "WHY"), rows) + ending + "\n"

    show({"ok": not failed, "tests": results}, form, text)
    raise SystemExit(Exit.NO if failed else Exit.OK)


def _judge(known: Known, number: int, row: RuleTest) -> dict[str, Any]:
    name = row.database
    if row.labels:
        name = f"test-{number}"
        known = replace(known, databases={**known.databases, name: _imagined(name, row)})
    asked = GrantRequest(
        caller=row.proxy or row.workload,
        workload=row.workload,
        database=name,
        db_user=row.db_user,
        db_name=row.db_name,
    )
    answer = explain(known, asked)
    # A database whose roles do not work out was let in by the rules all the same.
    allowed = answer.allowed or any(each.step == "rules" and each.ok for each in answer.steps)
    got = f"{'allow' if allowed else 'deny'}{f' by {answer.rule}' if answer.rule else ''}"
    expected = f"{row.expect}{f' by {row.rule}' if row.rule else ''}"
    ok = allowed == (row.expect == "allow") and (not row.rule or row.rule == answer.rule)
    if answer.reason is Reason.DATABASE_UNKNOWN:  # denied, and by no rule: a row with a slip in it would always hold
        ok, got = False, "no such database"
    where = row.database or ",".join(f"{key}={value}" for key, value in row.labels.items())
    return {
        "ok": ok,
        "test": f"{number}: {row.workload} -> {where} as {row.db_user}{f' in {row.db_name}' if row.db_name else ''}",
        "expected": expected,
        "got": got,
        "why": answer.message if not ok and answer.message else "",
    }


def _imagined(name: str, row: RuleTest) -> RegisteredDatabase:
    """A database with these labels, for rules about databases that will be discovered."""
    region = "us-east-1"
    facts = Database(
        name=name,
        protocol=row.protocol,
        product=BY_PROTOCOL.get(row.protocol, Product.RDS),
        endpoint=Endpoint(host="test.invalid", port=1),
        tls=TlsFacts(),
        region=region,
        account_id="000000000000",
        labels=row.labels,
    )
    return RegisteredDatabase(
        facts=facts, access=AwsAccess(partition=partition_of_region(region)), origin=Origin.DISCOVERED
    )
