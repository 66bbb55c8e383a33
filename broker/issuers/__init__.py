"""One module per way AWS lets you in, and the table that says which product uses which.

presign.py      PURE: SigV4 presigned requests with cached derived keys
chain.py        PURE: which roles lead to a database, under which session names
token_cache.py  tokens shared by all workloads
rds.py          RDS, Aurora, RDS Proxy
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from broker.audit import Counters
from broker.errors import BrokerError
from broker.issuers.presign import DerivedKeys
from broker.issuers.rds import RdsIssuer
from broker.model import AccountSession, ChainKey, GrantRequest, Issuer, RegisteredDatabase
from tollbridge.model import Product
from tollbridge.reasons import Reason


class CachingIssuer(Issuer, Protocol):
    """An issuer as the use case needs it: it says how much life it wants, forgets, and explains a refusal."""

    need_seconds: float
    """Life its credentials have when the session that signs them has as much; sessions with less are renewed first."""

    def forget(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """Drop the cached credential that `issue` would return."""
        ...

    def forget_session(self, access_key_id: str) -> None:
        """Drop everything a dead session signed."""
        ...

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """Likely causes why a database refuses a credential whose session is alive, each with its fix."""
        ...


Issuers = Mapping[Product, CachingIssuer]


def make_issuers(*, now: Callable[[], datetime], broker_name: str, counters: Counters) -> Issuers:
    """The table. `now` is AWS's time; `broker_name` is the session name that sessions shared by workloads carry."""
    keys = DerivedKeys()
    rds = RdsIssuer(now=now, broker_name=broker_name, keys=keys, counters=counters)
    return {Product.RDS: rds, Product.RDSPROXY: rds}


def issuer_for(issuers: Issuers, database: RegisteredDatabase) -> CachingIssuer:
    """The issuer of a database's product. Raises PRODUCT_UNSUPPORTED."""
    issuer = issuers.get(database.facts.product)
    if issuer is None:
        raise BrokerError(
            Reason.PRODUCT_UNSUPPORTED,
            f"this broker issues no credentials for {database.facts.product} yet (database {database.name!r});"
            f" it does for {', '.join(sorted(issuers))}",
            metadata={"product": database.facts.product.value, "database": database.name},
        )
    return issuer
