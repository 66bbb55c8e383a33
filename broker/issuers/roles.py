"""What issuers share whose users are roles and whose credentials are the session itself, in a form that is less.

Nothing is kept: a key is derived or a proof signed in microseconds, and the account session is what is cached.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Final

from broker.errors import BrokerError
from broker.issuers.chain import role_hops
from broker.issuers.presign import DerivedKeys
from broker.issuers.presigned import credential_id
from broker.model import AccountSession, ChainKey, GrantRequest, Hop, IssuedCredential, RegisteredDatabase
from tollbridge.model import Credential
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

NEED_SECONDS: Final = 300.0
"""A session with less life left is renewed first: what it signs ends with it."""


class RoleIssuer(ABC):
    """Of products whose db_user is an IAM role: the last hop of the chain is that role, one session per workload."""

    need_seconds: float = NEED_SECONDS

    def __init__(self, *, now: Callable[[], datetime], broker_name: str, keys: DerivedKeys) -> None:
        self._now = now
        self._broker_name = broker_name
        self._keys = keys

    def chain(self, database: RegisteredDatabase, request: GrantRequest) -> tuple[Hop, ...]:
        """Through the account role, where one is configured, to the db_user's role. Raises BrokerError."""
        return role_hops(database, request, broker_name=self._broker_name)

    async def issue(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> IssuedCredential:
        """What a proxy may hold of this session, for as long as the session lives."""
        if session.expires_at is None:  # a role's session always ends; keys that do not are nobody's to hand out
            raise BrokerError(Reason.INTERNAL, "the session of a role has no end")
        now = self._now()
        return IssuedCredential(
            credential=self._credential(database, session, now, session.expires_at),
            credential_id=self._credential_id(database, session),
            issued_at=now,
            expires_at=session.expires_at,
            access_key_id=session.access_key_id,
        )

    def forget(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """Nothing is kept that could be as bad as what a database refused."""
        return

    def forget_session(self, access_key_id: str) -> None:
        """Drop what was derived from a dead session."""
        self._keys.forget(access_key_id)

    def refused(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """Another key of the same session would fare no better."""
        return

    async def close(self) -> None:
        """Nothing is under way."""
        return

    @abstractmethod
    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """Likely causes why the service refuses what a session that lives has signed. The shortest fix first."""

    @abstractmethod
    def _credential(
        self, database: RegisteredDatabase, session: AccountSession, now: datetime, until: datetime
    ) -> Credential:
        """What is handed out, good from `now` to `until`."""

    def _credential_id(self, database: RegisteredDatabase, session: AccountSession) -> str:
        facts = database.facts
        return credential_id(Secret(f"{session.access_key_id}/{facts.product}/{facts.region}"))
