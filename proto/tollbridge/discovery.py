"""What a broker says about discovery: the table of cells, what could be changed, and what was. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tollbridge.model import Product
from tollbridge.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedResource:
    """A resource that was found and is not served."""

    name: str
    arn: str
    cause: str
    """A few words: not available, IAM authentication is off, no TLS, engine, engine version, endpoint, tags..."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryCell:
    """One service, in one region, of one account, looked at by one role."""

    account_id: str
    """Empty for the broker's own account before its first look."""
    region: str
    product: Product | None
    """None for one that this client does not know."""
    role_arn: str
    """Empty: the broker's own identity."""
    databases: int
    last_attempt_at: datetime | None
    last_success_at: datetime | None
    failure: Reason | None
    """None after a success, and before the first attempt."""
    failure_message: str
    failures: int
    """Attempts since the last success."""
    seconds: float
    """Length of the last attempt."""
    skipped: tuple[SkippedResource, ...]
    """At most 100."""
    skipped_total: int
    notes: tuple[str, ...]
    """What went less than well in an attempt that succeeded."""
    stale: bool
    """No success for longer than three intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryStatus:
    """The whole table, in the order of account, region and product."""

    enabled: bool
    interval_seconds: int
    sweeper: bool
    """Whether the broker that answered is the one that sweeps."""
    aws_calls: int
    """By that broker, since its start."""
    cells: tuple[DiscoveryCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange:
    """Would turn IAM authentication on for one instance or cluster."""

    account_id: str
    region: str
    arn: str
    identifier: str
    call: str
    """rds:ModifyDBInstance or rds:ModifyDBCluster: also the permission that the role needs."""
    role_arn: str
    parameters: Mapping[str, str] = field(hash=False)
    seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryPlan:
    """Everything that could be changed."""

    changes: tuple[PlannedChange, ...]
    apply_allowed: bool
    """Whether the broker's configuration allows `apply`."""


class ChangeResult(StrEnum):
    """What became of one change."""

    CHANGED = "changed"
    """AWS took it; it needs some minutes."""
    ALREADY_ON = "already on"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOutcome:
    """One line of the report."""

    arn: str
    result: ChangeResult
    message: str
    reason: Reason | None
