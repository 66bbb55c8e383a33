"""Three thousand databases in three accounts and two regions: complete, and what AWS refuses harms nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.sandbox import estate, topology
from deploy.sandbox.accounts import CONNECT_POLICY, Accounts, allow, policy, rds_policy
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.conftest import Workshop
from tests.e2e.discovering import FLEET, MATCHERS, OWN, REGIONS, attempted, broker_only, cell, discovering, swept
from tests.e2e.registering import operator
from tollbridge.discovery import DiscoveryCell, DiscoveryStatus
from tollbridge.reasons import Reason

_log = logging.getLogger(__name__)


@pytest.fixture
def accounts(world: World) -> Accounts:
    return Accounts(world.aws_endpoint)


@pytest.fixture
def fleets(control: Control) -> Iterator[None]:
    """500 databases in each of two regions of three accounts, the same names in all."""
    places = [(account, region) for account in topology.ACCOUNTS for region in REGIONS]
    for account, region in places:
        control.put_resources(estate.fleet(FLEET, account, region))
    yield
    for account, region in places:
        control.remove_resources(account, region, "rds", "DescribeDBInstances")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("fleets")
async def test_three_thousand_in_three_accounts_and_two_regions_are_complete(
    workshop: Workshop, tmp_path: Path, control: Control
) -> None:
    control.reset_counters()
    began = time.monotonic()
    section = {"aws": list(MATCHERS)}
    bridge = broker_only(workshop, discovering(tmp_path, section, interval_seconds=3600))
    found = await swept(bridge, attempted)
    took, longest = time.monotonic() - began, max(each.seconds for each in found.cells)
    _log.info("%d databases %.1f s after the broker was started, a look took up to %.1f s", 6 * FLEET, took, longest)
    assert [each.databases for each in found.cells] == [FLEET] * 6
    async with operator(bridge) as client:
        names = [registration.served_as for registration in await client.list_registrations()]
    assert (len(names), len(set(names))) == (6 * FLEET, 6 * FLEET)
    # Pages of 100, an empty list of clusters in each place, and a session for each role.
    calls = control.counters().calls
    assert (calls["rds:DescribeDBInstances"], calls["rds:DescribeDBClusters"], calls["sts:AssumeRole"]) == (30, 6, 2)
    assert found.aws_calls == 36


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("fleets")
async def test_a_denied_account_and_a_throttled_region_are_reported_and_harm_no_other(
    workshop: Workshop, tmp_path: Path, control: Control, accounts: Accounts
) -> None:
    bridge = broker_only(workshop, discovering(tmp_path, {"aws": list(MATCHERS)}))
    found = await swept(bridge, attempted)
    accounts.put_role_policy(topology.ANALYTICS_ROLE_ARN, CONNECT_POLICY, policy(allow("rds-db:connect", "*")))
    control.inject_fault("throttle", service="rds", action="*", region=REGIONS[0])
    try:

        def as_expected(table: DiscoveryStatus) -> bool:
            return all(bool(each.failure) if _broken(each) else _newer(each, found) for each in table.cells)

        later = await swept(bridge, as_expected)
        denied = cell(later, topology.ANALYTICS_ACCOUNT, REGIONS[1])
        assert denied.failure is Reason.CREDENTIAL_DENIED
        assert '"Action":"rds:DescribeDBInstances"' in denied.failure_message
        for account in (OWN, topology.EXAMPLE_ACCOUNT):
            assert cell(later, account, REGIONS[0]).failure is Reason.AWS_THROTTLED
            assert cell(later, account, REGIONS[1]).failure is None
        assert [each.databases for each in later.cells] == [FLEET] * 6
        page = bridge.broker.admin("/metrics")[1]
        place = f'account_id="{topology.ANALYTICS_ACCOUNT}",product="rds",region="{REGIONS[1]}"'
        assert f"tollbridge_broker_discovered{{{place}}} {FLEET}.0" in page
        assert f"tollbridge_broker_discovery_failures{{{place}}} 0.0" not in page
    finally:
        control.clear_faults()
        accounts.put_role_policy(topology.ANALYTICS_ROLE_ARN, CONNECT_POLICY, rds_policy(topology.ANALYTICS))
    await swept(bridge, lambda table: not any(each.failure for each in table.cells))


def _newer(each: DiscoveryCell, found: DiscoveryStatus) -> bool:
    before = cell(found, each.account_id, each.region).last_success_at
    return bool(before and each.last_success_at and each.last_success_at > before)


def _broken(each: DiscoveryCell) -> bool:
    return each.account_id == topology.ANALYTICS_ACCOUNT or each.region == REGIONS[0]
