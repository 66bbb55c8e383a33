"""Policies over IAM's limits become several that allow the same, or say why they cannot."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policies.documents import Audience, boundary, make, trust
from broker.policies.sizes import LIMITS, Attach, TooLarge, document, fit, size
from broker.policies.statements import Statement


def statement(sid: str, count: int, width: int = 60) -> Statement:
    """One with `count` resources."""
    resources = [f"arn:aws:rds-db:us-west-1:222222222222:dbuser:{number:0{width}d}/app" for number in range(count)]
    return {"Sid": sid, "Effect": "Allow", "Action": "rds-db:connect", "Resource": resources}


def allowed(statements: list[Statement]) -> set[tuple[str, str]]:
    """Pairs of action and resource."""
    found = set()
    for each in statements:
        resources = each["Resource"]
        assert isinstance(resources, list)
        found |= {(str(each["Action"]), resource) for resource in resources}
    return found


def test_a_small_policy_stays_one() -> None:
    statements = [statement("RDSConnect", 3)]
    assert fit(statements, Attach.MANAGED) == [statements]


@given(
    counts=st.lists(st.integers(min_value=1, max_value=150), min_size=1, max_size=6),
    width=st.integers(min_value=5, max_value=200),
)
def test_split_policies_allow_the_same_and_each_fits(counts: list[int], width: int) -> None:
    statements = [statement(f"S{index}x", count, width) for index, count in enumerate(counts)]
    parts = fit(statements, Attach.MANAGED)
    assert allowed([each for part in parts for each in part]) == allowed(statements)
    for part in parts:
        assert part
        assert size(part) <= LIMITS[Attach.MANAGED]
        names = [each["Sid"] for each in part]
        assert len(set(names)) == len(names)
        assert all(str(name).isalnum() for name in names)


def test_white_space_does_not_count() -> None:
    statements = [statement("RDSConnect", 3)]
    assert size(statements) < len(json.dumps(document(statements), indent=4))


@pytest.mark.parametrize("attach", [Attach.INLINE_ROLE, Attach.INLINE_GROUP, Attach.INLINE_USER])
def test_inline_policies_are_not_split_for_their_limit_is_of_all_together(attach: Attach) -> None:
    with pytest.raises(TooLarge, match="all inline policies") as caught:
        fit([statement("RDSConnect", 200)], attach)
    assert str(LIMITS[attach]) in str(caught.value)


def test_a_resource_that_no_policy_can_hold_is_refused() -> None:
    with pytest.raises(TooLarge, match="alone is over"):
        fit([statement("RDSConnect", 1, width=7000)], Attach.MANAGED)


def test_a_role_has_one_trust_policy_and_one_boundary() -> None:
    """So neither is split."""
    principals = [f"arn:aws:iam::111111111111:role/broker-{number}" for number in range(60)]
    with pytest.raises(TooLarge, match="only one"):
        make(Audience.TRUST, "arn:aws:iam::222222222222:role/r", trust(principals), Attach.MANAGED)


def test_a_boundary_names_roles_and_no_database() -> None:
    """However many databases: the boundary stays short."""
    assume: Statement = {"Sid": "A", "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ["arn:role/x"]}
    bounds = boundary([statement("RDSConnect", 500), assume])
    assert bounds == [
        {"Sid": "Databases", "Effect": "Allow", "Action": ["rds-db:connect"], "Resource": "*"},
        {"Sid": "UserRoles", "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ["arn:role/x"]},
    ]


def test_names_of_the_parts_tell_them_apart() -> None:
    documents = make(
        Audience.ROLE, "arn:aws:iam::222222222222:role/path/example", [statement("RDSConnect", 200)], Attach.MANAGED
    )
    assert len(documents) > 1
    assert [each.name for each in documents] == [
        f"tollbridge-example-{number}" for number in range(1, len(documents) + 1)
    ]
