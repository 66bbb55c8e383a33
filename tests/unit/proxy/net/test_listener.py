"""Whole connections over loopback, through listener, driver and relay."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ca import TestCa
from tests.support.stage import APP, proxy_stage, until


@pytest.mark.parametrize("encrypted", [False, True])
async def test_login_then_bytes_both_ways(ca: TestCa, tmp_path: Path, encrypted: bool) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.login(encrypted=encrypted)
        await client.send(b"hello\n")
        assert await client.exactly(6) == b"hello\n"
        big = bytes(range(256)) * 4096
        await client.send(big[:300_000])
        assert await client.exactly(300_000) == big[:300_000]
        await client.finish()
        assert await client.to_end() == b""
        await until(lambda: stage.log.ends)
        start, end = stage.log.starts[0], stage.log.ends[0]
        assert (start.facts.workload, start.facts.database, start.facts.db_user) == (APP, "orders", "app")
        assert start.facts.encrypted is encrypted
        assert start.facts.notes == {"login": "app"}
        assert (end.ended, end.bytes_to_client, end.bytes_to_upstream) == ("client", 300_006, 300_006)
        assert stage.counters.logins == {"ok": 1}
        assert stage.counters.connections_open == 0
        assert len(stage.sessions) == 0
