"""The broker goes away, hangs, or comes back with other rules: sessions stay, grants last as long as they say."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
import pytest

from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.control import Control
from tests.e2e.conftest import Workshop
from tests.e2e.load import (
    Connection,
    app,
    decisions,
    enter,
    issue_workloads,
    mtls,
    refusal,
    state,
    traffic,
    until,
    until_let_in,
    workload,
)
from tests.support.raw_postgres import attempt

MARGIN_SECONDS: Final = 60
"""A grant is not used in the last minute of its credential."""
USABLE_SECONDS: Final = 6
NOT_NOW: Final = "57P03"


def asked_often(document: Document) -> None:
    """Decisions stand for a second."""
    document["limits"] = {"recheck_seconds": 1}


def without_worker_0(document: Document) -> None:
    """A rule that denies one workload."""
    document["access"]["rules"].append(
        {"name": "worker-0-has-left", "workloads": [workload(0)], "db_labels": {"*": ["*"]}, "db_users": ["*"]}
        | {"deny": True}
    )


@pytest.fixture
def aws(control: Control) -> Iterator[Control]:
    """The sandbox's levers, back in place after a test."""
    yield control
    control.shorten_sessions(None)
    control.clear_faults()


async def open_session(dsn: str) -> Connection:
    """A session that stays."""
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


async def answers(session: Connection) -> bool:
    """Whether a session still works."""
    row = await (await session.execute("select 1")).fetchone()
    return row == (1,)


async def restart(bridge: Bridge) -> None:
    """A broker again, beside what goes on."""
    await asyncio.to_thread(bridge.broker.start)


async def test_without_a_broker_grants_last_until_they_say_and_then_there_is_one_clear_error(
    workshop: Workshop, aws: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.shorten_sessions(MARGIN_SECONDS + USABLE_SECONDS)
    bridge = workshop.bridge(change_broker=asked_often)
    door = app(bridge)
    async with await open_session(door) as session:
        bridge.broker.kill()
        (line,) = decisions(bridge, allowed=True)
        usable_until = datetime.fromisoformat(line["expires_at"]) - timedelta(seconds=MARGIN_SECONDS)
        logins = 0
        while datetime.now(UTC) < usable_until:
            try:
                await enter(door)  # also after a second, when the decision was due to be asked for again
            except psycopg.OperationalError:
                assert datetime.now(UTC) >= usable_until, "it was refused while its grant was good"
            else:
                logins += 1
        await until(lambda: datetime.now(UTC) > usable_until + timedelta(seconds=0.1))
        began = time.monotonic()
        error = await asyncio.to_thread(attempt, bridge.ports["app"], user="app", database="app")
        told_after = time.monotonic() - began
        assert error is not None
        assert (error.severity, error.sqlstate) == ("FATAL", NOT_NOW)
        assert "broker" in error.message
        assert told_after < 15, "and not when the client gives up"
        assert await answers(session)
        assert bridge.proxy.ready(), "it still serves its sessions, and others may have grants"
        aws.shorten_sessions(None)
        await restart(bridge)
        recovered = await until_let_in(door)
        assert await answers(session)
    assert logins >= 3
    state(capsys, f"{logins} logins without a broker, error after {told_after:.1f} s, recovered in {recovered:.1f} s")


async def test_a_broker_that_hangs_costs_a_login_with_a_grant_two_seconds_at_most(workshop: Workshop) -> None:
    bridge = workshop.bridge(change_broker=asked_often)
    door = app(bridge)
    async with await open_session(door) as session:
        bridge.broker.send(signal.SIGSTOP)
        await asyncio.sleep(1.1)  # the decision is due to be asked for again
        async with traffic(*[lambda: door] * 4) as logins:
            await logins.more(40)
        assert logins.failures == []
        assert logins.slowest < 8, "two seconds of patience, and a login on a machine that may be busy"
        told = await refusal(app(bridge, "readonly"))
        assert "broker" in told
        assert await answers(session)
        bridge.broker.send(signal.SIGCONT)
        await until_let_in(app(bridge, "readonly"))


async def test_a_broker_restarted_with_other_rules_makes_proxies_ask_again_at_once(workshop: Workshop) -> None:
    bridge = workshop.bridge()  # decisions stand for a minute: only the watch can say that they do not
    issue_workloads(bridge, 2)
    leaver, stayer = (mtls(bridge, certificate=f"worker-{number:02}") for number in (0, 1))
    async with await open_session(leaver) as session:
        await enter(stayer)
        async with traffic(lambda: stayer) as others:
            await asyncio.to_thread(bridge.broker.stop)
            await until(lambda: "tollbridge_proxy_watch_up 0.0" in bridge.proxy.admin("/metrics")[1])
            await enter(leaver)  # on the grant it holds
            bridge.change_broker = without_worker_0
            bridge.write_broker_config()
            await restart(bridge)
            began = time.monotonic()
            await until(lambda: "tollbridge_proxy_watch_up 1.0" in bridge.proxy.admin("/metrics")[1])
            assert "worker-0-has-left" in await refusal(leaver)
            assert time.monotonic() - began < 45, "long before the decision is due to be asked for again"
            await others.more(3)
        assert others.failures == []
        assert await answers(session), "rules bind new logins; max_session_seconds bounds old sessions"
    (line,) = decisions(bridge, allowed=False)
    assert (line["reason"], line["rule"], line["workload"]) == ("DENIED_BY_RULE", "worker-0-has-left", workload(0))


async def test_while_sts_hangs_held_sessions_serve_everybody_and_the_broker_stays_ready(
    workshop: Workshop, aws: Control
) -> None:
    bridge = workshop.bridge(change_broker=asked_often)
    issue_workloads(bridge, 5)
    await enter(app(bridge))
    aws.inject_fault("hang", action="*")
    for number in range(5):
        await enter(mtls(bridge, "readonly@rds-postgres", f"worker-{number:02}"))
    await refusal(mtls(bridge, "app@analytics"))
    assert bridge.broker.ready()
    await enter(app(bridge))
    aws.clear_faults()
    await until_let_in(mtls(bridge, "app@analytics"))


async def test_brokers_and_proxies_may_start_in_any_order(workshop: Workshop) -> None:
    bridge = workshop.bridge(up=False)
    bridge.proxy.start(wait=False)
    await until(lambda: "listening" in bridge.proxy.log())
    told = await refusal(app(bridge))
    assert "broker" in told
    assert not bridge.proxy.ready()
    await restart(bridge)
    await until(bridge.proxy.ready)
    assert await enter(app(bridge)) == "app"
