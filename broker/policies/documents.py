"""The IAM policies of the broker's identity and of the roles it assumes. PURE.

identity   attached to the broker's own user or role: which roles it may assume
role       attached to a role in a database's account: what the broker may do there
trust      the trust policy of such a role: who may assume it, with which external ID
boundary   a permissions boundary for such a role: the most it may ever do
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from broker.policies import sizes
from broker.policies.catalog import NEEDS, Grain, Need, Purpose, all_needs_of, needs_of
from broker.policies.sizes import LIMITS, TRUST_LIMIT, Attach, TooLarge
from broker.policies.statements import Statement
from broker.policies.targets import ACCOUNT_PLACEHOLDER, ROLE_PLACEHOLDER, Target, resources
from tollbridge.model import Product

ALL_PURPOSES: Final = frozenset(Purpose)
BROKER_PLACEHOLDER: Final = f"arn:aws:iam::{ACCOUNT_PLACEHOLDER}:role/tollbridge-broker"
EXTERNAL_ID_PLACEHOLDER: Final = "<external_id>"
USER_ROLE_PLACEHOLDER: Final = f"arn:aws:iam::{ACCOUNT_PLACEHOLDER}:role/{ROLE_PLACEHOLDER}"
_MAX_NAME: Final = 128


class Audience(StrEnum):
    """Whom a policy is for."""

    IDENTITY = "identity"
    ROLE = "role"
    TRUST = "trust"
    BOUNDARY = "boundary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One policy, ready to be attached."""

    audience: Audience
    attach_to: str
    """ARN of the role, or what stands for the broker's own identity; empty: whichever role is meant."""
    name: str
    statements: tuple[Statement, ...]

    @property
    def policy(self) -> dict[str, object]:
        """As IAM takes it."""
        return sizes.document(self.statements)

    @property
    def characters(self) -> int:
        """As IAM counts them."""
        return sizes.size(self.statements)

    @property
    def limit(self) -> int:
        """How many it may have, as a managed policy or a trust policy."""
        return TRUST_LIMIT if self.audience is Audience.TRUST else LIMITS[Attach.MANAGED]


def identity(roles: Iterable[str], *, tagged: Iterable[str] = ()) -> list[Statement]:
    """What the broker's identity needs to assume roles; sessions of the `tagged` ones carry tags."""
    statements: list[Statement] = []
    if arns := list(dict.fromkeys(roles)):
        statements.append({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": _one_or_many(arns)})
    if arns := list(dict.fromkeys(tagged)):
        statements.append({"Effect": "Allow", "Action": "sts:TagSession", "Resource": _one_or_many(arns)})
    return statements


def trust(principals: Sequence[str], *, external_id: str = "", tagged: bool = False) -> list[Statement]:
    """Who may assume a role; with an external ID only callers that send it.

    Tags are a statement of their own, so that one who may assume need not be one who may tag.
    """
    who = {"AWS": _one_or_many(list(principals))}
    statement: Statement = {"Sid": "Statement1", "Effect": "Allow", "Principal": who, "Action": "sts:AssumeRole"}
    if external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    if not tagged:
        return [statement]
    return [statement, {"Sid": "SessionTagging", "Effect": "Allow", "Principal": who, "Action": "sts:TagSession"}]


def wildcard(
    products: Iterable[Product],
    *,
    purposes: frozenset[Purpose] = ALL_PURPOSES,
    user_roles: Sequence[str] = (),
    discovery: bool = False,
) -> list[Statement]:
    """What a role needs for every database of these products that its account has: the page's own policies.

    `discovery`: and what discovery calls beside, which reads more than the page's statements let it.
    """
    roles = list(user_roles) or [USER_ROLE_PLACEHOLDER]
    return [
        _statement(need, roles if need.grain is Grain.USER_ROLES else ["*"])
        for product in dict.fromkeys(products)
        for need in needs_of(product, purposes, discovery=discovery)
    ]


def scoped(targets: Sequence[Target], *, purposes: frozenset[Purpose] = ALL_PURPOSES) -> list[Statement]:
    """What a role needs for these databases and the users that rules let in, and nothing beside."""
    statements: list[Statement] = []
    for product in dict.fromkeys(each.product for each in targets):
        these = [each for each in targets if each.product is product]
        needs = all_needs_of(product, purposes)
        statements += [_statement(need, arns) for need in needs if (arns := _narrowed(need, these))]
    return statements


def boundary(statements: Iterable[Statement]) -> list[Statement]:
    """The most a role with these statements may do: their actions, on roles as named and on anything else.

    A role has one permissions boundary, so it is kept short: what may be assumed is the part that leads elsewhere.
    """
    actions: dict[str, None] = {}
    roles: dict[str, None] = {}
    tags = False
    for statement in statements:
        for action in _listed(statement["Action"]):
            if action == "sts:AssumeRole":
                roles.update(dict.fromkeys(_listed(statement["Resource"])))
            elif action == "sts:TagSession":
                tags = True
            else:
                actions[action] = None
    bounds: list[Statement] = []
    if actions:
        bounds.append({"Sid": "Databases", "Effect": "Allow", "Action": list(actions), "Resource": "*"})
    if roles:
        assume = ["sts:AssumeRole", "sts:TagSession"] if tags else "sts:AssumeRole"
        bounds.append({"Sid": "UserRoles", "Effect": "Allow", "Action": assume, "Resource": list(roles)})
    return bounds


def make(audience: Audience, attach_to: str, statements: Sequence[Statement], attach: Attach) -> list[Document]:
    """The policies of one identity, as many as IAM's limits ask for. None for no statements. Raises TooLarge."""
    if not statements:
        return []
    name = policy_name(audience, attach_to)
    if audience in (Audience.TRUST, Audience.BOUNDARY):
        made = Document(audience=audience, attach_to=attach_to, name=name, statements=tuple(statements))
        if made.characters > made.limit:
            raise TooLarge(
                f"the {audience} policy of {attach_to or 'the role'} has {made.characters} characters, IAM takes"
                f" {made.limit}, and a role has only one: name fewer principals or roles, or wildcards"
            )
        return [made]
    parts = sizes.fit(statements, attach)
    return [
        Document(
            audience=audience,
            attach_to=attach_to,
            name=name if len(parts) == 1 else f"{name}-{number}",
            statements=tuple(part),
        )
        for number, part in enumerate(parts, 1)
    ]


def policy_name(audience: Audience, attach_to: str) -> str:
    """Such as tollbridge-example-role, ...-Boundary."""
    owner = re.sub(r"[^\w+=,.@-]", "-", attach_to.rsplit("/", 1)[-1], flags=re.ASCII).strip("-")
    if audience is Audience.IDENTITY:
        return "tollbridge-assume-roles"
    suffix = {Audience.BOUNDARY: "-Boundary", Audience.TRUST: "-trust"}.get(audience, "")
    return f"tollbridge-{owner or 'databases'}"[: _MAX_NAME - len(suffix) - 4] + suffix


def all_products() -> tuple[Product, ...]:
    """Products there are statements for."""
    return tuple(NEEDS)


def _narrowed(need: Need, targets: Sequence[Target]) -> list[str]:
    if need.purpose is Purpose.TAGS:
        # Tagging has no resource but the session's role; it is needed where tags are set.
        tagged = [role for each in targets if each.tagged for role in each.user_roles]
        return list(dict.fromkeys(tagged))
    if need.grain is Grain.DSQL_CLUSTERS:
        admin = need.actions == ("dsql:DbConnectAdmin",)
        targets = [each for each in targets if _enters_as(each, admin=admin)]
    return list(dict.fromkeys(arn for each in targets for arn in resources(need.grain, each)))


def _enters_as(each: Target, *, admin: bool) -> bool:
    if admin:
        return any(user in ("admin", "*") for user in each.db_users)
    return any(user != "admin" for user in each.db_users)


def _statement(need: Need, arns: Sequence[str]) -> Statement:
    return {
        "Sid": need.sid,
        "Effect": "Allow",
        "Action": _one_or_many(list(need.actions)),
        "Resource": "*" if list(arns) == ["*"] else list(arns),
    }


def _one_or_many(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values


def _listed(value: object) -> Sequence[str]:
    if isinstance(value, Mapping) or not isinstance(value, str | Sequence):
        raise TypeError("a statement of ours has texts or lists of them")
    return [value] if isinstance(value, str) else value
