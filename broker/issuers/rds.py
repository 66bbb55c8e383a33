"""RDS, Aurora and RDS Proxy: the password is a presigned connect request.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

from __future__ import annotations

from datetime import datetime

from broker.issuers.presign import Signer, rds_token
from broker.issuers.presigned import PresignedIssuer, place_of
from broker.model import AccountSession, GrantRequest, RegisteredDatabase
from broker.policies.statements import compact, rds_connect
from tollbridge.model import Product, Protocol
from tollbridge.secret import Secret


class RdsIssuer(PresignedIssuer):
    """Tokens signed for the real endpoint, which a CNAME is not."""

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """See PresignedIssuer."""
        facts, user = database.facts, request.db_user
        grant = (
            f"MySQL user {user} is not created IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'"
            if facts.protocol is Protocol.MYSQL
            else f'the user lacks GRANT rds_iam TO "{user}"'
        )
        enabled = "IAM authentication is not enabled on the instance or cluster"
        if facts.product is Product.RDSPROXY:
            # Both ways a proxy can be set up: secrets it logs in with itself, or IAM from end to end.
            grant = f"the proxy has no Secrets Manager secret for user {user} (unless its authentication scheme is IAM)"
            enabled = 'IAM authentication is not "required" in the proxy\'s settings'
        statement = rds_connect(place_of(database, session), _resource_id(database), user)
        return (
            f"(1) {grant}; (2) {session.arn} lacks {compact(statement)}; (3) {enabled}; (4) {facts.endpoint} is not"
            f" the endpoint that AWS shows (a CNAME does not do), or region {facts.region} is not its region"
        )

    def _audience(self, database: RegisteredDatabase) -> tuple[str, ...]:
        endpoint = database.facts.endpoint
        return (endpoint.host, str(endpoint.port))

    def _password(self, signer: Signer, database: RegisteredDatabase, db_user: str, at: datetime) -> Secret:
        endpoint = database.facts.endpoint
        return rds_token(
            signer,
            self._keys,
            host=endpoint.host,
            port=endpoint.port,
            db_user=db_user,
            region=database.facts.region,
            at=at,
        )


def _resource_id(database: RegisteredDatabase) -> str:
    known = database.resource_ids.get("rds.resource_id", "")
    if known:
        return known
    return "<prx- id>" if database.facts.product is Product.RDSPROXY else "<db- or cluster- resource id>"
