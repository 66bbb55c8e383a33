"""Clients that do not read, and are many: what is kept for all of them, and how long all others wait behind them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.net.shared import trunk as trunks
from tests.support.ca import TestCa
from tests.support.stage import proxy_stage, until
from tests.support.toy_shared import SharingToy
from tests.unit.proxy.net.shared.test_trunk import flood, trunk_of

DEAF = 8


async def test_many_clients_that_do_not_read_share_what_is_kept_for_them(
    ca: TestCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them are not a gigabyte: the more they are, the sooner each has to read."""
    monkeypatch.setattr(trunks, "UNSENT_ALL_LIMIT", 4 * trunks.UNSENT_LEAST)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=flood) as stage:
        for expected in (4, 2):
            stuck = await stage.login(receive_buffer=4096)
            await stuck.send(b"16\n")
            trunk = trunk_of(stage)
            await until(lambda: len(trunk._stalled) == 1)  # noqa: B023
            (seat,) = trunk._stalled
            size = expected * trunks.UNSENT_LEAST
            assert size < seat.client.unsent_bytes < size + 200_000
            trunk._stalled.pop(seat).cancel()  # as if it had been let off
            trunk.link.release(trunks.HOLD_READER)
            if expected == 4:
                seat.write = lambda data: None
