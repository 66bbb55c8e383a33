"""RDS, Aurora and RDS Proxy: the password is a presigned connect request, signed here.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from broker.audit import Counters
from broker.issuers.chain import account_hops
from broker.issuers.presign import EXPIRES_SECONDS, DerivedKeys, Signer, rds_token
from broker.issuers.token_cache import TokenCache, TokenKey
from broker.model import AccountSession, ChainKey, GrantRequest, Hop, IssuedCredential, RegisteredDatabase
from tollbridge.model import Product, Protocol, Token

_LIFE: Final = timedelta(seconds=EXPIRES_SECONDS)
_CREDENTIAL_ID_DIGITS: Final = 16


class RdsIssuer:
    """Signs locally with a cached derived key; one token serves all who log in as the same user of an endpoint."""

    need_seconds: float = float(EXPIRES_SECONDS)
    """A token dies with the session that signed it, so this much life is asked of sessions."""

    def __init__(self, *, now: Callable[[], datetime], broker_name: str, keys: DerivedKeys, counters: Counters) -> None:
        self._now = now
        self._broker_name = broker_name
        self._keys = keys
        self._tokens = TokenCache(now=now, counters=counters)

    def chain(self, database: RegisteredDatabase, request: GrantRequest) -> tuple[Hop, ...]:
        """One hop into the database's account, or none."""
        return account_hops(database, request, broker_name=self._broker_name)

    async def issue(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> IssuedCredential:
        """A token for the real endpoint; a cached one while more than a third of its life is left."""
        name = _token_key(database, request, key, session.access_key_id)
        token = self._tokens.get(name)
        if token is None:
            token = self._sign(database, request.db_user, session)
            self._tokens.put(name, token)
        return token

    def forget(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """Drop the cached token that `issue` would return."""
        self._tokens.forget(_token_key(database, request, key, session.access_key_id))

    def forget_session(self, access_key_id: str) -> None:
        """Drop everything a dead session signed."""
        self._tokens.forget_session(access_key_id)
        self._keys.forget(access_key_id)

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """Likely causes why the database refuses a token whose session is alive. The shortest fix first."""
        facts, user = database.facts, request.db_user
        grant = (
            f"MySQL user {user} is not created IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'"
            if facts.protocol is Protocol.MYSQL
            else f'the user lacks GRANT rds_iam TO "{user}"'
        )
        if facts.product is Product.RDSPROXY:
            grant = f"the proxy has no secret for user {user}, or its IAM authentication is not required"
        where = f"arn:{database.access.partition}:rds-db:{facts.region}:{session.account_id}"
        statement = {
            "Effect": "Allow",
            "Action": "rds-db:connect",
            "Resource": f"{where}:dbuser:{_resource_id(database)}/{user}",
        }
        return (
            f"(1) {grant}; (2) {session.arn} lacks {json.dumps(statement, separators=(',', ':'))}; (3) IAM"
            f" authentication is not enabled on the instance or cluster; (4) {facts.endpoint} is not the endpoint that"
            f" AWS shows (a CNAME does not do), or region {facts.region} is not its region"
        )

    def _sign(self, database: RegisteredDatabase, db_user: str, session: AccountSession) -> IssuedCredential:
        # Whole seconds, as the signature has them: a token must not seem to live longer than it does.
        now = self._now().replace(microsecond=0)
        endpoint = database.facts.endpoint
        password = rds_token(
            Signer(
                access_key_id=session.access_key_id,
                secret_key=session.secret_key,
                session_token=session.session_token,
            ),
            self._keys,
            host=endpoint.host,
            port=endpoint.port,
            db_user=db_user,
            region=database.facts.region,
            at=now,
        )
        expires_at = now + _LIFE
        if session.expires_at is not None:
            expires_at = min(expires_at, session.expires_at)
        return IssuedCredential(
            credential=Token(user=db_user, password=password),
            credential_id=hashlib.sha256(password.reveal().encode()).hexdigest()[:_CREDENTIAL_ID_DIGITS],
            issued_at=now,
            expires_at=expires_at,
            access_key_id=session.access_key_id,
        )


def _token_key(database: RegisteredDatabase, request: GrantRequest, key: ChainKey, access_key_id: str) -> TokenKey:
    return TokenKey(database.facts.endpoint, request.db_user, database.facts.region, key, access_key_id)


def _resource_id(database: RegisteredDatabase) -> str:
    known = database.resource_ids.get("rds.resource_id", "")
    if known:
        return known
    return "<prx- id>" if database.facts.product is Product.RDSPROXY else "<db- or cluster- resource id>"
