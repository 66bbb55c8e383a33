"""A Redshift that behaves: passwords with an end, refusals on demand, and a record of what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.audit import Counters
from broker.issuers import Issuers, make_issuers
from broker.model import AccountSession, Redshift, TemporaryLogin
from broker.policies.statements import Place
from tests.unit.broker.sessions.fakes import half
from tollbridge.clock import Clock
from tollbridge.secret import Secret

Asked = tuple[str, ...]


@dataclass
class FakeRedshift:
    """A `broker.model.Redshift`."""

    clock: Clock
    life_seconds: float = 900
    faults: list[Exception] = field(default_factory=list)
    """Raised by the next calls, one each."""
    gate: asyncio.Event | None = None
    """While set and not open, calls wait for it."""

    def __post_init__(self) -> None:
        self.asked: list[Asked] = []
        """(operation, access key id, what was asked for...) of every call."""

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
        return await self._answer(f"IAM:{db_user}", "user", session, place, cluster, db_user, db_name, *db_groups)

    async def role_login(self, session: AccountSession, place: Place, *, cluster: str, db_name: str) -> TemporaryLogin:
        return await self._answer(_mapped(session), "role", session, place, cluster, db_name)

    async def workgroup_login(
        self, session: AccountSession, place: Place, *, workgroup: str, db_name: str
    ) -> TemporaryLogin:
        return await self._answer(_mapped(session), "workgroup", session, place, workgroup, db_name)

    async def _answer(
        self, user: str, operation: str, session: AccountSession, place: Place, *asked: str
    ) -> TemporaryLogin:
        self.asked.append((operation, session.access_key_id, place.region, *asked))
        if self.gate is not None:
            await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        return TemporaryLogin(
            user=user,
            password=Secret(f"made-password-{len(self.asked)}"),
            expires_at=self.clock.now() + timedelta(seconds=self.life_seconds),
        )


def issuers(
    clock: Clock,
    counters: Counters | None = None,
    *,
    now: Callable[[], datetime] | None = None,
    redshift: Redshift | None = None,
) -> Issuers:
    """The real table over a fake AWS."""
    return make_issuers(
        now=now or clock.now,
        monotonic=clock.monotonic,
        jitter=half,
        broker_name="tollbridge",
        counters=counters or Counters(),
        redshift=redshift or FakeRedshift(clock),
    )


def _mapped(session: AccountSession) -> str:
    return f"IAMR:{session.arn.split('/')[1]}"
