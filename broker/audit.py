"""One JSON line per decision, and the plain numbers that metrics are read from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from broker.model import GrantRequest
from tollbridge.reasons import Reason

EVENT: Final = "event"
TIME: Final = "time"
DECISION_ID: Final = "decision_id"
CALLER: Final = "caller"
WORKLOAD: Final = "workload"
DATABASE: Final = "database"
DB_USER: Final = "db_user"
DB_NAME: Final = "db_name"
ALLOWED: Final = "allowed"
RULE: Final = "rule"
REASON: Final = "reason"
MESSAGE: Final = "message"
POLICY_VERSION: Final = "policy_version"
ROLE_CHAIN: Final = "role_chain"
ACCESS_KEY_ID: Final = "access_key_id"
CREDENTIAL_ID: Final = "credential_id"
REJECTED_CREDENTIAL_ID: Final = "rejected_credential_id"
EXPIRES_AT: Final = "expires_at"

ACTION: Final = "action"
REVISION: Final = "revision"

RESOURCE: Final = "resource"
RESULT: Final = "result"

UNKNOWN: Final = "unknown"
"""A result: the change was asked for, and there was no answer, or nobody left to hear it. It may have been made."""

DECISION_EVENT: Final = "decision"
REGISTRY_EVENT: Final = "registry"
AWS_CHANGE_EVENT: Final = "aws_change"
DIAGNOSIS_EVENT: Final = "diagnosis"

VALUE_MAX: Final = 2048
"""Characters kept of one value: the longest SPIFFE ID. Refused requests are audited too, whatever they hold."""


@dataclass(slots=True)
class KeeperCounters:
    """What the keepers of one kind of thing (account sessions, fetched passwords) did."""

    hits: int = 0
    """A held one was handed out."""
    fetches: int = 0
    """One was fetched, or tried to."""
    failures: int = 0
    checks: int = 0
    """AWS was asked whether one is alive."""
    refusal_hits: int = 0
    """A remembered refusal answered."""


@dataclass(slots=True)
class CallCounters:
    """Attempts towards a group of AWS's APIs."""

    calls: dict[str, int] = field(default_factory=dict)
    """By operation."""
    failures: dict[str, int] = field(default_factory=dict)
    """By kind."""
    retries: int = 0
    retries_withheld: int = 0
    """Retries that the account's budget did not allow."""

    def call(self, operation: str) -> None:
        """Count an attempt."""
        self.calls[operation] = self.calls.get(operation, 0) + 1

    def failure(self, kind: str) -> None:
        """Count a failed attempt."""
        self.failures[kind] = self.failures.get(kind, 0) + 1


@dataclass(slots=True)
class Counters:
    """Numbers since start, read when they are scraped. Plain ints: nothing on the hot path does more than add one."""

    issued: int = 0
    denied: dict[Reason, int] = field(default_factory=dict)
    token_hits: int = 0
    token_misses: int = 0
    sessions: KeeperCounters = field(default_factory=KeeperCounters)
    passwords: KeeperCounters = field(default_factory=KeeperCounters)
    """Of passwords that AWS makes when it is asked (Redshift)."""
    sts: CallCounters = field(default_factory=CallCounters)
    redshift: CallCounters = field(default_factory=CallCounters)
    dynamodb: CallCounters = field(default_factory=CallCounters)
    """Of the table that several brokers share."""
    discovery: CallCounters = field(default_factory=CallCounters)

    def deny(self, reason: Reason) -> None:
        """Count a refusal."""
        self.denied[reason] = self.denied.get(reason, 0) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who signed the credential of an allowed decision."""

    role_chain: tuple[str, ...]
    access_key_id: str
    credential_id: str
    expires_at: datetime


class Audit:
    """Writes decisions to a sink. A sink that fails fails the request: no credential without its line."""

    def __init__(self, *, sink: Callable[[str], None], counters: Counters) -> None:
        self._sink = sink
        self._counters = counters

    def allowed(
        self, *, at: datetime, decision_id: str, request: GrantRequest, rule: str, policy_version: str, by: Signature
    ) -> None:
        """A credential is about to be handed out."""
        self._write(
            {
                **_asked(at, decision_id, request),
                ALLOWED: True,
                RULE: rule,
                POLICY_VERSION: policy_version,
                ROLE_CHAIN: list(by.role_chain),
                ACCESS_KEY_ID: by.access_key_id,
                CREDENTIAL_ID: by.credential_id,
                EXPIRES_AT: _instant(by.expires_at),
            }
        )
        self._counters.issued += 1

    def denied(
        self,
        *,
        at: datetime,
        decision_id: str,
        request: GrantRequest,
        reason: Reason,
        message: str,
        rule: str,
        policy_version: str,
        role_chain: tuple[str, ...],
    ) -> None:
        """A request ends without a credential: refused by policy, by AWS, or because it made no sense."""
        self._counters.deny(reason)
        self._write(
            {
                **_asked(at, decision_id, request),
                ALLOWED: False,
                RULE: rule,
                REASON: reason.value,
                MESSAGE: message,
                POLICY_VERSION: policy_version,
                ROLE_CHAIN: list(role_chain),
            }
        )

    def registry_changed(
        self, *, at: datetime, caller: str, action: str, database: str, revision: int, role_arn: str, result: str = ""
    ) -> None:
        """A dynamic database was created, updated or deleted; or may have been, where `result` is UNKNOWN."""
        self._write(
            {
                EVENT: REGISTRY_EVENT,
                TIME: _instant(at),
                CALLER: caller,
                ACTION: action,
                DATABASE: database,
                REVISION: revision,
                RESULT: result,
                ROLE_CHAIN: [role_arn] if role_arn else [],
            }
        )

    def registry_refused(self, *, at: datetime, caller: str, database: str, reason: Reason, message: str) -> None:
        """Somebody tried to create, update or delete a dynamic database that is not theirs to touch."""
        self._write(
            {
                EVENT: REGISTRY_EVENT,
                TIME: _instant(at),
                CALLER: caller,
                DATABASE: database,
                ALLOWED: False,
                REASON: reason.value,
                MESSAGE: message,
            }
        )

    def changed_in_aws(
        self, *, at: datetime, caller: str, call: str, arn: str, result: str, message: str, role_arn: str
    ) -> None:
        """An operator had something changed in AWS, or tried to."""
        self._write(
            {
                EVENT: AWS_CHANGE_EVENT,
                TIME: _instant(at),
                CALLER: caller,
                ACTION: call,
                RESOURCE: arn,
                RESULT: result,
                MESSAGE: message,
                ROLE_CHAIN: [role_arn] if role_arn else [],
            }
        )

    def diagnosed(self, *, at: datetime, request: GrantRequest, role_chain: tuple[str, ...]) -> None:
        """An operator has roles assumed to see whether a login works: CloudTrail may name the workload, which never
        asked. No credential leaves the broker."""
        asked = {**_asked(at, "", request), EVENT: DIAGNOSIS_EVENT}
        self._write({**asked, ROLE_CHAIN: list(role_chain)})

    def _write(self, line: Mapping[str, object]) -> None:
        bounded = {name: _bound(value) for name, value in line.items() if value not in ("", [])}
        self._sink(json.dumps(bounded, separators=(",", ":")))


def _asked(at: datetime, decision_id: str, request: GrantRequest) -> dict[str, object]:
    return {
        EVENT: DECISION_EVENT,
        TIME: _instant(at),
        DECISION_ID: decision_id,
        CALLER: request.caller,
        WORKLOAD: request.workload,
        DATABASE: request.database,
        DB_USER: request.db_user,
        DB_NAME: request.db_name,
        REJECTED_CREDENTIAL_ID: request.rejected,
    }


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bound(value: object) -> object:
    if isinstance(value, str) and len(value) > VALUE_MAX:
        return f"{value[:VALUE_MAX]}...({len(value)} characters)"
    return value
