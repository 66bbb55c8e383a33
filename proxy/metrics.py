"""What /metrics says of a proxy. Everything is a plain number elsewhere and is read here when somebody scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from proxy.audit import Writer
from proxy.catalog import Catalog
from proxy.grants import GrantCache
from proxy.net.counters import LOGIN_BUCKETS
from proxy.net.counters import Counters as NetCounters
from proxy.net.gate import Gate
from proxy.net.http.house import HttpCounters
from proxy.net.http.listener import HttpListener
from proxy.net.shared.trunks import Trunks
from tollbridge.process import telemetry
from tollbridge.process.telemetry import LabelValues

OUTCOME: Final = "outcome"
WHY: Final = "why"
DIRECTION: Final = "direction"
RESULT: Final = "result"
DATABASE: Final = "database"
REASON: Final = "reason"
STATUS: Final = "status"
WHERE: Final = "where"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the numbers live."""

    net: NetCounters
    gate: Gate
    live_bytes: Callable[[], tuple[int, int]]
    """To client and to upstream, of the sessions that run now."""
    grants: GrantCache
    catalog: Catalog
    audit: Writer
    draining: Callable[[], bool]
    trunks: Trunks = field(default_factory=Trunks)
    http: HttpCounters = field(default_factory=HttpCounters)
    http_listeners: Sequence[HttpListener] = ()


class Metrics(telemetry.Counters):
    """A proxy's metrics; `exposition()` is the page."""

    def __init__(self, sources: Sources, *, process_metrics: bool = True) -> None:
        super().__init__(process_metrics=process_metrics)
        self._sources_of = sources
        net, grants, catalog, audit = sources.net, sources.grants.counters, sources.catalog, sources.audit
        gauge, counter = self.read_gauge, self.read_counter
        gauge("tollbridge_proxy_connections_open", "Client connections, logins included.", lambda: net.connections_open)
        counter("tollbridge_proxy_connections", "Client connections accepted.", lambda: net.connections_total)
        gauge("tollbridge_proxy_sessions_open", "Established sessions.", lambda: net.sessions_open)
        counter(
            "tollbridge_proxy_sessions_ended",
            "Sessions that are over: client or upstream ended them, or the proxy for a Reason (SESSION_TOO_LONG: a "
            "limit, or a login that could not be renewed).",
            lambda: {(why,): float(count) for why, count in net.sessions_ended.items()},
            [WHY],
        )
        counter(
            "tollbridge_proxy_logins",
            "Connections that came to an outcome: ok, finished (a cancel request) or a Reason.",
            lambda: {(outcome,): float(count) for outcome, count in net.logins.items()},
            [OUTCOME],
        )
        self._of_databases(sources.gate)
        self._of_trunks(sources.trunks)
        self._of_http(sources)
        counter("tollbridge_proxy_faults", "Connections ended by a bug of the proxy.", lambda: net.crashes)
        counter("tollbridge_proxy_relayed_bytes", "Bytes relayed in sessions.", self._relayed, [DIRECTION])
        counter(
            "tollbridge_proxy_grant_requests",
            "Grants asked of the cache: hit, miss (the broker was asked), shared (waited for a question under way), "
            "outage (used while the broker was away).",
            lambda: {
                ("hit",): float(grants.hits),
                ("miss",): float(grants.misses),
                ("shared",): float(grants.shared),
                ("outage",): float(grants.outages),
            },
            [RESULT],
        )
        counter("tollbridge_proxy_grants_denied", "Logins without a grant.", lambda: grants.denied)
        gauge("tollbridge_proxy_grants_held", "Grants in the cache.", lambda: len(sources.grants))
        gauge("tollbridge_proxy_databases", "Databases in the catalog.", lambda: len(catalog))
        gauge(
            "tollbridge_proxy_watch_up", "1 while the broker's catalog stream stands.", lambda: int(catalog.connected)
        )
        counter("tollbridge_proxy_watch_breaks", "Catalog streams that ended.", lambda: catalog.breaks)
        counter("tollbridge_proxy_audit_lost", "Audit lines that could not be written.", lambda: audit.lost)
        gauge(
            "tollbridge_proxy_draining", "1 while the proxy takes no new connections.", lambda: int(sources.draining())
        )

    def _of_databases(self, gate: Gate) -> None:
        """Labelled by names that grants were given for: the registry bounds them, and clients cannot invent one."""
        self.read_gauge(
            "tollbridge_proxy_database_connections",
            "Connections to a database, logins under way included.",
            lambda: {(name,): float(row.open) for name, row in gate.turnstiles.items()},
            [DATABASE],
        )
        self.read_gauge(
            "tollbridge_proxy_database_logins_waiting",
            "Logins that wait for max_connections or logins_per_second of a database.",
            lambda: {(name,): float(row.waiting) for name, row in gate.turnstiles.items()},
            [DATABASE],
        )
        self.read_counter(
            "tollbridge_proxy_database_logins_waited",
            "Logins that did not get in at once.",
            lambda: {(name,): float(row.counters.waited) for name, row in gate.turnstiles.items()},
            [DATABASE],
        )
        self.read_counter(
            "tollbridge_proxy_database_logins_limited",
            "Logins refused by a database's limits, by Reason.",
            lambda: {
                (name, reason): float(count)
                for name, row in gate.turnstiles.items()
                for reason, count in row.counters.refused.items()
            },
            [DATABASE, REASON],
        )

    def _of_trunks(self, trunks: Trunks) -> None:
        self.read_gauge(
            "tollbridge_proxy_multiplexed_connections",
            "Open connections to databases that clients share.",
            lambda: trunks.connections,
        )
        self.read_gauge(
            "tollbridge_proxy_multiplexed_clients", "Clients on shared connections.", lambda: trunks.clients
        )
        self.read_counter(
            "tollbridge_proxy_multiplexed_pins",
            "Clients that were given a connection of their own, by what they needed it for.",
            lambda: {(why,): float(count) for why, count in trunks.pins.items()},
            [WHY],
        )

    def _of_http(self, sources: Sources) -> None:
        http, listeners = sources.http, sources.http_listeners
        counter, gauge = self.read_counter, self.read_gauge
        counter(
            "tollbridge_proxy_http_answers",
            "Answers to requests over HTTP, by status; those of the proxy itself among them.",
            lambda: {(str(status),): float(count) for status, count in http.answers.items()},
            [STATUS],
        )
        counter(
            "tollbridge_proxy_http_refused",
            "Requests over HTTP that the proxy itself answered, by Reason.",
            lambda: {(reason,): float(count) for reason, count in http.refused.items()},
            [REASON],
        )
        counter(
            "tollbridge_proxy_http_repeated",
            "Requests sent a second time: `signature` was refused and made anew, `connection` broke before an answer.",
            lambda: {("signature",): float(http.resigned), ("connection",): float(http.repeated)},
            [WHY],
        )
        counter("tollbridge_proxy_http_aborted", "Answers that broke off after they had begun.", lambda: http.aborted)
        counter(
            "tollbridge_proxy_http_upstream_uses",
            "Connections that requests over HTTP went over: `new` ones and those that were `kept`.",
            lambda: {
                ("new",): float(sum(row.pools.counters.dialled for row in listeners)),
                ("kept",): float(sum(row.pools.counters.reused for row in listeners)),
            },
            [RESULT],
        )
        gauge(
            "tollbridge_proxy_http_upstream_connections",
            "Open connections to upstreams over HTTP, idle ones included.",
            lambda: sum(row.pools.connections for row in listeners),
        )
        gauge(
            "tollbridge_proxy_http_buffered_bytes",
            "Room that requests' bodies have taken: in `memory` and in the `spool` directory.",
            lambda: {
                ("memory",): float(sum(row.buffered()[0] for row in listeners)),
                ("spool",): float(sum(row.buffered()[1] for row in listeners)),
            },
            [WHERE],
        )

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client at each scrape."""
        yield from super().collect()
        yield login_seconds(self._sources_of.net)

    def _relayed(self) -> Mapping[LabelValues, float]:
        net = self._sources_of.net
        to_client, to_upstream = self._sources_of.live_bytes()
        return {
            ("to_client",): float(net.bytes_to_client + to_client),
            ("to_upstream",): float(net.bytes_to_upstream + to_upstream),
        }


def login_seconds(net: NetCounters) -> Metric:
    """The histogram of successful logins."""
    family = HistogramMetricFamily("tollbridge_proxy_login_seconds", "From accept to established.")
    bounds = (*map(str, LOGIN_BUCKETS), "+Inf")
    buckets = [(bound, float(count)) for bound, count in zip(bounds, accumulate(net.login_seconds), strict=True)]
    family.add_metric([], buckets, net.login_seconds_sum)
    return family
