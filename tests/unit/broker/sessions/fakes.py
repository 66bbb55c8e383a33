"""An STS that behaves: roles with trust and external IDs, sessions that die with their role, gates and faults."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from broker.errors import BrokerError
from broker.model import AccountSession, Hop
from broker.sessions.errors import SessionGone
from tests.support.clock import FakeClock
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

BROKER_ARN = "arn:aws:sts::111111111111:assumed-role/broker/i-1"
ROLE = "arn:aws:iam::222222222222:role/access"
SECOND_ROLE = "arn:aws:iam::222222222222:role/second"


def half() -> float:
    return 0.5


@dataclass
class Role:
    external_id: str = ""
    unique_id: int = 0
    max_life_seconds: int = 3600


@dataclass
class FakeSts:
    """A `broker.model.Sts`."""

    clock: FakeClock
    roles: dict[str, Role] = field(default_factory=dict)
    base_life_seconds: float | None = None
    skew_seconds: float = 0.0
    faults: list[Exception] = field(default_factory=list)
    """Raised by the next AssumeRole calls, one each."""
    check_faults: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None
    """While set and not open, AssumeRole waits for it."""
    base_dead: bool = False

    def __post_init__(self) -> None:
        self.assumed: list[tuple[str, Hop]] = []
        """(parent's access key id, hop) of every AssumeRole call."""
        self.checked: list[str] = []
        self.base_reads = 0
        self._issued: dict[str, tuple[str, int]] = {}
        self._serial = 0

    async def base_session(self) -> AccountSession:
        self.base_reads += 1
        if self.base_dead:
            raise BrokerError(Reason.BASE_CREDENTIALS_MISSING, "none found")
        life = self.base_life_seconds
        return self._new(BROKER_ARN, life)

    async def assume_role(self, parent: AccountSession, hop: Hop, region: str) -> AccountSession:
        self.assumed.append((parent.access_key_id, hop))
        if self.gate is not None:
            await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        if not self._knows(parent):
            raise SessionGone(Reason.BASE_CREDENTIALS_MISSING, "parent is gone")
        role = self.roles.get(hop.role_arn)
        if role is None or role.external_id != hop.external_id.reveal():
            raise BrokerError(Reason.ASSUME_ROLE_DENIED, f"denied {hop.role_arn}")
        account, name = hop.role_arn.split(":")[4], hop.role_arn.split("/")[-1]
        arn = f"arn:aws:sts::{account}:assumed-role/{name}/{hop.session_name}"
        session = self._new(arn, min(hop.duration_seconds, role.max_life_seconds))
        self._issued[session.access_key_id] = (hop.role_arn, role.unique_id)
        return session

    async def is_alive(self, session: AccountSession, region: str) -> bool:
        self.checked.append(session.access_key_id)
        await asyncio.sleep(0)
        if self.check_faults:
            raise self.check_faults.pop(0)
        return self._knows(session)

    def clock_skew_seconds(self) -> float:
        return self.skew_seconds

    def recreate(self, role_arn: str) -> None:
        """Delete a role and make one of the same name: sessions of the old one are dead."""
        self.roles[role_arn].unique_id += 1

    def kill(self, session: AccountSession) -> None:
        self._issued[session.access_key_id] = ("", -1)

    def _knows(self, session: AccountSession) -> bool:
        role_arn, unique_id = self._issued.get(session.access_key_id, ("", 0))
        if not role_arn:
            return unique_id == 0
        role = self.roles.get(role_arn)
        return role is not None and role.unique_id == unique_id

    def _new(self, arn: str, life_seconds: float | None) -> AccountSession:
        self._serial += 1
        now = self.clock.now() + timedelta(seconds=self.skew_seconds)
        return AccountSession(
            access_key_id=f"ASIA{self._serial:016d}",
            secret_key=Secret(f"secret-{self._serial}"),
            session_token=Secret(f"session-token-{self._serial}"),
            arn=arn,
            account_id=arn.split(":")[4],
            issued_at=now,
            expires_at=None if life_seconds is None else now + timedelta(seconds=life_seconds),
        )


def hop(role_arn: str = ROLE, *, seconds: int = 3600, external_id: str = "", name: str = "tollbridge") -> Hop:
    return Hop(role_arn=role_arn, session_name=name, duration_seconds=seconds, external_id=Secret(external_id))


def denied() -> BrokerError:
    return BrokerError(Reason.ASSUME_ROLE_DENIED, "denied")


def throttled() -> BrokerError:
    return BrokerError(Reason.AWS_THROTTLED, "slow down")
