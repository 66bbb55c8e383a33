"""Sightings to databases that can be served: hosts judged, tags cleaned, names made unique. PURE.

What AWS answers is taken at its word about a resource's own facts only. Its host must be one that AWS gives to this
product in this region and partition, its ARN of this account: a credential is never made for anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from broker.access.globs import selects
from broker.discovery import labels, naming
from broker.discovery.model import Cause, Cell, Sighting, Skipped
from broker.discovery.observers.reading import Outcome
from broker.model import AwsAccess, Origin, RegisteredDatabase
from broker.policies.statements import Place
from broker.registry.endpoints import parse_endpoint
from broker.registry.products import IDENTIFIERS, TRUST_STORES
from tollbridge.model import Database, Endpoint, Product, TlsFacts, TrustStore

_MAX_ID_CHARS: Final = 256
_MAX_PORT: Final = 65535
_NO_TAGS: Final = "its tags could not be read, and the matcher asks for some"


@dataclass(frozen=True, slots=True)
class Registered:
    """A database made from a sighting."""

    database: RegisteredDatabase
    arn: str


def register(
    outcomes: Iterable[Outcome], cell: Cell, place: Place, *, name_tag: str = ""
) -> tuple[list[Registered], list[Skipped]]:
    """What of a cell is served, and what is not and why. Resources that no matcher asks for are in neither.

    `name_tag`: the tag that may name a database; empty: none may.
    """
    skipped: list[Skipped] = []
    fitting: dict[str, Sighting] = {}
    for outcome in outcomes:
        if outcome.tags is not None and not wanted(outcome.tags, cell):
            continue
        if isinstance(outcome, Skipped):
            skipped.append(outcome)
        elif outcome.tags is None and needs_tags(cell):
            skipped.append(_skipped(outcome, cell.key.product, Cause.TAGS, _NO_TAGS))
        elif problem := judge(outcome, cell.key.product, place):
            skipped.append(_skipped(outcome, cell.key.product, *problem))
        else:
            fitting.setdefault(outcome.host, outcome)
    names = naming.unique_names(
        (_name(sighting, cell.key.product, name_tag), host, not sighting.suffix) for host, sighting in fitting.items()
    )
    databases = [_made(fitting[host], names[host], cell, place) for host in sorted(fitting)]
    return databases, skipped


def wanted(tags: Mapping[str, str], cell: Cell) -> bool:
    """Whether some matcher asks for a resource of these tags."""
    return any(selects(selector, tags) for selector in cell.selectors)


def needs_tags(cell: Cell) -> bool:
    """Whether what is wanted depends on tags at all."""
    return not wanted({}, cell)


def _skipped(sighting: Sighting, product: Product, cause: Cause, why: str) -> Skipped:
    return Skipped(product=product, name=sighting.name, arn=sighting.arn, cause=cause, why=why, tags=sighting.tags)


def judge(sighting: Sighting, product: Product, place: Place) -> tuple[Cause, str] | None:
    """Why this is no database to make credentials for; None when it is one."""
    if not sighting.host or not 1 <= sighting.port <= _MAX_PORT:
        return Cause.ENDPOINT, "AWS names no endpoint for it yet"
    if any(len(value) > _MAX_ID_CHARS or not value.isprintable() for value in sighting.ids.values()):
        return Cause.UNREADABLE, "its identifiers are none that AWS gives"
    identifier = IDENTIFIERS.get(product)
    if not sighting.name or (identifier and not sighting.ids.get(identifier)):
        return Cause.UNREADABLE, "AWS does not say how it is called"
    host = labels.clean(sighting.host)
    known = parse_endpoint(sighting.host.lower())
    if known is None or known.product is not product:
        return Cause.ENDPOINT, f"{host} is no endpoint that AWS gives to {product}"
    if (known.partition, known.region) != (place.partition, place.region):
        return Cause.ENDPOINT, f"{host} is in {known.region or 'another region'}, not in {place.region}"
    accounts = {known.account_id, _account_of(sighting.arn)} - {"", place.account_id}
    if accounts:
        return Cause.ACCOUNT, f"it belongs to account {labels.clean(accounts.pop())}, which shares it"
    return None


def _account_of(arn: str) -> str:
    parts = arn.split(":", 5)
    return parts[4] if len(parts) == 6 else ""


def _name(sighting: Sighting, product: Product, name_tag: str) -> str:
    named = (sighting.tags or {}).get(name_tag, "") if name_tag else ""
    if named and naming.is_name("-".join(filter(None, (named, sighting.suffix)))):
        return naming.wanted_name(replace(sighting, name=named), product)
    return naming.wanted_name(sighting, product)


def _made(sighting: Sighting, name: str, cell: Cell, place: Place) -> Registered:
    facts = {
        **sighting.facts,
        labels.ACCOUNT_ID: place.account_id,
        labels.REGION: place.region,
        labels.ENDPOINT_TYPE: sighting.kind,
    }
    made = make(sighting, name, cell, place, labels.labels(sighting.tags or {}, facts))
    return Registered(made, sighting.arn)


def make(sighting: Sighting, name: str, cell: Cell, place: Place, labelled: Mapping[str, str]) -> RegisteredDatabase:
    """The database of a sighting that was judged: reached by the role that looked."""
    database = Database(
        name=name,
        protocol=sighting.protocol,
        product=cell.key.product,
        endpoint=Endpoint(host=sighting.host.lower(), port=sighting.port),
        tls=TlsFacts(trust_store=TRUST_STORES.get(cell.key.product, TrustStore.SYSTEM)),
        region=place.region,
        account_id=place.account_id,
        labels=dict(labelled),
    )
    access = AwsAccess(
        partition=place.partition,
        role_arn=cell.key.role_arn,
        external_id=cell.external_id,
        session_duration_seconds=cell.session_duration_seconds,
    )
    return RegisteredDatabase(facts=database, access=access, origin=Origin.DISCOVERED, resource_ids=dict(sighting.ids))
