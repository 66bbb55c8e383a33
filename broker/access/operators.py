"""Who may run the broker: `operators:` rows name callers, what they may do, and for which databases. PURE.

Nobody is an operator by default. A row's `db_labels` bound what its callers may register: both the labels a database
has and those it would get must fit, so that who may register `team: shop` takes over nothing of `team: payments`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.access.globs import matches, selects
from broker.access.model import LabelSelector


class Power(StrEnum):
    """What an operator may do."""

    VIEW = "view"
    """Look: registrations with their roles, Explain, Diagnose, discovery's status and plan."""
    REGISTER = "register"
    """Create, update and delete dynamic databases; forget discovered ones."""
    APPLY = "apply"
    """Have the broker change something in AWS (DiscoveryService.Apply)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """One of `operators`."""

    caller: str
    """Exact identity, or a glob."""
    powers: frozenset[Power]
    db_labels: LabelSelector = field(default_factory=lambda: {"*": ("*",)}, hash=False)


class Operators:
    """All rows, asked by caller."""

    def __init__(self, rows: Iterable[OperatorRow] = ()) -> None:
        self.rows = tuple(rows)

    def may(self, caller: str, power: Power) -> bool:
        """Whether some row gives the caller this power over anything at all."""
        return any(power in row.powers and matches(row.caller, caller) for row in self.rows)

    def may_for(self, caller: str, power: Power, labels: Mapping[str, str]) -> bool:
        """Whether some row gives the caller this power over a database with these labels."""
        return any(
            power in row.powers and matches(row.caller, caller) and selects(row.db_labels, labels) for row in self.rows
        )
