"""A session policy that leaves a role only what one database needs. PURE.

What a session may do is what the role's policies AND the session policy allow, so this can take away and never give.
https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session
"""

from __future__ import annotations

import json
from typing import Final

from broker.policies.statements import Place, Statement, allow
from tollbridge.model import Database, Product

POLICY_MAX: Final = 2048
"""STS: characters of an inline session policy. The longest of these has half of it: a test says so."""

NARROWED: Final = frozenset({Product.DYNAMODB, Product.OPENSEARCH, Product.OPENSEARCH_SERVERLESS, Product.KEYSPACES})
"""Products whose sessions can be narrowed."""

_NO_RESOURCE: Final = (
    "dynamodb:DescribeEndpoints",
    "dynamodb:DescribeLimits",
    "dynamodb:ListBackups",
    "dynamodb:ListContributorInsights",
    "dynamodb:ListExports",
    "dynamodb:ListGlobalTables",
    "dynamodb:ListImports",
    "dynamodb:ListStreams",
    "dynamodb:ListTables",
)
"""Actions that know no resource but `*`.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html
"""


def own_resources(database: Database, partition: str, account_id: str) -> tuple[Statement, ...]:
    """What the data plane of a signed product asks for, on this database's own resources. Empty for other products."""
    place = Place(partition=partition, region=database.region, account_id=account_id)
    label = database.endpoint.host.partition(".")[0]
    match database.product:
        case Product.DYNAMODB:
            unscoped = allow(list(_NO_RESOURCE), "*")
            unscoped["Condition"] = {"StringEquals": {"aws:RequestedRegion": database.region}}
            return (allow("dynamodb:*", place.arn("dynamodb", "*")), unscoped)
        case Product.OPENSEARCH:
            return (allow("es:ESHttp*", place.arn("es", f"domain/{_domain(label)}/*")),)
        case Product.OPENSEARCH_SERVERLESS:
            return (allow("aoss:APIAccessAll", place.arn("aoss", f"collection/{label}")),)
        case Product.KEYSPACES:
            return (allow(["cassandra:*"], place.arn("cassandra", "/keyspace/*")),)
    return ()


def session_policy(database: Database, partition: str) -> str:
    """The document, on one line; empty where there is nothing to narrow."""
    statements = own_resources(database, partition, database.account_id or "*")
    if not statements:
        return ""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, separators=(",", ":"))


def _domain(label: str) -> str:
    """A domain's name, where its endpoint shows it: search-NAME-ID or vpc-NAME-ID."""
    kind, _, rest = label.partition("-")
    name, _, suffix = rest.rpartition("-")
    return name if kind in ("search", "vpc") and name and suffix else "*"
