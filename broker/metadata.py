"""May the broker ask AWS about a database: its endpoint and its tags? What `doctor` says beside the way to a login."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from broker.diagnose import AwsFinding
from broker.discovery.inspection import Inspection, Verdict, question
from broker.model import RegisteredDatabase
from broker.policies.statements import allow, compact, principal_of
from tollbridge.reports import PolicyStatement

_WRONG: Final = frozenset({Verdict.MISMATCH, Verdict.ABSENT})


class MetadataCheck:
    """A `broker.diagnose.CheckMetadata` over `Inspector.inspect`."""

    def __init__(self, inspect: Callable[[RegisteredDatabase], Awaitable[Inspection]]) -> None:
        self._inspect = inspect

    async def __call__(self, database: RegisteredDatabase, own_arn: str) -> AwsFinding | None:
        """What AWS says; None for what it has no call for."""
        if question(database) is None:
            return None
        return judge(database, await self._inspect(database), own_arn)


def judge(database: RegisteredDatabase, inspection: Inspection, own_arn: str) -> AwsFinding:
    """What follows from an inspection. Never a failure: no login needs it."""
    if inspection.verdict in _WRONG:
        return AwsFinding(ok=None, detail=inspection.why)
    if inspection.verdict is Verdict.BY_GRAMMAR:
        detail = f"the endpoint is checked by its form alone: {inspection.why}"
        return AwsFinding(ok=None, detail=detail, statements=_needed(database, inspection, own_arn))
    if inspection.why:
        detail = f"AWS names this endpoint, {inspection.why}"
        return AwsFinding(ok=None, detail=detail, statements=_needed(database, inspection, own_arn))
    return AwsFinding(ok=True, detail=f"AWS names this endpoint and its tags ({len(inspection.tags)})")


def _needed(database: RegisteredDatabase, inspection: Inspection, own_arn: str) -> tuple[PolicyStatement, ...]:
    """AWS is asked by the role that is assumed first, whoever logs in."""
    if not inspection.denied:
        return ()
    statement = compact(allow(inspection.denied, "*"))
    return (PolicyStatement(attach_to=database.access.role_arn or principal_of(own_arn), statement=statement),)
