"""A database's limits with real clients: a storm that comes back meets the rate, and every place is given back."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Final

import psycopg
import pytest

from deploy.sandbox.bridge import Change, Document
from deploy.sandbox.control import Control
from tests.e2e.conftest import Workshop
from tests.e2e.load import app, enter, state, until

CLIENTS: Final = 500
RATE: Final = 50
HANDSHAKE_SECONDS: Final = 120
"""No login may come near it, on a machine however busy."""


def limited(**limits: float) -> Change:
    """The limits of rds-postgres, and a door wide enough for the storm to reach them."""

    def change(document: Document) -> None:
        document["databases"] = {"rds-postgres": limits}
        for listener in document["listeners"]:
            listener["limits"] = {"max_connections": 2 * CLIENTS, "handshake_seconds": HANDSHAKE_SECONDS}

    return change


@dataclass(slots=True)
class Storm:
    """What its clients went through."""

    let_in: int = 0
    turned_away: list[str] = field(default_factory=list)
    longest: float = 0.0
    """Of one attempt, whatever came of it."""

    async def client(self, dsn: str) -> None:
        """Comes back when it is told to, until it is in."""
        while True:
            began = time.monotonic()
            try:
                assert await enter(dsn) == "app"
            except psycopg.OperationalError as error:
                self.turned_away.append(str(error))
                self.longest = max(self.longest, time.monotonic() - began)
                await asyncio.sleep(told_seconds(str(error)))
            else:
                self.let_in += 1
                self.longest = max(self.longest, time.monotonic() - began)
                return


def told_seconds(text: str) -> int:
    """When to come back, in the words of the refusal."""
    found = re.search(r"retry in (\d+) s", text)
    assert found is not None, text
    return int(found[1])


async def test_a_reconnect_storm_meets_the_rate_and_not_the_database(
    workshop: Workshop, control: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    """500 clients at once: the server sees the rate and one second's worth; those who do as they are told get in."""
    change = limited(logins_per_second=RATE, wait_seconds=1)
    bridge = await asyncio.to_thread(workshop.bridge, change_proxy=change)
    control.forget_logins()
    storm, dsn, began = Storm(), app(bridge), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(storm.client(dsn))
    took = time.monotonic() - began
    times = sorted(login.time for login in control.logins() if login.database == "rds-postgres")
    busiest = max(sum(at <= other < at + 1 for other in times) for at in times)
    state(
        capsys,
        f"{CLIENTS} clients, {len(storm.turned_away)} times turned away, all in after {took:.1f} s; at most {busiest} "
        f"logins in one second at the server; longest attempt {storm.longest:.1f} s",
    )
    assert storm.let_in == CLIENTS == len(times)
    assert RATE + took * RATE >= CLIENTS
    assert busiest <= 3 * RATE  # one second's worth, the rate, and what a busy machine delays into the same second
    assert storm.turned_away
    assert all(
        "takes 50 logins a second through this proxy (`logins_per_second`)" in said for said in storm.turned_away
    )
    assert storm.longest < HANDSHAKE_SECONDS
    metrics = bridge.proxy.admin("/metrics")[1]
    assert 'tollbridge_proxy_database_connections{database="rds-postgres"} 0.0' in metrics
    assert f'reason="LOGIN_RATE_LIMITED"}} {len(storm.turned_away)}.0' in metrics


async def test_connections_are_bounded_and_a_pool_may_replace_one(workshop: Workshop) -> None:
    """The sixth of five waits a moment: it gets in when one leaves, and a native refusal when none does."""
    change = limited(max_connections=5, wait_seconds=4)
    bridge = await asyncio.to_thread(workshop.bridge, change_proxy=change)
    dsn = app(bridge)
    held = [await psycopg.AsyncConnection.connect(dsn, autocommit=True) for _ in range(5)]
    try:
        with pytest.raises(psycopg.OperationalError, match=r"has 5 connections .*retry in 5 s"):
            await psycopg.AsyncConnection.connect(dsn)
        async with asyncio.TaskGroup() as group:
            sixth = group.create_task(psycopg.AsyncConnection.connect(dsn, autocommit=True))
            await asyncio.sleep(0.2)  # on a busy machine it has not come yet, and need not wait
            await held.pop().close()
        held.append(sixth.result())
        # A query that is cancelled needs a connection of its own, and no place.
        running = asyncio.ensure_future(held[0].execute("select pg_sleep(60)"))  # noqa: TID251 - it fails by intent
        await asyncio.sleep(1.0)  # by then the server has it
        await held[0].cancel_safe(timeout=30)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
    finally:
        for connection in held:
            await connection.close()
    empty = 'tollbridge_proxy_database_connections{database="rds-postgres"} 0.0'
    await until(lambda: empty in bridge.proxy.admin("/metrics")[1], what="every place given back")
