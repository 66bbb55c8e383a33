"""Frozen values of the broker, parsed once at the edge, and the seams its parts meet at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from broker.policies.statements import Place
from tollbridge.model import Credential, Database, Token, as_token
from tollbridge.secret import Secret

RoleArn = str


class Origin(StrEnum):
    """How a database came to be registered. Earlier beats later where names collide."""

    STATIC = "static"
    DYNAMIC = "dynamic"
    DISCOVERED = "discovered"


class Attribution(StrEnum):
    """Whose name an account session carries."""

    BROKER = "broker"
    """One session for all workloads: fewest STS calls; the audit joins on access key id and decision id."""
    WORKLOAD = "workload"
    """A session per workload, named after it: CloudTrail shows who. One AssumeRole per workload and hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsAccess:
    """How the broker reaches a database's account."""

    partition: str
    role_arn: RoleArn = ""
    """Role assumed first; empty for a database in the broker's own account."""
    external_id: Secret = field(default_factory=lambda: Secret(""))
    """Sent on the first hop only. AWS does not call it secret; it is never shown all the same."""
    session_duration_seconds: int = 3600
    session_tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredDatabase:
    """A database and what only the broker knows about it."""

    facts: Database
    access: AwsAccess
    origin: Origin
    attribution: Attribution = Attribution.BROKER
    session_policy: str = ""
    """Where users are roles: narrows the last session of the chain to this database's own resources."""
    db_groups: tuple[str, ...] = ()
    """Redshift: groups that a database user joins for the session."""
    resource_ids: Mapping[str, str] = field(default_factory=dict, hash=False)
    """AWS identifiers by their config names: rds.instance_id, rds.cluster_id, redshift.cluster_id, ..."""

    @property
    def name(self) -> str:
        """Name it is served under."""
        return self.facts.name


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryLogin:
    """A user and password that AWS made when it was asked."""

    user: str
    """As the database knows it: IAM:NAME, IAMR:NAME. Not always what was asked for."""
    password: Secret
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One AssumeRole call, as a value: every input that changes what comes back."""

    role_arn: RoleArn
    session_name: str
    duration_seconds: int
    external_id: Secret = field(default_factory=lambda: Secret(""))
    tags: tuple[tuple[str, str], ...] = ()
    session_policy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainKey:
    """What names an account session: every input that changes its credentials. No hops: the broker's own identity."""

    partition: str
    sts_region: str
    hops: tuple[Hop, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSession:
    """Temporary (or base) AWS keys and what is known about them."""

    access_key_id: str
    secret_key: Secret
    session_token: Secret
    """Empty for the long-term keys of an IAM user."""
    arn: str
    """Of the assumed role session or base identity."""
    account_id: str
    issued_at: datetime
    expires_at: datetime | None
    """None: these keys do not expire by themselves (base keys of an IAM user)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRequest:
    """What a caller asked for, after its identity was established."""

    caller: str
    workload: str
    database: str
    db_user: str
    db_name: str
    rejected: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCredential:
    """A credential with its true life."""

    credential: Credential
    credential_id: str
    issued_at: datetime
    expires_at: datetime
    access_key_id: str
    """Of the session that signed it: what CloudTrail shows."""

    @property
    def token(self) -> Token:
        """The credential of a product that logs in with user and password. Raises TypeError for others."""
        return as_token(self.credential)


class Issuer(Protocol):
    """One way AWS lets you in. `broker.issuers.ISSUERS` says which product uses which."""

    def chain(self, database: RegisteredDatabase, request: GrantRequest) -> tuple[Hop, ...]:
        """The AssumeRole calls that lead to the keys this issuer signs or calls with. Pure."""
        ...

    async def issue(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> IssuedCredential:
        """A credential signed by, or fetched with, that session. Raises BrokerError."""
        ...


class Sts(Protocol):
    """What the broker needs of AWS STS and of the SDK's credential chain. `broker.aws.sts` is the real one."""

    async def base_session(self) -> AccountSession:
        """The broker's own identity, from the SDK's credential chain. Raises BASE_CREDENTIALS_MISSING."""
        ...

    async def assume_role(self, parent: AccountSession, hop: Hop, region: str) -> AccountSession:
        """One AssumeRole call signed by `parent`, retried within its budget. Raises BrokerError."""
        ...

    async def is_alive(self, session: AccountSession, region: str) -> bool:
        """Whether AWS still knows the session (GetCallerIdentity). Raises BrokerError when AWS does not answer."""
        ...

    def clock_skew_seconds(self) -> float:
        """How far AWS's clock is ahead of ours, as last measured on STS's Date header; 0.0 before the first call."""
        ...


class Redshift(Protocol):
    """What the broker needs of Redshift's APIs. `broker.aws.redshift` is the real one.

    Each call is signed by `session` and retried within the budget of its account. Raises BrokerError
    (CREDENTIAL_DENIED, CREDENTIAL_INVALID, AWS_THROTTLED, AWS_UNAVAILABLE), SessionGone when AWS no longer knows the
    session. An answer is no proof that the user exists.
    """

    async def user_login(
        self,
        session: AccountSession,
        place: Place,
        *,
        cluster: str,
        db_user: str,
        db_name: str,
        db_groups: Sequence[str],
    ) -> TemporaryLogin:
        """GetClusterCredentials: as a database user that exists."""
        ...

    async def role_login(self, session: AccountSession, place: Place, *, cluster: str, db_name: str) -> TemporaryLogin:
        """GetClusterCredentialsWithIAM: as the role that the session is of."""
        ...

    async def workgroup_login(
        self, session: AccountSession, place: Place, *, workgroup: str, db_name: str
    ) -> TemporaryLogin:
        """GetCredentials of Redshift Serverless: as the role that the session is of."""
        ...
