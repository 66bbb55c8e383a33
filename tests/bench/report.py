"""Medians of the rounds, ratios against the peer, and what people read."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.workloads import Figures


@dataclass(slots=True)
class Bench:
    """One workload's rounds by contender."""

    name: str
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    note: str = ""

    def add(self, contender: str, figures: Figures) -> None:
        """One round of one contender."""
        self.rounds.setdefault(contender, []).append(figures)

    def median(self, contender: str, figure: str) -> float:
        """The median over a contender's rounds."""
        return statistics.median(figures[figure] for figures in self.rounds[contender])

    def table(self) -> str:
        """A row a contender, a column a figure, with the ratio to the row before it where both have CPU figures."""
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
        """tollbridge against its peers, figure by figure."""
        lines: list[str] = []
        for ours in (name for name in self.rounds if name.startswith("tollbridge")):
            others = [name for name in (ours.replace("tollbridge", "pgbouncer"), "direct") if name in self.rounds]
            for figure in figures:
                theirs = {name: self.median(name, figure) for name in others}
                mine = self.median(ours, figure)
                lines.extend(
                    f"{ours} / {name}, {figure}: {mine / value:.2f}" for name, value in theirs.items() if value
                )
        return lines


def write(benches: list[Bench], directory: Path) -> Path:
    """All rounds as JSON, for whoever wants to compare later."""
    directory.mkdir(exist_ok=True)
    file = directory / "postgres.json"
    document = {"machine": platform.platform(), "benches": [asdict(bench) for bench in benches]}
    file.write_text(json.dumps(document, indent=2) + "\n")
    return file
