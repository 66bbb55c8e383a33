"""ElastiCache, ElastiCache Serverless and MemoryDB: a presigned connect request on the cache's name.

The name is signed, not the endpoint: a replication group's id, a serverless cache's or a MemoryDB cluster's name.
https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html
https://docs.aws.amazon.com/memorydb/latest/devguide/auth-iam.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.errors import BrokerError
from broker.issuers.presign import Signer, cache_token
from broker.issuers.presigned import PresignedIssuer, place_of
from broker.model import AccountSession, GrantRequest, RegisteredDatabase
from broker.policies.statements import compact, elasticache_connect, memorydb_connect
from broker.registry.products import identifier
from tollbridge.model import Product
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

_USER: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*", re.ASCII)
"""As AWS's models of both services have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    title: str
    service: str
    serverless: bool = False


_KINDS: Final = {
    Product.ELASTICACHE: _Kind(title="replication group", service="elasticache"),
    Product.ELASTICACHE_SERVERLESS: _Kind(title="serverless cache", service="elasticache", serverless=True),
    Product.MEMORYDB: _Kind(title="cluster", service="memorydb"),
}


class CacheIssuer(PresignedIssuer):
    """Tokens signed for a cache's name; the AWS user they name is the db_user."""

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """See PresignedIssuer."""
        # In ARNs as in tokens, names are as AWS keeps them: in lower case.
        kind, cache, user = _KINDS[database.facts.product], identifier(database).lower(), request.db_user
        place = place_of(database, session)
        if kind.service == "memorydb":
            statement = memorydb_connect(place, cache, user)
            joined = f"user {user} is not in the cluster's ACL, or its authentication type is not IAM"
        else:
            statement = elasticache_connect(place, cache, user, serverless=kind.serverless)
            joined = (
                f"user {user} is not in the cache's user group, its authentication type is not IAM, or its user name"
                " differs from its user ID"
            )
        return (
            f"(1) {joined}; (2) {session.arn} lacks {compact(statement)}; (3) {cache!r} is not the name of the"
            f" {kind.title}, or region {database.facts.region} is not its region; (4) the engine is older than"
            " Valkey 7.2 or Redis OSS 7.0"
        )

    def _check(self, database: RegisteredDatabase, db_user: str) -> None:
        identifier(database)
        if not _USER.fullmatch(db_user):
            raise BrokerError(
                Reason.INVALID_REQUEST,
                f"{db_user!r} is no user of {database.facts.product}: AWS's names begin with a letter and go on with"
                " letters, digits and '-'",
                metadata={"field": "db_user", "database": database.name},
            )

    def _audience(self, database: RegisteredDatabase) -> tuple[str, ...]:
        return (identifier(database).lower(),)

    def _password(self, signer: Signer, database: RegisteredDatabase, db_user: str, at: datetime) -> Secret:
        kind = _KINDS[database.facts.product]
        return cache_token(
            signer,
            self._keys,
            service=kind.service,
            cache=identifier(database),
            serverless=kind.serverless,
            db_user=db_user,
            region=database.facts.region,
            at=at,
        )
