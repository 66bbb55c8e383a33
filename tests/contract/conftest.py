"""Fixtures of the contract tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.house import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificate files are looked at every 20 ms."""
    monkeypatch.setattr("tollbridge.process.tls.POLL_SECONDS", 0.02)
