"""What is known of every cell, and how it changes: looks that succeeded or failed, cells that come and go. PURE.

A look that failed changes nothing of what is known. A database goes away when a look that succeeded no longer finds
it, when its matcher is gone, or when an operator has it forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType

from broker.discovery.model import Cell, CellKey, CellState, Failure, Known, Skipped
from broker.discovery.registration import Registered
from broker.model import RegisteredDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at a cell that succeeded found."""

    account_id: str
    registered: Sequence[Registered]
    skipped: Sequence[Skipped]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Immutable."""

    states: Mapping[CellKey, CellState] = field(default_factory=lambda: MappingProxyType({}))

    def databases(self) -> tuple[RegisteredDatabase, ...]:
        """Everything discovered, oldest first and otherwise in a fixed order: who keeps a name does not change."""
        everything = [
            (known.first_seen_at, state.key, known) for state in self.states.values() for known in state.known
        ]
        everything.sort(key=lambda row: (row[0], row[1], row[2].database.facts.endpoint))
        return tuple(known.database for _, _, known in everything)

    def put(self, state: CellState) -> Table:
        """With one state in place of what was known of its cell."""
        return Table(states=MappingProxyType({**self.states, state.key: state}))


def table(cells: Iterable[Cell], known: Iterable[CellState] = ()) -> Table:
    """Of these cells, with what is known of them. States of other cells are left out."""
    by_key = {state.key: state for state in known}
    states = {cell.key: _reached_by(cell, by_key.get(cell.key)) for cell in cells}
    return Table(states=MappingProxyType(states))


def _reached_by(cell: Cell, state: CellState | None) -> CellState:
    """The state, its databases reached as the cell says now: its external ID may have changed since."""
    if state is None:
        return CellState(key=cell.key, account_id=cell.key.account_id)
    access = partial(replace, external_id=cell.external_id, session_duration_seconds=cell.session_duration_seconds)
    known = tuple(
        replace(each, database=replace(each.database, access=access(each.database.access))) for each in state.known
    )
    return state if known == state.known else replace(state, known=known)


def succeeded(before: CellState, look: Look, *, at: datetime, seconds: float) -> CellState:
    """After a look that found these."""
    since = {known.database.facts.endpoint: known.first_seen_at for known in before.known}
    return CellState(
        key=before.key,
        account_id=look.account_id,
        known=tuple(
            Known(database=each.database, arn=each.arn, first_seen_at=since.get(each.database.facts.endpoint, at))
            for each in look.registered
        ),
        skipped=tuple(look.skipped),
        notes=tuple(look.notes),
        last_attempt_at=at,
        last_success_at=at,
        seconds=seconds,
    )


def failed(before: CellState, failure: Failure, *, seconds: float) -> CellState:
    """After a look that came to nothing: everything known stays."""
    return replace(before, last_attempt_at=failure.at, failure=failure, failures=before.failures + 1, seconds=seconds)


class NotForgotten(ValueError):
    """Why a database cannot be forgotten."""


def forget(before: Table, host: str) -> Table:
    """Without the database at a host. Raises NotForgotten for one that the next look would find again."""
    for state in before.states.values():
        left = tuple(known for known in state.known if known.database.facts.endpoint.host != host)
        if len(left) == len(state.known):
            continue
        if state.failure is None:
            raise NotForgotten("AWS still lists it: it would be found again. Change the matcher, or its tags")
        return before.put(replace(state, known=left))
    raise NotForgotten("no such discovered database")


def changed(before: Table, after: Table) -> list[CellState]:
    """States that a store must learn of."""
    return [state for key, state in after.states.items() if before.states.get(key) is not state]
