"""Stands where a test of metrics does not look."""

from __future__ import annotations

from proxy.metrics import Metrics, Sources
from proxy.net.counters import Counters
from proxy.net.gate import Gate


class Quiet:
    """Grants, catalog and audit log in which nothing happens."""

    counters = type("None", (), {"hits": 0, "misses": 0, "shared": 0, "outages": 0, "denied": 0})()
    connected = breaks = lost = 0

    def __len__(self) -> int:
        return 0


def page(**sources: object) -> Metrics:
    """Metrics of nothing but these."""
    quiet = {name: Quiet() for name in ("grants", "catalog", "audit")}
    rest = {"net": Counters(), "gate": Gate(), "live_bytes": lambda: (0, 0), "draining": lambda: False}
    return Metrics(Sources(**(quiet | rest | sources)), process_metrics=False)  # type: ignore[arg-type]
