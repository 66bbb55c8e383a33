"""Roles as users: which hops, under which names, with what."""

from __future__ import annotations

import pytest

from broker.errors import BrokerError
from broker.issuers.chain import role_hops
from broker.model import Attribution, Hop
from tests.unit.broker.issuers.databases import database, request
from tests.unit.broker.sessions.fakes import ROLE
from tollbridge.model import Product
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

USER_ROLE = "arn:aws:iam::222222222222:role/analyst"


def hops(db_user: str = "analyst", *, workload: str = "spiffe://example.org/w", **facts: object) -> tuple[Hop, ...]:
    registered = database(product=Product.REDSHIFT_SERVERLESS, **facts)  # type: ignore[arg-type]
    return role_hops(registered, request(db_user=db_user, workload=workload), broker_name="tollbridge")


@pytest.mark.parametrize("db_user", ["analyst", "role/analyst", USER_ROLE])
def test_the_account_role_first_then_the_user_s_under_the_workload_s_name(db_user: str) -> None:
    assert hops(db_user, external_id="ext-1") == (
        Hop(role_arn=ROLE, session_name="tollbridge", duration_seconds=3600, external_id=Secret("ext-1")),
        Hop(role_arn=USER_ROLE, session_name="example.org,w", duration_seconds=3600),
    )


def test_the_first_hop_is_one_for_all_workloads_and_the_last_is_not() -> None:
    one, two = hops(workload="spiffe://example.org/a"), hops(workload="spiffe://example.org/b")
    assert one[0] == two[0]
    assert one[1] != two[1]


def test_without_an_account_role_the_user_s_role_is_the_first_hop_and_gets_the_external_id() -> None:
    [only] = hops(role_arn="", external_id="ext-1")
    assert (only.role_arn, only.external_id) == (USER_ROLE, Secret("ext-1"))


def test_a_user_that_is_the_account_role_itself_is_assumed_once() -> None:
    [only] = hops(ROLE, external_id="ext-1")
    assert (only.role_arn, only.session_name, only.external_id) == (ROLE, "example.org,w", Secret("ext-1"))


def test_tags_go_to_the_session_that_the_service_sees() -> None:
    tags = (("RedshiftDbRoles", "reader"),)
    first, last = hops(tags=tags)
    assert (first.tags, last.tags) == ((), tags)
    first, last = hops(tags=tags, attribution=Attribution.WORKLOAD)
    assert first == hops()[0], "the last hop's name tells the workload already"
    assert last.tags == (*tags, ("tollbridge-workload", "spiffe://example.org/w"))


def test_the_last_hop_lives_an_hour_at_most() -> None:
    assert [hop.duration_seconds for hop in hops(seconds=43200)] == [43200, 3600]
    assert [hop.duration_seconds for hop in hops(seconds=900)] == [900, 900]


def test_a_path_is_kept_and_a_partition_is_the_database_s() -> None:
    assert hops("role/team/data/analyst")[-1].role_arn == "arn:aws:iam::222222222222:role/team/data/analyst"
    [only] = hops(partition="aws-cn", role_arn="")
    assert only.role_arn == "arn:aws-cn:iam::222222222222:role/analyst"


@pytest.mark.parametrize(
    ("db_user", "reason", "words"),
    [
        ("arn:aws:iam::333333333333:role/analyst", Reason.ACCOUNT_MISMATCH, "222222222222"),
        ("arn:aws-cn:iam::222222222222:role/analyst", Reason.PARTITION_MISMATCH, "aws-cn"),
        ("arn:aws:iam::222222222222:user/analyst", Reason.INVALID_REQUEST, "not the ARN of an IAM role"),
        ("arn:aws:sts::222222222222:assumed-role/analyst/x", Reason.INVALID_REQUEST, "session of a role"),
        ("team/analyst", Reason.INVALID_REQUEST, "neither the name"),
        ("role/", Reason.INVALID_REQUEST, "missing the IAM role name"),
        ("an analyst", Reason.INVALID_REQUEST, "neither the name"),
        ("x" * 65, Reason.INVALID_REQUEST, "neither the name"),
    ],
)
def test_what_is_no_role_of_the_database_is_refused(db_user: str, reason: Reason, words: str) -> None:
    with pytest.raises(BrokerError) as caught:
        hops(db_user)
    assert caught.value.reason is reason
    assert words in caught.value.message


def test_a_name_needs_an_account_and_an_arn_brings_its_own() -> None:
    with pytest.raises(BrokerError) as caught:
        hops(account_id="", role_arn="")
    assert "aws.account_id" in caught.value.message
    [only] = hops(USER_ROLE, account_id="", role_arn="")
    assert only.role_arn == USER_ROLE
