"""A signing key is good for one UTC day: midnight passes under load, and nobody notices.

Broker, proxy and AWS run on one clock that the test moves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, Self

import pytest
import urllib3

from deploy.sandbox.bridge import Bridge
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.http_clients import authorization
from tests.support.shifted import Shift, command

CLIENTS: Final = 6
BEFORE: Final = timedelta(seconds=3)
"""When the load begins, before midnight."""


@dataclass(slots=True)
class OneClock:
    """Of the broker, the proxy and AWS."""

    shift: Shift
    control: Control

    def set(self, instant: datetime) -> None:
        """It is this time now, and goes on from here."""
        seconds = (instant - datetime.now(UTC)).total_seconds()
        self.shift.seconds = seconds
        self.control.shift_clock(seconds)

    def now(self) -> datetime:
        """What they all read."""
        return datetime.now(UTC) + timedelta(seconds=self.shift.seconds)


@dataclass(slots=True)
class Shifted:
    """A bridge on that clock."""

    bridge: Bridge
    clock: OneClock


@pytest.fixture
def shifted(http_world: World, tmp_path: Path) -> Iterator[Shifted]:
    """Its daemons are not started yet."""
    file = tmp_path / "shift"
    clock = OneClock(Shift(file), Control(http_world.aws_endpoint))
    bridge = Bridge(http_world, tmp_path / "bridge")
    for daemon in (bridge.broker, bridge.proxy):
        daemon.command = command(daemon.command, file)
    try:
        yield Shifted(bridge, clock)
    finally:
        bridge.down()
        clock.control.shift_clock(0)


@dataclass(slots=True)
class Load:
    """Clients that ask without pause, each on its own connection, until they are told to stop."""

    bridge: Bridge
    failures: list[str] = field(default_factory=list)
    dates: set[str] = field(default_factory=set)
    """Days of the answers, as AWS dated them."""
    count: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        targets = [self._tables] * (CLIENTS - 2) + [self._search] * 2
        self._threads = [threading.Thread(target=target) for target in targets]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def wait_for(self, more: int, seconds: float = 90.0) -> None:
        """Until so many more were answered."""
        wanted, deadline = self.count + more, time.monotonic() + seconds
        while self.count < wanted:
            assert time.monotonic() < deadline, self.failures or "no answers"
            time.sleep(0.01)

    def _tables(self) -> None:
        headers = {
            "Authorization": authorization("dynamodb"),
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810.GetItem",
        }
        body = b'{"TableName":"orders","Key":{"id":{"S":"1"}}}'
        self._ask("tables", "POST", "/", headers, body)

    def _search(self) -> None:
        self._ask("search", "GET", "/", {"Authorization": authorization("es")}, None)

    def _ask(self, database: str, method: str, path: str, headers: dict[str, str], body: bytes | None) -> None:
        with urllib3.HTTPConnectionPool("127.0.0.1", self.bridge.ports[database], maxsize=1, timeout=60) as pool:
            while not self._stop.is_set():
                try:
                    answer: Any = pool.urlopen(method, path, body=body, headers=headers, retries=False)
                    if answer.status != 200:
                        self.failures.append(f"{answer.status} {answer.data[:300]!r}")
                    self.dates.add(parsedate_to_datetime(answer.headers["date"]).date().isoformat())
                    self.count += 1
                except urllib3.exceptions.HTTPError as error:
                    self.failures.append(repr(error))


def midnight_after(instant: datetime) -> datetime:
    """The next one."""
    return datetime.combine(instant.date() + timedelta(days=1), datetime.min.time(), UTC)


def test_midnight_passes_under_load_without_one_failed_request(shifted: Shifted) -> None:
    midnight = midnight_after(datetime.now(UTC))
    shifted.clock.set(midnight - timedelta(minutes=5))
    shifted.bridge.up()
    with Load(shifted.bridge) as load:
        load.wait_for(20)
        shifted.clock.set(midnight - BEFORE)
        while shifted.clock.now() < midnight + timedelta(seconds=1):
            load.wait_for(10)
        load.wait_for(50)
    assert load.failures == []
    assert load.dates == {(midnight - BEFORE).date().isoformat(), midnight.date().isoformat()}


def test_a_grant_of_yesterday_still_signs_minutes_later(shifted: Shifted) -> None:
    """The clock jumps over midnight with no request in between: the grant has the new day's key already."""
    midnight = midnight_after(datetime.now(UTC))
    shifted.clock.set(midnight - timedelta(minutes=5))
    shifted.bridge.up()
    with Load(shifted.bridge) as load:
        load.wait_for(20)
    assert load.failures == []
    shifted.bridge.broker.stop()
    shifted.clock.set(midnight + timedelta(minutes=4))
    with Load(shifted.bridge) as load:
        load.wait_for(20)
    assert load.failures == []
    assert load.dates == {midnight.date().isoformat()}
