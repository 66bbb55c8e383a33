"""AWS as discovery sees it, in memory: accounts, what is in them, and what is wrong with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.discovery.look import Eyes
from broker.discovery.model import Cell, Change, Item, Listing, StoredCell, TagCall
from broker.errors import BrokerError
from broker.model import AccountSession, ChainKey, RegisteredDatabase
from broker.policies.statements import Place
from broker.sessions.keeper import Verdict
from tests.support.clock import FakeClock
from tests.unit.broker.discovery.answers import INSTANCE, changed
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

BROKER_ACCOUNT = "111111111111"


def instance(name: str, *, region: str = "us-west-1", account: str = "222222222222", **members: Any) -> Item:
    """An RDS instance of that name."""
    return changed(
        INSTANCE,
        DBInstanceIdentifier=name,
        Endpoint={"Address": f"{name}.abcdef{account[:6]}.{region}.rds.amazonaws.com", "Port": 5432},
        DBInstanceArn=f"arn:aws:rds:{region}:{account}:db:{name}",
        **members,
    )


@dataclass
class FakeAws:
    """`Directory` and `Sessions` at once."""

    resources: dict[tuple[str, str, str], list[Item]] = field(default_factory=dict)
    """(account, region, operation) -> items."""
    broken: dict[tuple[str, str], BrokerError] = field(default_factory=dict)
    """(account, region) -> how every call fails; region `*` for all."""
    denied_tags: bool = False
    tagged: dict[str, Mapping[str, str]] = field(default_factory=dict)
    iam_on: set[str] = field(default_factory=set)
    turned_on: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    """While set and not open, databases are modified and the answer does not come."""
    made: Counter[str] = field(default_factory=Counter)
    assumed: list[ChainKey] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    serial: int = 0
    at_once: int = 0
    most_at_once: int = 0

    def put(self, account: str, region: str, *items: Item, operation: str = "DescribeDBInstances") -> None:
        self.resources[account, region, operation] = list(items)

    async def session(self, key: ChainKey, *, need_seconds: float = 0.0) -> AccountSession:
        self.assumed.append(key)
        account = key.hops[-1].role_arn.split(":")[4] if key.hops else BROKER_ACCOUNT
        if (error := self.broken.get((account, "sts"))) is not None:
            raise error
        return AccountSession(
            access_key_id=f"ASIA{account}{self.serial}",
            secret_key=Secret("s"),
            session_token=Secret("t"),
            arn=f"arn:aws:sts::{account}:assumed-role/example-role/tollbridge-broker",
            account_id=account,
            issued_at=datetime(2030, 1, 1, tzinfo=UTC),
            expires_at=datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=1),
        )

    async def reject(self, key: ChainKey, access_key_id: str) -> Verdict:
        self.rejected.append(access_key_id)
        if access_key_id not in self.dead:
            return Verdict.ALIVE
        self.serial += 1
        return Verdict.DEAD

    def calls(self) -> int:
        return self.made.total()

    async def items(self, session: AccountSession, place: Place, listing: Listing) -> Sequence[Item]:
        await self._called(session, place, listing.operation)
        return self.resources.get((session.account_id, place.region, listing.operation), [])

    async def tags(self, session: AccountSession, place: Place, call: TagCall, arn: str) -> Mapping[str, str]:
        await self._called(session, place, call.operation)
        if self.denied_tags:
            raise BrokerError(Reason.CREDENTIAL_DENIED, f"AWS denies {call.action}")
        return self.tagged.get(arn, {})

    async def iam_auth(self, session: AccountSession, change: Change) -> bool:
        await self._called(session, change.place, "Describe")
        return change.arn in self.iam_on

    async def turn_iam_auth_on(self, session: AccountSession, change: Change) -> None:
        await self._called(session, change.place, "Modify")
        self.turned_on.append(change.arn)
        if self.gate is not None:
            await self.gate.wait()

    async def _called(self, session: AccountSession, place: Place, operation: str) -> None:
        from broker.sessions.errors import SessionGone

        self.made[operation] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if session.access_key_id in self.dead:
            raise SessionGone(Reason.CREDENTIAL_DENIED, "AWS does not accept the session")
        for where in ("*", place.region):
            if (error := self.broken.get((session.account_id, where))) is not None:
                raise type(error)(error.reason, error.message)


@dataclass
class FakeStore:
    """A `DiscoveryStore` that several brokers share."""

    clock: FakeClock
    cells: dict[str, bytes] = field(default_factory=dict)
    holder: str = ""
    until: float = 0.0
    away: bool = False
    saves: int = 0

    async def load(self) -> Sequence[StoredCell]:
        self._answer()
        return [StoredCell(key=key, document=document) for key, document in self.cells.items()]

    async def save(self, cells: Sequence[StoredCell], gone: Sequence[str]) -> bool:
        self._answer()
        self.saves += 1
        self.cells.update({cell.key: cell.document for cell in cells})
        for key in gone:
            self.cells.pop(key, None)
        return False

    async def lease(self, owner: str, seconds: float) -> bool:
        self._answer()
        now = self.clock.monotonic()
        if self.holder not in ("", owner) and now < self.until:
            return False
        self.holder, self.until = owner, now + seconds
        return True

    def _answer(self) -> None:
        if self.away:
            raise BrokerError(Reason.REGISTRY_UNAVAILABLE, "the store does not answer")


@dataclass
class Published:
    """What the registry was told."""

    databases: tuple[RegisteredDatabase, ...] = ()
    times: int = 0

    def __call__(self, databases: Iterable[RegisteredDatabase]) -> None:
        self.databases = tuple(databases)
        self.times += 1

    @property
    def names(self) -> list[str]:
        return [database.name for database in self.databases]


def eyes(aws: FakeAws, **more: Any) -> Eyes:
    return Eyes(sessions=aws, directory=aws, broker_name="tollbridge-broker", sts_region="us-west-1", **more)


def denied(message: str = "AWS denies rds:DescribeDBInstances") -> BrokerError:
    return BrokerError(Reason.CREDENTIAL_DENIED, message)


def throttled() -> BrokerError:
    return BrokerError(Reason.AWS_THROTTLED, "AWS throttles rds:DescribeDBInstances in us-east-2")


def only(cells: Sequence[Cell]) -> Cell:
    (cell,) = cells
    return cell
