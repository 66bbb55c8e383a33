"""`tollbridge iam`: the policies that AWS needs, generated from what is registered. Offline: AWS is never asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from broker.ctl.failure import Failure, file_problems, tell_problems
from broker.ctl.output import output_option, show, table
from broker.model import Origin, RegisteredDatabase
from broker.policies.catalog import NEEDS, Purpose
from broker.policies.documents import (
    ALL_PURPOSES,
    BROKER_PLACEHOLDER,
    EXTERNAL_ID_PLACEHOLDER,
    Audience,
    Document,
    all_products,
    boundary,
    identity,
    make,
    trust,
    wildcard,
)
from broker.policies.plan import Found, Inventory, Wishes, plan
from broker.policies.render import FORMATS, render
from broker.policies.sizes import MAX_ATTACHED, Attach, TooLarge
from broker.policies.statements import Statement
from broker.policies.targets import ACCOUNT_PLACEHOLDER, target
from broker.registry.arns import is_account_id, parse_role_arn
from broker.settings import Settings, derive, load
from tollbridge.model import Product

_EXAMPLES: Final = """
\b
Examples:
  # What a role in a database's account needs for RDS and ElastiCache
  tollbridge iam print --for role --types rds,elasticache
\b
  # Everything that a broker's configuration needs, as Terraform
  tollbridge iam print --config broker.yaml -o terraform
\b
  # The trust policy of the role that the broker assumes
  tollbridge iam print --for trust --principal arn:aws:iam::123456789012:role/broker --external-id ID
"""


@click.group()
def iam() -> None:
    """IAM policies: printed from what is registered, never guessed. Works offline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the command line of `iam print` says."""

    audiences: tuple[Audience, ...]
    products: tuple[Product, ...]
    names: tuple[str, ...]
    roles: tuple[str, ...]
    user_roles: tuple[str, ...]
    account: str
    principal: str
    external_id: str
    purposes: frozenset[Purpose]
    wildcards: bool
    discovery: bool
    attach: Attach


def _types(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Product, ...]:
    """`rds,elasticache`, or the flag several times; `all` for every product."""
    found: dict[Product, None] = {}
    for name in (part.strip() for value in values for part in value.split(",")):
        if name == "all":
            found.update(dict.fromkeys(all_products()))
        elif name in set(Product):
            found[Product(name)] = None
        else:
            raise click.BadParameter(f"{name!r} is none of {', '.join(all_products())}, all")
    return tuple(found)


def _role(_context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            parse_role_arn(value.replace("*", "x").replace("?", "x"))
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is no role ARN: {error}; such as {_ROLE}") from error
    return values


def _principal(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value and not value.startswith("arn:"):
        raise click.BadParameter(f"{value!r} is no ARN; such as arn:aws:iam::123456789012:role/tollbridge-broker")
    return value


def _account(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value and not is_account_id(value):
        raise click.BadParameter(f"{value!r} is no account ID: 12 digits")
    return value


_ROLE: Final = "arn:aws:iam::222222222222:role/example-role"


@iam.command("print", epilog=_EXAMPLES)
@click.option("-c", "--config", type=click.Path(path_type=Path), help="The broker's YAML: everything it needs.")
@click.option(
    "--for", "audiences", multiple=True, type=click.Choice([str(a) for a in Audience]),
    help="identity: the broker's own. role: one that it assumes. trust: that role's trust policy. boundary: that role's"
    " permissions boundary.  [default: role; with --config all four]",
)  # fmt: skip
@click.option(
    "--types", "products", multiple=True, callback=_types, metavar="TYPE,...", help="Products, such as rds,redshift."
)
@click.option("--database", "names", multiple=True, metavar="NAME", help="With --config: these databases alone.")
@click.option("--role", "roles", multiple=True, callback=_role, metavar="ARN", help="The role that is assumed.")
@click.option(
    "--user-role", "user_roles", multiple=True, callback=_role, metavar="ARN", help="A role that is a database user."
)
@click.option("--account", default="", callback=_account, metavar="ID", help="The databases' account.")
@click.option("--principal", default="", callback=_principal, metavar="ARN", help="The broker's own identity.")
@click.option("--external-id", default="", metavar="ID", help="What callers of the role must send.")
@click.option(
    "--only", "purposes", multiple=True, type=click.Choice([str(p) for p in Purpose]), help="Statements for this alone."
)
@click.option("--discovery", is_flag=True, help="With --types: also what discovery calls beside the page's statements.")
@click.option(
    "--scope", type=click.Choice(["registered", "wildcard"]), default="registered", show_default=True,
    help="With --config: the registered databases and the users that rules let in, or all the account has.",
)  # fmt: skip
@click.option(
    "--attach", type=click.Choice([str(a) for a in Attach]), default=str(Attach.MANAGED), show_default=True,
    help="Decides how large a policy may be.",
)  # fmt: skip
@click.option("-o", "--output", "form", type=click.Choice(FORMATS), default="json", show_default=True)
def print_(
    config: Path | None, audiences: tuple[str, ...], products: tuple[Product, ...], names: tuple[str, ...],
    roles: tuple[str, ...], user_roles: tuple[str, ...], account: str, principal: str, external_id: str,
    purposes: tuple[str, ...], discovery: bool, scope: str, attach: str, form: str,
) -> None:  # fmt: skip
    """Print IAM policies.

    With --config, for every role, identity and database of a broker's configuration, as narrow as it can be: the
    registered databases, and the users that its rules let in. Without, for whole products with wildcards.

    One policy is printed as it stands; several as a JSON list of {for, attach_to, name, policy}. A policy over IAM's
    limit is split. What is left for you to fill in is said on standard error.
    """
    flags = Flags(
        audiences=tuple(Audience(name) for name in audiences),
        products=products,
        names=names,
        roles=roles,
        user_roles=user_roles,
        account=account,
        principal=principal or BROKER_PLACEHOLDER,
        external_id=external_id,
        purposes=frozenset(Purpose(name) for name in purposes) or ALL_PURPOSES,
        wildcards=scope == "wildcard",
        discovery=discovery,
        attach=Attach(attach),
    )
    try:
        documents = _of_config(config, flags) if config else _of_types(flags)
    except TooLarge as error:
        raise Failure(str(error)) from error
    if not documents:
        raise Failure(
            "nothing needs a policy of that kind", fix="leave --for, --only or --database out, or correct them"
        )
    text = render(documents, form)
    click.echo(text, nl=False)
    _notes(documents, text, form)


def _of_types(flags: Flags) -> list[Document]:
    """Without a configuration: whole products, with wildcards."""
    if flags.names:
        raise Failure("--database needs --config", fix="name the broker's YAML, where it is registered")
    if len(flags.roles) > 1 and flags.audiences != (Audience.IDENTITY,):
        raise Failure("several --role are for `--for identity` alone", fix="run the command once for each role")
    role = flags.roles[0] if flags.roles else ""
    user_roles = flags.user_roles
    if flags.account and not user_roles:
        user_roles = (f"arn:aws:iam::{flags.account}:role/DatabaseUserRole",)
    found: list[Document] = []
    for audience in flags.audiences or (Audience.ROLE,):
        statements: list[Statement]
        if audience is Audience.IDENTITY:
            if not flags.roles:
                raise Failure("`--for identity` needs the roles to assume", fix=f"--role {_ROLE}, or --config FILE")
            statements = identity(flags.roles)
        elif audience is Audience.TRUST:
            statements = trust([flags.principal], external_id=flags.external_id)
        else:
            if not flags.products:
                raise Failure(
                    f"`--for {audience}` needs to know for what",
                    fix="--types rds (or another of " + ", ".join(all_products()) + ", all), or --config FILE",
                )
            statements = wildcard(
                flags.products, purposes=flags.purposes, user_roles=user_roles, discovery=flags.discovery
            )
            if audience is Audience.BOUNDARY:
                statements = boundary(statements)
        found += make(audience, flags.principal if audience is Audience.IDENTITY else role, statements, flags.attach)
    return found


def _of_config(path: Path, flags: Flags) -> list[Document]:
    with file_problems(path):
        loaded = load(path)
    tell_problems(path, [w for w in loaded.warnings if "listeners" not in w.path], "warning")
    inventory = _inventory(loaded.value, flags)
    wishes = Wishes(
        purposes=flags.purposes,
        wildcards=flags.wildcards,
        attach=flags.attach,
        principal=flags.principal,
        external_id=lambda _role: flags.external_id or EXTERNAL_ID_PLACEHOLDER,
    )
    return plan(inventory, flags.audiences or tuple(Audience), wishes)


def _inventory(settings: Settings, flags: Flags) -> Inventory:
    derived = derive(settings)
    databases = [each for each in derived.databases if _wanted(each, flags)]
    for name in flags.names:
        if all(each.name != name for each in derived.databases):
            known = ", ".join(each.name for each in derived.databases) or "none"
            raise Failure(f"the configuration registers no database {name!r}", fix=f"it has: {known}")
    narrowed = bool(flags.names)
    matchers = [
        Found(
            role_arn=matcher.assume_role_arn,
            products=tuple(Product(kind) for kind in matcher.types if kind in set(Product)),
            external_id=bool(matcher.external_id),
        )
        for matcher in settings.db_service.aws
    ]
    if narrowed:
        matchers = []
    matchers = [each for each in matchers if _role_wanted(each.role_arn, flags)]
    if flags.products:
        matchers = [each for each in matchers if set(each.products) & set(flags.products)]
    linked = {
        arn: bool(link.external_id)
        for link in derived.links.all
        for arn in sorted(link.role_arns)
        if not narrowed and _role_wanted(arn, flags) and link.origins - {Origin.STATIC}
    }
    return Inventory(targets=[target(each, derived.policy) for each in databases], matchers=matchers, linked=linked)


def _wanted(database: RegisteredDatabase, flags: Flags) -> bool:
    return (
        (not flags.names or database.name in flags.names)
        and (not flags.products or database.facts.product in flags.products)
        and _role_wanted(database.access.role_arn, flags)
    )


def _role_wanted(role_arn: str, flags: Flags) -> bool:
    return not flags.roles or role_arn in flags.roles


def _notes(documents: Sequence[Document], text: str, form: str) -> None:
    """What is left to do, on standard error."""
    accounts = sorted({each.attach_to.split(":")[4] for each in documents if each.attach_to.count(":") >= 5})
    if form != "json" and len(accounts) > 1:
        message = f"note: these belong to accounts {', '.join(accounts)}, and a stack or provider is for one"
        click.echo(f"{message}: --role and --for print a part", err=True)
    for placeholder, what in (
        (ACCOUNT_PLACEHOLDER, "the account ID (--account, --principal)"),
        ("role/DatabaseUserRole", "the role that is the database user (--user-role)"),
        (EXTERNAL_ID_PLACEHOLDER, "the external ID, which is not shown here (--external-id)"),
    ):
        if placeholder in text and not (placeholder.startswith("role/") and ACCOUNT_PLACEHOLDER not in text):
            click.echo(f"note: replace {placeholder} by {what}", err=True)
    by_owner: dict[tuple[Audience, str], int] = {}
    for document in documents:
        key = (document.audience, document.attach_to)
        by_owner[key] = by_owner.get(key, 0) + 1
    for (audience, owner), count in by_owner.items():
        if count > 1:
            message = f"note: the policy for {owner or audience} is over IAM's limit and was split into {count}"
            if count > MAX_ATTACHED:
                message += (
                    f"; AWS attaches {MAX_ATTACHED} to one identity by default, or 20 on request: --scope wildcard"
                )
            click.echo(message, err=True)


@iam.command("table", short_help="Say what each statement enables.")
@click.option(
    "--types", "products", multiple=True, callback=_types, metavar="TYPE,...", help="Products.  [default: all]"
)
@output_option
def table_(products: tuple[Product, ...], form: str) -> None:
    """Say what each statement of a role's policy enables: what stops when it is taken away."""
    rows = [
        (str(product), need.sid, str(need.purpose), ", ".join(need.actions), need.enables)
        for product in products or tuple(NEEDS)
        for need in NEEDS[product]
    ]
    headers = ("TYPE", "STATEMENT", "FOR", "ACTIONS", "ENABLES")
    value = [dict(zip((h.lower() for h in headers), row, strict=True)) for row in rows]
    show(value, form, lambda: table(headers, rows))
