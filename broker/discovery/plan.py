"""Matchers to cells: what a sweep looks at. PURE."""

from __future__ import annotations

from collections.abc import Iterable

from broker.access.model import LabelSelector
from broker.discovery.model import Cell, CellKey, Matcher


def cells(matchers: Iterable[Matcher]) -> tuple[Cell, ...]:
    """One per service, region and role, in the order of the matchers. Matchers that meet in one are looked at once:
    what either asks for is wanted."""
    first: dict[CellKey, Matcher] = {}
    selectors: dict[CellKey, list[LabelSelector]] = {}
    for matcher in matchers:
        for region in matcher.regions:
            for product in matcher.products:
                key = CellKey(role_arn=matcher.role_arn, region=region, product=product)
                first.setdefault(key, matcher)
                wanted = selectors.setdefault(key, [])
                if matcher.tags not in wanted:
                    wanted.append(matcher.tags)
    return tuple(
        Cell(
            key=key,
            external_id=matcher.external_id,
            session_duration_seconds=matcher.session_duration_seconds,
            selectors=tuple(selectors[key]),
        )
        for key, matcher in first.items()
    )
