"""Frozen values of discovery, and the seams it meets AWS and the store at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from broker.access.model import LabelSelector
from broker.model import AccountSession, RegisteredDatabase
from broker.policies.statements import Place
from tollbridge.model import Product
from tollbridge.model import Protocol as WireProtocol
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

Item = Mapping[str, Any]
"""One resource as AWS describes it. Every member may be missing: AWS's models promise none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """What an operator asks to be discovered."""

    products: tuple[Product, ...]
    regions: tuple[str, ...]
    tags: LabelSelector
    role_arn: str = ""
    """Role in the account to look at; empty: the broker's own account."""
    external_id: Secret = field(default_factory=lambda: Secret(""))
    session_duration_seconds: int = 3600


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class CellKey:
    """What names a cell."""

    role_arn: str
    region: str
    product: Product

    @property
    def account_id(self) -> str:
        """Of the role; empty for the broker's own account."""
        return self.role_arn.split(":")[4] if self.role_arn else ""

    def text(self) -> str:
        """As a key of a store: no two cells share one."""
        return json.dumps([self.role_arn, self.region, self.product.value])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One service, in one region, of one account, looked at by one role: what a sweep succeeds or fails at."""

    key: CellKey
    external_id: Secret = field(default_factory=lambda: Secret(""))
    session_duration_seconds: int = 3600
    selectors: tuple[LabelSelector, ...] = ()
    """A resource whose tags fit one of them is wanted."""


class Cause(StrEnum):
    """Why a resource that was found is not served."""

    NOT_AVAILABLE = "not available"
    IAM_AUTH_OFF = "IAM authentication is off"
    NO_TLS = "no TLS"
    ENGINE = "engine"
    VERSION = "engine version"
    ENDPOINT = "endpoint"
    ACCOUNT = "account"
    UNREADABLE = "unreadable"
    TAGS = "tags"


class Target(StrEnum):
    """What IAM authentication can be turned on for."""

    INSTANCE = "instance"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One endpoint of a resource, read from what AWS says. Not yet judged: hosts and tags may be anything."""

    name: str
    """As AWS knows it; what the database would be called."""
    protocol: WireProtocol
    host: str
    port: int
    arn: str
    kind: str = ""
    """instance, cluster, reader, custom, proxy...: the label endpoint-type."""
    suffix: str = ""
    """Tells endpoints of one resource apart: reader, custom-NAME. Empty for its first."""
    ids: Mapping[str, str] = field(default_factory=dict, hash=False)
    facts: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What AWS says about it, for labels."""
    tags: Mapping[str, str] | None = field(default=None, hash=False)
    """None: to be read by ARN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A resource that was found and is not served."""

    product: Product
    name: str
    arn: str
    cause: Cause
    why: str
    """One line for an operator: what is in the way, and what would change it."""
    target: Target | None = None
    """Set where IAM authentication could be turned on."""
    tags: Mapping[str, str] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One call that lists resources, as data: what to ask, where its items are, and how its pages go on."""

    service: str
    """The SDK's name: rds, redshift-serverless."""
    operation: str
    items: str
    """Member of the answer that holds the list."""
    page: str = "Marker"
    """Member of request and answer that goes from page to page; empty where all comes at once."""
    action: str = ""
    """As IAM names it; empty: SERVICE:OPERATION."""
    then: Details | None = None
    optional: bool = False
    """Without the permission the rest is still of use."""
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def permission(self) -> str:
        """The IAM action it needs."""
        return self.action or f"{self.service}:{self.operation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """A second call for what a listing only names, some names at a time."""

    operation: str
    member: str
    """Of a listed item: its name."""
    parameter: str
    """Of the second call: the names."""
    items: str
    at_once: int
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagCall:
    """How the tags of one resource are read where no listing holds them."""

    service: str
    operation: str
    parameter: str
    items: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Turns IAM authentication on for one instance or cluster."""

    target: Target
    identifier: str
    arn: str
    place: Place


class Directory(Protocol):
    """What discovery needs of AWS's APIs. `broker.aws.directory` is the real one.

    Each call is signed by `session` and retried within the budget of its account. Raises BrokerError: CREDENTIAL_DENIED
    names the statement that is missing; SessionGone when AWS no longer knows the session.
    """

    async def items(self, session: AccountSession, place: Place, listing: Listing) -> Sequence[Item]:
        """Everything a listing has, page after page, however many there are. Never a part of it."""
        ...

    async def tags(self, session: AccountSession, place: Place, call: TagCall, arn: str) -> Mapping[str, str]:
        """The tags of one resource."""
        ...

    async def iam_auth(self, session: AccountSession, change: Change) -> bool:
        """Whether IAM authentication is on by now, or about to be."""
        ...

    async def turn_iam_auth_on(self, session: AccountSession, change: Change) -> None:
        """ModifyDBInstance or ModifyDBCluster, applied immediately."""
        ...

    def calls(self) -> int:
        """Attempts made since the start."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How the last look at a cell failed."""

    reason: Reason
    message: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A discovered database, and since when it is known."""

    database: RegisteredDatabase
    arn: str
    first_seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CellState:
    """What is known of a cell. Never shows its external ID: that stays with the configuration."""

    key: CellKey
    account_id: str = ""
    """Of the role, or the broker's own."""
    known: tuple[Known, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    """What went less than well in a look that succeeded: tags that could not be read."""
    last_attempt_at: datetime | None = None
    last_success_at: datetime | None = None
    failure: Failure | None = None
    """None after a success."""
    failures: int = 0
    """Since the last success."""
    seconds: float = 0.0
    """How long the last attempt took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCell:
    """A cell as a store keeps it."""

    key: str
    """`CellKey.text()`."""
    document: bytes
    """Opaque to the store. Holds no role that counts and no external ID: access comes from the configuration alone."""


class DiscoveryStore(Protocol):
    """Where results outlive a broker: the registry's store, SQLite or DynamoDB."""

    async def load(self) -> Sequence[StoredCell]:
        """Every cell that was saved; the same object while nothing has changed. Raises BrokerError."""
        ...

    async def save(self, cells: Sequence[StoredCell], gone: Sequence[str]) -> bool:
        """Put these in place of what is stored under their keys, and remove the keys in `gone`. Whether nobody else had
        written since the last `load`. Raises BrokerError."""
        ...

    async def lease(self, owner: str, seconds: float) -> bool:
        """Whether `owner` may sweep for the next `seconds`: one broker at a time, by a conditional write; renewed by
        asking again, and given back with 0 seconds. Raises BrokerError."""
        ...
