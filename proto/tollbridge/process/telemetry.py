"""Log lines and metrics.

A log line is one JSON object on stderr. Its fields have the names below; values are plain or go through `str`, so that
a `Secret` arrives as its placeholder: nothing here reveals one. Libraries that log requests with their credentials are
held at WARNING whatever level is asked for.

Metrics are plain ints and dicts, read when somebody scrapes: the places that count pay for one addition.
"""

from __future__ import annotations

import bisect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TextIO

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# Fields of log lines, and labels of metrics.
AT: Final = "at"
LEVEL: Final = "level"
LOGGER: Final = "logger"
MESSAGE: Final = "message"
ERROR: Final = "error"
ERROR_ID: Final = "error_id"
EVENT: Final = "event"
DATABASE: Final = "database"
DB_USER: Final = "db_user"
DB_NAME: Final = "db_name"
CALLER: Final = "caller"
WORKLOAD: Final = "workload"
DECISION_ID: Final = "decision_id"
CREDENTIAL_ID: Final = "credential_id"
REASON: Final = "reason"
RULE: Final = "rule"
METHOD: Final = "method"
CODE: Final = "code"
PEER: Final = "peer"
ACCOUNT_ID: Final = "account_id"
ACCESS_KEY_ID: Final = "access_key_id"
PROTOCOL: Final = "protocol"

METRICS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

TALKATIVE: Final = ("boto3", "botocore", "urllib3", "grpc", "asyncio", "hpack", "s3transfer")
"""At DEBUG botocore and urllib3 print headers, bodies and derived keys."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_MAX_MESSAGE: Final = 8192


class JsonFormatter(logging.Formatter):
    """One record -> one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        line: dict[str, object] = {
            AT: datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            LEVEL: record.levelname.lower(),
            LOGGER: record.name,
            MESSAGE: record.getMessage()[:_MAX_MESSAGE],
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info and record.exc_info[0] is not None:
            line[ERROR] = "".join(traceback.format_exception(*record.exc_info))[-_MAX_MESSAGE:]
        return json.dumps(line, default=str, ensure_ascii=False)


def start_logging(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send every logger's lines, from `level` up, to stderr as JSON. Call it before grpc is imported."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    # gRPC's core writes lines of its own, not JSON, at INFO one per failed handshake. It reads this when it loads.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


LabelValues = tuple[str, ...]
Readings = float | Mapping[LabelValues, float]


class Counter:
    """Counts by label values. Label values come from configuration or an enum, never from a caller's free text."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.help_text = help_text
        self.labels = tuple(labels)
        self.values: dict[LabelValues, int] = {} if self.labels else {(): 0}

    def add(self, *values: str, amount: int = 1) -> None:
        """Count `amount` more under these label values."""
        self.values[values] = self.values.get(values, 0) + amount

    def families(self) -> Iterable[Metric]:
        """What a scrape shows."""
        family = CounterMetricFamily(self.name, self.help_text, labels=self.labels)
        for values, count in list(self.values.items()):
            family.add_metric(values, count)
        yield family


class Histogram:
    """Counts of observations under upper bounds, by label values."""

    def __init__(self, name: str, help_text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        self.name = name
        self.help_text = help_text
        self.bounds = tuple(bounds)
        self.labels = tuple(labels)
        self._counts: dict[LabelValues, list[int]] = {}
        self._sums: dict[LabelValues, float] = {}

    def observe(self, value: float, *values: str) -> None:
        """Count one observation under these label values."""
        counts = self._counts.get(values)
        if counts is None:
            counts = self._counts[values] = [0] * (len(self.bounds) + 1)
        counts[bisect.bisect_left(self.bounds, value)] += 1
        self._sums[values] = self._sums.get(values, 0.0) + value

    def families(self) -> Iterable[Metric]:
        """What a scrape shows."""
        family = HistogramMetricFamily(self.name, self.help_text, labels=self.labels)
        for values, counts in list(self._counts.items()):
            total = 0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip((*map(str, self.bounds), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(values, buckets, self._sums[values])
        yield family


class _Read:
    """A counter or gauge whose value somebody else keeps."""

    def __init__(
        self,
        family: type[CounterMetricFamily | GaugeMetricFamily],
        name: str,
        help_text: str,
        labels: Sequence[str],
        read: Callable[[], Readings],
    ) -> None:
        self._family = family
        self._name = name
        self._help_text = help_text
        self._labels = tuple(labels)
        self._read = read

    def families(self) -> Iterable[Metric]:
        family = self._family(self._name, self._help_text, labels=self._labels)
        readings = self._read()
        for values, value in readings.items() if isinstance(readings, Mapping) else (((), readings),):
            family.add_metric(values, value)
        yield family


class Counters(Collector):
    """A process's metrics. `exposition()` is what /metrics answers."""

    def __init__(self, *, process_metrics: bool = True) -> None:
        self._sources: list[Counter | Histogram | _Read] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        if process_metrics:
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A counter to add to. Prometheus appends `_total` to its name."""
        made = Counter(name, help_text, labels)
        self._sources.append(made)
        return made

    def histogram(self, name: str, help_text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        """A histogram to observe into."""
        made = Histogram(name, help_text, bounds, labels)
        self._sources.append(made)
        return made

    def read_counter(self, name: str, help_text: str, read: Callable[[], Readings], labels: Sequence[str] = ()) -> None:
        """A counter that lives elsewhere as a plain int, or as a dict by label values."""
        self._sources.append(_Read(CounterMetricFamily, name, help_text, labels, read))

    def read_gauge(self, name: str, help_text: str, read: Callable[[], Readings], labels: Sequence[str] = ()) -> None:
        """A value that goes up and down, read at each scrape."""
        self._sources.append(_Read(GaugeMetricFamily, name, help_text, labels, read))

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client at each scrape."""
        for source in self._sources:
            yield from source.families()

    def exposition(self) -> bytes:
        """Every metric in Prometheus' text format."""
        return generate_latest(self._registry)
