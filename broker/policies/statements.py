"""The permissions that logging in needs, with the ARNs of one database. PURE.

https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

Statement = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a resource is."""

    partition: str
    region: str
    account_id: str

    def arn(self, service: str, resource: str) -> str:
        """`arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account_id}:{resource}"


def allow(action: str | Sequence[str], resources: str | Sequence[str]) -> Statement:
    """A statement that allows an action (or several) on a resource (or several)."""
    return {"Effect": "Allow", "Action": action, "Resource": resources}


def compact(*statements: Statement) -> str:
    """On one line, as it stands in a policy."""
    return ",".join(json.dumps(statement, separators=(",", ":")) for statement in statements)


def rds_connect(place: Place, resource_id: str, db_user: str) -> Statement:
    """RDS, Aurora and RDS Proxy; `resource_id` is db-..., cluster-... or prx-..., not a name."""
    return allow("rds-db:connect", place.arn("rds-db", f"dbuser:{resource_id}/{db_user}"))


def elasticache_connect(place: Place, cache: str, user_id: str, *, serverless: bool) -> Statement:
    """ElastiCache asks for the permission on both the cache and the user."""
    kind = "serverlesscache" if serverless else "replicationgroup"
    resources = [place.arn("elasticache", f"{kind}:{cache}"), place.arn("elasticache", f"user:{user_id}")]
    return allow("elasticache:Connect", resources)


def memorydb_connect(place: Place, cluster: str, user_name: str) -> Statement:
    """MemoryDB likewise. Its ARNs have a slash where ElastiCache's have a colon.

    https://docs.aws.amazon.com/memorydb/latest/devguide/iam.resourcelevelpermissions.html
    """
    resources = [place.arn("memorydb", f"cluster/{cluster}"), place.arn("memorydb", f"user/{user_name}")]
    return allow("memorydb:Connect", resources)


def dsql_connect(place: Place, cluster_id: str, *, admin: bool) -> Statement:
    """Aurora DSQL: the user `admin` has an action of its own."""
    return allow("dsql:DbConnectAdmin" if admin else "dsql:DbConnect", place.arn("dsql", f"cluster/{cluster_id}"))


def redshift_user(
    place: Place, cluster: str, db_user: str, db_name: str, db_groups: Sequence[str]
) -> tuple[Statement, ...]:
    """Redshift as a database user: of the user and, when one is named, of the logical database."""
    resources = [
        place.arn("redshift", f"dbuser:{cluster}/{db_user}"),
        place.arn("redshift", f"dbname:{cluster}/{db_name or '*'}"),
    ]
    login = allow("redshift:GetClusterCredentials", resources)
    if not db_groups:
        return (login,)
    groups = [place.arn("redshift", f"dbgroup:{cluster}/{group}") for group in db_groups]
    return (login, allow("redshift:JoinGroup", groups))


def redshift_role(place: Place, cluster: str, db_name: str) -> Statement:
    """Redshift as an IAM role: a permission of that role."""
    return allow("redshift:GetClusterCredentialsWithIAM", place.arn("redshift", f"dbname:{cluster}/{db_name or '*'}"))


def redshift_workgroup(place: Place, workgroup: str) -> Statement:
    """Redshift Serverless: a permission of the role that is the user. The ARN holds the workgroup's ID, no name."""
    return allow(
        "redshift-serverless:GetCredentials", place.arn("redshift-serverless", f"workgroup/<ID of {workgroup}>")
    )


def principal_of(arn: str) -> str:
    """What a trust policy names for an identity: the role behind an assumed-role session, which has lost its path."""
    head, _, tail = arn.partition(":assumed-role/")
    if not tail:
        return arn
    return f"{head.replace(':sts:', ':iam:', 1)}:role/{tail.split('/')[0]}"
