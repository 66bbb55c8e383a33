"""Redshift and Redshift Serverless: AWS makes the password, and names the user to log in as.

https://docs.aws.amazon.com/redshift/latest/mgmt/generating-user-credentials.html
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Final

from broker.errors import BrokerError
from broker.issuers.chain import account_hops, role_hops
from broker.issuers.fetched import FetchedPasswords
from broker.issuers.presigned import credential_id, place_of
from broker.issuers.token_cache import TokenKey
from broker.model import (
    AccountSession,
    ChainKey,
    GrantRequest,
    Hop,
    IssuedCredential,
    Redshift,
    RegisteredDatabase,
    TemporaryLogin,
)
from broker.policies.statements import compact, redshift_role, redshift_user, redshift_workgroup
from broker.registry.products import identifier
from broker.registry.roles import is_role
from broker.sessions.keeper import Surroundings
from tollbridge.model import Token
from tollbridge.reasons import Reason

_DB_USER: Final = re.compile(r"(?!(?i:public)$)[A-Za-z][A-Za-z0-9_+.@-]{0,63}", re.ASCII)
"""GetClusterCredentials takes no other; reserved words it refuses itself."""
_ALREADY_MAPPED: Final = ("IAM:", "IAMA:", "IAMR:")
"""Users as AWS names them, which are answers and never asked for."""


class _FetchingIssuer(ABC):
    """What both have in common: passwords that are asked for, and kept to their stated end."""

    need_seconds: float = 0.0
    """A password does not die with the session that asked for it: any that can sign the call will do."""

    def __init__(self, *, redshift: Redshift, broker_name: str, world: Surroundings) -> None:
        self._redshift = redshift
        self._broker_name = broker_name
        self._now = world.now
        self._passwords = FetchedPasswords(world=world)

    async def issue(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> IssuedCredential:
        """A password for this user and logical database, until the end that AWS states. Raises BrokerError."""

        async def fetch() -> IssuedCredential:
            asked_at = self._now()
            login = await self._ask(database, request, session)
            return IssuedCredential(
                credential=Token(user=login.user, password=login.password),
                credential_id=credential_id(login.password),
                issued_at=asked_at,
                expires_at=login.expires_at,
                access_key_id=session.access_key_id,
            )

        name = f"password of {request.db_user} for {identifier(database)}"
        return await self._passwords.get(self._password_key(database, request, key, session), name, fetch)

    def forget(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """Drop the password that `issue` would return, unless it is quite new."""
        self._passwords.forget(self._password_key(database, request, key, session))

    def forget_session(self, access_key_id: str) -> None:
        """Drop everything that was asked for with a dead session."""
        self._passwords.forget_session(access_key_id)

    def refused(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> None:
        """AWS makes passwords for users that do not exist: once they do, another may be needed."""
        self.forget(database, request, key, session)

    async def close(self) -> None:
        """End calls under way."""
        await self._passwords.close()

    @abstractmethod
    async def _ask(
        self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession
    ) -> TemporaryLogin:
        """One call to AWS."""

    def _password_key(
        self, database: RegisteredDatabase, request: GrantRequest, key: ChainKey, session: AccountSession
    ) -> TokenKey:
        return TokenKey(
            product=database.facts.product,
            region=database.facts.region,
            audience=(identifier(database), *database.db_groups),
            # A role has several spellings and one place at the end of the chain.
            db_user="" if is_role(database.facts, request.db_user) else request.db_user,
            db_name=request.db_name,
            chain=key,
            access_key_id=session.access_key_id,
        )


class RedshiftIssuer(_FetchingIssuer):
    """A db_user is a database user, or written `role/NAME` or as an ARN a role, which AWS maps to a user of its own."""

    def chain(self, database: RegisteredDatabase, request: GrantRequest) -> tuple[Hop, ...]:
        """Into the database's account; for a role, on to that role. Raises BrokerError."""
        identifier(database)
        if is_role(database.facts, request.db_user):
            return role_hops(database, request, broker_name=self._broker_name)
        if not _DB_USER.fullmatch(request.db_user):
            raise _no_user(
                database,
                request,
                "a database user of Redshift has 1 to 64 letters, digits or any of _ + . @ -, begins with a letter and"
                " is not PUBLIC; a role is written role/NAME or as its ARN",
            )
        return account_hops(database, request, broker_name=self._broker_name)

    async def _ask(
        self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession
    ) -> TemporaryLogin:
        cluster, place = identifier(database), place_of(database, session)
        if is_role(database.facts, request.db_user):
            return await self._redshift.role_login(session, place, cluster=cluster, db_name=request.db_name)
        return await self._redshift.user_login(
            session,
            place,
            cluster=cluster,
            db_user=request.db_user,
            db_name=request.db_name,
            db_groups=database.db_groups,
        )

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """Likely causes why the database refuses what AWS made."""
        cluster, place, user = identifier(database), place_of(database, session), request.db_user
        where = (
            f"database {request.db_name!r} does not exist" if request.db_name else "its default database does not exist"
        )
        if is_role(database.facts, user):
            statement = compact(redshift_role(place, cluster, request.db_name))
            return (
                f"(1) {where}, or the role's database user has no CONNECT on it; (2) {_endpoint(database)};"
                f" (3) the policy of {session.arn} has more conditions than {statement}"
            )
        statement = compact(*redshift_user(place, cluster, user, request.db_name, database.db_groups))
        groups = f" or one of the groups {', '.join(database.db_groups)}" if database.db_groups else ""
        return (
            f"(1) user {user}{groups} does not exist (AWS makes passwords for users that are not there): CREATE USER"
            f' "{user}" PASSWORD DISABLE; (2) {where}; (3) {_endpoint(database)}; (4) the policy of {session.arn} has'
            f" more conditions than {statement}"
        )


class RedshiftServerlessIssuer(_FetchingIssuer):
    """Every db_user is a role: AWS maps it to a user of its own."""

    def chain(self, database: RegisteredDatabase, request: GrantRequest) -> tuple[Hop, ...]:
        """Into the database's account and on to the role. Raises BrokerError."""
        identifier(database)
        if request.db_user.upper().startswith(_ALREADY_MAPPED):
            raise _no_user(
                database,
                request,
                "that is Redshift's name for a role's user: log in as the role, NAME or role/NAME",
            )
        return role_hops(database, request, broker_name=self._broker_name)

    async def _ask(
        self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession
    ) -> TemporaryLogin:
        place = place_of(database, session)
        return await self._redshift.workgroup_login(
            session, place, workgroup=identifier(database), db_name=request.db_name
        )

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """Likely causes why the workgroup refuses what AWS made."""
        statement = compact(redshift_workgroup(place_of(database, session), identifier(database)))
        where = f"database {request.db_name!r}" if request.db_name else "the database"
        return (
            f"(1) {where} does not exist, or the role's database user has no CONNECT on it; (2) {_endpoint(database)};"
            f" (3) the policy of {session.arn} has more conditions than {statement}"
        )


def _endpoint(database: RegisteredDatabase) -> str:
    facts = database.facts
    return f"{facts.endpoint} is not the endpoint of {identifier(database)!r} in {facts.region}"


def _no_user(database: RegisteredDatabase, request: GrantRequest, why: str) -> BrokerError:
    return BrokerError(
        Reason.INVALID_REQUEST,
        f"db_user {request.db_user!r} of {database.name!r}: {why}",
        metadata={"field": "db_user", "database": database.name},
    )
