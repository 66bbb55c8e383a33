"""Medians of the rounds, ratios against the others, and what people read."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Figures = dict[str, float]
"""What one round of one contender came to: figure and unit -> number."""

OURS, STRAIGHT = "tollbridge", "direct"
TLS = ", TLS"
"""In the name of a contender that has TLS on the client's side."""


@dataclass(frozen=True, slots=True)
class Goal:
    """tollbridge's figure is to be at most so many times a peer's."""

    peer: str
    figure: str
    at_most: float


@dataclass(slots=True)
class Bench:
    """One workload's rounds by contender."""

    name: str
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    note: str = ""
    goals: Sequence[Goal] = ()

    def add(self, contender: str, figures: Figures) -> None:
        """One round of one contender."""
        self.rounds.setdefault(contender, []).append(figures)

    def median(self, contender: str, figure: str) -> float:
        """The median over a contender's rounds."""
        return statistics.median(figures[figure] for figures in self.rounds[contender])

    def table(self) -> str:
        """A row a contender, a column a figure, then tollbridge's ratios."""
        figures = list(next(iter(self.rounds.values()))[0])
        lines = [self.name, f"  {'':<18}" + "".join(f"{figure:>22}" for figure in figures)]
        for contender in self.rounds:
            cells = "".join(f"{self.median(contender, figure):>22.2f}" for figure in figures)
            lines.append(f"  {contender:<18}{cells}")
        lines += [f"  {line}" for line in self.ratios(figures)]
        if self.note:
            lines.append(f"  ({self.note})")
        return "\n".join(lines)

    def ratios(self, figures: list[str]) -> list[str]:
        """tollbridge against its peers, figure by figure: with TLS to the client against those that have it too."""
        lines: list[str] = []
        for ours in (name for name in self.rounds if name.startswith(OURS)):
            others = [name for name in self.rounds if self._is_peer(name, ours)]
            for figure in figures:
                mine = self.median(ours, figure)
                for other in others:
                    if theirs := self.median(other, figure):
                        ratio = mine / theirs
                        lines.append(f"{ours} / {other}, {figure}: {ratio:.2f}{self._goal(other, figure, ratio)}")
        return lines

    @staticmethod
    def _is_peer(name: str, ours: str) -> bool:
        if name.startswith(OURS):
            return False
        return name == STRAIGHT or (TLS in name) == (TLS in ours)

    def _goal(self, peer: str, figure: str, ratio: float) -> str:
        for goal in self.goals:
            if (goal.peer, goal.figure) == (peer, figure):
                return f"   goal: at most {goal.at_most:g}, {'met' if ratio <= goal.at_most else 'MISSED'}"
        return ""


def write(name: str, benches: list[Bench], directory: Path) -> Path:
    """All rounds as JSON, for whoever wants to compare later."""
    directory.mkdir(exist_ok=True)
    file = directory / f"{name}.json"
    document = {"machine": platform.platform(), "benches": [asdict(bench) for bench in benches]}
    file.write_text(json.dumps(document, indent=2) + "\n")
    return file
