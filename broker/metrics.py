"""What /metrics says about the broker, beside its RPCs: numbers that live elsewhere, named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from broker.api.readiness import Readiness, WatchedSts
from broker.audit import CallCounters, Counters
from broker.discovery.model import CellState
from broker.discovery.sweep import Sweeper
from broker.registry.dynamic import DynamicDatabases
from broker.registry.registry import Registry
from broker.registry.sources import Sources
from broker.reload import Reload
from broker.sessions.pool import Pool
from tollbridge.process import telemetry
from tollbridge.process.tls import TlsWatch


def expose(
    metrics: telemetry.Counters,
    counters: Counters,
    *,
    registry: Registry,
    pool: Pool,
    sts: WatchedSts,
    readiness: Readiness,
    watches: Sequence[TlsWatch],
) -> None:
    """Register everything with `metrics`."""
    metrics.read_counter("tollbridge_broker_credentials_issued", "Decisions that allowed.", lambda: counters.issued)
    metrics.read_counter(
        "tollbridge_broker_decisions_denied",
        "Decisions that refused, by reason.",
        lambda: {(reason.value,): count for reason, count in counters.denied.items()},
        (telemetry.REASON,),
    )
    metrics.read_counter(
        "tollbridge_broker_sessions",
        "How account sessions were come by.",
        lambda: {
            ("held",): counters.sessions.hits,
            ("fetched",): counters.sessions.fetches,
            ("failed",): counters.sessions.failures,
            ("refusal remembered",): counters.sessions.refusal_hits,
        },
        ("how",),
    )
    metrics.read_counter(
        "tollbridge_broker_session_checks", "Times AWS was asked if a session lives.", lambda: counters.sessions.checks
    )
    metrics.read_counter(
        "tollbridge_broker_tokens",
        "Tokens handed out, from the cache or signed.",
        lambda: {("cached",): counters.token_hits, ("signed",): counters.token_misses},
        ("how",),
    )
    metrics.read_counter(
        "tollbridge_broker_sts_calls",
        "Attempts towards STS.",
        lambda: {(operation,): count for operation, count in counters.sts.calls.items()},
        ("operation",),
    )
    metrics.read_counter(
        "tollbridge_broker_sts_failures",
        "Attempts towards STS that failed.",
        lambda: {(kind,): count for kind, count in counters.sts.failures.items()},
        ("kind",),
    )
    metrics.read_counter("tollbridge_broker_sts_retries", "Retries towards STS.", lambda: counters.sts.retries)
    metrics.read_counter(
        "tollbridge_broker_sts_retries_withheld",
        "Retries towards STS that the account's budget did not allow.",
        lambda: counters.sts.retries_withheld,
    )
    _fetched(metrics, counters)
    metrics.read_gauge("tollbridge_broker_chains", "Account sessions known.", lambda: len(pool))
    metrics.read_gauge(
        "tollbridge_broker_databases",
        "Registered databases.",
        lambda: {
            (product,): count
            for product, count in Counter(
                entry.facts.product.value for entry in registry.current().by_name.values()
            ).items()
        },
        ("product",),
    )
    metrics.read_gauge("tollbridge_broker_ready", "1 while the broker may take traffic.", lambda: readiness.ready()[0])
    metrics.read_gauge("tollbridge_broker_degraded", "1 while AWS does not answer.", lambda: bool(sts.degraded))
    metrics.read_gauge(
        "tollbridge_broker_clock_skew_seconds", "How far AWS's clock is ahead of ours.", sts.clock_skew_seconds
    )
    metrics.read_counter(
        "tollbridge_broker_tls_rotations",
        "Certificate changes taken over.",
        lambda: sum(watch.rotations for watch in watches),
    )
    metrics.read_counter(
        "tollbridge_broker_tls_rejected",
        "Looks at certificate files that did not fit together.",
        lambda: sum(watch.rejected for watch in watches),
    )


def expose_reload(metrics: telemetry.Counters, reload: Reload) -> None:
    """Register what became of the configuration file."""
    metrics.read_counter(
        "tollbridge_broker_config_reloads", "Configurations put in force since start.", lambda: reload.reloads
    )
    metrics.read_counter(
        "tollbridge_broker_config_rejected", "Configurations with errors, not put in force.", lambda: reload.rejected
    )
    metrics.read_gauge(
        "tollbridge_broker_config_stale",
        "1 while not all of the file on disk is in force.",
        lambda: bool(reload.trouble),
    )


def expose_discovery(metrics: telemetry.Counters, sweeper: Sweeper, calls: CallCounters) -> None:
    """Register how each account, region and service answers discovery."""
    labels = (telemetry.ACCOUNT_ID, "region", "product")

    def by_cell(value: Callable[[CellState], float | None]) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for state in sweeper.table.states.values():
            # Two roles may look at the same: the worse of them counts.
            key = (state.account_id, state.key.region, state.key.product.value)
            if (number := value(state)) is not None:
                found[key] = max(found.get(key, number), number)
        return found

    metrics.read_gauge(
        "tollbridge_broker_discovered",
        "Databases known to discovery, those included that only failed sweeps keep.",
        lambda: by_cell(lambda state: len(state.known)),
        labels,
    )
    metrics.read_gauge(
        "tollbridge_broker_discovery_age_seconds",
        "Since the last sweep that succeeded; absent before the first.",
        lambda: by_cell(sweeper.age_seconds),
        labels,
    )
    metrics.read_gauge(
        "tollbridge_broker_discovery_failures",
        "Failed sweeps since the last that succeeded.",
        lambda: by_cell(lambda state: state.failures),
        labels,
    )
    metrics.read_counter(
        "tollbridge_broker_discovery_sweeps", "Whole sweeps by this broker since start.", lambda: sweeper.sweeps
    )
    metrics.read_gauge(
        "tollbridge_broker_discovery_sweeper", "1 while this broker is the one that sweeps.", lambda: sweeper.is_sweeper
    )
    metrics.read_counter(
        "tollbridge_broker_discovery_calls",
        "Attempts of discovery towards AWS.",
        lambda: {(operation,): count for operation, count in calls.calls.items()},
        ("operation",),
    )


def expose_registry(metrics: telemetry.Counters, sources: Sources, dynamic: DynamicDatabases | None) -> None:
    """Register where databases come from and how the store fares."""
    metrics.read_gauge(
        "tollbridge_broker_registered",
        "Databases by where they come from.",
        lambda: {(origin.value,): count for origin, count in sources.counts.items()},
        ("origin",),
    )
    metrics.read_gauge(
        "tollbridge_broker_renamed", "Databases that lost their name to another.", lambda: len(sources.renamed)
    )
    if dynamic is None:
        return
    follower = dynamic.follower
    metrics.read_gauge(
        "tollbridge_broker_dynamic_refused",
        "Stored documents that this broker does not accept.",
        lambda: sum(entry.judged.errors for entry in dynamic.entries.values()),
    )
    metrics.read_gauge(
        "tollbridge_broker_store_stale_seconds", "Since the store last answered.", lambda: follower.stale_seconds
    )
    metrics.read_counter(
        "tollbridge_broker_store_failures", "Questions the store did not answer.", lambda: follower.failures
    )


def _fetched(metrics: telemetry.Counters, counters: Counters) -> None:
    passwords, redshift = counters.passwords, counters.redshift
    metrics.read_counter(
        "tollbridge_broker_passwords",
        "How passwords that AWS makes (Redshift) were come by.",
        lambda: {
            ("held",): passwords.hits,
            ("fetched",): passwords.fetches,
            ("failed",): passwords.failures,
            ("refusal remembered",): passwords.refusal_hits,
        },
        ("how",),
    )
    metrics.read_counter(
        "tollbridge_broker_api_calls",
        "Attempts towards APIs of AWS other than STS.",
        lambda: {(operation,): count for operation, count in redshift.calls.items()},
        ("operation",),
    )
    metrics.read_counter(
        "tollbridge_broker_api_failures",
        "Attempts towards APIs of AWS other than STS that failed.",
        lambda: {(kind,): count for kind, count in redshift.failures.items()},
        ("kind",),
    )
    metrics.read_counter(
        "tollbridge_broker_api_retries", "Retries towards APIs of AWS other than STS.", lambda: redshift.retries
    )
    metrics.read_counter(
        "tollbridge_broker_api_retries_withheld",
        "Retries towards those APIs that the account's budget did not allow.",
        lambda: redshift.retries_withheld,
    )
