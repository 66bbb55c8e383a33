from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.audit import Counters
from broker.aws.sts import BotoSts
from tests.support.clock import FakeClock
from tests.unit.broker.aws.stub import Aws, running


@pytest.fixture
def aws(clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Aws]:
    """The stub, with an environment that knows nothing but its address."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with running(clock) as aws:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
        monkeypatch.setenv("no_proxy", "*")
        yield aws


@pytest.fixture
def user_keys(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker runs with keys of an IAM user in its environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "base-secret")


@pytest.fixture
def clock() -> FakeClock:
    """Starts at the real time: the SDK's credential providers look at that."""
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
async def sts(aws: Aws, clock: FakeClock, counters: Counters, slept: list[float]) -> AsyncIterator[BotoSts]:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    sts = BotoSts(clock=clock, region="eu-central-1", counters=counters, sleep=sleep)
    yield sts
    sts.close()
