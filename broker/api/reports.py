"""AccessService and DiagnosticsService: parse, ask, convert. Operators see only what their rows select."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from broker.access.operators import Operators, Power
from broker.api import convert, identity
from broker.api.interceptors import not_an_operator
from broker.api.server import AddService
from broker.diagnose import Diagnoser
from broker.errors import BrokerError
from broker.explain import Known, explain, unknown_database
from broker.model import GrantRequest, RegisteredDatabase
from tollbridge.reasons import Reason
from tollbridge.reports import DiagnosisStep, Explanation
from tollbridge.v1 import access_service_pb2 as access
from tollbridge.v1 import access_service_pb2_grpc, diagnostics_service_pb2_grpc
from tollbridge.v1 import diagnostics_service_pb2 as diagnostics

Context = grpc.aio.ServicerContext[Any, Any]


class AccessServicer(access_service_pb2_grpc.AccessServiceServicer):
    """Serves tollbridge.v1.AccessService."""

    def __init__(self, known: Callable[[], Known], operators: Callable[[], Operators]) -> None:
        self._known = known
        self._operators = operators

    async def Explain(  # noqa: N802 - the contract's name
        self, request: access.ExplainRequest, context: Context
    ) -> access.ExplainResponse:
        """Decides nothing and asks AWS nothing."""
        known = self._known()
        if request.database in known.databases:
            _check_view(self._operators(), known.databases, request.database)
        else:  # which may be meant is said of those that the caller may know of
            known = replace(known, databases=_visible(self._operators(), known.databases))
        asked = GrantRequest(
            caller=request.caller or request.workload,
            workload=request.workload,
            database=request.database,
            db_user=request.db_user,
            db_name=request.db_name,
        )
        return explanation(explain(known, asked))


class DiagnosticsServicer(diagnostics_service_pb2_grpc.DiagnosticsServiceServicer):
    """Serves tollbridge.v1.DiagnosticsService."""

    def __init__(
        self, diagnoser: Diagnoser, databases: Callable[[], Mapping[str, RegisteredDatabase]],
        operators: Callable[[], Operators],
    ) -> None:  # fmt: skip
        self._diagnoser = diagnoser
        self._databases = databases
        self._operators = operators

    async def Diagnose(  # noqa: N802 - the contract's name
        self, request: diagnostics.DiagnoseRequest, context: Context
    ) -> AsyncIterator[diagnostics.DiagnoseResponse]:
        """Each step as it begins and ends."""
        database = _check_view(self._operators(), self._databases(), request.database)
        steps = self._diagnoser.diagnose(
            database,
            db_user=request.db_user,
            db_name=request.db_name,
            workload=request.workload,
            caller=identity.current_caller(),
        )
        async for step in steps:
            yield diagnostics.DiagnoseResponse(step=_step(step))


def add_reports(explains: AccessServicer, diagnoses: DiagnosticsServicer) -> AddService:
    """Registers both."""

    def add(server: grpc.aio.Server) -> None:
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(explains, server)  # type: ignore[no-untyped-call]
        diagnostics_service_pb2_grpc.add_DiagnosticsServiceServicer_to_server(  # type: ignore[no-untyped-call]
            diagnoses, server
        )

    return add


def _check_view(operators: Operators, databases: Mapping[str, RegisteredDatabase], name: str) -> RegisteredDatabase:
    """The database, if the caller may see it. Raises CALLER_NOT_ALLOWED, DATABASE_UNKNOWN."""
    database = databases.get(name)
    caller = identity.current_caller()
    if database is None:
        message = unknown_database(name, _visible(operators, databases))
        raise BrokerError(Reason.DATABASE_UNKNOWN, message, metadata={"database": name})
    if not operators.may_for(caller, Power.VIEW, database.facts.labels):
        raise not_an_operator(caller, Power.VIEW, f"database {name!r}")
    return database


def _visible(
    operators: Operators, databases: Mapping[str, RegisteredDatabase]
) -> dict[str, RegisteredDatabase]:  # fmt: skip
    caller = identity.current_caller()
    return {name: each for name, each in databases.items() if operators.may_for(caller, Power.VIEW, each.facts.labels)}


def explanation(value: Explanation) -> access.ExplainResponse:
    """The answer to Explain."""
    return access.ExplainResponse(
        allowed=value.allowed,
        reason=f"REASON_{value.reason.value}" if value.reason else "REASON_UNSPECIFIED",
        message=value.message,
        rule=value.rule,
        steps=[access.ExplainStep(step=each.step, ok=each.ok, detail=each.detail) for each in value.steps],
        rules=[
            access.RuleVerdict(rule=each.rule, deny=each.deny, matches=each.matches, fails_at=each.fails_at)
            for each in value.rules
        ],
        role_chain=[
            access.RoleHop(
                role_arn=hop.role_arn,
                session_name=hop.session_name,
                duration_seconds=hop.duration_seconds,
                external_id_set=hop.external_id_set,
                external_id_from=hop.external_id_from,
                tags=dict(hop.tags),
                narrowed=hop.narrowed,
            )
            for hop in value.role_chain
        ],
        credential=value.credential,
        policy_version=value.policy_version,
        database=convert.database(value.database) if value.database else None,
    )


def _step(value: DiagnosisStep) -> diagnostics.DiagnosisStep:
    took = Duration()
    took.FromTimedelta(timedelta(seconds=value.seconds))
    return diagnostics.DiagnosisStep(
        step=value.step,
        outcome=f"OUTCOME_{value.outcome.name}",
        detail=value.detail,
        reason=f"REASON_{value.reason.value}" if value.reason else "REASON_UNSPECIFIED",
        causes=value.causes,
        statements=[
            diagnostics.PolicyStatement(attach_to=each.attach_to, trust=each.trust, statement=each.statement)
            for each in value.statements
        ],
        took=took,
        db_user=value.db_user,
        db_name=value.db_name,
    )
