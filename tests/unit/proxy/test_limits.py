"""A database's limits, from the YAML to the client and to /metrics, over all listeners of the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from broker.errors import BrokerError
from proxy.engines.postgres import wire
from proxy.script import CLIENT
from tests.contract.house import House
from tests.support.stage import until
from tests.unit.proxy.whole import ORDERS, whole
from tollbridge.reasons import Reason


def limited(**limits: Any) -> Any:
    def change(document: dict[str, Any]) -> None:
        document["databases"] = {"orders": {**limits, "wait_seconds": 0}}

    return change


async def test_listeners_share_a_databases_connections(house: House, tmp_path: Path) -> None:
    """One came through `app`: `names` has no place left until it goes. The refusal is 53300 and says when to retry."""
    house.register(ORDERS)
    async with house.serving(), whole(house, tmp_path, change=limited(max_connections=1)) as proxy:
        first, said = await proxy.login()
        assert said.endswith(b"ZI")
        _, said = await proxy.login("app@orders", "names")
        fields = wire.error_fields(said[1:], CLIENT)
        assert fields["C"] == "53300"
        assert "'orders' has 1 connections" in fields["M"]
        assert "retry in 1 s" in fields["M"]
        _, metrics = await proxy.page("/metrics")
        assert 'tollbridge_proxy_database_connections{database="orders"} 1.0' in metrics
        assert (
            'tollbridge_proxy_database_logins_limited_total{database="orders",reason="TOO_MANY_CONNECTIONS"} 1.0'
            in metrics
        )
        assert len(proxy.postgres.startups) == 1
        first.close()
        await until(lambda: proxy.app.gate.turnstiles["orders"].open == 0)
        _, said = await proxy.login("app@orders", "names")
        assert said.endswith(b"ZI")


async def test_the_rate_is_one_for_all_listeners(house: House, tmp_path: Path) -> None:
    house.register(ORDERS)
    async with house.serving(), whole(house, tmp_path, change=limited(logins_per_second=0.01)) as proxy:
        await proxy.login()
        _, said = await proxy.login("app@orders", "names")
        fields = wire.error_fields(said[1:], CLIENT)
        assert fields["C"] == "53300"
        assert "'orders' takes 0.01 logins a second" in fields["M"]
        assert "retry in 60 s" in fields["M"]
    assert [line["reason"] for line in proxy.lines() if "reason" in line] == ["LOGIN_RATE_LIMITED"]


async def test_names_that_clients_invent_are_no_labels(house: House, tmp_path: Path) -> None:
    house.register(ORDERS)
    async with house.serving(), whole(house, tmp_path) as proxy:
        for name in ("x", "y", "z"):
            house.grants.raises[name] = BrokerError(Reason.DATABASE_UNKNOWN, f"no database {name!r}")
            await proxy.login(f"app@{name}", "names")
        assert dict(proxy.app.gate.turnstiles) == {}
