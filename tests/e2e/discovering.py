"""Brokers that look for databases, and what is asked of them in these tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge, Document
from tests.e2e.clients import PATIENCE_SECONDS
from tests.e2e.conftest import Workshop
from tests.e2e.registering import operator
from tollbridge.discovery import DiscoveryCell, DiscoveryStatus

THE_PAGES_EXAMPLE: Final = """
# This example configuration will discover Amazon RDS databases in us-west-1
# within AWS account `222222222222` by assuming the external AWS IAM role
# "example-role".
db_service:
  enabled: true
  aws:
    - types: ["rds"]
      regions: ["us-west-1"]
      assume_role_arn: "arn:aws:iam::222222222222:role/example-role"
      external_id: "example-external-id"
"""
FLEET: Final = 500
"""Databases in each account and region."""
REGIONS: Final = ("us-east-2", "eu-west-1")
OWN = topology.BROKER_ACCOUNT
MATCHERS: Final = (
    {"types": ["rds"], "regions": list(REGIONS)},
    {
        "types": ["rds"],
        "regions": list(REGIONS),
        "assume_role_arn": topology.EXAMPLE_ROLE_ARN,
        "external_id": topology.EXAMPLE_EXTERNAL_ID,
    },
    {
        "types": ["rds"],
        "regions": list(REGIONS),
        "assume_role_arn": topology.ANALYTICS_ROLE_ARN,
        "external_id": topology.ANALYTICS_EXTERNAL_ID,
    },
)


def discovering(folder: Path, section: dict[str, Any], **more: Any) -> Callable[[Document], None]:
    """A broker with that db_service and nothing static, which sweeps each second."""

    def change(document: Document) -> None:
        document["db_service"] = section
        document["registry"] = {"file": str(folder / "registry.db")}
        document["discovery"] = {"interval_seconds": 1, **more}

    return change


def the_pages(folder: Path, **more: Any) -> Callable[[Document], None]:
    return discovering(folder, yaml.safe_load(THE_PAGES_EXAMPLE)["db_service"], **more)


def broker_only(workshop: Workshop, change: Callable[[Document], None]) -> Bridge:
    """Without a proxy: nobody logs in."""
    bridge = workshop.bridge(change_broker=change, up=False)
    bridge.broker.start()
    return bridge


async def swept(
    bridge: Bridge, done: Callable[[DiscoveryStatus], bool], *, seconds: float = 2 * PATIENCE_SECONDS
) -> DiscoveryStatus:
    """Wait until the table is as it should be."""
    deadline = time.monotonic() + seconds
    async with operator(bridge) as client:
        while True:
            found = await client.discovery_status()
            if done(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)


def attempted(found: DiscoveryStatus) -> bool:
    return all(cell.last_attempt_at for cell in found.cells)


def cell(found: DiscoveryStatus, account: str, region: str = topology.REGION) -> DiscoveryCell:
    return next(each for each in found.cells if (each.account_id, each.region) == (account, region))
