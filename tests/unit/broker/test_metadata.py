"""Whether the broker may ask AWS about a database: a note that names the permission, and never a failure."""

from __future__ import annotations

import json

import pytest

from broker.discovery.inspection import Inspection, Verdict
from broker.metadata import MetadataCheck, judge
from broker.model import RegisteredDatabase
from tests.unit.broker.issuers.databases import database
from tests.unit.broker.sessions.fakes import ROLE
from tollbridge.model import Product

OWN = "arn:aws:sts::111111111111:assumed-role/broker/tollbridge-broker"
HOST = "orders.abcdef012345.us-west-1.rds.amazonaws.com"
DENIED = Inspection(verdict=Verdict.BY_GRAMMAR, why="AWS denies it", denied="rds:DescribeDBInstances")
TAGS = Inspection(verdict=Verdict.CONFIRMED, why="without tags: AWS denies it", denied="memorydb:ListTags")


@pytest.mark.parametrize(
    ("inspection", "ok", "says"),
    [
        (Inspection(verdict=Verdict.CONFIRMED, tags={"env": "dev"}), True, "its tags (1)"),
        (Inspection(verdict=Verdict.MISMATCH, why="AWS names another"), None, "AWS names another"),
        (Inspection(verdict=Verdict.ABSENT, why="AWS has none"), None, "AWS has none"),
        (Inspection(verdict=Verdict.BY_GRAMMAR, why="AWS does not answer"), None, "by its form alone: AWS does not"),
        (DENIED, None, "by its form alone: AWS denies it"),
        (TAGS, None, "without tags: AWS denies it"),
    ],
)
def test_what_follows(inspection: Inspection, ok: bool | None, says: str) -> None:
    found = judge(database(), inspection, OWN)
    assert found.ok is ok
    assert says in found.detail
    assert [json.loads(each.statement) for each in found.statements] == [
        {"Effect": "Allow", "Action": action, "Resource": "*"} for action in [inspection.denied] if action
    ]


@pytest.mark.parametrize(("role_arn", "owner"), [(ROLE, ROLE), ("", "arn:aws:iam::111111111111:role/broker")])
def test_the_statement_belongs_to_who_asks(role_arn: str, owner: str) -> None:
    (needed,) = judge(database(role_arn=role_arn), DENIED, OWN).statements
    assert (needed.attach_to, needed.trust) == (owner, False)


async def test_what_aws_has_no_call_for_is_not_asked() -> None:
    asked: list[str] = []

    async def inspect(entry: RegisteredDatabase) -> Inspection:
        asked.append(entry.name)
        return DENIED

    check = MetadataCheck(inspect)
    assert await check(database(product=Product.DSQL, host="a.example", ids={}), OWN) is None
    assert asked == []
    assert await check(database(host=HOST), OWN) == judge(database(), DENIED, OWN)
    assert asked == ["orders"]
