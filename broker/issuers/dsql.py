"""Aurora DSQL: the password is a presigned request to connect, as `admin` or as any other role of the database.

https://docs.aws.amazon.com/aurora-dsql/latest/userguide/SECTION_authentication-token.html
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from broker.issuers.presign import Signer, dsql_token
from broker.issuers.presigned import PresignedIssuer, place_of
from broker.model import AccountSession, GrantRequest, RegisteredDatabase
from broker.policies.statements import compact, dsql_connect
from tollbridge.secret import Secret

ADMIN: Final = "admin"
"""The one role that is not granted to IAM roles inside the database."""


class DsqlIssuer(PresignedIssuer):
    """Tokens signed for the cluster's host. Which role may log in as which user stands in the database itself."""

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """See PresignedIssuer."""
        facts, user = database.facts, request.db_user
        admin = user == ADMIN
        cluster = database.resource_ids.get("dsql.cluster_id", facts.endpoint.host.partition(".")[0])
        statement = compact(dsql_connect(place_of(database, session), cluster, admin=admin))
        role = database.access.role_arn or "<the broker's own role ARN>"
        granted = "" if admin else f"AWS IAM GRANT {user} TO '{role}' is missing in the database; "
        return (
            f"{granted}{session.arn} lacks {statement}; role {user} does not exist or may not LOGIN;"
            f" {facts.endpoint.host} is not the cluster's endpoint, or region {facts.region} is not its region"
        )

    def _audience(self, database: RegisteredDatabase) -> tuple[str, ...]:
        return (database.facts.endpoint.host,)

    def _password(self, signer: Signer, database: RegisteredDatabase, db_user: str, at: datetime) -> Secret:
        return dsql_token(
            signer,
            self._keys,
            host=database.facts.endpoint.host,
            admin=db_user == ADMIN,
            region=database.facts.region,
            at=at,
        )
