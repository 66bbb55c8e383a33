"""Tries what a login needs, from the broker's own identity to a credential, and says which step fails and why.

    database   it is registered                     access   a rule lets the workload in (when one is named)
    base       the broker has an AWS identity       role N   each AssumeRole call of the chain
    metadata   AWS tells of the database's endpoint and tags, where the broker asks for them
    user       AWS knows the user, and as one that logs in with IAM (caches)
    issue      the credential itself

Every call is made anew, past all caches, and what comes back is thrown away: an operator who has just corrected a
policy sees what holds now. Whether the database takes the credential only a proxy can say: its `check` goes on here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from broker.access.evaluate import evaluate
from broker.access.globs import is_literal, selects
from broker.access.model import Policy
from broker.errors import BrokerError
from broker.grants import check_names, validate
from broker.issuers import CachingIssuer, Issuers
from broker.model import AccountSession, ChainKey, GrantRequest, Hop, RegisteredDatabase, Sts
from broker.policies import advice
from broker.sessions.checks import check_account, check_own_account, check_partition
from broker.sessions.names import WORKLOAD_TAG
from tollbridge.reasons import Reason
from tollbridge.reports import DiagnosisStep, Outcome, PolicyStatement

T = TypeVar("T")

STEP_SECONDS: Final = 25.0
"""One call with its retries; STS that hangs is given up after 5 s each."""
AT_ONCE: Final = 4
"""Diagnoses that run together: each makes calls of its own, and AWS counts them."""
_CAUSE: Final = re.compile(r"\((\d)\) ")

CheckMetadata = Callable[[RegisteredDatabase, str], Awaitable["AwsFinding | None"]]
"""What AWS says of a database to its first role, or to the broker's own identity, whose ARN is given; None where there
is nothing to ask."""
CheckUser = Callable[[RegisteredDatabase, str, AccountSession], Awaitable["AwsFinding | None"]]
"""Whether AWS knows a user of a cache as one that logs in with IAM; None where the product has no such thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsFinding:
    """What AWS says of a database, or of a user of it."""

    ok: bool | None
    """None: it could not be found out."""
    detail: str
    statements: tuple[PolicyStatement, ...] = ()


async def no_metadata_check(_database: RegisteredDatabase, _own_arn: str) -> AwsFinding | None:
    """For a broker that does not ask."""
    return None


async def no_user_check(
    _database: RegisteredDatabase, _db_user: str, _session: AccountSession
) -> AwsFinding | None:  # fmt: skip
    """For a broker that cannot ask."""
    return None


Note = Callable[[GrantRequest, tuple[str, ...]], None]
"""Who asks for which diagnosis, and the roles that are about to be assumed for it."""


def nobody_notes(_asked: GrantRequest, _roles: tuple[str, ...]) -> None:
    """For a broker without an audit log."""


class Diagnoser:
    """Tries logins."""

    def __init__(
        self,
        *,
        policy: Callable[[], Policy],
        sts: Sts,
        issuers: Issuers,
        sts_region: str,
        monotonic: Callable[[], float],
        check_user: CheckUser = no_user_check,
        check_metadata: CheckMetadata = no_metadata_check,
        note: Note = nobody_notes,
    ) -> None:
        """`note` hears of each diagnosis before AWS does."""
        self._policy = policy
        self._note = note
        self._sts = sts
        self._issuers = issuers
        self._sts_region = sts_region
        self._monotonic = monotonic
        self._check_user = check_user
        self._check_metadata = check_metadata
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def diagnose(
        self, database: RegisteredDatabase, *, db_user: str, db_name: str, workload: str, caller: str
    ) -> AsyncIterator[DiagnosisStep]:
        """The steps as they begin and end; the first that fails is the last, but for `access`, which others outlive."""
        async with self._turns:
            if not db_user:
                db_user, found = some_login(self._policy(), database)
                db_name = db_name or found
            run = _Run(self, database, db_user, db_name, workload, caller)
            async for step in run.steps():
                yield step


def some_login(policy: Policy, database: RegisteredDatabase) -> tuple[str, str]:
    """A user that some rule lets in, and where it leads him; empty where no rule names one in full."""
    for rule in policy.rules:
        if not rule.deny and selects(rule.db_labels, database.facts.labels):
            for user in filter(is_literal, rule.db_users):
                return user, next(filter(is_literal, rule.db_names), "")
    return "", ""


class _Run:
    """One diagnosis."""

    def __init__(
        self, parent: Diagnoser, database: RegisteredDatabase, db_user: str, db_name: str, workload: str, caller: str
    ) -> None:
        self._parent = parent
        self._database = database
        self._asked = GrantRequest(
            caller=caller, workload=workload or caller, database=database.name, db_user=db_user, db_name=db_name
        )
        self._named_workload = bool(workload)
        self._own_arn = ""
        self._since = 0.0

    async def steps(self) -> AsyncIterator[DiagnosisStep]:
        """See Diagnoser.diagnose."""
        database = self._database
        facts = database.facts
        account = f"account {facts.account_id}" if facts.account_id else "the broker's own account"
        yield self._ended(
            "database", f"{database.origin} {facts.product} at {facts.endpoint}, {account}, {facts.region}"
        )
        if self._named_workload:
            yield self._access()
        session: AccountSession | None = None
        try:
            issuer = self._parent._issuers[facts.product]
            hops = self._hops(issuer)
        except BrokerError as error:
            yield self._failed("issue", error)
            return
        self._parent._note(self._asked, tuple(hop.role_arn for hop in hops))
        async for step in self._base_and_roles(hops):
            if isinstance(step, AccountSession):
                session = step
            else:
                yield step
        if session is None:
            return
        parent = self._parent
        if told := await self._told("metadata", parent._check_metadata(database, self._own_arn)):
            yield told
        if told := await self._told("user", parent._check_user(database, self._asked.db_user, session)):
            yield told
        async for step in self._issue(issuer, hops, session):
            yield step

    def _hops(self, issuer: CachingIssuer) -> tuple[Hop, ...]:
        if not self._asked.db_user:
            raise BrokerError(
                Reason.INVALID_REQUEST, "no rule names a user of this database in full: say which with --db-user"
            )
        validate(self._asked)
        check_names(self._asked, self._database.facts)
        return issuer.chain(self._database, self._asked)

    def _access(self) -> DiagnosisStep:
        asked = self._asked
        decision = evaluate(
            self._parent._policy(),
            caller=asked.workload,
            workload=asked.workload,
            database=self._database.facts,
            db_user=asked.db_user,
            db_name=asked.db_name,
        )
        if decision.allowed:
            return self._ended("access", f"rule {decision.rule!r} lets {asked.workload} in as {asked.db_user!r}")
        reason = decision.reason or Reason.DATABASE_NOT_ALLOWED
        return DiagnosisStep(step="access", outcome=Outcome.FAILED, detail=decision.message, reason=reason)

    async def _base_and_roles(self, hops: Sequence[Hop]) -> AsyncIterator[DiagnosisStep | AccountSession]:
        """The steps, and last the session that the chain leads to, when it leads anywhere."""
        sts, database = self._parent._sts, self._database
        yield self._begun("base", "the broker's own AWS identity")
        try:
            session = await _bounded(sts.base_session())
            self._own_arn = session.arn
            if not hops:
                check_partition(session.arn, database.access.partition)
        except BrokerError as error:
            yield self._failed("base", error)
            return
        yield self._ended("base", f"{session.arn}{_until(session)}")
        if hops and not database.facts.account_id:
            try:
                check_own_account(database, hops[-1].role_arn, session)
            except BrokerError as error:
                yield self._failed("role 1", error)
                return
        for number, hop in enumerate(hops, 1):
            name = f"role {number}"
            yield self._begun(name, f"sts:AssumeRole {hop.role_arn}")
            try:
                check_partition(session.arn, hop.role_arn)
                assumed = await _bounded(sts.assume_role(session, hop, self._parent._sts_region))
            except BrokerError as error:
                yield await self._role_failed(name, error, session, hop)
                return
            sent = "with an external ID" if hop.external_id else "without an external ID"
            yield self._ended(name, f"{assumed.arn}, {sent}{_until(assumed)}")
            session = assumed
        try:
            check_account(database, hops[-1].role_arn if hops else "", session)
        except BrokerError as error:
            yield self._failed(f"role {len(hops)}" if hops else "base", error)
            return
        yield session

    async def _role_failed(self, name: str, error: BrokerError, signer: AccountSession, hop: Hop) -> DiagnosisStep:
        """AWS does not say what it misses; what it lets through with less asked for, it does say."""
        if error.reason is not Reason.ASSUME_ROLE_DENIED:
            return self._failed(name, error)
        if hop.tags and await self._works(signer, replace(hop, tags=())):
            asked_by = "attribution: workload" if dict(hop.tags).keys() == {WORKLOAD_TAG} else "session_tags"
            cause = (
                f"sts:TagSession is not allowed: without tags AWS lets {signer.arn} assume {hop.role_arn}. It must be"
                f" allowed by both the policy of the first and the trust policy of the second, or remove {asked_by}"
            )
            return self._failed(name, error, (cause,), advice.assume_role(signer, hop, only_tags=True))
        return self._failed(name, error, _causes(error.message), advice.assume_role(signer, hop))

    async def _works(self, signer: AccountSession, hop: Hop) -> bool:
        try:
            await _bounded(self._parent._sts.assume_role(signer, hop, self._parent._sts_region))
        except BrokerError:
            return False
        return True

    async def _told(self, name: str, asked: Awaitable[AwsFinding | None]) -> DiagnosisStep | None:
        """What AWS was asked beside the way to a login; the login is tried whatever it says."""
        try:
            found = await _bounded(asked)
        except BrokerError as error:
            found = AwsFinding(ok=None, detail=error.message)
        if found is None:
            return None
        outcome = Outcome.WARNING if found.ok is None else Outcome.OK if found.ok else Outcome.FAILED
        reason = Reason.DATABASE_REFUSED if found.ok is False else None
        return DiagnosisStep(
            step=name, outcome=outcome, detail=found.detail, reason=reason, statements=found.statements
        )

    async def _issue(
        self, issuer: CachingIssuer, hops: Sequence[Hop], session: AccountSession
    ) -> AsyncIterator[DiagnosisStep]:
        database, asked = self._database, self._asked
        key = ChainKey(partition=database.access.partition, sts_region=self._parent._sts_region, hops=tuple(hops))
        needed = advice.login(database, asked.db_user, asked.db_name, session)
        yield self._begun("issue", f"a credential for {asked.db_user}")
        if not hops:
            # The broker's own keys sign for every database of its account: no other's credentials go with this one.
            issuer.forget(database, asked, key, session)
        try:
            issued = await _bounded(issuer.issue(database, asked, key, session))
        except BrokerError as error:
            denied = error.reason is Reason.CREDENTIAL_DENIED
            yield self._failed("issue", error, _causes(error.message), needed if denied else ())
            return
        finally:
            if hops:
                issuer.forget_session(session.access_key_id)
        detail = f"{type(issued.credential).__name__} for {asked.db_user}, good until {issued.expires_at:%FT%TZ}"
        yield replace(self._ended("issue", detail), statements=needed, db_user=asked.db_user, db_name=asked.db_name)

    def _begun(self, step: str, detail: str) -> DiagnosisStep:
        self._since = self._parent._monotonic()
        return DiagnosisStep(step=step, outcome=Outcome.BEGUN, detail=detail)

    def _ended(self, step: str, detail: str) -> DiagnosisStep:
        return DiagnosisStep(step=step, outcome=Outcome.OK, detail=detail, seconds=self._seconds())

    def _failed(
        self,
        step: str,
        error: BrokerError,
        causes: tuple[str, ...] = (),
        statements: tuple[PolicyStatement, ...] = (),
    ) -> DiagnosisStep:
        return DiagnosisStep(
            step=step,
            outcome=Outcome.FAILED,
            detail=error.message,
            reason=error.reason,
            causes=causes or _causes(error.message),
            statements=statements,
            seconds=self._seconds(),
        )

    def _seconds(self) -> float:
        since, self._since = self._since, 0.0
        return self._parent._monotonic() - since if since else 0.0


async def _bounded(work: Awaitable[T]) -> T:
    """Raises AWS_UNAVAILABLE after a time in which every call has long been given up."""
    try:
        async with asyncio.timeout(STEP_SECONDS):
            return await work
    except TimeoutError:
        raise BrokerError(Reason.AWS_UNAVAILABLE, f"AWS has not answered in {STEP_SECONDS:g} s") from None


def _causes(message: str) -> tuple[str, ...]:
    """What our refusals number: `...; check: (1) this; (2) that`."""
    pieces = _CAUSE.split(message)
    return tuple(piece.strip().rstrip(";") for piece in pieces[2::2])


def _until(session: AccountSession) -> str:
    return f", until {session.expires_at:%FT%TZ}" if session.expires_at else ""
