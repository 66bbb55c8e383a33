"""`kind: db`, `version: v3` documents: text to a judged database, and a database back to text.

Teleport's own resources load unchanged, within the bounds of dynamic databases (`broker.registry.bounds`). An external
ID may stand in a document, where it must be the account link's; it is never stored and never shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Final

import yaml
from pydantic import Field

from broker.access.globs import selects
from broker.model import Origin, RegisteredDatabase
from broker.registry.bounds import Head
from broker.registry.links import AccountLinks
from broker.registry.static import register
from broker.teleport import DatabaseCore, Selector, SelectorAws, TlsBlock
from tollbridge.model import Protocol, TlsMode
from tollbridge.process.settings import Finding, Problem, Section, SettingsError, load_text

KIND: Final = "db"
VERSION: Final = "v3"
MAX_DESCRIPTION_CHARS: Final = 1024

_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Metadata(Section):
    """`metadata:` of a document."""

    known_elsewhere: ClassVar = frozenset({"id", "expires", "namespace"})
    name: str = ""
    description: str = Field(default="", max_length=MAX_DESCRIPTION_CHARS)
    labels: dict[str, str] = Field(default_factory=dict)
    revision: str = Field(default="", description="The revision this document is a change of; the broker sets it.")


class DocumentTls(TlsBlock):
    """`tls:` of a document: known, to be refused in words."""

    ca_cert: str = ""


class Spec(DatabaseCore):
    """`spec:` of a document."""

    known_elsewhere: ClassVar = frozenset(
        {"dynamic_labels", "admin_user", "oracle", "ad", "gcp", "azure", "mongo_atlas", "ca_cert"}
    )
    tls: DocumentTls = Field(default_factory=DocumentTls)


class Document(Section):
    """The whole."""

    known_elsewhere: ClassVar = frozenset({"status", "sub_kind"})
    kind: str = ""
    version: str = ""
    metadata: Metadata = Field(default_factory=Metadata)
    spec: Spec = Field(default_factory=Spec)

    def findings(self) -> Iterable[Finding]:
        """What kind of document it is."""
        if self.kind != KIND:
            message = f"unsupported resource kind {self.kind!r}" if self.kind else "kind is empty"
            yield Finding(self.at("kind"), message, "kind: db")
        if self.version != VERSION:
            message = f"unsupported resource version {self.version!r}" if self.version else "version is empty"
            yield Finding(self.at("version"), message, "version: v3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the configuration of this broker says about dynamic databases."""

    links: AccountLinks
    selectors: tuple[Selector, ...] = ()

    def selector(self, labels: Mapping[str, str]) -> Selector | None:
        """The resource selector that selects a database: the first."""
        chosen = (s for s in self.selectors if selects({key: tuple(v) for key, v in s.labels.items()}, labels))
        return next(chosen, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a document comes to under the terms of this broker."""

    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    """As the document's metadata says."""
    text: str = ""
    """The document as it is stored; empty when there is an error."""
    database: RegisteredDatabase | None = None
    """None when there is an error."""
    selected: bool = False
    """A resource selector of this broker selects it."""
    problems: tuple[Problem, ...] = ()
    errors: bool = False
    """The problems are errors; else they are warnings."""


def judge(text: str, terms: Terms, *, name: str = "") -> Judged:
    """Every error of a document, or the database it describes and its warnings.

    `name`: what it is stored under, where it is; another name inside is an error.
    """
    seen: list[tuple[Document, Head, SelectorAws | None, RegisteredDatabase | None]] = []

    def registration(document: Document) -> Iterator[Finding]:
        head = Head(
            name=document.metadata.name,
            name_at=document.metadata.at("name"),
            labels=document.metadata.labels,
            labels_at=document.metadata.at("labels"),
            description=document.metadata.description,
        )
        selector = terms.selector(head.labels)
        role = selector.aws if selector else None
        made = register(head, document.spec, origin=Origin.DYNAMIC, links=terms.links, role=role)
        seen.append((document, head, role, made.database))
        yield from made.findings
        if name and head.name != name:
            yield Finding(head.name_at, f"the document of {head.name!r} is stored as {name!r}", "register it anew")

    try:
        loaded = load_text(text, Document, also=registration)
    except SettingsError as error:
        problems = tuple(map(_in_our_words, error.problems))
        if not seen:
            return Judged(problems=problems, errors=True)
        head = seen[0][1]
        return Judged(name=head.name, labels=head.labels, problems=problems, errors=True)
    document, head, role, database = seen[0]
    return Judged(
        name=head.name,
        labels=head.labels,
        revision=document.metadata.revision,
        text=text if name else _stored(document),
        database=database,
        selected=role is not None,
        problems=tuple(loaded.warnings),
    )


def with_revision(text: str, revision: int) -> str:
    """A stored document as it is shown: with its revision, and without an external ID that was written in by hand.

    Empty for what is no document at all.
    """
    try:
        content = yaml.safe_load(text)
        content["metadata"]["revision"] = str(revision)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return ""
    with suppress(KeyError, TypeError, AttributeError):
        content["spec"]["aws"].pop("external_id")
    return _dump(content)


def text_of(database: RegisteredDatabase) -> str:
    """A static or discovered database as a document: what it would take to register it dynamically."""
    facts, access = database.facts, database.access
    aws: dict[str, Any] = {
        "region": facts.region,
        "account_id": facts.account_id,
        "assume_role_arn": access.role_arn,
        "session_tags": dict(access.session_tags),
    }
    for key, value in sorted(database.resource_ids.items()):
        block, _dot, name = key.partition(".")
        aws.setdefault(block, {})[name] = value
    if database.db_groups:
        aws.setdefault("redshift", {})["db_groups"] = list(database.db_groups)
    tls = {} if facts.tls.mode is TlsMode.VERIFY_FULL else {"mode": facts.tls.mode.value}
    if facts.tls.server_name:
        tls["server_name"] = facts.tls.server_name
    mysql = {"server_version": facts.server_version} if facts.protocol is Protocol.MYSQL else {}
    spec = {
        "protocol": facts.protocol.value,
        "uri": f"{facts.endpoint.host}:{facts.endpoint.port}",
        "tls": tls,
        "mysql": mysql,
        "aws": _filled(aws),
    }
    metadata = {"name": facts.name, "description": facts.description, "labels": dict(facts.labels)}
    return _dump({"kind": KIND, "version": VERSION, "metadata": _filled(metadata), "spec": _filled(spec)})


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _filled(value) if isinstance(value, dict) else value for key, value in values.items() if value}


def _stored(document: Document) -> str:
    written = document.model_dump(
        exclude_unset=True, exclude={"metadata": {"revision"}, "spec": {"aws": {"external_id"}}}
    )
    return _dump(_plain(written))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.value if isinstance(value, Enum) else value


def _dump(content: Mapping[str, Any]) -> str:
    return str(yaml.dump(content, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=120))


def _in_our_words(problem: Problem) -> Problem:
    """The loader speaks of files and their sections."""
    if problem.path:
        return problem
    if problem.message.startswith("the file must be a mapping"):
        message = "the document must be a mapping of kind, version, metadata and spec"
    elif problem.message.startswith("one document is expected"):
        return Problem(path="", line=problem.line, message="one document is expected here", hint="send them one by one")
    else:
        message = problem.message.replace("the file", "the document")
    return Problem(path="", line=problem.line, message=message, hint=problem.hint)
