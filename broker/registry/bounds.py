"""What only static configuration may say: the bounds of dynamic and discovered databases (confused deputy). PURE.

Whoever may register a database could otherwise have the broker sign for one database and show the credential to
another: through a role of somebody else, a host of his own, a certificate of his own, an identifier that is not the
host's, or labels that move rules. That a role must stand in an account link is judged where roles are
(`broker.registry.static`); the rest is here.

What the grammar cannot tell is two databases of one name in two accounts, where a credential is made for the name
(ElastiCache, MemoryDB, Redshift): that takes a question to AWS (`broker.discovery.inspector`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from broker.model import Attribution, Origin
from broker.registry.endpoints import AwsEndpoint
from broker.registry.products import IDENTIFIERS, ROLE_IS_USER
from broker.teleport import DatabaseCore
from tollbridge.model import Product
from tollbridge.process.settings import Finding
from tollbridge.process.yamltree import Where

ACCOUNT_LABEL: Final = "account-id"
REGION_LABEL: Final = "region"
"""Labels that say where a database is: rules select by them, so they must be true."""

REAL_ENDPOINT_HINT: Final = (
    "credentials are signed for the real endpoint: put that here, and a CNAME into the proxy's dial map"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a static entry and a document's `metadata` both say, and where."""

    name: str
    name_at: Where
    labels: dict[str, str]
    labels_at: Where
    description: str = ""
    attribution: Attribution = Attribution.BROKER


def outside(
    head: Head,
    core: DatabaseCore,
    *,
    origin: Origin,
    host: str,
    known: AwsEndpoint | None,
    product: Product | None,
    role_arn: str,
) -> Iterator[Finding]:
    """What a database that is not static may not be."""
    who = f"database {head.name!r}"
    if host and not known:
        message = f"{host!r} is not an endpoint name of AWS, and only static configuration may name others"
        yield Finding(core.at("uri"), message, REAL_ENDPOINT_HINT)
    if core.tls.model_fields_set:
        message = f"{who} may not bring its own tls settings: only static configuration may"
        yield Finding(core.at("tls"), message, "remove tls: AWS's own CAs and names are checked")
    if origin is Origin.DYNAMIC:
        yield from _one_name_for_another(who, core, known)
        yield from _role_from_nowhere(who, core, product, role_arn)
        yield from _false_labels(head, core, known)


def _one_name_for_another(who: str, core: DatabaseCore, known: AwsEndpoint | None) -> Iterator[Finding]:
    key = IDENTIFIERS.get(known.product, "") if known else ""
    if known and key and key not in known.ids and not known.account_id:
        message = f"{who} is at {known.host}, which does not name its {key}: the broker could not tell whose "
        message += "credential it would show there"
        yield Finding(core.at("uri"), message, "use an endpoint that names it, or register it statically")


def _role_from_nowhere(who: str, core: DatabaseCore, product: Product | None, role_arn: str) -> Iterator[Finding]:
    if role_arn or not product or not (product in ROLE_IS_USER or product is Product.REDSHIFT):
        return
    message = f"{who} has no assume_role_arn: users of {product} can be roles, and the broker assumes none "
    message += "of an account that no account link names"
    yield Finding(core.aws.at("assume_role_arn"), message, "name the account link's role that assumes them")


def _false_labels(head: Head, core: DatabaseCore, known: AwsEndpoint | None) -> Iterator[Finding]:
    region = core.aws.region or (known.region if known else "")
    for label, truth in ((ACCOUNT_LABEL, core.aws.account_id), (REGION_LABEL, region)):
        said = head.labels.get(label)
        if said is not None and truth and said != truth:
            message = f"label {label!r} says {said!r}, but the database is in {truth}"
            yield Finding((*head.labels_at, label), message, "rules select by it: correct or remove it")
