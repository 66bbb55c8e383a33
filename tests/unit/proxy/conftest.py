"""Fixtures of the proxy's tests, which run on uvloop, as in production."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.contract.house import House


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One loop, the real one."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A broker's gRPC side."""
    return House(tmp_path)
