"""Which policies a whole configuration needs: for the broker's identity and for every role it names. PURE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.policies.catalog import Purpose
from broker.policies.documents import (
    ALL_PURPOSES,
    BROKER_PLACEHOLDER,
    EXTERNAL_ID_PLACEHOLDER,
    Audience,
    Document,
    boundary,
    identity,
    make,
    scoped,
    trust,
    wildcard,
)
from broker.policies.sizes import Attach
from broker.policies.statements import Statement
from broker.policies.targets import Target
from tollbridge.model import Product


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a discovery matcher may find with a role: databases nobody can name yet."""

    role_arn: str
    """Empty: the broker's own identity."""
    products: tuple[Product, ...]
    external_id: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a configuration names."""

    targets: Sequence[Target] = ()
    matchers: Sequence[Found] = ()
    linked: Mapping[str, bool] = field(default_factory=dict)
    """Roles of account links, and whether each has an external ID."""

    def of(self, role_arn: str) -> list[Target]:
        """The databases that are reached through a role; of the empty one, with the broker's own identity."""
        return [target for target in self.targets if target.role_arn == role_arn]

    def roles(self) -> list[str]:
        """Every role that some database or matcher goes through."""
        named = [
            *(target.role_arn for target in self.targets),
            *(matcher.role_arn for matcher in self.matchers),
        ]
        return [role for role in dict.fromkeys(named) if role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How the policies are to be."""

    purposes: frozenset[Purpose] = ALL_PURPOSES
    wildcards: bool = False
    """For whatever the account has, rather than for the databases that are registered."""
    attach: Attach = Attach.MANAGED
    principal: str = BROKER_PLACEHOLDER
    """The broker's own identity."""
    external_id: Callable[[str], str] = lambda _role_arn: EXTERNAL_ID_PLACEHOLDER
    """By role, where one is set."""


def plan(inventory: Inventory, audiences: Iterable[Audience], wishes: Wishes) -> list[Document]:
    """The documents, those of one audience together. Raises TooLarge."""
    makers = {
        Audience.IDENTITY: _identity,
        Audience.ROLE: _roles,
        Audience.TRUST: _trusts,
        Audience.BOUNDARY: _boundaries,
    }
    return [document for audience in audiences for document in makers[audience](inventory, wishes)]


def _identity(inventory: Inventory, wishes: Wishes) -> list[Document]:
    own = inventory.of("")
    first_hops = [*inventory.roles(), *inventory.linked]
    tagged = [
        role
        for role in inventory.roles()
        if any(target.tagged and not target.user_roles for target in inventory.of(role))
    ]
    statements = identity(first_hops, tagged=tagged)
    statements += _permissions(own, [m for m in inventory.matchers if not m.role_arn], wishes)
    attach_to = "" if wishes.principal == BROKER_PLACEHOLDER else wishes.principal
    return make(Audience.IDENTITY, attach_to, statements, wishes.attach)


def _roles(inventory: Inventory, wishes: Wishes) -> list[Document]:
    found = []
    for role in inventory.roles():
        statements = _permissions(inventory.of(role), [m for m in inventory.matchers if m.role_arn == role], wishes)
        found += make(Audience.ROLE, role, statements, wishes.attach)
    return found


def _trusts(inventory: Inventory, wishes: Wishes) -> list[Document]:
    found = []
    for role in inventory.roles():
        external = _has_external_id(inventory, role)
        tagged = any(target.tagged and not target.user_roles for target in inventory.of(role))
        statements = trust([wishes.principal], external_id=wishes.external_id(role) if external else "", tagged=tagged)
        found += make(Audience.TRUST, role, statements, wishes.attach)
    for user_role, through in _user_roles(inventory).items():
        principals = [target.role_arn or wishes.principal for target in through]
        external = any(target.external_id and not target.role_arn for target in through)
        statements = trust(
            list(dict.fromkeys(principals)),
            external_id=wishes.external_id(user_role) if external else "",
            tagged=any(target.tagged for target in through),
        )
        found += make(Audience.TRUST, user_role, statements, wishes.attach)
    return found


def _boundaries(inventory: Inventory, wishes: Wishes) -> list[Document]:
    found = []
    for role in inventory.roles():
        statements = _permissions(inventory.of(role), [m for m in inventory.matchers if m.role_arn == role], wishes)
        found += make(Audience.BOUNDARY, role, boundary(statements), wishes.attach)
    return found


def _permissions(targets: Sequence[Target], matchers: Sequence[Found], wishes: Wishes) -> list[Statement]:
    """Wildcards replace the narrow statements of the same name."""
    roles = list(dict.fromkeys(role for target in targets for role in target.user_roles))
    wide = [product for matcher in matchers for product in matcher.products]
    if wishes.wildcards:
        wide = [*(target.product for target in targets), *wide]
    statements = wildcard(wide, purposes=wishes.purposes, user_roles=roles, discovery=bool(matchers))
    names = {statement["Sid"] for statement in statements}
    narrow = [statement for statement in scoped(targets, purposes=wishes.purposes) if statement["Sid"] not in names]
    return [*statements, *narrow]


def _has_external_id(inventory: Inventory, role: str) -> bool:
    return (
        inventory.linked.get(role, False)
        or any(target.external_id for target in inventory.of(role))
        or any(matcher.external_id for matcher in inventory.matchers if matcher.role_arn == role)
    )


def _user_roles(inventory: Inventory) -> dict[str, list[Target]]:
    """Roles that are database users and stand for themselves, and the databases they are users of."""
    found: dict[str, list[Target]] = {}
    for target in inventory.targets:
        for role in target.user_roles:
            if "*" not in role and "?" not in role:
                found.setdefault(role, []).append(target)
    return found
