"""Why a server may refuse a credential that was just issued, by what kind of server it is. PURE.

No server says why: what is listed are the causes that its product has, each with its fix. The product is not part of a
grant; the endpoint's name and the user tell it, since AWS chooses both.
"""

from __future__ import annotations

import re
from typing import Final

from tollbridge.model import Endpoint

_REDSHIFT_USER: Final = re.compile(r"IAM[AR]?:")
"""What Redshift's API puts before the users it returns; no PostgreSQL user of RDS has it."""


def likely_causes(user: str, endpoint: Endpoint) -> str:
    """One sentence: the product, and its causes with their fixes."""
    host = endpoint.host
    if _REDSHIFT_USER.match(user) or ".redshift." in host or ".redshift-serverless." in host:
        return _redshift(user)
    if ".dsql." in host:
        return _dsql(user)
    if ".proxy-" in host:
        return _rds_proxy(user)
    return _rds(user)


def _rds(user: str) -> str:
    return (
        "On RDS and Aurora PostgreSQL the likely causes are: "
        f"the user lacks the role (GRANT rds_iam TO {_quoted(user)}); "
        f"the assumed role's policy lacks rds-db:connect on arn:aws:rds-db:REGION:ACCOUNT:dbuser:RESOURCE-ID/{user}; "
        "IAM database authentication is disabled on the instance; "
        "the token was signed for another host than this server's own endpoint (a CNAME is registered)"
    )


def _rds_proxy(user: str) -> str:
    return (
        "On RDS Proxy the likely causes are: "
        f"the proxy has no secret for user {user!r}, or its authentication does not have IAM required; "
        f"the assumed role's policy lacks rds-db:connect on arn:aws:rds-db:REGION:ACCOUNT:dbuser:prx-ID/{user}; "
        "the proxy's own login to its database fails (its target is unhealthy)"
    )


def _redshift(user: str) -> str:
    name = _REDSHIFT_USER.sub("", user, count=1)
    return (
        "On Redshift the likely causes are: "
        f"the user does not exist, which the API does not tell (CREATE USER {_quoted(name)} PASSWORD DISABLE); "
        "the password was issued for another cluster or workgroup than this endpoint's; "
        "it has expired since: check the clocks; the user's VALID UNTIL has passed"
    )


def _dsql(user: str) -> str:
    action = "dsql:DbConnectAdmin" if user == "admin" else "dsql:DbConnect"
    return (
        "On Aurora DSQL the likely causes are: "
        f"the assumed role is not mapped to the database role (AWS IAM GRANT {_quoted(user)} TO 'ROLE-ARN'); "
        f"the assumed role's policy lacks {action} on the cluster's ARN; "
        "the token was signed for another cluster's endpoint"
    )


def _quoted(user: str) -> str:
    return '"' + user.replace('"', '""') + '"'
