"""Whether a user of a cache logs in with IAM: what AWS says, and what follows when it does not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from broker.discovery.model import Directory, Listing
from broker.errors import BrokerError
from broker.model import AccountSession
from broker.policies.statements import Place
from broker.users import UserCheck, judge
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.databases import database
from tests.unit.broker.sessions.fakes import FakeSts
from tollbridge.model import Product
from tollbridge.reasons import Reason

IAM_USER = {"UserId": "app", "UserName": "app", "Status": "active", "Authentication": {"Type": "iam"}}


class Users(Directory):
    """Answers DescribeUsers."""

    def __init__(self, answer: Sequence[Mapping[str, Any]] | BrokerError) -> None:
        self.answer = answer
        self.asked: list[Listing] = []

    async def items(self, session: AccountSession, place: Place, listing: Listing) -> Sequence[Mapping[str, Any]]:
        self.asked.append(listing)
        if isinstance(self.answer, BrokerError):
            raise self.answer
        return self.answer


async def session() -> AccountSession:
    return await FakeSts(FakeClock()).base_session()


@pytest.mark.parametrize(
    ("product", "permission", "parameter"),
    [
        (Product.ELASTICACHE, "elasticache:DescribeUsers", "UserId"),
        (Product.ELASTICACHE_SERVERLESS, "elasticache:DescribeUsers", "UserId"),
        (Product.MEMORYDB, "memorydb:DescribeUsers", "UserName"),
    ],
)
async def test_each_service_is_asked_for_that_user(product: Product, permission: str, parameter: str) -> None:
    users = Users([IAM_USER])  # type: ignore[abstract]
    found = await UserCheck(users)(database(product=product), "app", await session())
    assert found is not None
    assert found.ok is True
    (asked,) = users.asked
    assert (asked.permission, dict(asked.parameters)) == (permission, {parameter: "app"})


async def test_other_products_are_not_asked() -> None:
    users = Users([IAM_USER])  # type: ignore[abstract]
    assert await UserCheck(users)(database(), "app", await session()) is None
    assert users.asked == []


@pytest.mark.parametrize(
    ("user", "ok", "says"),
    [
        (IAM_USER, True, "with IAM"),
        ({**IAM_USER, "Authentication": {"Type": "password"}}, False, "password"),
        ({**IAM_USER, "Authentication": {"Type": "no-password"}}, False, "no-password"),
        ({**IAM_USER, "Authentication": None}, False, "unknown"),
        ({**IAM_USER, "UserName": "other"}, False, "must be its ID"),
        ({**IAM_USER, "Status": "modifying"}, None, "modifying"),
        (None, False, "knows no user"),
    ],
)
def test_what_follows(user: Mapping[str, Any] | None, ok: bool | None, says: str) -> None:
    found = judge("elasticache", "app", user)
    assert found.ok is ok
    assert says in found.detail


async def test_a_user_that_aws_does_not_know_is_missing() -> None:
    error = BrokerError(Reason.CREDENTIAL_INVALID, "no such", metadata={"aws_code": "UserNotFound"})
    users = Users(error)  # type: ignore[abstract]
    found = await UserCheck(users)(database(product=Product.ELASTICACHE), "app", await session())
    assert found is not None
    assert found.ok is False


@pytest.mark.parametrize(
    ("reason", "statements"), [(Reason.CREDENTIAL_DENIED, 1), (Reason.AWS_UNAVAILABLE, 0), (Reason.AWS_THROTTLED, 0)]
)
async def test_an_aws_that_does_not_say_breaks_nothing_and_names_what_it_lacks(reason: Reason, statements: int) -> None:
    users = Users(BrokerError(reason, "no"))  # type: ignore[abstract]
    found = await UserCheck(users)(database(product=Product.MEMORYDB), "app", await session())
    assert found is not None
    assert found.ok is None
    assert len(found.statements) == statements
    assert all("memorydb:DescribeUsers" in each.statement for each in found.statements)
