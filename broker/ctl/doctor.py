"""`tollbridge doctor`: why a login does not work, from the broker's AWS identity to the database's answer.

The broker's half (identity, roles, credential) comes from DiagnosticsService; the network's half (DNS, TCP, TLS, login,
query) from the `check` of a proxy, because only a proxy stands where logins start.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import click

from broker.ctl.failure import Exit, Failure, printable
from broker.ctl.output import TEXT, dump, output_option
from broker.ctl.where import ask, broker_options, names, read_settings, served
from tollbridge.reports import DiagnosisStep, Outcome, PolicyStatement

_CHECK_SECONDS: Final = 60.0
_AT_ONCE: Final = 4
"""As many as the broker examines together."""
_OURS: Final = frozenset({"broker", "database", "grant"})
"""Steps of a proxy's check that the broker's half has told already; told again only when they fail."""
_CAUSE: Final = re.compile(r"\(\d\) ")

_EXAMPLES: Final = """
\b
Examples:
  tollbridge doctor rds-postgres --proxy-config /etc/tollbridge/proxy.yaml
  tollbridge doctor --all
\b
  # With a proxy that runs elsewhere
  tollbridge doctor rds-postgres --proxy-command "kubectl exec -n shop deploy/proxy -- tollbridge-proxy"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One step, as it is shown."""

    step: str
    ok: bool | None
    """None: it works, and somebody should know; or it was not tried."""
    detail: str
    seconds: float = 0.0
    reason: str = ""
    causes: tuple[str, ...] = ()
    statements: tuple[PolicyStatement, ...] = ()


@dataclass(slots=True)
class Patient:
    """One database under examination."""

    database: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is broken, as far as it was looked at."""
        return all(finding.ok is not False for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to try."""

    db_user: str
    db_name: str
    workload: str
    check: tuple[str, ...]
    """Command of a proxy with its configuration; empty: none is at hand."""


@click.command("doctor", short_help="Try a login step by step: what is broken?", epilog=_EXAMPLES)
@click.argument("database", required=False, shell_complete=names)
@click.option("--all", "everything", is_flag=True, help="Every database that this caller sees.")
@click.option("--db-user", default="", metavar="USER", help="Log in as.  [default: one that a rule names]")
@click.option("--db-name", default="", metavar="NAME", help="Logical database.")
@click.option("--workload", default="", metavar="ID", help="On behalf of; the access rules are looked at then.")
@click.option(
    "--proxy-config", envvar="TOLLBRIDGE_PROXY_CONFIG", show_envvar=True, default="", metavar="FILE",
    help="A proxy's YAML: its way to the database is tried.",
)  # fmt: skip
@click.option(
    "--proxy-command", default="", metavar="COMMAND", help="How a proxy's program is run, where it is elsewhere."
)
@broker_options
@output_option
def doctor(
    database: str | None, everything: bool, db_user: str, db_name: str, workload: str, proxy_config: str,
    proxy_command: str, form: str,
) -> None:  # fmt: skip
    """Try what a login needs, step by step, and say what is broken and how to mend it.

    \b
    The broker's half, with fresh calls to AWS:
      access     the access rules let the workload in (with --workload)
      base       the broker has an AWS identity
      role N     it may assume each role of the chain
      metadata   AWS names the database's endpoint, and its tags (with discovery.fetch_metadata)
      user       AWS knows the user as one that logs in with IAM (caches)
      issue      a credential can be made
    The network's half, where a proxy is named (--proxy-config, --proxy-command):
      dns, tcp   there is a way to the database
      tls        its certificate chains to the right roots and bears its name
      login      it takes the credential
      query      it answers

    A step that fails comes with likely causes and the policy statement to add; a note with the statement alone.

    Exit code 0: nothing is broken. 1: something is.
    """
    if bool(database) == everything:
        raise Failure("which database?" if not database else "a database and --all", fix="name one, or give --all")
    wish = Wish(db_user=db_user, db_name=db_name, workload=workload, check=_check_command(proxy_config, proxy_command))
    live = Live(form)
    patients = ask(lambda client: _examine(client, [database] if database else None, wish, live))
    if form != TEXT:
        click.echo(dump(_as_value(patients, everything), form), nl=False)
    elif everything:
        broken = [patient.database for patient in patients if not patient.ok]
        click.echo(f"{len(patients)} databases, {len(broken)} broken{': ' + ', '.join(broken) if broken else ''}")
    raise SystemExit(Exit.OK if all(patient.ok for patient in patients) else Exit.NO)


class Live:
    """Shows findings as they come; what is under way too, where a person watches."""

    def __init__(self, form: str) -> None:
        self._on = form == TEXT
        self._moving = self._on and sys.stderr.isatty()

    def heading(self, database: str) -> None:
        """Another database."""
        if self._moving:
            click.echo("\r\x1b[K", nl=False, err=True)
        if self._on:
            click.echo(printable(f"{database}"))

    def begun(self, step: str, detail: str) -> None:
        """A step is under way."""
        if self._moving:
            text = printable(f"  ...   {step:<10}{detail}")[: shutil.get_terminal_size().columns - 1]
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    def found(self, finding: Finding) -> None:
        """A step has ended."""
        if self._moving:
            click.echo("\r\x1b[K", nl=False, err=True)
        if self._on:
            click.echo(as_text(finding), nl=False)


async def _examine(client: Any, chosen: list[str] | None, wish: Wish, live: Live) -> list[Patient]:
    """All patients, some at once; shown one after the other, in order."""
    if chosen is None:
        chosen = await served(client)
        if not chosen:
            raise Failure("the broker serves no database that this caller may view", code=Exit.UNKNOWN)
    if len(chosen) == 1:
        live.heading(chosen[0])
        return [await _examine_one(client, chosen[0], wish, live)]
    from tollbridge.client import RpcFailed  # gRPC loads here, not for --help

    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> Patient:
        async with turns:
            return await _examine_one(client, name, wish, Live("quiet"))

    patients = []
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(name), name=name) for name in chosen]
            for number, work in enumerate(running):
                live.begun("", f"{number} of {len(running)} databases done")
                patient = await work
                live.heading(patient.database)
                for finding in patient.findings:
                    live.found(finding)
                patients.append(patient)
    except* (RpcFailed, Failure, OSError) as errors:
        raise errors.exceptions[0] from None
    return patients


async def _examine_one(client: Any, name: str, wish: Wish, live: Live) -> Patient:
    patient = Patient(name)
    async for item in _steps(client, name, wish):
        if isinstance(item, Finding):
            patient.findings.append(item)
            live.found(item)
        else:
            live.begun(*item)
    return patient


async def _steps(client: Any, name: str, wish: Wish) -> AsyncIterator[Finding | tuple[str, str]]:
    """Findings, and (step, detail) of what is under way. The proxy's half only when the broker's half got through."""
    needed: tuple[PolicyStatement, ...] = ()
    tried = wish
    async for step in client.diagnose(name, wish.db_user, db_name=wish.db_name, workload=wish.workload):
        if step.outcome is Outcome.BEGUN:
            yield step.step, step.detail
            continue
        if step.step == "issue" and step.outcome is Outcome.OK:
            needed = step.statements
            tried = replace(wish, db_user=step.db_user, db_name=step.db_name)
        yield of_broker(step)
    if tried is wish:  # nothing was issued
        return
    if not wish.check:
        detail = "dns, tcp, tls, login and query were not tried: name a proxy with --proxy-config or --proxy-command"
        yield Finding(step="network", ok=None, detail=detail)
        return
    yield "network", "a proxy's check"
    async for record in _check(name, tried):
        finding = of_proxy(record, needed)
        if finding is not None:
            yield finding


def of_broker(step: DiagnosisStep) -> Finding:
    """A step of the broker's half. What the login will need is kept for when it fails."""
    failed = step.outcome is Outcome.FAILED
    return Finding(
        step=step.step,
        ok={Outcome.OK: True, Outcome.FAILED: False}.get(step.outcome),
        detail=step.detail,
        seconds=step.seconds,
        reason=str(step.reason) if step.reason else "",
        causes=step.causes,
        statements=step.statements if failed or step.outcome is Outcome.WARNING else (),
    )


def of_proxy(record: dict[str, Any], needed: tuple[PolicyStatement, ...]) -> Finding | None:
    """A step of a proxy's check; None for one that was told already."""
    step, ok = str(record.get("step", "?")), bool(record.get("ok"))
    if ok and step in _OURS:
        return None
    detail, reason = str(record.get("detail", "")), str(record.get("reason", ""))
    refused = not ok and step == "login" and reason == "DATABASE_REFUSED"
    pieces = _CAUSE.split(detail)
    return Finding(
        step=step,
        ok=ok,
        detail=detail,
        seconds=float(record.get("seconds", 0.0)),
        reason=reason,
        causes=tuple(piece.strip().rstrip(";.") for piece in pieces[1:]),
        statements=needed if refused else (),
    )


def as_text(finding: Finding) -> str:
    """For people: a line, and for what failed its causes and what to add."""
    mark = {True: "ok", False: "FAILED", None: "note"}[finding.ok]
    detail = finding.detail
    if finding.causes and (start := detail.find("(1) ")) > 0:
        detail = detail[:start].rstrip(" ;:,")
    took = f"{finding.seconds * 1000:>6.0f} ms" if finding.seconds else " " * 9
    lines = [f"  {mark:<8}{finding.step:<10}{took}  {detail}"]
    if finding.reason:
        lines.append(f"{'':<31}{finding.reason}")
    if finding.causes:
        lines.append("          likely causes:")
        lines += [f"            {number}. {cause}" for number, cause in enumerate(finding.causes, 1)]
    for each in finding.statements:
        where = f"the trust policy of {each.attach_to}" if each.trust else f"a policy of {each.attach_to}"
        lines += [f"          {where} must have:", f"            {each.statement}"]
    return printable("\n".join(lines)) + "\n"


def _as_value(patients: Sequence[Patient], everything: bool) -> Any:
    listed = [
        {
            "database": patient.database,
            "ok": patient.ok,
            "steps": [
                {
                    **asdict(finding),
                    "causes": list(finding.causes),
                    "statements": [_parsed(s) for s in finding.statements],
                }
                for finding in patient.findings
            ],
        }
        for patient in patients
    ]
    return listed if everything else listed[0]


def _parsed(each: PolicyStatement) -> dict[str, Any]:
    return {"attach_to": each.attach_to, "trust": each.trust, "statement": json.loads(each.statement)}


def _check_command(config: str, command: str) -> tuple[str, ...]:
    """The proxy's program as an argument list; empty when no proxy is named anywhere."""
    section = read_settings().proxy
    config = config or section.config
    program = tuple(shlex.split(command)) or tuple(section.command)
    if not config and not program:
        return ()
    if config and not program and not os.path.exists(config):
        raise Failure(f"the proxy's configuration {config} does not exist", fix="correct --proxy-config")
    named = ("--config", config) if config else ()
    # On this machine: the proxy of the same installation.
    return (*(program or (sys.executable, "-m", "proxy")), "check", *named)


async def _check(name: str, wish: Wish) -> AsyncIterator[dict[str, Any]]:
    arguments = [*wish.check, name, "-o", "jsonl"]
    for flag, value in (("--db-user", wish.db_user), ("--db-name", wish.db_name), ("--workload", wish.workload)):
        if value:
            arguments += [flag, value]
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        yield _broken(f"{arguments[0]} cannot be run: {error.strerror}")
        return
    if process.stdout is None or process.stderr is None:
        raise AssertionError("both are pipes")
    said = False
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            async for line in process.stdout:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # not a step: a wrapper's own words
                said = said or not record.get("ok", False)
                yield record
            words = (await process.stderr.read()).decode(errors="replace").strip()
            code = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        yield _broken(f"the proxy's check did not end in {_CHECK_SECONDS:g} s")
        return
    if code and not said:
        yield _broken(f"the proxy's check ended with code {code}: {words[-500:] or 'it said nothing'}")


def _broken(why: str) -> dict[str, Any]:
    return {"step": "network", "ok": False, "detail": why, "seconds": 0.0}
