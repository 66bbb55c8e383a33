"""Databases that operators register while everything runs: reachable within seconds, gone within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.sandbox.bridge import Bridge
from deploy.sandbox.control import Control
from tests.e2e.clients import psql
from tests.e2e.conftest import Workshop
from tests.e2e.load import app, enter, refusal, state, until
from tests.e2e.registering import (
    SOON_SECONDS,
    Pair,
    kept_in,
    login,
    operator,
    seconds_until,
)
from tests.support.documents import THE_PAGES, document
from tollbridge.client import Origin, RpcFailed
from tollbridge.reasons import Reason


@pytest.fixture
def bridge(workshop: Workshop, tmp_path: Path) -> Bridge:
    """One broker that keeps its registry in a file, one proxy."""
    return workshop.bridge(change_broker=kept_in(tmp_path / "state"))


@pytest.fixture
def pair(workshop: Workshop) -> Iterator[Pair]:
    """Two brokers on one table, two proxies."""
    pair = Pair(workshop.bridge(up=False))
    try:
        pair.up()
        yield pair
    finally:
        pair.down()


async def test_the_pages_dynamic_example_gives_a_psql_login(bridge: Bridge) -> None:
    """Registered as it stands on the page, and kept over a restart of the broker."""
    assert "no database" in await refusal(app(bridge))
    async with operator(bridge) as broker:
        made = await broker.create_database(THE_PAGES)
    assert (made.name, made.served_as, made.origin, made.revision) == (
        "rds-postgres",
        "rds-postgres",
        Origin.DYNAMIC,
        "1",
    )
    assert (made.account_link, made.problems) == ("example", ())
    assert "external_id" not in made.document
    await seconds_until(app(bridge), entered=True)
    assert psql(app(bridge), "select current_user").stdout.strip() == "app"
    bridge.broker.stop()
    bridge.broker.start()
    assert psql(login(bridge, "mtls", "app@rds-postgres"), "select current_user").stdout.strip() == "app"
    line = next(line for line in bridge.audit("broker") if line["event"] == "registry")
    assert (line["action"], line["database"], line["revision"]) == ("create", "rds-postgres", 1)
    assert line["caller"] == "spiffe://example.org/ns/ops/sa/operator"


async def test_a_database_comes_and_goes_on_both_proxies(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    """Created at one broker, entered through both proxies within 5 seconds; deleted at the other, gone likewise."""
    doors = pair.doors("app@orders")
    for dsn in doors.values():
        assert "no database" in await refusal(dsn)
    async with pair.operator("broker") as broker:
        await broker.create_database(document("orders"))
    came = await asyncio.gather(*(seconds_until(dsn, entered=True) for dsn in doors.values()))
    async with pair.operator("broker2") as broker:
        await broker.delete_database("orders")
    went = await asyncio.gather(*(seconds_until(dsn, entered=False) for dsn in doors.values()))
    for dsn in doors.values():
        assert "no database" in await refusal(dsn)
    state(capsys, f"reachable after {came[0]:.2f} and {came[1]:.2f} s, gone after {went[0]:.2f} and {went[1]:.2f} s")
    assert max(*came, *went) <= SOON_SECONDS


async def test_of_two_who_edit_one_wins_and_the_other_hears_it(pair: Pair) -> None:
    """Both read revision 1 and change it, each at another broker."""
    async with pair.operator("broker") as first, pair.operator("broker2") as second:
        made = await first.create_database(document("orders"))
        edits = [document("orders", metadata__description=text) for text in ("one", "two")]
        outcomes = await asyncio.gather(
            first.update_database(edits[0], revision=made.revision),
            second.update_database(edits[1], revision=made.revision),
            return_exceptions=True,
        )
        (failed,) = [outcome for outcome in outcomes if isinstance(outcome, RpcFailed)]
        (won,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert failed.reason is Reason.REVISION_CONFLICT
        assert failed.message.startswith("dynamic database 'orders' is at revision 2: somebody else was first")
        assert won.revision == "2"
        with pytest.raises(RpcFailed, match="is at revision 2"):
            await first.update_database(edits[0], revision=made.revision)
        with pytest.raises(RpcFailed, match="exists already, at revision 2") as taken:
            await second.create_database(document("orders"))
        assert taken.value.reason is Reason.DATABASE_EXISTS


async def test_either_broker_may_die(pair: Pair) -> None:
    """Logins go on through the proxy that knows both, in both cases; what was registered meanwhile is there after."""
    async with pair.operator("broker") as broker:
        await broker.create_database(document("orders"))
    door = pair.doors("app@orders")["proxy"]
    await seconds_until(door, entered=True)
    for victim, other in (("broker", "broker2"), ("broker2", "broker")):
        pair.brokers[victim].kill()
        for _ in range(5):
            assert await enter(door) == "app"
        async with pair.operator(other) as broker:
            await broker.create_database(document(f"made-without-{victim}"))
        await seconds_until(pair.doors(f"app@made-without-{victim}")["proxy"], entered=True)
        pair.brokers[victim].start()
        async with pair.operator(victim) as broker:
            assert (await broker.get_database(f"made-without-{victim}")).served_as == f"made-without-{victim}"


async def test_a_broker_that_starts_while_aws_is_away_knows_its_databases(pair: Pair, control: Control) -> None:
    """From its copy of the table: proxies that ask it lose no route."""
    async with pair.operator("broker2") as broker:
        await broker.create_database(document("orders"))
    door = pair.doors("app@orders")["second"]
    await seconds_until(door, entered=True)
    second = pair.brokers["broker2"]
    second.stop()
    for service in ("sts", "dynamodb"):
        control.inject_fault("error500", service=service, action="*")
    try:
        second.start(wait=False)
        await until(lambda: "its copy is used" in second.log(), what="the copy is used")
        async with pair.operator("broker2") as broker:
            found = {entry.name: entry for entry in await broker.list_registrations([Origin.DYNAMIC])}
            assert found["orders"].served_as == "orders"
    finally:
        control.clear_faults()
    second.wait_ready()
    assert await enter(door) == "app"


async def test_who_is_no_operator_registers_and_sees_nothing(bridge: Bridge) -> None:
    """A workload's certificate, and the proxy's."""
    for name in ("client", "proxy"):
        async with operator(bridge, name=name) as broker:
            for attempt in (
                broker.create_database(THE_PAGES),
                broker.update_database(THE_PAGES),
                broker.delete_database("rds-postgres"),
                broker.get_database("analytics"),
                broker.list_registrations(),
            ):
                with pytest.raises(RpcFailed, match="no row of operators gives it that power") as refused:
                    await attempt
                assert refused.value.reason is Reason.CALLER_NOT_ALLOWED
