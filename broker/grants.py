"""THE use case: locate -> authorize -> session -> issue -> audit."""

from __future__ import annotations

import asyncio
import unicodedata
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from broker.access.model import Decision, Policy
from broker.audit import Audit, Signature
from broker.errors import BrokerError
from broker.issuers import CachingIssuer, Issuers, Prover
from broker.model import AccountSession, ChainKey, GrantRequest, IssuedCredential, RegisteredDatabase
from broker.registry.products import name_limit
from broker.registry.roles import is_role
from broker.sessions.checks import check_account, check_own_account, check_partition
from broker.sessions.errors import SessionGone
from broker.sessions.keeper import Verdict
from broker.sessions.pool import Pool
from tollbridge.model import Database, Grant, StsChallenge, StsProof
from tollbridge.reasons import Reason

NAME_MAX: Final = 255
"""Of a database and of a db_name. Engines allow 63 (PostgreSQL) to 127 (Redshift)."""
DB_USER_MAX: Final = 1024
"""A role ARN with the longest path and name is about 620."""
IDENTITY_MAX: Final = 2048
"""The longest SPIFFE ID."""
CREDENTIAL_ID_MAX: Final = 64

_NO_ANSWER: Final = "it ended before there was an answer: the caller left, the time for a call was over, or a stop"
_REMEMBERED_CREDENTIALS: Final = 16_384
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that let a name look like another, or break a line."""


class Snapshot(Protocol):
    """The registered databases at one moment."""

    @property
    def by_name(self) -> Mapping[str, RegisteredDatabase]:
        """By the name they are served under."""
        ...


class Registry(Protocol):
    """Where databases are registered."""

    def current(self) -> Snapshot:
        """The latest snapshot."""
        ...


class Evaluate(Protocol):
    """Decides. `broker.access.evaluate.evaluate` is the real one."""

    def __call__(
        self, policy: Policy, *, caller: str, workload: str, database: Database, db_user: str, db_name: str
    ) -> Decision: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long a decision stands."""

    recheck_seconds: float = 60.0
    """A proxy asks again after this time, or up to a quarter earlier: the bound on revocation for new logins."""
    margin_seconds: float = 60.0
    """A credential is not used for new logins in the last part of its life."""


@dataclass(slots=True)
class _Trace:
    """What is known of a request by the time it is audited."""

    rule: str = ""
    policy_version: str = ""
    role_chain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Signed:
    """Which session signed a credential that was handed out."""

    key: ChainKey
    access_key_id: str
    expires_at: datetime


class Grants:
    """Turns requests into grants."""

    def __init__(
        self,
        *,
        registry: Registry,
        policy: Callable[[], Policy],
        evaluate: Evaluate,
        pool: Pool,
        issuers: Issuers,
        audit: Audit,
        jitter: Callable[[], float],
        sts_region: str,
        lifetimes: Lifetimes = Lifetimes(),
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._registry = registry
        self._policy = policy
        self._evaluate = evaluate
        self._pool = pool
        self._issuers = issuers
        self._audit = audit
        self._jitter = jitter
        self._sts_region = sts_region
        self._lifetimes = lifetimes
        self._new_id = new_id
        self._signed: OrderedDict[str, _Signed] = OrderedDict()
        for issuer in {id(issuer): issuer for issuer in issuers.values()}.values():
            pool.when_dead(issuer.forget_session)

    async def issue(self, request: GrantRequest) -> Grant:
        """Decide, and when allowed hand out a credential. Every outcome has its audit line. Raises BrokerError."""
        decision_id, trace = self._new_id(), _Trace()
        with self._audited_refusal(decision_id, request, trace):
            database = self._decide(request, trace)
            credential = await self._credential(request, database, trace)
        now = self._pool.now()
        self._allow(decision_id, request, trace, credential, now)
        return self._grant(decision_id, database, credential, trace, now)

    async def sign_challenge(self, request: GrantRequest, challenge: StsChallenge) -> tuple[str, StsProof]:
        """Decide anew, and when allowed sign what the database asks: the decision's id and the proof.

        A grant is permission to go to the server; this is what that server is shown. Audited like one. Raises
        BrokerError.
        """
        decision_id, trace = self._new_id(), _Trace()
        with self._audited_refusal(decision_id, request, trace):
            database = self._decide(request, trace)
            issuer = self._issuers[database.facts.product]
            if not isinstance(issuer, Prover):
                raise BrokerError(
                    Reason.INVALID_REQUEST,
                    f"{database.facts.product} asks for no proof: IssueCredential has its credentials",
                    metadata={"database": database.name},
                )
            credential, session = await self._enter(request, database, trace)
            proof = issuer.prove(database, session, challenge)
        self._allow(decision_id, request, trace, credential, self._pool.now())
        return decision_id, proof

    def _decide(self, request: GrantRequest, trace: _Trace) -> RegisteredDatabase:
        validate(request)
        database = self._locate(request)
        check_names(request, database.facts)
        self._authorize(request, database, trace)
        return database

    @contextmanager
    def _audited_refusal(self, decision_id: str, request: GrantRequest, trace: _Trace) -> Iterator[None]:
        try:
            yield
        except BrokerError as error:
            self._deny(decision_id, request, trace, error.reason, error.message)
            # Its own error for each request: many may share the one that a session's refusal raised.
            metadata = {"decision_id": decision_id, **error.metadata}
            raise BrokerError(error.reason, error.message, metadata=metadata) from error
        except asyncio.CancelledError:
            with suppress(OSError):  # nothing is handed out, so that a log that fails need not end it otherwise
                self._deny(decision_id, request, trace, Reason.BROKER_UNAVAILABLE, _NO_ANSWER)
            raise
        except Exception as error:
            self._deny(decision_id, request, trace, Reason.INTERNAL, type(error).__name__)
            raise

    def _allow(
        self, decision_id: str, request: GrantRequest, trace: _Trace, credential: IssuedCredential, at: datetime
    ) -> None:
        self._audit.allowed(
            at=at,
            decision_id=decision_id,
            request=request,
            rule=trace.rule,
            policy_version=trace.policy_version,
            by=Signature(
                role_chain=trace.role_chain,
                access_key_id=credential.access_key_id,
                credential_id=credential.credential_id,
                expires_at=credential.expires_at,
            ),
        )

    def _locate(self, request: GrantRequest) -> RegisteredDatabase:
        database = self._registry.current().by_name.get(request.database)
        if database is None:
            raise BrokerError(
                Reason.DATABASE_UNKNOWN,
                f"no database named {request.database!r} is registered with this broker",
                metadata={"database": request.database},
            )
        return database

    def _authorize(self, request: GrantRequest, database: RegisteredDatabase, trace: _Trace) -> None:
        policy = self._policy()
        trace.policy_version = policy.version
        decision = self._evaluate(
            policy,
            caller=request.caller,
            workload=request.workload,
            database=database.facts,
            db_user=request.db_user,
            db_name=request.db_name,
        )
        trace.rule = decision.rule
        if not decision.allowed:
            raise BrokerError(
                decision.reason or Reason.DATABASE_NOT_ALLOWED,
                decision.message or f"no rule allows {request.workload} into database {database.name!r}",
                metadata={"database": database.name, "rule": decision.rule},
            )

    async def _credential(self, request: GrantRequest, database: RegisteredDatabase, trace: _Trace) -> IssuedCredential:
        credential, _ = await self._enter(request, database, trace)
        return credential

    async def _enter(
        self, request: GrantRequest, database: RegisteredDatabase, trace: _Trace
    ) -> tuple[IssuedCredential, AccountSession]:
        """A credential, and the session behind it."""
        issuer = self._issuers[database.facts.product]
        key = ChainKey(
            partition=database.access.partition, sts_region=self._sts_region, hops=issuer.chain(database, request)
        )
        trace.role_chain = tuple(hop.role_arn for hop in key.hops)
        session = await self._session(database, key, issuer.need_seconds)
        if request.rejected:
            await self._answer_rejection(request, database, issuer, key, session)
            session = await self._session(database, key, issuer.need_seconds)
        try:
            credential = await issuer.issue(database, request, key, session)
        except SessionGone:
            # An issuer that calls AWS notices a dead session before any database does.
            if await self._pool.reject(key, session.access_key_id) is Verdict.ALIVE:
                raise
            session = await self._session(database, key, issuer.need_seconds)
            credential = await issuer.issue(database, request, key, session)
        self._remember(credential, key)
        return credential, session

    async def _session(self, database: RegisteredDatabase, key: ChainKey, need_seconds: float) -> AccountSession:
        if key.hops and not database.facts.account_id:
            check_own_account(database, key.hops[-1].role_arn, await self._pool.base_session())
        session = await self._pool.session(key, need_seconds=need_seconds)
        if not key.hops:
            check_partition(session.arn, key.partition)
        check_account(database, key.hops[-1].role_arn if key.hops else "", session)
        return session

    async def _answer_rejection(
        self,
        request: GrantRequest,
        database: RegisteredDatabase,
        issuer: CachingIssuer,
        key: ChainKey,
        session: AccountSession,
    ) -> None:
        """The database refused a credential: return when another may help, raise DATABASE_REFUSED when none will."""
        signed = self._signed.get(request.rejected)
        if signed is None or signed.key != key:
            # Another replica issued it. Ours may come from the same dead role: look, and sign anew. An AWS that does
            # not answer proves nothing against our session.
            with suppress(BrokerError):
                await self._pool.reject(key, session.access_key_id)
            issuer.forget(database, request, key, session)
            return
        verdict = await self._pool.reject(key, signed.access_key_id)
        if verdict is Verdict.ALIVE and signed.expires_at > self._pool.now():
            issuer.refused(database, request, key, session)
            causes = issuer.why_refused(database, request, session)
            raise BrokerError(
                Reason.DATABASE_REFUSED,
                f"{database.name!r} refused a valid credential for {request.db_user!r}. Likely causes: {causes}.",
                metadata={"database": database.name, "db_user": request.db_user},
            )

    def _remember(self, credential: IssuedCredential, key: ChainKey) -> None:
        self._signed[credential.credential_id] = _Signed(key, credential.access_key_id, credential.expires_at)
        self._signed.move_to_end(credential.credential_id)
        if len(self._signed) > _REMEMBERED_CREDENTIALS:
            self._signed.popitem(last=False)

    def _grant(
        self,
        decision_id: str,
        database: RegisteredDatabase,
        credential: IssuedCredential,
        trace: _Trace,
        now: datetime,
    ) -> Grant:
        usable_until = max(now, credential.expires_at - timedelta(seconds=self._lifetimes.margin_seconds))
        stands = timedelta(seconds=self._lifetimes.recheck_seconds * (0.75 + 0.25 * self._jitter()))
        return Grant(
            decision_id=decision_id,
            credential_id=credential.credential_id,
            endpoint=database.facts.endpoint,
            tls=database.facts.tls,
            credential=credential.credential,
            issued_at=credential.issued_at,
            expires_at=credential.expires_at,
            recheck_after=min(now + stands, usable_until),
            usable_until=usable_until,
            policy_version=trace.policy_version,
            decided_at=now,
        )

    def _deny(self, decision_id: str, request: GrantRequest, trace: _Trace, reason: Reason, message: str) -> None:
        self._audit.denied(
            at=self._pool.now(),
            decision_id=decision_id,
            request=request,
            reason=reason,
            message=message,
            rule=trace.rule,
            policy_version=trace.policy_version,
            role_chain=trace.role_chain,
        )


def validate(request: GrantRequest) -> None:
    """Raise INVALID_REQUEST unless the request makes sense: before policy, so that nonsense is never "not allowed"."""
    _check("caller", request.caller, IDENTITY_MAX, required=True)
    _check("workload", request.workload, IDENTITY_MAX, required=True)
    _check("database", request.database, NAME_MAX, required=True)
    _check("db_user", request.db_user, DB_USER_MAX, required=True)
    _check("db_name", request.db_name, NAME_MAX, required=False)
    _check("rejected", request.rejected, CREDENTIAL_ID_MAX, required=False)


def check_names(request: GrantRequest, database: Database) -> None:
    """Raise INVALID_REQUEST for names that the server would read as others than those decided about."""
    limit = name_limit(database)
    names = [("db_name", request.db_name)]
    if not is_role(database, request.db_user):  # a role's ARN never reaches the server
        names.append(("db_user", request.db_user))
    for name, value in names:
        if limit is not None and (size := len(value.encode())) > limit:
            raise BrokerError(
                Reason.INVALID_REQUEST,
                f"{name} has {size} bytes; {database.product} cuts names off after {limit}: use the name that is left",
                metadata={"field": name, "database": database.name},
            )


def _check(name: str, value: str, limit: int, *, required: bool) -> None:
    if required and not value:
        raise BrokerError(Reason.INVALID_REQUEST, f"{name} is empty: name one", metadata={"field": name})
    if len(value) > limit:
        raise BrokerError(
            Reason.INVALID_REQUEST,
            f"{name} has {len(value)} characters; at most {limit} are accepted",
            metadata={"field": name},
        )
    if value.isascii() and value.isprintable():
        return
    for position, character in enumerate(value):
        if unicodedata.category(character) in _INVISIBLE:
            raise BrokerError(
                Reason.INVALID_REQUEST,
                f"{name} holds the control or invisible character U+{ord(character):04X} at position {position}",
                metadata={"field": name},
            )
