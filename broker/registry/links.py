"""Account links: which roles may be assumed, with which external ID, for databases from where. PURE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.model import Origin, RoleArn
from tollbridge.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLink:
    """The operator's word on some roles. Dynamic and discovered databases may use no role without one."""

    name: str
    role_arns: frozenset[RoleArn]
    external_id: Secret = field(default_factory=lambda: Secret(""))
    session_duration_seconds: int = 3600
    origins: frozenset[Origin] = frozenset(Origin)
    """Databases of these origins may use it."""


class AccountLinks:
    """All links, asked by role."""

    def __init__(self, links: Iterable[AccountLink] = ()) -> None:
        self.all = tuple(links)

    def covering(self, role_arn: RoleArn) -> tuple[AccountLink, ...]:
        """Links that name the role, whatever for."""
        return tuple(link for link in self.all if role_arn in link.role_arns)

    def find(self, role_arn: RoleArn, origin: Origin) -> AccountLink | None:
        """The link under which a database of this origin uses the role."""
        return next((link for link in self.covering(role_arn) if origin in link.origins), None)
