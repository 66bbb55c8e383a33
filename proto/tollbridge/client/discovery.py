"""What operators ask about discovery. `Client` mixes these calls in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from tollbridge.discovery import (
    ChangeOutcome,
    ChangeResult,
    DiscoveryCell,
    DiscoveryPlan,
    DiscoveryStatus,
    PlannedChange,
    SkippedResource,
)
from tollbridge.model import Product
from tollbridge.reasons import Reason
from tollbridge.v1 import database_pb2, reason_pb2
from tollbridge.v1 import discovery_service_pb2 as pb

PAGE_SIZE: Final = 200
MAX_APPLIED: Final = 20
"""ARNs in one call; more are several calls."""

_RESULTS: Final = {
    pb.IAM_AUTH_RESULT_CHANGED: ChangeResult.CHANGED,
    pb.IAM_AUTH_RESULT_ALREADY_ON: ChangeResult.ALREADY_ON,
}


class DiscoveryCalls:
    """DiscoveryService, one method per RPC. Each raises RpcFailed."""

    async def _call(self, service: str, method: str, request: object) -> Any:
        raise NotImplementedError

    async def discovery_status(self) -> DiscoveryStatus:
        """Every cell with its last success, errors and staleness; for operators who may view."""
        cells: list[DiscoveryCell] = []
        page = ""
        while True:
            request = pb.DiscoveryServiceStatusRequest(page_size=PAGE_SIZE, page_token=page)
            answer = await self._call("discovery", "Status", request)
            cells.extend(_cell(message) for message in answer.cells)
            page = answer.next_page_token
            if not page:
                return DiscoveryStatus(
                    enabled=answer.enabled,
                    interval_seconds=answer.interval_seconds,
                    sweeper=answer.sweeper,
                    aws_calls=answer.aws_calls,
                    cells=tuple(cells),
                )

    async def discovery_plan(self) -> DiscoveryPlan:
        """What would turn IAM authentication on where it is off; for operators who may view."""
        changes: list[PlannedChange] = []
        page = ""
        while True:
            request = pb.DiscoveryServicePlanRequest(page_size=PAGE_SIZE, page_token=page)
            answer = await self._call("discovery", "Plan", request)
            changes.extend(_change(message) for message in answer.changes)
            page = answer.next_page_token
            if not page:
                return DiscoveryPlan(changes=tuple(changes), apply_allowed=answer.apply_allowed)

    async def discovery_apply(self, arns: Sequence[str]) -> list[ChangeOutcome]:
        """Make those changes of the plan, MAX_APPLIED at a time; for operators who may apply."""
        outcomes: list[ChangeOutcome] = []
        for start in range(0, len(arns), MAX_APPLIED):
            request = pb.DiscoveryServiceApplyRequest(arns=arns[start : start + MAX_APPLIED])
            answer = await self._call("discovery", "Apply", request)
            outcomes.extend(_outcome(message) for message in answer.outcomes)
        return outcomes

    async def forget_database(self, name: str) -> None:
        """Drop a discovered database that only failed sweeps keep; for operators who may register."""
        await self._call("discovery", "Forget", pb.DiscoveryServiceForgetRequest(name=name))


def _cell(message: pb.DiscoveryCell) -> DiscoveryCell:
    return DiscoveryCell(
        account_id=message.account_id,
        region=message.region,
        product=_product(message.product),
        role_arn=message.role_arn,
        databases=message.databases,
        last_attempt_at=_instant(message, "last_attempt_at"),
        last_success_at=_instant(message, "last_success_at"),
        failure=_reason(message.failure),
        failure_message=message.failure_message,
        failures=message.failures,
        seconds=message.seconds,
        skipped=tuple(
            SkippedResource(name=each.name, arn=each.arn, cause=each.cause, why=each.why) for each in message.skipped
        ),
        skipped_total=message.skipped_total,
        notes=tuple(message.notes),
        stale=message.stale,
    )


def _change(message: pb.IamAuthChange) -> PlannedChange:
    return PlannedChange(
        account_id=message.account_id,
        region=message.region,
        arn=message.arn,
        identifier=message.identifier,
        call=message.call,
        role_arn=message.role_arn,
        parameters=dict(message.parameters),
        seen_at=_instant(message, "seen_at"),
    )


def _outcome(message: pb.IamAuthOutcome) -> ChangeOutcome:
    return ChangeOutcome(
        arn=message.arn,
        result=_RESULTS.get(message.result, ChangeResult.FAILED),
        message=message.message,
        reason=_reason(message.reason),
    )


def _instant(message: Any, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    at: Timestamp = getattr(message, field)
    return at.ToDatetime(tzinfo=UTC)


def _reason(number: int) -> Reason | None:
    """None for none; INTERNAL for one of a newer broker."""
    if number == reason_pb2.REASON_UNSPECIFIED:
        return None
    if number not in reason_pb2.Reason.values():
        return Reason.INTERNAL
    return Reason(reason_pb2.Reason.Name(number).removeprefix("REASON_"))


def _product(number: int) -> Product | None:
    if number not in database_pb2.Product.values() or number == database_pb2.PRODUCT_UNSPECIFIED:
        return None
    return Product[database_pb2.Product.Name(number).removeprefix("PRODUCT_")]
