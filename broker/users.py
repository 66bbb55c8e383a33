"""Is a user of a cache one that logs in with IAM? What `doctor` asks of AWS before it tries.

https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html: a user's name must be its ID there.
https://docs.aws.amazon.com/memorydb/latest/devguide/auth-iam.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broker.diagnose import AwsFinding
from broker.discovery.model import Directory, Listing
from broker.errors import BrokerError
from broker.issuers.presigned import place_of
from broker.model import AccountSession, RegisteredDatabase
from broker.policies.statements import allow, compact, principal_of
from tollbridge.model import Product
from tollbridge.reasons import Reason
from tollbridge.reports import PolicyStatement

_IAM: Final = "iam"
_UNKNOWN: Final = ("UserNotFound", "UserNotFoundFault")
_ASKED: Final[Mapping[Product, tuple[str, str]]] = {
    Product.ELASTICACHE: ("elasticache", "UserId"),
    Product.ELASTICACHE_SERVERLESS: ("elasticache", "UserId"),
    Product.MEMORYDB: ("memorydb", "UserName"),
}
"""Service, and what its DescribeUsers takes a user by."""


class UserCheck:
    """A `broker.diagnose.CheckUser` over AWS."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def __call__(
        self, database: RegisteredDatabase, db_user: str, session: AccountSession
    ) -> AwsFinding | None:  # fmt: skip
        """What AWS says; None for products whose users only the database knows."""
        asked = _ASKED.get(database.facts.product)
        if asked is None:
            return None
        service, key = asked
        listing = Listing(service=service, operation="DescribeUsers", items="Users", page="", parameters={key: db_user})
        try:
            users = await self._directory.items(session, place_of(database, session), listing)
        except BrokerError as error:
            return _not_told(error, listing.permission, db_user, session)
        return judge(service, db_user, users[0] if users else None)


def judge(service: str, db_user: str, user: Mapping[str, Any] | None) -> AwsFinding:
    """What follows from AWS's description of a user."""
    if user is None:
        return AwsFinding(
            ok=False, detail=f"{service} knows no user {db_user!r}: create it with authentication type IAM"
        )
    kind = str((user.get("Authentication") or {}).get("Type", "")) or "unknown"
    if kind.lower() != _IAM:
        detail = f"user {db_user!r} logs in with {kind}, not with IAM: its authentication type must be IAM"
        return AwsFinding(ok=False, detail=detail)
    if (name := user.get("UserName", db_user)) != db_user:
        detail = f"user {db_user!r} is called {name!r}: with IAM, a user's name must be its ID"
        return AwsFinding(ok=False, detail=detail)
    if (status := str(user.get("Status", "active"))) != "active":
        return AwsFinding(ok=None, detail=f"user {db_user!r} logs in with IAM; its status is {status}")
    return AwsFinding(ok=True, detail=f"user {db_user!r} logs in with IAM")


def _not_told(error: BrokerError, permission: str, db_user: str, session: AccountSession) -> AwsFinding:
    if error.metadata.get("aws_code") in _UNKNOWN:
        return judge(permission.partition(":")[0], db_user, None)
    detail = f"whether {db_user!r} logs in with IAM could not be found out: {error.message}"
    if error.reason is not Reason.CREDENTIAL_DENIED:
        return AwsFinding(ok=None, detail=detail)
    needed = PolicyStatement(attach_to=principal_of(session.arn), statement=compact(allow(permission, "*")))
    return AwsFinding(ok=None, detail=detail, statements=(needed,))
