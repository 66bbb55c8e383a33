"""Databases that operators register while everything runs: reachable within seconds, gone within seconds."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from broker.registry.sqlite import SqliteStore
from broker.registry.store import DATABASES, Change
from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.control import Control
from tests.e2e.clients import audit_line, psql
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
from tollbridge.process.lifecycle import SystemClock
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


def stored_in(folder: Path) -> bytes:
    """Everything that the registry's files hold."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_the_pages_dynamic_example_gives_a_psql_login(bridge: Bridge, tmp_path: Path) -> None:
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
    assert topology.EXAMPLE_EXTERNAL_ID.encode() not in stored_in(tmp_path / "state")
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
    for each in pair.doors("app@orders").values():  # both brokers have heard of it
        await seconds_until(each, entered=True)
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


HOSTILE: dict[str, tuple[str, str]] = {
    "a role that no link names": (
        document("hostile", spec__aws__assume_role_arn=topology.LONG_SESSION_ROLE_ARN, spec__aws__external_id=None),
        "no account link names it for dynamic databases",
    ),
    "a role of somebody else's account": (
        document(
            "hostile",
            spec__aws__account_id=topology.ANALYTICS_ACCOUNT,
            spec__aws__assume_role_arn=topology.ANALYTICS_ROLE_ARN,
            spec__aws__external_id=topology.ANALYTICS_EXTERNAL_ID,
        ),
        "no account link names it for dynamic databases",
    ),
    "the linked role for somebody else's account": (
        document("hostile", spec__aws__account_id=topology.ANALYTICS_ACCOUNT),
        "the role is in account 222222222222, account_id is 333333333333",
    ),
    "an attacker's host": (
        document("hostile", spec__uri="localhost:{port}", spec__aws__region="us-west-1"),
        "only static configuration may name others",
    ),
    "an attacker's host that begins as AWS's": (
        document("hostile", spec__uri="rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com.evil.example:5432"),
        "only static configuration may name others",
    ),
    "TLS that verifies nothing": (
        document("hostile", spec__tls={"mode": "insecure"}),
        "may not bring its own tls settings",
    ),
    "a CA of its own": (
        document("hostile", spec__tls={"ca_cert": "-----BEGIN CERTIFICATE-----"}),
        "may not bring its own tls settings",
    ),
    "another external ID": (
        document("hostile", spec__aws__external_id="guessed-id"),
        "name different external IDs",
    ),
    "a label that lies": (
        document("hostile", metadata__labels={"env": "dev", "account-id": topology.BROKER_ACCOUNT}),
        "label 'account-id' says '111111111111'",
    ),
}


async def test_a_hostile_document_gets_no_credential_sent_anywhere(
    bridge: Bridge, control: Control, tmp_path: Path
) -> None:
    """Refused by the API; and written into the store by hand, not served: no role is assumed, nobody is dialled."""
    dialled: list[object] = []

    async def trap(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.append(writer.get_extra_info("peername"))
        writer.close()

    attacker = await asyncio.start_server(trap, "127.0.0.1", 0)
    port = attacker.sockets[0].getsockname()[1]
    control.reset_counters()
    async with attacker, operator(bridge) as broker:
        for why, (text, refused) in HOSTILE.items():
            with pytest.raises(RpcFailed) as caught:
                await broker.create_database(text.replace("{port}", str(port)))
            assert any(refused in problem.message for problem in caught.value.problems), why
        by_hand = SqliteStore(tmp_path / "state" / "registry.db", SystemClock())
        changes = [
            Change(
                name=f"hostile-{number}",
                document=text.replace("{port}", str(port)).replace("hostile", f"hostile-{number}"),
            )
            for number, (text, _) in enumerate(HOSTILE.values())
        ]
        await by_hand.write(DATABASES, changes, by="somebody")
        await by_hand.close()
        await broker.create_database(document("sentinel"))
        await seconds_until(login(bridge, "mtls", "app@sentinel"), entered=True)
        listed = {entry.name: entry for entry in await broker.list_registrations([Origin.DYNAMIC])}
        for number in range(len(HOSTILE)):
            entry = listed[f"hostile-{number}"]
            assert entry.served_as == ""
            assert entry.problems
            assert "no database" in await refusal(login(bridge, "mtls", f"app@hostile-{number}"))
    assert dialled == []
    assert set(control.counters().assume_role) == {topology.EXAMPLE_ROLE_ARN}


async def test_a_document_that_takes_a_static_databases_name_gets_none_of_its_logins(
    bridge: Bridge, control: Control
) -> None:
    """`analytics` stays the operator's own; the document is served under a longer name, to whom rules let in."""
    control.reset_counters()
    async with operator(bridge) as broker:
        made = await broker.create_database(document("analytics"))
        assert made.served_as == "analytics-rds-us-west-1-222222222222"
        assert "a static database already has the name 'analytics'" in made.problems[0].message
        longer = f"app@{made.served_as}"
        await seconds_until(login(bridge, "mtls", longer), entered=True)
        control.reset_counters()
        assert await enter(login(bridge, "mtls", "app@analytics")) == "app"
        assert set(control.counters().assume_role) <= {topology.ANALYTICS_ROLE_ARN}
        assert audit_line(bridge, "proxy", event="session.start", database="analytics")


async def test_a_label_outside_the_rules_lets_nobody_in(bridge: Bridge) -> None:
    """Registering is not allowing: a database with labels that no rule selects is not even shown to the proxy."""
    async with operator(bridge) as broker:
        await broker.create_database(document("unlabelled", metadata__labels={"env": "nowhere"}))
        await broker.create_database(document("sentinel"))
    await seconds_until(login(bridge, "mtls", "app@sentinel"), entered=True)
    assert "add this database to the proxy's row" in await refusal(login(bridge, "mtls", "app@unlabelled"))


async def test_a_changed_configuration_is_put_in_force_and_a_bad_one_is_not(bridge: Bridge, tmp_path: Path) -> None:
    """Rules, links and static databases change while sessions run; SIGHUP is quicker than the look at the file."""
    async with operator(bridge) as broker:
        await broker.create_database(document("orders"))
    door = login(bridge, "mtls", "app@orders")
    await seconds_until(door, entered=True)
    running = await psycopg.AsyncConnection.connect(door, autocommit=True)

    def unlink(configuration: Document) -> None:
        kept_in(tmp_path / "state")(configuration)
        del configuration["account_links"]

    def breaks(configuration: Document) -> None:
        kept_in(tmp_path / "state")(configuration)
        configuration["access"]["rules"][0]["workload"] = "x"

    bridge.change_broker = breaks
    bridge.write_broker_config()
    bridge.broker.send(signal.SIGHUP)
    await until(lambda: "the previous configuration stays in force" in bridge.broker.log(), what="the file is refused")
    assert "access.rules[0].workload" in bridge.broker.log()
    assert "broker.yaml has 1 problem" in bridge.broker.admin("/readyz")[1]
    metrics = bridge.broker.admin("/metrics")[1]
    assert "tollbridge_broker_config_rejected_total 1.0" in metrics
    assert "tollbridge_broker_config_stale 1.0" in metrics
    assert await enter(door) == "app"

    bridge.change_broker = unlink
    bridge.write_broker_config()  # seen without a signal
    await seconds_until(door, entered=False)
    async with operator(bridge) as broker:
        found = await broker.get_database("orders")
    assert found.served_as == ""
    assert "no account link names it" in found.problems[0].message
    assert "tollbridge_broker_config_stale 0.0" in bridge.broker.admin("/metrics")[1]
    await running.execute("select 1")  # what runs goes on
    await running.close()

    bridge.change_broker = kept_in(tmp_path / "state")
    bridge.write_broker_config()
    await seconds_until(door, entered=True)


async def test_a_selectors_role_replaces_the_documents(workshop: Workshop, tmp_path: Path) -> None:
    """Brokers in different accounts use roles of their own for the same document."""

    def change(configuration: Document) -> None:
        kept_in(tmp_path / "state")(configuration)
        del configuration["account_links"]
        aws = {"assume_role_arn": topology.EXAMPLE_ROLE_ARN, "external_id": topology.EXAMPLE_EXTERNAL_ID}
        configuration["db_service"]["resources"] = [
            {"labels": {"env": "lab"}},
            {"labels": {"env": ["dev", "test"]}, "aws": aws},
        ]

    bridge = workshop.bridge(change_broker=change)
    text = document("orders", spec__aws__assume_role_arn=topology.UNLISTED_ROLE_ARN, spec__aws__external_id=None)
    async with operator(bridge) as broker:
        made = await broker.create_database(text)
        assert made.assume_role_arn == topology.EXAMPLE_ROLE_ARN
        unselected = await broker.create_database(
            document(
                "other", metadata__labels={"env": "prod"}, spec__aws__assume_role_arn=None, spec__aws__external_id=None
            )
        )
        assert unselected.served_as == ""
        assert "no resource selector of this broker selects database 'other'" in unselected.problems[0].message
    await seconds_until(login(bridge, "mtls", "app@orders"), entered=True)
