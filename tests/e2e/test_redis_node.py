"""npm's ioredis and redis through the proxy to Valkey."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import pytest

from deploy.sandbox.bridge import Bridge
from tests.e2e.clients import SIDES, run
from tests.e2e.conftest import missing
from tests.e2e.test_redis_clients import cache_bridge, caches

__all__ = ["cache_bridge", "caches"]  # the fixtures

NODE: Final = Path(__file__).with_name("node")


@pytest.mark.parametrize("side", SIDES)
def test_ioredis_and_node_redis(cache_bridge: Bridge, side: str) -> None:
    """Strings, MULTI, pipelines, pub/sub, blocking pops, RESP2 and RESP3, and a refusal that reads well."""
    if shutil.which("node") is None or not (NODE / "node_modules").exists():
        missing("node and its Redis clients are not installed. Install them: apt-get install npm; make node-clients")
    more = [cache_bridge.file("mesh-ca.crt")] if side == "tls" else []
    done = run("node", str(NODE / "redis_clients.mjs"), str(cache_bridge.ports["cache"]), *more)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == ["ioredis", "redis 2", "redis 3", "refused"]
