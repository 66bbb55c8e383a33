"""What RegistryService answers, as values. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from tollbridge.client import convert
from tollbridge.model import Database
from tollbridge.v1 import registry_service_pb2 as pb


class Origin(StrEnum):
    """Where a registration comes from."""

    STATIC = "static"
    DYNAMIC = "dynamic"
    DISCOVERED = "discovered"
    UNKNOWN = "unknown"
    """One that this client is too old to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentProblem:
    """One thing that is wrong with a document, or worth knowing."""

    path: str
    """Such as spec.aws.account_id; empty for the document as a whole."""
    line: int
    """Of the text that was sent; 0 when unknown."""
    message: str
    hint: str = ""
    warning: bool = False
    """It does not keep the database from being served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A database as it is registered with the broker that answered."""

    name: str
    served_as: str
    """Its name in the catalog; empty while that broker does not serve it."""
    origin: Origin
    revision: str
    """Of a dynamic database; opaque."""
    document: str
    """As a `kind: db` document in YAML."""
    database: Database | None
    """As callers see it; None while it is not served, or of a kind this client does not know."""
    assume_role_arn: str
    account_link: str
    problems: tuple[DocumentProblem, ...]
    written_at: datetime | None
    written_by: str


def registration(message: pb.Registration) -> Registration:
    """A registration."""
    database: Database | None = None
    if message.HasField("database"):
        try:
            database = convert.database(message.database)
        except convert.NotUnderstood:
            database = None
    return Registration(
        name=message.name,
        served_as=message.served_as,
        origin=_origin(message.origin),
        revision=message.revision,
        document=message.document,
        database=database,
        assume_role_arn=message.assume_role_arn,
        account_link=message.account_link,
        problems=tuple(map(problem, message.problems)),
        written_at=message.written_at.ToDatetime(tzinfo=UTC) if message.HasField("written_at") else None,
        written_by=message.written_by,
    )


def problem(message: pb.DocumentProblem) -> DocumentProblem:
    """A problem."""
    return DocumentProblem(
        path=message.path, line=message.line, message=message.message, hint=message.hint, warning=message.warning
    )


def wire_origin(origin: Origin) -> str:
    """For a request. UNKNOWN is none that can be asked for."""
    return f"ORIGIN_{origin.name}"


def _origin(number: int) -> Origin:
    known = {pb.Origin.Value(wire_origin(origin)): origin for origin in Origin if origin is not Origin.UNKNOWN}
    return known.get(number, Origin.UNKNOWN)
