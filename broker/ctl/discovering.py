"""`tollbridge discovery status|plan|apply`: what discovery sees in AWS, and IAM authentication turned on by hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from broker.ctl.failure import Exit, Failure
from broker.ctl.output import output_option, show, table
from broker.ctl.where import ask, broker_options
from tollbridge.process.lifecycle import SystemClock

if TYPE_CHECKING:
    from tollbridge.discovery import DiscoveryCell, DiscoveryPlan, DiscoveryStatus

_APPLY_EXAMPLES: Final = """
\b
Examples:
  tollbridge discovery apply arn:aws:rds:us-west-1:222222222222:db:orders
  tollbridge discovery apply --all --yes
"""


@click.group()
def discovery() -> None:
    """What discovery sees in AWS."""


@discovery.command("status", short_help="Show what each sweep of AWS found.")
@click.option("--problems", is_flag=True, help="Only what fails, is stale, or was found and is not served.")
@broker_options
@output_option
def status(problems: bool, form: str) -> None:
    """Show each account, region and service: when it was last looked at, what was found, what went wrong.

    Exit code 1 when something fails or is stale.
    """
    found: DiscoveryStatus = ask(lambda client: client.discovery_status())
    cells = [cell for cell in found.cells if not problems or _troubled(cell) or cell.skipped_total]
    now = SystemClock().now()

    def text() -> str:
        if not found.enabled:
            return "discovery is off: the broker's configuration has no matcher in db_service.aws\n"
        who = "this broker sweeps" if found.sweeper else "another broker sweeps"
        head = f"every {found.interval_seconds} s; {who}; {found.aws_calls} calls to AWS since its start\n"
        rows = [
            (
                cell.account_id or "(own)", cell.region, str(cell.product or "?"), cell.databases, cell.skipped_total,
                _ago(now, cell.last_success_at), _state(cell),
            )
            for cell in cells
        ]  # fmt: skip
        if not rows:
            return head + "nothing to show\n"
        text = table(("ACCOUNT", "REGION", "SERVICE", "DATABASES", "SKIPPED", "LAST SUCCESS", "STATE"), rows)
        skipped = [
            (each.name, cell.account_id, cell.region, each.cause, each.why) for cell in cells for each in cell.skipped
        ]
        if problems and skipped:
            text += "\n" + table(("NOT SERVED", "ACCOUNT", "REGION", "CAUSE", "WHY"), skipped)
        return head + text

    value = {
        "enabled": found.enabled,
        "interval_seconds": found.interval_seconds,
        "sweeper": found.sweeper,
        "aws_calls": found.aws_calls,
        "cells": [_cell_value(cell) for cell in cells],
    }
    show(value, form, text)
    raise SystemExit(Exit.NO if any(map(_troubled, found.cells)) else Exit.OK)


@discovery.command("plan", short_help="Show where IAM authentication is off.")
@broker_options
@output_option
def plan(form: str) -> None:
    """Show which databases have IAM authentication off, and the calls that would turn it on. Changes nothing."""
    found: DiscoveryPlan = ask(lambda client: client.discovery_plan())

    def text() -> str:
        if not found.changes:
            return "nothing to change: IAM authentication is on wherever discovery looks\n"
        ending = "apply makes these changes" if found.apply_allowed else _NOT_ALLOWED
        return _plan_table(found) + f"{ending}\n"

    show(_plan_value(found), form, text)


_NOT_ALLOWED: Final = "the broker's configuration does not allow apply: discovery.iam_auth_changes"


@discovery.command("apply", short_help="Turn IAM authentication on.", epilog=_APPLY_EXAMPLES)
@click.argument("arns", nargs=-1, metavar="[ARN]...")
@click.option("--all", "everything", is_flag=True, help="Every change of the plan.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@broker_options
@output_option
def apply(arns: tuple[str, ...], everything: bool, yes: bool, form: str) -> None:
    """Turn IAM authentication on for RDS instances and Aurora clusters of the plan.

    The plan is shown and confirmed first. Each change is reported on; exit code 1 when one failed.
    """
    if bool(arns) == everything:
        raise Failure("which changes?" if not arns else "ARNs and --all", fix="name ARNs of the plan, or give --all")
    found: DiscoveryPlan = ask(lambda client: client.discovery_plan())
    planned = {change.arn: change for change in found.changes}
    for arn in arns:
        if arn not in planned:
            raise Failure(f"{arn} is not in the plan", fix="`tollbridge discovery plan` lists what is")
    chosen = list(planned) if everything else list(dict.fromkeys(arns))
    if not chosen:
        click.echo("nothing to change", err=True)
        return
    if not found.apply_allowed:
        raise Failure(_NOT_ALLOWED, fix="set it, and reload the broker", code=Exit.NOT_PERMITTED)
    if not yes:
        _confirm(found, chosen)
    outcomes = ask(lambda client: client.discovery_apply(chosen), deadline_seconds=120.0)
    rows = [(each.arn, str(each.result), each.message) for each in outcomes]
    value = [{"arn": arn, "result": result, "message": message or None} for arn, result, message in rows]
    show(value, form, lambda: table(("ARN", "RESULT", ""), rows))
    raise SystemExit(Exit.NO if any(str(each.result) == "failed" for each in outcomes) else Exit.OK)


def _confirm(found: DiscoveryPlan, chosen: Sequence[str]) -> None:
    if not sys.stdin.isatty():
        raise Failure("nobody to ask whether to change AWS", fix="look at `discovery plan`, then give --yes")
    click.echo(_plan_table(found, chosen), err=True, nl=False)
    click.confirm(f"Make {len(chosen)} change{'s' if len(chosen) != 1 else ''} in AWS?", abort=True, err=True)


def _plan_table(found: DiscoveryPlan, chosen: Sequence[str] | None = None) -> str:
    rows = [
        (
            change.arn, change.call, ",".join(f"{key}={value}" for key, value in sorted(change.parameters.items())),
            change.role_arn or "(the broker's own identity)",
        )
        for change in found.changes
        if chosen is None or change.arn in chosen
    ]  # fmt: skip
    return table(("ARN", "CALL", "WITH", "BY"), rows)


def _plan_value(found: DiscoveryPlan) -> dict[str, Any]:
    return {
        "apply_allowed": found.apply_allowed,
        "changes": [
            {
                "arn": change.arn,
                "account_id": change.account_id,
                "region": change.region,
                "call": change.call,
                "parameters": dict(change.parameters),
                "role_arn": change.role_arn,
            }
            for change in found.changes
        ],
    }


def _cell_value(cell: DiscoveryCell) -> dict[str, Any]:
    return {
        "account_id": cell.account_id,
        "region": cell.region,
        "service": str(cell.product) if cell.product else None,
        "role_arn": cell.role_arn,
        "databases": cell.databases,
        "last_success_at": f"{cell.last_success_at:%FT%TZ}" if cell.last_success_at else None,
        "failure": str(cell.failure) if cell.failure else None,
        "failure_message": cell.failure_message or None,
        "failures": cell.failures,
        "stale": cell.stale,
        "seconds": round(cell.seconds, 3),
        "notes": list(cell.notes),
        "skipped_total": cell.skipped_total,
        "skipped": [
            {"name": each.name, "arn": each.arn, "cause": each.cause, "why": each.why} for each in cell.skipped
        ],
    }


def _troubled(cell: DiscoveryCell) -> bool:
    return cell.failure is not None or cell.stale


def _state(cell: DiscoveryCell) -> str:
    stale = "stale; " if cell.stale else ""
    if cell.failure is not None:
        return f"{stale}FAILED {cell.failures}x: {cell.failure}: {cell.failure_message}"
    if cell.last_attempt_at is None:
        return "not looked at yet"
    return f"{stale}ok" + (f"; {'; '.join(cell.notes)}" if cell.notes else "")


def _ago(now: datetime, at: datetime | None) -> str:
    if at is None:
        return "never"
    seconds = max(0, round((now - at.astimezone(UTC)).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
