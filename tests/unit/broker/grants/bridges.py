"""A whole broker but for the API and AWS."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker.access.model import Decision, Policy
from broker.audit import Audit, Counters
from broker.errors import BrokerError
from broker.grants import Grants
from broker.issuers import Issuers
from broker.model import RegisteredDatabase
from broker.sessions.pool import Pool
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.databases import request
from tests.unit.broker.issuers.fakes import FakeRedshift, issuers
from tests.unit.broker.sessions.fakes import ROLE, FakeSts, Role, half
from tollbridge.model import Database
from tollbridge.reasons import Reason


@dataclass
class Registered:
    by_name: dict[str, RegisteredDatabase] = field(default_factory=dict)

    def current(self) -> Registered:
        return self


@dataclass
class Bridge:
    """A whole broker but for the API and AWS."""

    clock: FakeClock
    sts: FakeSts
    redshift: FakeRedshift
    registry: Registered
    counters: Counters
    lines: list[str]
    pool: Pool
    grants: Grants
    issuers: Issuers

    @property
    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def evaluate(policy: Policy, *, caller: str, workload: str, database: Database, db_user: str, db_name: str) -> Decision:
    if db_user == "root":
        return Decision(allowed=False, rule="no-root", reason=Reason.DENIED_BY_RULE, message="rule no-root denies root")
    return Decision(allowed=True, rule="shop")


def build(clock: FakeClock, *databases: RegisteredDatabase, **role: Any) -> Bridge:
    sts = FakeSts(clock, roles={ROLE: Role(**role)})
    registry = Registered({entry.name: entry for entry in databases})
    counters, lines = Counters(), list[str]()
    pool = Pool(sts=sts, clock=clock, jitter=half, counters=counters)
    redshift = FakeRedshift(clock)
    made = issuers(clock, counters, now=pool.now, redshift=redshift)
    grants = Grants(
        registry=registry,
        policy=lambda: Policy(version="v7"),
        evaluate=evaluate,
        pool=pool,
        issuers=made,
        audit=Audit(sink=lines.append, counters=counters),
        jitter=half,
        sts_region="us-east-1",
    )
    return Bridge(clock, sts, redshift, registry, counters, lines, pool, grants, made)


async def refused(bridge: Bridge, **asked: Any) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await bridge.grants.issue(request(**asked))
    return caught.value
