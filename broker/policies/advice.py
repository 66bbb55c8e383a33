"""Which statement a step of a login needs, and in whose policy: what doctor names when the step fails. PURE."""

from __future__ import annotations

import json

from broker.model import AccountSession, Hop, RegisteredDatabase
from broker.policies.narrow import own_resources
from broker.policies.statements import (
    Place,
    Statement,
    dsql_connect,
    elasticache_connect,
    memorydb_connect,
    principal_of,
    rds_connect,
    redshift_role,
    redshift_user,
)
from broker.policies.targets import resource_name
from broker.registry.roles import is_role
from tollbridge.model import Product
from tollbridge.reports import PolicyStatement

_EXTERNAL_ID = "<external_id>"


def assume_role(signer: AccountSession, hop: Hop, *, only_tags: bool = False) -> tuple[PolicyStatement, ...]:
    """What lets one identity assume a role: its own policy's statement, and the trust policy's."""
    principal = principal_of(signer.arn)
    actions = ["sts:TagSession"] if only_tags else ["sts:AssumeRole", *(["sts:TagSession"] if hop.tags else [])]
    action: str | list[str] = actions if len(actions) > 1 else actions[0]
    own: Statement = {"Effect": "Allow", "Action": action, "Resource": hop.role_arn}
    trusts: list[Statement] = []
    for each in actions:
        trust: Statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": each}
        if hop.external_id and each == "sts:AssumeRole":
            trust["Condition"] = {"StringEquals": {"sts:ExternalId": _EXTERNAL_ID}}
        trusts.append(trust)
    return (
        PolicyStatement(attach_to=principal, statement=_text(own)),
        *(PolicyStatement(attach_to=hop.role_arn, statement=_text(trust), trust=True) for trust in trusts),
    )


def login(
    database: RegisteredDatabase, db_user: str, db_name: str, session: AccountSession
) -> tuple[PolicyStatement, ...]:
    """What the identity behind a session needs, so that the database (or its service) lets it in as that user."""
    facts = database.facts
    place = Place(
        partition=database.access.partition, region=facts.region, account_id=facts.account_id or session.account_id
    )
    name = resource_name(database)
    statements: tuple[Statement, ...]
    match facts.product:
        case Product.RDS | Product.RDSPROXY:
            statements = (rds_connect(place, name, db_user),)
        case Product.ELASTICACHE | Product.ELASTICACHE_SERVERLESS:
            serverless = facts.product is Product.ELASTICACHE_SERVERLESS
            statements = (elasticache_connect(place, name, db_user, serverless=serverless),)
        case Product.MEMORYDB:
            statements = (memorydb_connect(place, name, db_user),)
        case Product.DSQL:
            statements = (dsql_connect(place, name, admin=db_user == "admin"),)
        case Product.REDSHIFT if is_role(facts, db_user):
            statements = (redshift_role(place, name, db_name),)
        case Product.REDSHIFT:
            statements = redshift_user(place, name, db_user, db_name, database.db_groups)
        case Product.REDSHIFT_SERVERLESS:
            # Its ARN holds an ID that no name shows.
            resource = place.arn("redshift-serverless", "workgroup/*")
            statements = ({"Effect": "Allow", "Action": "redshift-serverless:GetCredentials", "Resource": resource},)
        case _:
            statements = own_resources(facts, database.access.partition, place.account_id)
    owner = principal_of(session.arn)
    return tuple(PolicyStatement(attach_to=owner, statement=_text(statement)) for statement in statements)


def _text(statement: Statement) -> str:
    return json.dumps(statement, separators=(",", ":"))
