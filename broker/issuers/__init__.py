"""One module per way AWS lets you in, and the table that says which product uses which.

presign.py      PURE: SigV4 presigned requests with cached derived keys
chain.py        PURE: which roles lead to a database, under which session names
presigned.py    what is common where the password is a presigned request
  rds.py        RDS, Aurora, RDS Proxy
  caches.py     ElastiCache, ElastiCache Serverless, MemoryDB
  dsql.py       Aurora DSQL
token_cache.py  tokens shared by all workloads
roles.py        what is common where the db_user is a role
  signing.py    DynamoDB, OpenSearch, OpenSearch Serverless, Keyspaces: derived SigV4 keys
  challenge.py  DocumentDB: the broker signs what the server asks
redshift.py     Redshift, Redshift Serverless: AWS makes the password
fetched.py      such passwords, kept to their stated end
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol, runtime_checkable

from broker.audit import Counters
from broker.issuers.caches import CacheIssuer
from broker.issuers.challenge import ChallengeIssuer
from broker.issuers.dsql import DsqlIssuer
from broker.issuers.presign import DerivedKeys
from broker.issuers.rds import RdsIssuer
from broker.issuers.redshift import RedshiftIssuer, RedshiftServerlessIssuer
from broker.issuers.signing import SERVICES, SigningKeyIssuer
from broker.model import AccountSession, ChainKey, GrantRequest, Hop, Issuer, Redshift, RegisteredDatabase
from broker.sessions.keeper import Surroundings
from tollbridge.model import Product, StsChallenge, StsProof


class CachingIssuer(Issuer, Protocol):
    """An issuer as the use case needs it: it says how much life it wants, forgets, and explains a refusal."""

    need_seconds: float
    """Life its credentials have when the session that signs them has as much; sessions with less are renewed first."""

    def forget(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """Drop the cached credential that `issue` would return: it may be as bad as one that a database refused."""
        ...

    def forget_session(self, access_key_id: str) -> None:
        """Drop everything a dead session signed."""
        ...

    def refused(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """A database refused a credential of a session that lives: drop it where another could fare better."""
        ...

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """Likely causes why a database refuses a credential whose session is alive, each with its fix."""
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


@runtime_checkable
class Prover(Protocol):
    """An issuer that answers what a database asks during the login."""

    def prove(self, database: RegisteredDatabase, session: AccountSession, challenge: StsChallenge) -> StsProof:
        """Signed by that session. Raises BrokerError."""
        ...


Issuers = Mapping[Product, CachingIssuer]


def make_issuers(
    *,
    now: Callable[[], datetime],
    monotonic: Callable[[], float],
    jitter: Callable[[], float],
    broker_name: str,
    counters: Counters,
    redshift: Redshift,
) -> Issuers:
    """The table. `now` is AWS's time; `broker_name` is the session name that sessions shared by workloads carry."""
    keys = DerivedKeys()
    rds = RdsIssuer(now=now, broker_name=broker_name, keys=keys, counters=counters)
    caches = CacheIssuer(now=now, broker_name=broker_name, keys=keys, counters=counters)
    signing = SigningKeyIssuer(now=now, broker_name=broker_name, keys=keys)
    world = Surroundings(now=now, monotonic=monotonic, jitter=jitter, counters=counters.passwords)
    return {
        **dict.fromkeys(SERVICES, signing),
        Product.DOCDB: ChallengeIssuer(now=now, broker_name=broker_name, keys=keys),
        Product.RDS: rds,
        Product.RDSPROXY: rds,
        Product.DSQL: DsqlIssuer(now=now, broker_name=broker_name, keys=keys, counters=counters),
        Product.ELASTICACHE: caches,
        Product.ELASTICACHE_SERVERLESS: caches,
        Product.MEMORYDB: caches,
        Product.REDSHIFT: RedshiftIssuer(redshift=redshift, broker_name=broker_name, world=world),
        Product.REDSHIFT_SERVERLESS: RedshiftServerlessIssuer(redshift=redshift, broker_name=broker_name, world=world),
    }


async def close_issuers(issuers: Issuers) -> None:
    """End what they have under way."""
    await asyncio.gather(*(issuer.close() for issuer in {id(issuer): issuer for issuer in issuers.values()}.values()))


def chain_of(issuers: Issuers) -> Callable[[RegisteredDatabase, GrantRequest], tuple[Hop, ...]]:
    """The AssumeRole calls for a request, by the database's product. Pure; raises BrokerError."""
    return lambda database, request: issuers[database.facts.product].chain(database, request)
