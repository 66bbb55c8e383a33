"""What policies are written for: products anywhere, or registered databases and who may enter them. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from broker.access.globs import selects
from broker.access.model import Policy
from broker.model import Attribution, RegisteredDatabase
from broker.policies.catalog import Grain
from broker.policies.statements import Place
from broker.registry.arns import partition_of_region
from broker.registry.products import IDENTIFIERS
from broker.registry.roles import is_role
from tollbridge.model import Product

ACCOUNT_PLACEHOLDER: Final = "aws-account-id"
ROLE_PLACEHOLDER: Final = "DatabaseUserRole"
"""The page's own placeholders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One database as policies see it."""

    name: str
    product: Product
    place: Place
    resource: str
    """What its product's ARNs call it; `*` where that is not known."""
    db_users: tuple[str, ...] = ("*",)
    """Database users, as IAM patterns."""
    db_names: tuple[str, ...] = ("*",)
    db_groups: tuple[str, ...] = ()
    user_roles: tuple[str, ...] = ()
    """ARNs of the roles that are database users, as IAM patterns."""
    role_arn: str = ""
    """The role assumed first; empty: the broker's own identity does it."""
    tagged: bool = False
    """Sessions carry tags."""
    external_id: bool = False
    resource_ids: Mapping[str, str] = field(default_factory=dict, hash=False)


def target(database: RegisteredDatabase, policy: Policy) -> Target:
    """A registered database with the users that its rules let in."""
    facts, access = database.facts, database.access
    rules = [rule for rule in policy.rules if not rule.deny and selects(rule.db_labels, facts.labels)]
    wanted = _least(user for rule in rules for user in rule.db_users) or ("*",)
    place = Place(
        partition=access.partition or partition_of_region(facts.region) or "aws",
        region=facts.region or "*",
        account_id=facts.account_id or "*",
    )
    every_role = ("role/*",) if facts.product is Product.REDSHIFT and "*" in wanted else ()
    roles = [user for user in (*wanted, *every_role) if is_role(facts, user)]
    return Target(
        name=database.name,
        product=facts.product,
        place=place,
        resource=resource_name(database),
        db_users=tuple(_pattern(user) for user in wanted if user not in roles),
        db_names=_least(_pattern(name) for rule in rules for name in rule.db_names) or ("*",),
        db_groups=database.db_groups,
        user_roles=tuple(dict.fromkeys(_role_arn(place, user) for user in roles)),
        role_arn=access.role_arn,
        tagged=bool(access.session_tags) or database.attribution is Attribution.WORKLOAD,
        external_id=bool(access.external_id),
        resource_ids=database.resource_ids,
    )


def resources(grain: Grain, each: Target) -> tuple[str, ...]:
    """The ARNs of a statement about one database, as narrow as what is known of it; empty: it needs none."""
    place, name, users = each.place, each.resource, each.db_users
    match grain:
        case Grain.ANYTHING:
            return ("*",)
        case Grain.USER_ROLES:
            return each.user_roles
        case Grain.RDS_USERS:
            return tuple(place.arn("rds-db", f"dbuser:{name}/{user}") for user in users)
        case Grain.RDS_RESOURCES:
            return _rds_resources(each)
        case Grain.CACHE | Grain.SERVERLESS_CACHE:
            kind = "replicationgroup" if grain is Grain.CACHE else "serverlesscache"
            return (
                place.arn("elasticache", f"{kind}:{name}"),
                *(place.arn("elasticache", f"user:{user}") for user in users),
            )
        case Grain.MEMORYDB:
            return (
                place.arn("memorydb", f"cluster/{name}"),
                *(place.arn("memorydb", f"user/{user}") for user in users),
            )
        case Grain.REDSHIFT_USERS:
            if not users:
                return ()
            return (
                *(place.arn("redshift", f"dbuser:{name}/{user}") for user in users),
                *(place.arn("redshift", f"dbname:{name}/{db_name}") for db_name in each.db_names),
            )
        case Grain.REDSHIFT_GROUPS:
            return tuple(place.arn("redshift", f"dbgroup:{name}/{group}") for group in each.db_groups)
        case Grain.DSQL_CLUSTERS:
            return (place.arn("dsql", f"cluster/{name}"),)


def _rds_resources(each: Target) -> tuple[str, ...]:
    named = [
        each.place.arn("rds", f"{kind}:{identifier}")
        for kind, key in (("db", "rds.instance_id"), ("cluster", "rds.cluster_id"))
        if (identifier := each.resource_ids.get(key))
    ]
    return tuple(named) or (each.place.arn("rds", "cluster:*"), each.place.arn("rds", "db:*"))


def resource_name(database: RegisteredDatabase) -> str:
    """What ARNs of its product call a database; `*` where that is not known."""
    ids, product = database.resource_ids, database.facts.product
    if product in (Product.RDS, Product.RDSPROXY):
        return ids.get("rds.resource_id") or ids.get("rdsproxy.resource_id") or "*"
    if product is Product.DSQL:
        return ids.get("dsql.cluster_id") or "*"
    name = ids.get(IDENTIFIERS.get(product, ""), "") or "*"
    # In ARNs names of caches are as AWS keeps them.
    return name if product in (Product.REDSHIFT, Product.REDSHIFT_SERVERLESS) else name.lower()


def _role_arn(place: Place, user: str) -> str:
    if user.startswith("arn:"):
        return _pattern(user)
    account = ACCOUNT_PLACEHOLDER if place.account_id == "*" else place.account_id
    return f"arn:{place.partition}:iam::{account}:role/{_pattern(user.removeprefix('role/'))}"


def _least(patterns: Iterable[str]) -> tuple[str, ...]:
    """Without repetition; `*` alone where it is there."""
    found = tuple(dict.fromkeys(patterns))
    return ("*",) if "*" in found else found


def _pattern(glob: str) -> str:
    """A rule's glob as IAM reads it: `*` and `?` mean the same there, `${` would begin a variable."""
    return glob.replace("${", "${$}{")
