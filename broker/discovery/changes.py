"""Turning IAM authentication on: what a plan lists, and how it is applied. Never on its own: an operator names each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from broker.discovery import labels
from broker.discovery.look import Eyes
from broker.discovery.model import Cause, Cell, CellKey, CellState, Change, Target
from broker.discovery.table import Table
from broker.errors import BrokerError
from broker.model import AccountSession
from broker.policies.statements import Place
from broker.registry.arns import partition_of_region
from tollbridge.model import Product
from tollbridge.reasons import Reason

MAX_AT_ONCE: Final = 20
"""ARNs of one Apply: what can be done within an RPC."""
CALLS: Final = {Target.INSTANCE: "ModifyDBInstance", Target.CLUSTER: "ModifyDBCluster"}
_IDENTIFIERS: Final = {Target.INSTANCE: "DBInstanceIdentifier", Target.CLUSTER: "DBClusterIdentifier"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A change that would be made, and where it comes from."""

    change: Change
    key: CellKey
    labels: Mapping[str, str]
    """What it would have as a database: operators' rows go by them."""
    seen_at: datetime | None

    @property
    def call(self) -> str:
        """As IAM names it."""
        return f"rds:{CALLS[self.change.target]}"

    @property
    def parameters(self) -> dict[str, str]:
        """What is sent."""
        return {
            _IDENTIFIERS[self.change.target]: self.change.identifier,
            "EnableIAMDatabaseAuthentication": "true",
            "ApplyImmediately": "true",
        }


class Result(Enum):
    """What became of a change."""

    CHANGED = "changed"
    ALREADY_ON = "already on"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """For `note` alone: whoever asked left before AWS answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One line of the report."""

    arn: str
    result: Result
    message: str = ""
    reason: Reason | None = None


def plan(table: Table) -> list[Planned]:
    """What would be changed, in the order of account, region and ARN."""
    found = [planned for state in table.states.values() for planned in _of(state)]
    return sorted(found, key=lambda planned: _order(planned.change))


def _order(change: Change) -> tuple[str, str, str]:
    return change.place.account_id, change.place.region, change.arn


def _of(state: CellState) -> list[Planned]:
    if state.key.product is not Product.RDS:
        return []
    place = Place(partition=partition_of_region(state.key.region), region=state.key.region, account_id=state.account_id)
    return [
        Planned(
            change=Change(target=skipped.target, identifier=skipped.name, arn=skipped.arn, place=place),
            key=state.key,
            labels=labels.labels(
                skipped.tags or {}, {labels.ACCOUNT_ID: state.account_id, labels.REGION: state.key.region}
            ),
            seen_at=state.last_success_at,
        )
        for skipped in state.skipped
        if skipped.cause is Cause.IAM_AUTH_OFF and skipped.target is not None and skipped.arn
    ]


async def apply(
    arns: Sequence[str],
    *,
    table: Table,
    cells: Mapping[CellKey, Cell],
    eyes: Eyes,
    may: Callable[[Planned], bool],
    note: Callable[[Outcome], None],
) -> list[Outcome]:
    """Make the changes that are named, those of the plan that the caller `may` alone. `note` hears of each.

    One that fails stops no other. Raises INVALID_REQUEST for too many.
    """
    if not 1 <= len(arns) <= MAX_AT_ONCE:
        raise BrokerError(Reason.INVALID_REQUEST, f"name 1 to {MAX_AT_ONCE} ARNs of the plan at a time")
    planned = {each.change.arn: each for each in plan(table)}
    outcomes: dict[str, Outcome] = {}

    async def one(arn: str) -> None:
        each = planned.get(arn)
        if each is None or each.key not in cells:
            message = "it is not in the plan: turned on since, gone, or asked for by no matcher"
            outcome = Outcome(arn=arn, result=Result.FAILED, message=message, reason=Reason.INVALID_REQUEST)
        elif not may(each):
            message = "no row of operators lets you apply changes to a database with its labels"
            outcome = Outcome(arn=arn, result=Result.FAILED, message=message, reason=Reason.CALLER_NOT_ALLOWED)
        else:
            try:
                outcome = await _apply(each, cells[each.key], eyes)
            except asyncio.CancelledError:
                # A call that is under way goes on: nobody changes anything unseen by leaving before its answer.
                message = "whoever asked left before AWS answered: it may have been changed"
                note(Outcome(arn=arn, result=Result.UNKNOWN, message=message))
                raise
        outcomes[arn] = outcome
        note(outcome)

    wanted = list(dict.fromkeys(arns))
    async with asyncio.TaskGroup() as group:
        for arn in wanted:
            group.create_task(one(arn), name="discovery apply")
    return [outcomes[arn] for arn in wanted]


async def _apply(each: Planned, cell: Cell, eyes: Eyes) -> Outcome:
    async def turn_on(session: AccountSession) -> Result:
        # The plan is as old as the last sweep.
        if await eyes.directory.iam_auth(session, each.change):
            return Result.ALREADY_ON
        await eyes.directory.turn_iam_auth_on(session, each.change)
        return Result.CHANGED

    try:
        result = await eyes.with_session(cell, turn_on)
    except BrokerError as error:
        return Outcome(arn=each.change.arn, result=Result.FAILED, message=error.message, reason=error.reason)
    return Outcome(arn=each.change.arn, result=result)
