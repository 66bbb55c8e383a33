"""Passwords that AWS makes, through the whole use case: who shares one, how long it is kept, what a refusal costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.errors import BrokerError
from broker.issuers import close_issuers
from broker.model import AwsAccess, RegisteredDatabase
from broker.sessions.errors import SessionGone
from tests.support.clock import FakeClock
from tests.unit.broker.grants.bridges import Bridge, build
from tests.unit.broker.issuers.databases import database, request
from tests.unit.broker.sessions.fakes import ROLE, Role
from tollbridge.model import Grant, Product
from tollbridge.reasons import Reason

USER_ROLE = "arn:aws:iam::222222222222:role/analyst"
DENIED = BrokerError(Reason.CREDENTIAL_DENIED, "AWS denies redshift:GetClusterCredentials")


def cluster(**more: Any) -> RegisteredDatabase:
    host = "wh.abc.us-west-1.redshift.amazonaws.com"
    ids = {"redshift.cluster_id": "wh"}
    return database(product=Product.REDSHIFT, host=host, port=5439, ids=ids, external_id="ext-1", **more)


def workgroup() -> RegisteredDatabase:
    host = "wg.222222222222.us-west-1.redshift-serverless.amazonaws.com"
    ids = {"redshift_serverless.workgroup_name": "wg"}
    return database(
        name="lake", product=Product.REDSHIFT_SERVERLESS, host=host, port=5439, ids=ids, external_id="ext-1"
    )


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    bridge = build(FakeClock(), cluster(), workgroup(), external_id="ext-1")
    bridge.sts.roles[USER_ROLE] = Role()
    yield bridge
    await close_issuers(bridge.issuers)
    await bridge.pool.close()
    assert len(asyncio.all_tasks()) == 1


async def issue(bridge: Bridge, **asked: Any) -> Grant:
    return await bridge.grants.issue(request(**asked))


async def refused(bridge: Bridge, **asked: Any) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await issue(bridge, **asked)
    return caught.value


def operations(bridge: Bridge) -> list[str]:
    return [asked[0] for asked in bridge.redshift.asked]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_database_user_logs_in_under_the_returned_name(bridge: Bridge) -> None:
    grant = await issue(bridge)
    assert grant.token.user == "IAM:app"
    assert grant.token.password.reveal() == "made-password-1"
    [(operation, key_id, *asked)] = bridge.redshift.asked
    assert (operation, asked) == ("user", ["us-west-1", "wh", "app", "orders"])
    assert bridge.audit[0]["access_key_id"] == key_id
    assert bridge.audit[0]["role_chain"] == [ROLE]
    assert "made-password" not in "".join(bridge.lines)
    assert "made-password" not in repr(grant)


async def test_groups_of_the_configuration_are_joined(bridge: Bridge) -> None:
    bridge.registry.by_name["orders"] = cluster(db_groups=("etl", "readers"))
    await issue(bridge)
    assert bridge.redshift.asked[0][-2:] == ("etl", "readers")
    bridge.registry.by_name["orders"] = cluster()
    await issue(bridge)
    assert len(bridge.redshift.asked) == 2, "other groups, another password"


async def test_a_thousand_logins_of_fifty_workloads_make_one_call(bridge: Bridge) -> None:
    asked = (request(workload=f"spiffe://example.org/w{number % 50}") for number in range(1000))
    grants = await asyncio.gather(*(bridge.grants.issue(one) for one in asked))
    assert operations(bridge) == ["user"]
    assert len({grant.credential_id for grant in grants}) == 1
    assert len(bridge.sts.assumed) == 1
    assert (bridge.counters.passwords.fetches, bridge.counters.sessions.fetches) == (1, 2)


async def test_another_user_or_logical_database_is_another_password(bridge: Bridge) -> None:
    for asked in ({}, {"db_user": "other"}, {"db_name": "dev"}, {"db_name": ""}, {}):
        await issue(bridge, **asked)
    assert len(bridge.redshift.asked) == 4


async def test_it_is_kept_to_the_end_that_aws_states_and_renewed_behind_a_login(bridge: Bridge) -> None:
    bridge.redshift.life_seconds = 1800
    first = await issue(bridge)
    assert first.expires_at - first.issued_at == timedelta(seconds=1800)
    bridge.clock.advance(1200)
    assert (await issue(bridge)).credential == first.credential
    bridge.clock.advance(240)  # four fifths of its life
    gate = bridge.redshift.gate = asyncio.Event()
    assert (await issue(bridge)).credential == first.credential, "nobody waits for the renewal"
    assert (await issue(bridge)).credential == first.credential
    gate.set()
    await settle()
    assert (await issue(bridge)).token.password.reveal() == "made-password-2"
    assert len(bridge.redshift.asked) == 2


async def test_a_failed_renewal_does_not_replace_a_good_password(bridge: Bridge) -> None:
    first = await issue(bridge)
    bridge.clock.advance(730)
    bridge.redshift.faults = [DENIED]
    await issue(bridge)
    await settle()
    assert (await issue(bridge)).credential == first.credential
    assert len(bridge.redshift.asked) == 2, "and the refusal is remembered"


async def test_a_password_of_the_last_two_minutes_is_not_handed_out(bridge: Bridge) -> None:
    await issue(bridge)
    bridge.clock.advance(790)
    grant = await issue(bridge)
    assert grant.token.password.reveal() == "made-password-2"
    assert grant.usable_until - bridge.clock.now() == timedelta(seconds=840)


async def test_a_thousand_logins_that_aws_denies_make_one_call(bridge: Bridge) -> None:
    bridge.redshift.faults = [DENIED, DENIED]
    outcomes = await asyncio.gather(*(issue(bridge) for _ in range(1000)), return_exceptions=True)
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, BrokerError)} == {Reason.CREDENTIAL_DENIED}
    assert len(outcomes) == 1000
    assert len(bridge.redshift.asked) == 1
    bridge.clock.advance(13)
    await refused(bridge)
    assert len(bridge.redshift.asked) == 2


@pytest.mark.parametrize("db_user", ["role/analyst", USER_ROLE])
async def test_a_role_on_a_cluster_is_assumed_per_workload(bridge: Bridge, db_user: str) -> None:
    grants = [await issue(bridge, db_user=db_user, workload=f"spiffe://example.org/{name}") for name in ("a", "b", "a")]
    assert [grant.token.user for grant in grants] == ["IAMR:analyst"] * 3
    assert grants[0].credential == grants[2].credential != grants[1].credential
    assert operations(bridge) == ["role", "role"]
    assert [(hop.role_arn, hop.session_name, hop.external_id.reveal()) for _, hop in bridge.sts.assumed] == [
        (ROLE, "tollbridge", "ext-1"),
        (USER_ROLE, "example.org,a", ""),
        (USER_ROLE, "example.org,b", ""),
    ]
    assert bridge.audit[0]["role_chain"] == [ROLE, USER_ROLE]


@pytest.mark.parametrize("db_user", ["analyst", "role/analyst", USER_ROLE])
async def test_on_serverless_every_user_is_a_role(bridge: Bridge, db_user: str) -> None:
    grant = await issue(bridge, name="lake", db_user=db_user, db_name="dev")
    assert grant.token.user == "IAMR:analyst"
    [(operation, _key_id, *asked)] = bridge.redshift.asked
    assert (operation, asked) == ("workgroup", ["us-west-1", "wg", "dev"])
    assert bridge.sts.assumed[-1][1].session_name == "example.org,ns,shop,sa,api"


@pytest.mark.parametrize(
    ("asked", "reason", "words"),
    [
        ({"db_user": "IAM:app"}, Reason.INVALID_REQUEST, "letters, digits"),
        ({"db_user": "9app"}, Reason.INVALID_REQUEST, "begins with a letter"),
        ({"db_user": "Public"}, Reason.INVALID_REQUEST, "PUBLIC"),
        ({"db_user": "a/b"}, Reason.INVALID_REQUEST, "role/NAME"),
        ({"db_user": "x" * 65}, Reason.INVALID_REQUEST, "1 to 64"),
        ({"db_user": "arn:aws:iam::333333333333:role/analyst"}, Reason.ACCOUNT_MISMATCH, "222222222222"),
        ({"db_user": "arn:aws-cn:iam::222222222222:role/analyst"}, Reason.PARTITION_MISMATCH, "aws-cn"),
        ({"name": "lake", "db_user": "IAMR:analyst"}, Reason.INVALID_REQUEST, "log in as the role"),
        ({"name": "lake", "db_user": "iam:analyst"}, Reason.INVALID_REQUEST, "log in as the role"),
        ({"name": "lake", "db_user": "arn:aws:iam::222222222222:user/x"}, Reason.INVALID_REQUEST, "IAM role"),
    ],
)
async def test_users_that_cannot_be_cost_no_call(
    bridge: Bridge, asked: dict[str, str], reason: Reason, words: str
) -> None:
    error = await refused(bridge, **asked)
    assert error.reason is reason
    assert words in error.message
    assert bridge.sts.assumed == []
    assert bridge.redshift.asked == []


async def test_without_an_account_id_a_user_leads_into_the_broker_s_own_account_alone(bridge: Bridge) -> None:
    bridge.registry.by_name["orders"] = replace(
        cluster(), facts=replace(cluster().facts, account_id=""), access=AwsAccess(partition="aws")
    )
    own = "arn:aws:iam::111111111111:role/analyst"
    bridge.sts.roles[own] = Role()
    assert (await issue(bridge, db_user=own)).token.user == "IAMR:analyst"
    assumed = len(bridge.sts.assumed)
    error = await refused(bridge, db_user=USER_ROLE)
    assert error.reason is Reason.ACCOUNT_MISMATCH
    assert "111111111111, the broker's own" in error.message
    assert len(bridge.sts.assumed) == assumed, "nothing was asked of the other account"


async def test_a_long_role_arn_is_no_long_user_name(bridge: Bridge) -> None:
    arn = f"arn:aws:iam::222222222222:role/{'path/' * 40}analyst"
    bridge.sts.roles[arn] = Role()
    assert (await issue(bridge, db_user=arn)).token.user.startswith("IAMR:")


async def test_spellings_of_a_role_share_its_password(bridge: Bridge) -> None:
    for db_user in ("analyst", "role/analyst", USER_ROLE):
        await issue(bridge, name="lake", db_user=db_user)
    assert len(bridge.redshift.asked) == 1


async def test_a_role_that_may_not_be_assumed_is_told_as_such(bridge: Bridge) -> None:
    error = await refused(bridge, name="lake", db_user="nobody")
    assert error.reason is Reason.ASSUME_ROLE_DENIED
    assert "role/nobody" in error.message


async def test_a_session_that_redshift_finds_dead_is_made_anew_once(bridge: Bridge) -> None:
    await issue(bridge, name="lake", db_user="analyst", db_name="dev")
    bridge.clock.advance(880)
    bridge.sts.recreate(USER_ROLE)
    bridge.redshift.faults = [SessionGone(Reason.CREDENTIAL_DENIED, "gone")]
    grant = await issue(bridge, name="lake", db_user="analyst", db_name="dev")
    assert grant.token.password.reveal() == "made-password-3"
    assert len({asked[1] for asked in bridge.redshift.asked}) == 2
    assert len(bridge.sts.checked) == 1


async def test_a_session_that_only_redshift_does_not_take_is_a_refusal(bridge: Bridge) -> None:
    bridge.redshift.faults = [SessionGone(Reason.CREDENTIAL_DENIED, "the region must be enabled")]
    error = await refused(bridge)
    assert error.reason is Reason.CREDENTIAL_DENIED
    assert len(bridge.redshift.asked) == 1
    await refused(bridge)
    assert len(bridge.redshift.asked) == 1
    assert len(bridge.sts.checked) == 1


async def test_a_refused_password_says_that_aws_makes_them_for_users_that_are_not_there(bridge: Bridge) -> None:
    grant = await issue(bridge)
    error = await refused(bridge, rejected=grant.credential_id)
    assert error.reason is Reason.DATABASE_REFUSED
    for words in (
        "AWS makes passwords for users that are not there",
        'CREATE USER "app" PASSWORD DISABLE',
        "arn:aws:redshift:us-west-1:222222222222:dbuser:wh/app",
        "arn:aws:redshift:us-west-1:222222222222:dbname:wh/orders",
    ):
        assert words in error.message
    assert "made-password" not in error.message


async def test_a_refused_password_is_replaced_for_the_next_login_but_a_storm_is_no_storm_of_calls(
    bridge: Bridge,
) -> None:
    first = await issue(bridge)
    await refused(bridge, rejected=first.credential_id)
    second = await issue(bridge)
    assert second.credential_id != first.credential_id, "the user may have been made since"
    for _ in range(50):
        await refused(bridge, rejected=second.credential_id)
        second = await issue(bridge)
    assert len(bridge.redshift.asked) == 2
    bridge.clock.advance(31)
    await refused(bridge, rejected=second.credential_id)
    await issue(bridge)
    assert len(bridge.redshift.asked) == 3


async def test_another_replica_s_refused_password_costs_one_call_in_half_a_minute(bridge: Bridge) -> None:
    await issue(bridge)
    for _ in range(50):
        await issue(bridge, rejected="f" * 16)
    assert len(bridge.redshift.asked) == 2


async def test_refusals_of_roles_name_the_permission_of_the_role(bridge: Bridge) -> None:
    for asked, words in (
        ({"db_user": "role/analyst"}, "redshift:GetClusterCredentialsWithIAM"),
        ({"name": "lake", "db_user": "analyst"}, "redshift-serverless:GetCredentials"),
    ):
        grant = await issue(bridge, **asked)
        error = await refused(bridge, rejected=grant.credential_id, **asked)
        assert words in error.message
        assert "assumed-role/analyst/" in error.message


async def test_a_stop_ends_calls_under_way(bridge: Bridge) -> None:
    bridge.redshift.gate = asyncio.Event()
    login = asyncio.get_running_loop().create_task(refused(bridge))
    await settle()
    assert bridge.redshift.asked
    await close_issuers(bridge.issuers)
    assert (await login).reason is Reason.BROKER_UNAVAILABLE
    assert (await refused(bridge)).reason is Reason.BROKER_UNAVAILABLE
    assert len(bridge.redshift.asked) == 1
