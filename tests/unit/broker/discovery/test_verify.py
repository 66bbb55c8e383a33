"""A dynamic database whose credential is made for a name must be at an address that AWS gives for that name."""

from __future__ import annotations

import asyncio
import logging

import pytest

from broker.discovery.verify import Verifier
from broker.model import RegisteredDatabase
from broker.registry.documents import judge
from tests.support.documents import document
from tests.unit.broker.discovery.answers import GROUP
from tests.unit.broker.discovery.world import FakeAws, denied, eyes
from tests.unit.broker.registry.test_documents import TERMS

ACCOUNT, REGION = "222222222222", "us-west-1"
LISTED = "master.my-rg.abcdef.usw1.cache.amazonaws.com"


def cache(host: str) -> RegisteredDatabase:
    """A dynamic database there, within its bounds."""
    judged = judge(document("orders", spec__protocol="redis", spec__uri=f"{host}:6379"), TERMS)
    assert judged.database is not None, judged.problems
    return judged.database


@pytest.fixture
def aws() -> FakeAws:
    aws = FakeAws()
    aws.put(ACCOUNT, REGION, GROUP, operation="DescribeReplicationGroups")
    return aws


async def test_an_address_that_aws_gives_passes(aws: FakeAws) -> None:
    assert await Verifier(eyes(aws))(cache(LISTED)) == ()
    assert aws.assumed[0].hops[0].role_arn == "arn:aws:iam::222222222222:role/example-role"


async def test_somebody_elses_cache_of_the_same_name_is_refused(aws: FakeAws) -> None:
    """Its address fits the grammar in every part; the token would be shown to it."""
    (problem,) = await Verifier(eyes(aws))(cache("master.my-rg.evil99.usw1.cache.amazonaws.com"))
    assert problem.path == "spec.uri"
    assert "AWS lists no elasticache at master.my-rg.evil99.usw1.cache.amazonaws.com in account 222222222222" in (
        problem.message
    )
    assert LISTED in problem.hint


async def test_where_aws_denies_the_grammar_has_to_do_and_it_is_said_once(
    aws: FakeAws, caplog: pytest.LogCaptureFixture
) -> None:
    aws.broken[ACCOUNT, "*"] = denied("AWS denies elasticache:DescribeReplicationGroups")
    verify = Verifier(eyes(aws))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await verify(cache(LISTED)) == ()
    assert caplog.text.count("was checked by its form alone: AWS denies elasticache:Describe") == 1


async def test_an_aws_that_does_not_answer_keeps_no_operator_waiting(aws: FakeAws) -> None:
    class Hanging(FakeAws):
        async def _called(self, *_: object) -> None:
            await asyncio.Event().wait()

    assert await Verifier(eyes(Hanging()), seconds=0.01)(cache(LISTED)) == ()


async def test_where_users_log_in_by_host_nobody_is_asked(aws: FakeAws) -> None:
    """A token of RDS is good at its own host alone."""
    database = judge(document("orders"), TERMS).database
    assert database is not None
    assert await Verifier(eyes(aws))(database) == ()
    assert (aws.assumed, aws.calls()) == ([], 0)
