"""What a broker tells its operators: explanations and diagnoses as both ends see them. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tollbridge.model import Database
from tollbridge.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainStep:
    """One thing that is decided on the way to a credential."""

    step: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVerdict:
    """How far a rule goes towards a request."""

    rule: str
    deny: bool
    matches: bool
    fails_at: str = ""
    """The first condition that does not match: workloads, db_labels, db_users, db_names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleHop:
    """One AssumeRole call, without anything secret."""

    role_arn: str
    session_name: str
    duration_seconds: int
    external_id_set: bool
    external_id_from: str = ""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    narrowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What would be decided and done, and why."""

    allowed: bool
    reason: Reason | None
    message: str
    rule: str
    steps: tuple[ExplainStep, ...]
    rules: tuple[RuleVerdict, ...] = ()
    role_chain: tuple[RoleHop, ...] = ()
    credential: str = ""
    policy_version: str = ""
    database: Database | None = None


class Outcome(StrEnum):
    """How a step of a diagnosis stands."""

    BEGUN = "begun"
    OK = "ok"
    FAILED = "failed"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStatement:
    """A statement and where it belongs."""

    attach_to: str
    statement: str
    """JSON."""
    trust: bool = False
    """In the trust policy of `attach_to`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisStep:
    """One step that was tried."""

    step: str
    outcome: Outcome
    detail: str = ""
    reason: Reason | None = None
    causes: tuple[str, ...] = ()
    statements: tuple[PolicyStatement, ...] = ()
    seconds: float = 0.0
    db_user: str = ""
    """Of `issue`: the user that it was tried as."""
    db_name: str = ""
    """Of `issue`: the logical database."""
