"""DiscoveryService: parse, ask the sweep, convert."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from broker.access.operators import Operators, Power
from broker.api import identity, paging
from broker.audit import UNKNOWN, Audit
from broker.discovery.changes import Outcome, Planned, Result, apply, plan
from broker.discovery.labels import clean
from broker.discovery.model import CellState, Skipped
from broker.discovery.sweep import Sweeper
from broker.discovery.table import NotForgotten
from broker.errors import BrokerError
from broker.model import Origin, RegisteredDatabase
from tollbridge.reasons import Reason
from tollbridge.v1 import discovery_service_pb2 as pb
from tollbridge.v1 import discovery_service_pb2_grpc

MAX_SKIPPED: Final = 100
"""Per cell in an answer."""
MAX_MESSAGE_CHARS: Final = 1500

_RESULTS: Final = {
    Result.CHANGED: pb.IAM_AUTH_RESULT_CHANGED,
    Result.ALREADY_ON: pb.IAM_AUTH_RESULT_ALREADY_ON,
    Result.FAILED: pb.IAM_AUTH_RESULT_FAILED,
}


class DiscoveryServicer(discovery_service_pb2_grpc.DiscoveryServiceServicer):
    """Serves tollbridge.v1.DiscoveryService."""

    def __init__(
        self,
        sweeper: Sweeper,
        *,
        databases: Callable[[], Mapping[str, RegisteredDatabase]],
        operators: Callable[[], Operators],
        allow_changes: Callable[[], bool],
        audit: Audit,
    ) -> None:
        """`databases`: what is served, by name. `allow_changes`: whether Apply is on."""
        self._sweeper = sweeper
        self._databases = databases
        self._operators = operators
        self._allow_changes = allow_changes
        self._audit = audit

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve there."""
        discovery_service_pb2_grpc.add_DiscoveryServiceServicer_to_server(  # type: ignore[no-untyped-call]
            self, server
        )

    async def Status(  # noqa: N802 - the contract's name
        self, request: pb.DiscoveryServiceStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DiscoveryServiceStatusResponse:
        """The table."""
        sweeper = self._sweeper
        states = sorted(
            sweeper.table.states.values(), key=lambda state: (state.account_id, state.key.region, state.key)
        )
        page, token = paging.page(states, lambda state: state.key.text(), request.page_size, request.page_token)
        return pb.DiscoveryServiceStatusResponse(
            cells=[_cell(state, sweeper.is_stale(state)) for state in page],
            next_page_token=token,
            enabled=bool(sweeper.cells),
            interval_seconds=round(sweeper.rhythm.interval_seconds),
            sweeper=sweeper.is_sweeper,
            aws_calls=sweeper.eyes.directory.calls(),
        )

    async def Plan(  # noqa: N802 - the contract's name
        self, request: pb.DiscoveryServicePlanRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DiscoveryServicePlanResponse:
        """What Apply could change."""
        page, token = paging.page(
            plan(self._sweeper.table), lambda planned: planned.change.arn, request.page_size, request.page_token
        )
        return pb.DiscoveryServicePlanResponse(
            changes=[_change(planned) for planned in page], next_page_token=token, apply_allowed=self._allow_changes()
        )

    async def Apply(  # noqa: N802 - the contract's name
        self, request: pb.DiscoveryServiceApplyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DiscoveryServiceApplyResponse:
        """Change what is named."""
        caller = identity.current_caller()
        if not self._allow_changes():
            raise BrokerError(
                Reason.FEATURE_REFUSED,
                "this broker changes nothing in AWS: set discovery.iam_auth_changes: true in its configuration, or turn"
                " IAM authentication on yourself as the plan says",
            )
        sweeper, operators = self._sweeper, self._operators()
        planned = {each.change.arn: each for each in plan(sweeper.table)}

        def may(each: Planned) -> bool:
            return operators.may_for(caller, Power.APPLY, each.labels)

        def note(outcome: Outcome) -> None:
            each = planned.get(outcome.arn)
            self._audit.changed_in_aws(
                at=sweeper.rhythm.clock.now(),
                caller=caller,
                call=each.call if each else "",
                arn=clean(outcome.arn),
                result=outcome.result.value,
                message=outcome.message,
                role_arn=each.key.role_arn if each else "",
            )

        outcomes = await apply(
            list(request.arns), table=sweeper.table, cells=sweeper.cells, eyes=sweeper.eyes, may=may, note=note
        )
        return pb.DiscoveryServiceApplyResponse(outcomes=[_outcome(outcome) for outcome in outcomes])

    async def Forget(  # noqa: N802 - the contract's name
        self, request: pb.DiscoveryServiceForgetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DiscoveryServiceForgetResponse:
        """Drop what only failed sweeps keep."""
        caller = identity.current_caller()
        database = self._databases().get(request.name)
        if database is None or database.origin is not Origin.DISCOVERED:
            raise BrokerError(Reason.DATABASE_UNKNOWN, f"no discovered database is called {clean(request.name)!r}")
        if not self._operators().may_for(caller, Power.REGISTER, database.facts.labels):
            message = (
                f"no row of operators lets {caller} register or forget databases with the labels of {database.name}"
            )
            raise BrokerError(Reason.CALLER_NOT_ALLOWED, message)
        note = partial(
            self._audit.registry_changed,
            caller=caller,
            action="forget",
            database=database.name,
            revision=0,
            role_arn=database.access.role_arn,
        )
        clock = self._sweeper.rhythm.clock
        try:
            await self._sweeper.forget(database.facts.endpoint.host)
        except NotForgotten as error:
            raise BrokerError(Reason.INVALID_REQUEST, f"{database.name} is not forgotten: {error}") from error
        except (BrokerError, asyncio.CancelledError):
            note(at=clock.now(), result=UNKNOWN)
            raise
        note(at=clock.now())
        return pb.DiscoveryServiceForgetResponse()


def _cell(state: CellState, stale: bool) -> pb.DiscoveryCell:
    failure = state.failure
    return pb.DiscoveryCell(
        account_id=state.account_id,
        region=state.key.region,
        product=f"PRODUCT_{state.key.product.name}",
        role_arn=state.key.role_arn,
        databases=len(state.known),
        last_attempt_at=_timestamp(state.last_attempt_at),
        last_success_at=_timestamp(state.last_success_at),
        failure=f"REASON_{failure.reason.name}" if failure else None,
        failure_message=failure.message[:MAX_MESSAGE_CHARS] if failure else "",
        failures=state.failures,
        seconds=state.seconds,
        skipped=[_skipped(skipped) for skipped in state.skipped[:MAX_SKIPPED]],
        skipped_total=len(state.skipped),
        notes=[note[:MAX_MESSAGE_CHARS] for note in state.notes],
        stale=stale,
    )


def _skipped(skipped: Skipped) -> pb.DiscoverySkipped:
    return pb.DiscoverySkipped(
        name=clean(skipped.name), arn=clean(skipped.arn), cause=skipped.cause.value, why=clean(skipped.why)
    )


def _change(planned: Planned) -> pb.IamAuthChange:
    change = planned.change
    return pb.IamAuthChange(
        account_id=change.place.account_id,
        region=change.place.region,
        arn=change.arn,
        identifier=change.identifier,
        call=planned.call,
        role_arn=planned.key.role_arn,
        parameters=planned.parameters,
        seen_at=_timestamp(planned.seen_at),
    )


def _outcome(outcome: Outcome) -> pb.IamAuthOutcome:
    return pb.IamAuthOutcome(
        arn=outcome.arn,
        result=_RESULTS[outcome.result],
        message=outcome.message[:MAX_MESSAGE_CHARS],
        reason=f"REASON_{outcome.reason.name}" if outcome.reason else None,
    )


def _timestamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    message = Timestamp()
    message.FromDatetime(at)
    return message
