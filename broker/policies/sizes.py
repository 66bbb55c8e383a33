"""How large an IAM policy may be, and how one that is larger becomes several. PURE.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: white space does not count. An inline limit
is for all inline policies of an identity together, so splitting helps managed policies alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from broker.policies.statements import Statement

VERSION: Final = "2012-10-17"
TRUST_LIMIT: Final = 2_048
"""Default quota of a role's trust policy; AWS raises it to 4,096 on request."""
MAX_ATTACHED: Final = 10
"""Managed policies per role or user by default; AWS raises it to 20 on request."""


class Attach(StrEnum):
    """How a policy is attached, which decides how large it may be."""

    MANAGED = "managed"
    INLINE_ROLE = "inline-role"
    INLINE_GROUP = "inline-group"
    INLINE_USER = "inline-user"


LIMITS: Final[Mapping[Attach, int]] = {
    Attach.MANAGED: 6_144,
    Attach.INLINE_ROLE: 10_240,
    Attach.INLINE_GROUP: 5_120,
    Attach.INLINE_USER: 2_048,
}
"""Characters."""


class TooLarge(ValueError):
    """A policy that no splitting makes fit. The message says what would."""


def document(statements: Sequence[Statement]) -> dict[str, object]:
    """A policy of these statements."""
    return {"Version": VERSION, "Statement": list(statements)}


def size(statements: Sequence[Statement]) -> int:
    """Characters of the policy as IAM counts them."""
    return len(json.dumps(document(statements), separators=(",", ":")))


def fit(statements: Sequence[Statement], attach: Attach) -> list[list[Statement]]:
    """Policies that each fit, in the order of the statements. Raises TooLarge."""
    limit = LIMITS[attach]
    if (needed := size(statements)) <= limit:
        return [list(statements)]
    if attach is not Attach.MANAGED:
        raise TooLarge(
            f"the policy has {needed} characters; all inline policies of one identity together may have {limit}: attach"
            " managed policies (--attach managed), or wildcards (--scope wildcard)"
        )
    room = limit - size([])
    policies: list[list[Statement]] = [[]]
    for statement in statements:
        for part in _parts(statement, room):
            if policies[-1] and size([*policies[-1], part]) > limit:
                policies.append([])
            policies[-1].append(part)
    return policies


def _parts(statement: Statement, room: int) -> Iterable[Statement]:
    """The statement, or several that say the same, each with at most `room` characters."""
    if _characters(statement) <= room:
        yield statement
        return
    resources = statement["Resource"]
    if isinstance(resources, str) or not isinstance(resources, Sequence):
        raise TooLarge(f"statement {statement.get('Sid', '')} alone is over IAM's limit and has nothing to split")
    groups: list[list[str]] = [[]]
    # Sids get a number, which must be counted before it is known.
    left = empty = room - _characters({**statement, "Resource": []}) - len(str(len(resources)))
    for resource in resources:
        cost = len(json.dumps(resource)) + 1
        if cost > empty:
            raise TooLarge(f"resource {resource[:200]} alone is over IAM's limit")
        if cost > left and groups[-1]:
            groups.append([])
            left = empty
        groups[-1].append(resource)
        left -= cost
    for number, group in enumerate(groups, 1):
        numbered = {"Sid": f"{statement['Sid']}{number}"} if "Sid" in statement else {}
        yield {**statement, **numbered, "Resource": group}


def _characters(statement: Statement) -> int:
    return len(json.dumps(statement, separators=(",", ":")))
