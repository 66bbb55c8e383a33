"""Rules, proxy rows, requests and decisions as values. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tollbridge.reasons import Reason

LabelSelector = Mapping[str, tuple[str, ...]]
"""Label -> accepted values (globs). Every label must match; `{"*": ("*",)}` matches every database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may enter what, as whom. A deny rule beats every allow rule."""

    name: str
    workloads: tuple[str, ...]
    """Globs over workload identities."""
    db_labels: LabelSelector = field(default_factory=dict, hash=False)
    db_users: tuple[str, ...] = ()
    db_names: tuple[str, ...] = ("*",)
    deny: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRow:
    """Which caller is a proxy, for whom it may speak, and which databases it may serve."""

    caller: str
    """Exact identity, or a glob."""
    workloads: tuple[str, ...]
    db_labels: LabelSelector = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that decides. `version` changes whenever any of it does."""

    version: str
    rules: tuple[Rule, ...] = ()
    proxies: tuple[ProxyRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided and why. `rule` is the rule that allowed or denied; empty when none matched."""

    allowed: bool
    rule: str = ""
    reason: Reason | None = None
    message: str = ""
