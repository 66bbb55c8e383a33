"""Messages of AccessService and DiagnosticsService -> tollbridge.reports."""

from __future__ import annotations

from tollbridge.client import convert
from tollbridge.reasons import Reason
from tollbridge.reports import (
    DiagnosisStep,
    ExplainStep,
    Explanation,
    Outcome,
    PolicyStatement,
    RoleHop,
    RuleVerdict,
)
from tollbridge.v1 import access_service_pb2, diagnostics_service_pb2, reason_pb2


def explanation(message: access_service_pb2.ExplainResponse) -> Explanation:
    """The answer to Explain. Raises NotUnderstood."""
    return Explanation(
        allowed=message.allowed,
        reason=_reason(message.reason),
        message=message.message,
        rule=message.rule,
        steps=tuple(ExplainStep(step=each.step, ok=each.ok, detail=each.detail) for each in message.steps),
        rules=tuple(
            RuleVerdict(rule=each.rule, deny=each.deny, matches=each.matches, fails_at=each.fails_at)
            for each in message.rules
        ),
        role_chain=tuple(
            RoleHop(
                role_arn=hop.role_arn,
                session_name=hop.session_name,
                duration_seconds=hop.duration_seconds,
                external_id_set=hop.external_id_set,
                external_id_from=hop.external_id_from,
                tags=dict(hop.tags),
                narrowed=hop.narrowed,
            )
            for hop in message.role_chain
        ),
        credential=message.credential,
        policy_version=message.policy_version,
        database=convert.database(message.database) if message.HasField("database") else None,
    )


def step(message: diagnostics_service_pb2.DiagnosisStep) -> DiagnosisStep:
    """One message of Diagnose. An outcome that is newer than this client counts as a warning."""
    wire = diagnostics_service_pb2.DiagnosisStep.Outcome
    name = wire.Name(message.outcome).removeprefix("OUTCOME_") if message.outcome in wire.values() else ""
    return DiagnosisStep(
        step=message.step,
        outcome=Outcome[name] if name in Outcome.__members__ else Outcome.WARNING,
        detail=message.detail,
        reason=_reason(message.reason),
        causes=tuple(message.causes),
        statements=tuple(
            PolicyStatement(attach_to=each.attach_to, trust=each.trust, statement=each.statement)
            for each in message.statements
        ),
        seconds=message.took.ToNanoseconds() / 1e9,
        db_user=message.db_user,
        db_name=message.db_name,
    )


def _reason(number: int) -> Reason | None:
    if not number:
        return None
    name = reason_pb2.Reason.Name(number) if number in reason_pb2.Reason.values() else ""
    found = name.removeprefix("REASON_")
    return Reason[found] if found in Reason.__members__ else Reason.INTERNAL
