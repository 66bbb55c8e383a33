"""DynamoDB, OpenSearch, OpenSearch Serverless and Keyspaces: a derived SigV4 key of the db_user's role.

It signs for one service and one region on the days it names, and with the session token only: whoever holds it can do
what the role may do there until the session ends, and can compute neither the secret key nor a key for anything else.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from broker.issuers.presigned import signer_of
from broker.issuers.roles import RoleIssuer
from broker.model import AccountSession, GrantRequest, RegisteredDatabase
from broker.policies.narrow import own_resources
from broker.policies.statements import compact
from tollbridge.model import Product, SigningKey
from tollbridge.secret import Secret

MARGIN: Final = timedelta(minutes=15)
"""How far a signer's corrected clock may be from ours around midnight: the most AWS itself bears."""

SERVICES: Final = {
    Product.DYNAMODB: "dynamodb",
    Product.OPENSEARCH: "es",
    Product.OPENSEARCH_SERVERLESS: "aoss",
    Product.KEYSPACES: "cassandra",
}
"""SigV4's names for them."""


class SigningKeyIssuer(RoleIssuer):
    """Derives; AWS is asked for nothing but the session."""

    def _credential(
        self, database: RegisteredDatabase, session: AccountSession, now: datetime, until: datetime
    ) -> SigningKey:
        service, region, signer = SERVICES[database.facts.product], database.facts.region, signer_of(session)
        return SigningKey(
            access_key_id=session.access_key_id,
            session_token=session.session_token,
            region=region,
            service=service,
            keys={
                date: Secret(self._keys.get(signer, date=date, region=region, service=service).hex())
                for date in dates(now - MARGIN, until + MARGIN)
            },
        )

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """See RoleIssuer."""
        facts = database.facts
        statement = compact(*own_resources(facts, database.access.partition, facts.account_id or session.account_id))
        causes = [f"{session.arn} lacks a statement such as {statement}"]
        if facts.product is Product.OPENSEARCH:
            causes.append("the domain's access policy, or its fine-grained access control, does not name the role")
        elif facts.product is Product.OPENSEARCH_SERVERLESS:
            causes.append("no data access policy of the collection names the role")
        causes += [
            f"{facts.endpoint} is not in region {facts.region}",
            "the clock of the proxy is more than five minutes off",
        ]
        return "; ".join(f"({number}) {cause}" for number, cause in enumerate(causes, 1))


def dates(first: datetime, last: datetime) -> list[str]:
    """Every UTC date (YYYYMMDD) from one instant to another."""
    day, end = first.astimezone(UTC).date(), last.astimezone(UTC).date()
    found = []
    while day <= end:
        found.append(day.strftime("%Y%m%d"))
        day += timedelta(days=1)
    return found
