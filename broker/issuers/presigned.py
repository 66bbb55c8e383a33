"""What issuers share whose password is a presigned request: signed here, nothing is asked of AWS."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from broker.audit import Counters
from broker.issuers.chain import account_hops
from broker.issuers.presign import EXPIRES_SECONDS, DerivedKeys, Signer
from broker.issuers.token_cache import TokenCache, TokenKey
from broker.model import AccountSession, ChainKey, GrantRequest, Hop, IssuedCredential, RegisteredDatabase
from broker.policies.statements import Place
from tollbridge.model import Token
from tollbridge.secret import Secret

_LIFE: Final = timedelta(seconds=EXPIRES_SECONDS)
_CREDENTIAL_ID_DIGITS: Final = 16


class PresignedIssuer(ABC):
    """Signs locally with a cached derived key; one token serves all who log in as the same user of one place."""

    need_seconds: float = float(EXPIRES_SECONDS)
    """A token dies with the session that signed it, so this much life is asked of sessions."""

    def __init__(self, *, now: Callable[[], datetime], broker_name: str, keys: DerivedKeys, counters: Counters) -> None:
        self._now = now
        self._broker_name = broker_name
        self._keys = keys
        self._tokens = TokenCache(now=now, counters=counters)

    def chain(self, database: RegisteredDatabase, request: GrantRequest) -> tuple[Hop, ...]:
        """One hop into the database's account, or none. Raises BrokerError for a user that the product cannot have."""
        self._check(database, request.db_user)
        return account_hops(database, request, broker_name=self._broker_name)

    async def issue(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> IssuedCredential:
        """A token for the real endpoint; a cached one while more than a third of its life is left."""
        name = self._token_key(database, request, key, session.access_key_id)
        token = self._tokens.get(name)
        if token is None:
            token = self._sign(database, request.db_user, session)
            self._tokens.put(name, token)
        return token

    def forget(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """Drop the cached token that `issue` would return."""
        self._tokens.forget(self._token_key(database, request, key, session.access_key_id))

    def forget_session(self, access_key_id: str) -> None:
        """Drop everything a dead session signed."""
        self._tokens.forget_session(access_key_id)
        self._keys.forget(access_key_id)

    def refused(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """A new token would say the same, and new ones count against AWS's limit of logins: keep the one that is."""
        return

    async def close(self) -> None:
        """Nothing is under way."""
        return

    @abstractmethod
    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """Likely causes why the database refuses a token whose session is alive. The shortest fix first."""

    @abstractmethod
    def _audience(self, database: RegisteredDatabase) -> tuple[str, ...]:
        """What a token is signed for: every fact of the database that changes it."""

    @abstractmethod
    def _password(self, signer: Signer, database: RegisteredDatabase, db_user: str, at: datetime) -> Secret:
        """A presigned request."""

    def _check(self, database: RegisteredDatabase, db_user: str) -> None:
        """Raise BrokerError for what no token can be made for, before anything is asked of STS. Here nothing is."""
        return

    def _token_key(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, access_key_id: str
    ) -> TokenKey:
        return TokenKey(
            product=database.facts.product,
            region=database.facts.region,
            audience=self._audience(database),
            db_user=request.db_user,
            chain=key,
            access_key_id=access_key_id,
        )

    def _sign(self, database: RegisteredDatabase, db_user: str, session: AccountSession) -> IssuedCredential:
        # Whole seconds, as the signature has them: a token must not seem to live longer than it does.
        now = self._now().replace(microsecond=0)
        password = self._password(signer_of(session), database, db_user, now)
        expires_at = now + _LIFE
        if session.expires_at is not None:
            expires_at = min(expires_at, session.expires_at)
        return IssuedCredential(
            credential=Token(user=db_user, password=password),
            credential_id=credential_id(password),
            issued_at=now,
            expires_at=expires_at,
            access_key_id=session.access_key_id,
        )


def signer_of(session: AccountSession) -> Signer:
    """A session's keys, as signing needs them."""
    return Signer(
        access_key_id=session.access_key_id, secret_key=session.secret_key, session_token=session.session_token
    )


def credential_id(password: Secret) -> str:
    """A name for a credential that tells nothing about it; of the password, or whatever else makes it this one."""
    return hashlib.sha256(password.reveal().encode()).hexdigest()[:_CREDENTIAL_ID_DIGITS]


def place_of(database: RegisteredDatabase, session: AccountSession) -> Place:
    """Where a database's resources are, for ARNs."""
    return Place(
        partition=database.access.partition,
        region=database.facts.region,
        account_id=database.facts.account_id or session.account_id,
    )
