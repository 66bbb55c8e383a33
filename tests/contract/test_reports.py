"""Explain and Diagnose over mTLS: operators who may view, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from broker.access.model import Policy, Rule
from broker.access.operators import OperatorRow, Operators, Power
from broker.api.reports import AccessServicer, DiagnosticsServicer, add_reports
from broker.diagnose import Diagnoser
from broker.explain import Known
from broker.issuers import chain_of
from broker.registry.links import AccountLinks
from tests.contract.house import APP, House
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.databases import database
from tests.unit.broker.issuers.fakes import issuers
from tests.unit.broker.sessions.fakes import ROLE, FakeSts, Role
from tollbridge.client import RpcFailed
from tollbridge.reasons import Reason
from tollbridge.reports import DiagnosisStep, Outcome

OPERATOR = "spiffe://td.example/ops"
SHOP_ONLY = "spiffe://td.example/shop-ops"
EXTERNAL_ID = "kept-between-us"
POLICY = Policy(
    version="p1",
    rules=(Rule(name="shop", workloads=(APP,), db_labels={"team": ("shop",)}, db_users=("app",)),),
)
OPERATORS = Operators(
    [
        OperatorRow(caller=OPERATOR, powers=frozenset({Power.VIEW})),
        OperatorRow(caller=SHOP_ONLY, powers=frozenset({Power.VIEW}), db_labels={"team": ("shop",)}),
    ]
)


class Reports:
    """The two services over fakes."""

    def __init__(self, house: House) -> None:
        clock = FakeClock()
        self.house = house
        self.sts = FakeSts(clock, roles={ROLE: Role(external_id=EXTERNAL_ID)})
        table = issuers(clock)
        entries = [
            replace(entry, facts=replace(entry.facts, labels={"team": team}))
            for team, entry in (
                ("shop", database(name="orders", external_id=EXTERNAL_ID)),
                ("bank", database(name="ledger", external_id=EXTERNAL_ID)),
            )
        ]
        databases = {entry.name: entry for entry in entries}
        self.more = add_reports(
            AccessServicer(
                lambda: Known(databases=databases, policy=POLICY, links=AccountLinks(), chain=chain_of(table)),
                lambda: OPERATORS,
            ),
            DiagnosticsServicer(
                Diagnoser(
                    policy=lambda: POLICY,
                    sts=self.sts,
                    issuers=table,
                    sts_region="us-west-1",
                    monotonic=clock.monotonic,
                ),
                lambda: databases,
                lambda: OPERATORS,
            ),
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[House]:
        """Over mTLS."""
        async with self.house.serving(more=(self.more,), may=OPERATORS.may) as house:
            yield house


@pytest.fixture
def reports(house: House) -> Reports:
    return Reports(house)


async def diagnosed(house: House, who: str, name: str) -> list[DiagnosisStep]:
    """Every step that is told."""
    async with house.client(house.identity(who)) as client:
        return [step async for step in client.diagnose(name)]


async def test_an_operator_has_a_decision_explained(reports: Reports) -> None:
    async with reports.serving() as house, house.client(house.identity(OPERATOR)) as client:
        answer = await client.explain("orders", "app", workload=APP)
    assert answer.allowed
    assert answer.rule == "shop"
    assert answer.rules[0].matches
    assert answer.role_chain[0].role_arn == ROLE
    assert answer.role_chain[0].external_id_set
    assert answer.database is not None
    assert answer.database.name == "orders"
    assert EXTERNAL_ID not in repr(answer)
    assert reports.sts.assumed == []


async def test_a_refusal_keeps_its_reason(reports: Reports) -> None:
    async with reports.serving() as house, house.client(house.identity(OPERATOR)) as client:
        answer = await client.explain("orders", "root", workload=APP)
    assert (answer.allowed, answer.reason) == (False, Reason.DB_USER_NOT_ALLOWED)


async def test_an_operator_has_a_login_diagnosed_step_by_step(reports: Reports) -> None:
    async with reports.serving() as house:
        steps = await diagnosed(house, OPERATOR, "orders")
    assert [(each.step, each.outcome) for each in steps] == [
        ("database", Outcome.OK),
        ("base", Outcome.BEGUN),
        ("base", Outcome.OK),
        ("role 1", Outcome.BEGUN),
        ("role 1", Outcome.OK),
        ("issue", Outcome.BEGUN),
        ("issue", Outcome.OK),
    ]
    assert EXTERNAL_ID not in repr(steps)


async def test_a_failed_step_keeps_its_reason_and_statements(reports: Reports) -> None:
    reports.sts.roles.clear()
    async with reports.serving() as house:
        steps = await diagnosed(house, OPERATOR, "orders")
    assert (steps[-1].step, steps[-1].outcome, steps[-1].reason) == (
        "role 1",
        Outcome.FAILED,
        Reason.ASSUME_ROLE_DENIED,
    )
    assert [each.trust for each in steps[-1].statements] == [False, True]


@pytest.mark.parametrize("who", [APP, SHOP_ONLY])
async def test_who_may_not_view_a_database_learns_nothing_of_it(reports: Reports, who: str) -> None:
    async with reports.serving() as house, house.client(house.identity(who)) as client:
        with pytest.raises(RpcFailed) as explained:
            await client.explain("ledger", "app", workload=APP)
        with pytest.raises(RpcFailed) as tried:
            async for _ in client.diagnose("ledger"):
                pass
    assert explained.value.reason is tried.value.reason is Reason.CALLER_NOT_ALLOWED
    assert reports.sts.assumed == []


async def test_a_row_bounds_what_its_operator_sees_and_what_is_guessed(reports: Reports) -> None:
    async with reports.serving() as house, house.client(house.identity(SHOP_ONLY)) as client:
        assert (await client.explain("orders", "app", workload=APP)).allowed
        unknown = await client.explain("ledge", "app", workload=APP)
        with pytest.raises(RpcFailed) as tried:
            async for _ in client.diagnose("ledge"):
                pass
    assert "ledger" not in unknown.message
    assert tried.value.reason is Reason.DATABASE_UNKNOWN
    assert "ledger" not in tried.value.message
