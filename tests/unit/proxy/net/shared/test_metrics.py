"""What /metrics says of shared connections."""

from __future__ import annotations

from pathlib import Path

from tests.support.ca import TestCa
from tests.support.quiet import page
from tests.support.stage import proxy_stage, until
from tests.support.toy_shared import SharingToy, answer, ask


async def test_connections_clients_and_pins(ca: TestCa, tmp_path: Path) -> None:
    """Clients that were pinned are none any more."""
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        metrics = page(trunks=stage.trunks)
        for user in (b"app", b"app", b"bob"):
            await stage.login(user)
        await ask(stage.clients[0], b"!watch")
        await until(lambda: stage.trunks.clients == 2)
        text = metrics.exposition().decode()
    for line in (
        "tollbridge_proxy_multiplexed_connections 2.0",
        "tollbridge_proxy_multiplexed_clients 2.0",
        'tollbridge_proxy_multiplexed_pins_total{why="watch"} 1.0',
    ):
        assert line in text
