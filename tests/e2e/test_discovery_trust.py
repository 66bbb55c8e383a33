"""What people write into AWS moves no login; several brokers sweep as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.sandbox import estate, topology
from deploy.sandbox.bridge import Document
from deploy.sandbox.control import Control
from tests.e2e.clients import psql
from tests.e2e.conftest import Workshop
from tests.e2e.discovering import MATCHERS, attempted, swept
from tests.e2e.registering import Pair, login, operator

OHIO: Final = "us-east-2"
MATCHER: Final = {**MATCHERS[1], "regions": [OHIO]}
EVIL: Final = "orders.abcdef012345.us-east-2.rds.amazonaws.com.evil.example"
HOSTILE: Final[dict[str, str]] = {
    "account-id": topology.BROKER_ACCOUNT,
    "region": "us-west-1",
    "engine": "\u202eelcaro",
    "vpc-id": "vpc-of-somebody-else",
    "teleport.dev/database_name": "analytics",
    "teleport.dev/origin": "config-file",
    "env": "prod",
}


@pytest.fixture
def planted(control: Control) -> Iterator[None]:
    """Two instances that an attacker with the account's console might make."""
    account = topology.EXAMPLE_ACCOUNT
    items = [
        estate.instance("orders", account, EVIL, region=OHIO, tags={"env": "dev"}),
        estate.instance("rds-postgres", account, region=OHIO, tags=HOSTILE),
    ]
    control.put_resources([estate.resource(account, OHIO, "rds", "DescribeDBInstances", item) for item in items])
    yield
    control.remove_resources(account, OHIO, "rds", "DescribeDBInstances")


@pytest.mark.usefixtures("planted")
async def test_names_hosts_and_labels_of_an_attacker_get_nothing(workshop: Workshop, tmp_path: Path) -> None:
    def change(document: Document) -> None:
        document["db_service"]["aws"] = [MATCHER]
        document["registry"] = {"file": str(tmp_path / "registry.db")}
        document["discovery"] = {"interval_seconds": 1, "fetch_metadata": False}

    bridge = workshop.bridge(change_broker=change)
    found = await swept(bridge, attempted)
    (cell,) = found.cells
    assert [(each.name, each.cause, EVIL in each.why) for each in cell.skipped] == [("orders", "endpoint", True)]
    async with operator(bridge) as client:
        served = {each.served_as: each.database for each in await client.list_registrations() if each.database}
    # The static database keeps its name; the other is told apart, under labels that AWS itself vouches for.
    planted = served["rds-postgres-rds-us-east-2-222222222222"]
    assert served["rds-postgres"].region == topology.REGION
    assert "analytics" in served
    assert {key: planted.labels.get(key) for key in ("account-id", "region", "engine", "vpc-id")} == {
        "account-id": topology.EXAMPLE_ACCOUNT,
        "region": OHIO,
        "engine": "postgres",
        "vpc-id": f"vpc-{topology.EXAMPLE_ACCOUNT}",
    }
    assert not [key for key in planted.labels if key.startswith("teleport.dev/")]
    assert psql(login(bridge, "mtls", "app@rds-postgres"), "select 1").returncode == 0
    refused = psql(login(bridge, "mtls", "app@rds-postgres-rds-us-east-2-222222222222"), "select 1")
    assert refused.returncode != 0
    issued = {line["database"] for line in bridge.audit("broker") if line.get("allowed")}
    assert issued == {"rds-postgres"}


def _sharing(document: Document) -> None:
    document["db_service"] = {"aws": [{**MATCHERS[1], "regions": [topology.REGION]}]}
    document["discovery"] = {"interval_seconds": 2}


class Sharing(Pair):
    """Both brokers with the matcher."""

    def _shared(self, name: str) -> Any:
        change = super()._shared(name)

        def both(document: Document) -> None:
            change(document)
            _sharing(document)

        return both


@pytest.mark.timeout(600)
async def test_one_of_two_brokers_sweeps_and_the_other_when_it_is_killed(workshop: Workshop) -> None:
    pair = Sharing(workshop.bridge(up=False))
    pair.up()
    try:
        sweeping = await _sweeping(pair)
        other = "broker2" if sweeping == "broker" else "broker"
        pair.brokers[sweeping].kill()
        deadline = time.monotonic() + 90
        async with pair.operator(other) as client:
            while not (status := await client.discovery_status()).sweeper:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.5)
            assert [(cell.databases, cell.failure) for cell in status.cells] == [(1, None)]
        door = pair.doors("app@rds-postgres")["second" if other == "broker2" else "proxy"]
        assert psql(door, "select 1").returncode == 0
    finally:
        pair.down()


async def _sweeping(pair: Pair) -> str:
    """The one broker that sweeps, once both know the database."""
    deadline = time.monotonic() + 60
    while True:
        holders = []
        known = 0
        for name in pair.brokers:
            async with pair.operator(name) as client:
                status = await client.discovery_status()
            holders += [name] * status.sweeper
            known += sum(cell.databases for cell in status.cells)
        if len(holders) == 1 and known == 2:
            return holders[0]
        assert time.monotonic() < deadline, (holders, known)
        await asyncio.sleep(0.5)
