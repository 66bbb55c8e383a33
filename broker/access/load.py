"""From `access:` and `proxies:` of the configuration to a Policy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from pydantic import ConfigDict, Field

from broker.access.evaluate import SHOWS_DB_NAME
from broker.access.globs import is_literal, selects
from broker.access.model import Policy, ProxyRow, Rule
from broker.access.operators import OperatorRow, Power
from tollbridge.model import Database
from tollbridge.process.settings import Finding, Section, TextList
from tollbridge.process.words import nobodies

_SHOWN_LABELS = 12


class RuleSection(Section):
    """One of `access.rules`."""

    model_config = ConfigDict(json_schema_extra={"required": ["name", "workloads", "db_labels", "db_users"]})
    name: str = Field(default="", description="Shown in decisions and refusals.")
    workloads: TextList = Field(default_factory=list, description="Globs over workload identities; * also crosses /.")
    db_labels: dict[str, TextList] = Field(
        default_factory=dict, description='Label -> accepted values (globs); every label must match. {"*": "*"}: all.'
    )
    db_users: TextList = Field(
        default_factory=list,
        description="Globs over database users. A role that is a user is meant in every spelling: NAME, role/NAME, ARN",
    )
    db_names: TextList = Field(
        default_factory=lambda: ["*"], description="Globs over logical databases; only for postgres and mongodb."
    )
    deny: bool = Field(default=False, description="A deny that matches beats every allow.")

    def findings(self) -> Iterable[Finding]:
        """Conditions that would match nothing."""
        if not self.name:
            yield Finding(self.at("name"), "is required", "decisions and refusals show it")
        for key, example in _RULE_EXAMPLES.items():
            if not getattr(self, key):
                yield Finding(self.at(key), "is required: without it the rule matches nothing", example)
        if not self.db_names:
            yield Finding(self.at("db_names"), "is empty: the rule matches nothing", "leave it out to allow all names")
        yield from nobodies(self, "workloads", self.workloads)
        yield from _empty_values(self, "db_labels", self.db_labels)

    def rule(self) -> Rule:
        """As a value."""
        return Rule(
            name=self.name,
            workloads=tuple(self.workloads),
            db_labels=_selector(self.db_labels),
            db_users=tuple(self.db_users),
            db_names=tuple(self.db_names),
            deny=self.deny,
        )


_RULE_EXAMPLES = {
    "workloads": "such as [spiffe://example.org/ns/shop/*]",
    "db_labels": 'such as {env: dev}; {"*": "*"} selects every database',
    "db_users": 'such as [app, readonly]; "*" allows every user',
}


class AccessSection(Section):
    """`access:`."""

    rules: list[RuleSection] = Field(default_factory=list)

    def findings(self) -> Iterable[Finding]:
        """Names that are used twice."""
        seen: set[str] = set()
        for rule in self.rules:
            if rule.name and rule.name in seen:
                yield Finding(rule.at("name"), f"rule name {rule.name!r} is used twice", "audit lines name rules")
            seen.add(rule.name)


class ProxySection(Section):
    """One of `proxies`."""

    model_config = ConfigDict(json_schema_extra={"required": ["caller", "workloads", "db_labels"]})
    caller: str = Field(default="", description="Identity of the proxy's certificate (glob).")
    workloads: TextList = Field(default_factory=list, description="Workloads it may speak for (globs).")
    db_labels: dict[str, TextList] = Field(default_factory=dict, description="Databases it may serve.")

    def findings(self) -> Iterable[Finding]:
        """Conditions that would match nothing, or everything."""
        if not self.caller:
            yield Finding(self.at("caller"), "is required", "such as spiffe://example.org/tollbridge/proxy")
        for key in ("workloads", "db_labels"):
            if not getattr(self, key):
                yield Finding(self.at(key), "is required: without it the row matches nothing", _RULE_EXAMPLES[key])
        if self.caller == "*":
            message = "every caller is a proxy: any certificate may speak for these workloads"
            yield Finding(self.at("caller"), message, "name the proxies", warning=True)
        yield from nobodies(self, "caller", [self.caller])
        yield from nobodies(self, "workloads", self.workloads)
        yield from _empty_values(self, "db_labels", self.db_labels)

    def row(self) -> ProxyRow:
        """As a value."""
        return ProxyRow(caller=self.caller, workloads=tuple(self.workloads), db_labels=_selector(self.db_labels))


class OperatorSection(Section):
    """One of `operators`."""

    model_config = ConfigDict(json_schema_extra={"required": ["caller"]})
    caller: str = Field(default="", description="Identity of who runs the broker (glob).")
    may: list[Power] = Field(
        default_factory=lambda: [Power.VIEW],
        description="view: registrations, Explain, Diagnose, discovery. register: create, change and delete dynamic "
        "databases, forget discovered ones. apply: have the broker change databases in AWS.",
    )
    db_labels: dict[str, TextList] = Field(
        default_factory=lambda: {"*": ["*"]}, description="Databases it may act on: register's bound. All by default."
    )

    def findings(self) -> Iterable[Finding]:
        """Conditions that would match nothing, or everybody."""
        if not self.caller:
            yield Finding(self.at("caller"), "is required", "such as spiffe://example.org/ns/ops/sa/registrar")
        if not self.may:
            yield Finding(self.at("may"), "is empty: the row allows nothing", "such as [view, register]")
        if not self.db_labels:
            yield Finding(self.at("db_labels"), "is empty: no database is selected", "leave it out to select all")
        if self.caller == "*" and set(self.may) - {Power.VIEW}:
            message = "every caller may change what is registered, any workload with a certificate among them"
            yield Finding(self.at("caller"), message, "name the operators", warning=True)
        yield from nobodies(self, "caller", [self.caller])
        yield from _empty_values(self, "db_labels", self.db_labels)

    def row(self) -> OperatorRow:
        """As a value."""
        return OperatorRow(caller=self.caller, powers=frozenset(self.may), db_labels=_selector(self.db_labels))


def load_policy(access: AccessSection, proxies: Iterable[ProxySection]) -> Policy:
    """The policy they say. Its version is a hash of its content, so replicas with one configuration agree on it."""
    rules = tuple(section.rule() for section in access.rules)
    rows = tuple(section.row() for section in proxies)
    content = json.dumps([[asdict(rule) for rule in rules], [asdict(row) for row in rows]], sort_keys=True)
    return Policy(version=hashlib.sha256(content.encode()).hexdigest()[:16], rules=rules, proxies=rows)


def check_db_names(access: AccessSection, databases: Iterable[Database]) -> Iterator[Finding]:
    """A rule's db_names must be holdable on each database that its labels can select."""
    blind = [database for database in databases if database.protocol not in SHOWS_DB_NAME]
    for section in access.rules:
        if "*" in section.db_names:
            continue
        selector = _selector(section.db_labels)
        for database in blind:
            if selects(selector, database.labels):
                message = f"rule {section.name!r} names db_names, but selects {database.protocol.value} database "
                message += f"{database.name!r}, where a session may change its db_name unseen"
                hint = f"leave db_names out, or choose db_labels that exclude {database.name!r}"
                yield Finding(section.at("db_names"), message, hint)


def check_reach(
    access: AccessSection, proxies: Iterable[ProxySection], databases: Iterable[Database]
) -> Iterator[Finding]:
    """Rows whose db_labels select none of the databases, where no others can come: mostly a label misspelt."""
    all_labels = [database.labels for database in databases]
    seen = sorted({f"{key}={value}" for labels in all_labels for key, value in labels.items()})
    there = ", ".join(seen[:_SHOWN_LABELS]) + (", ..." if len(seen) > _SHOWN_LABELS else "")
    rows: list[RuleSection | ProxySection] = [*access.rules, *proxies]
    for section in rows:
        selector = _selector(section.db_labels)
        if all_labels and selector and not any(selects(selector, labels) for labels in all_labels):
            hint = f"labels in this file: {there or 'none'}; AWS tags may add others (discovery.fetch_metadata)"
            yield Finding(section.at("db_labels"), "selects none of this file's databases", hint, warning=True)


def _selector(labels: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(values) for key, values in labels.items()}


def _empty_values(section: Section, key: str, labels: dict[str, list[str]]) -> Iterator[Finding]:
    for label, values in labels.items():
        if not values:
            yield Finding(section.at(key, label), "accepts no value: nothing is selected", 'such as dev, or "*"')
        if label != "*" and not is_literal(label):
            message = "a label's key is no glob: it stands for itself"
            yield Finding(section.at(key, label), message, 'only the key "*" alone selects by any label', warning=True)
