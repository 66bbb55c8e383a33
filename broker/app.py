"""The composition root: the only place that constructs things.

`build` puts a broker together from settings and what touches the world (AWS, clock, audit file); `serve` is the
process. Order of start: registry and policy (in memory by then), TLS files, listeners, admin port, base credentials;
readiness comes with the last of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from broker.access.evaluate import evaluate, may_see
from broker.api.catalog import Catalog
from broker.api.credentials import CredentialServicer
from broker.api.discovery import DiscoveryServicer
from broker.api.interceptors import Room, RpcMetrics
from broker.api.readiness import Readiness, WatchedSts
from broker.api.registry import RegistryServicer
from broker.api.reports import AccessServicer, DiagnosticsServicer, add_reports
from broker.api.server import ApiServers, ConnectionLimits, Listener, ListenError, PlaintextListener, TlsListener
from broker.audit import Audit, Counters
from broker.auditfile import AuditFile
from broker.aws.base import profile_region
from broker.aws.directory import BotoDirectory
from broker.aws.redshift import BotoRedshift
from broker.aws.stores import make_store
from broker.aws.sts import BotoSts
from broker.diagnose import Diagnoser, no_metadata_check, no_user_check
from broker.discovery.inspector import Inspector
from broker.discovery.making import make_sweeper
from broker.discovery.model import Directory
from broker.discovery.plan import cells
from broker.explain import Known
from broker.grants import Grants, Lifetimes
from broker.inforce import InForce
from broker.issuers import chain_of, make_issuers
from broker.metadata import MetadataCheck
from broker.metrics import expose, expose_discovery, expose_registry, expose_reload
from broker.model import Origin, Redshift, Sts
from broker.registry.dynamic import DynamicDatabases
from broker.registry.registrar import Registrar, unverified
from broker.registry.registry import Registry
from broker.registry.sources import Sources
from broker.registry.store import Store, StoreError
from broker.reload import ConfigFile, Reload
from broker.running import Broker
from broker.sessions.pool import Pool
from broker.settings import Derived, ListenerSection, Settings
from broker.users import UserCheck
from tollbridge.clock import Clock
from tollbridge.process import telemetry
from tollbridge.process.admin import AdminServer
from tollbridge.process.lifecycle import Lifecycle, SystemClock, run
from tollbridge.process.tls import TlsFiles, TlsFilesError, TlsWatch

_STOP_MARGIN_SECONDS: Final = 3.0

_log = logging.getLogger(__name__)


def build(
    settings: Settings,
    *,
    sts: Sts,
    redshift: Redshift,
    counters: Counters,
    directory: Directory | None = None,
    clock: Clock,
    audit_sink: Callable[[str], None],
    jitter: Callable[[], float] = random.random,
    make_store: Callable[[Pool], Store] | None = None,
) -> Broker:
    """Put a broker together. Raises TlsFilesError. Without a store it takes no dynamic databases, without a directory
    it discovers none."""
    in_force = InForce(settings)
    limits = settings.limits
    watched = WatchedSts(sts, clock)
    pool = Pool(sts=watched, clock=clock, jitter=jitter, counters=counters)
    readiness = Readiness(watched)
    registry = Registry()
    sources = Sources(registry)
    sources.put_static(in_force.derived.databases)
    store = make_store(pool) if make_store and settings.keeps_a_registry else None
    dynamic = DynamicDatabases(store, sources, in_force.terms, clock=clock, jitter=jitter) if store else None
    issuers = make_issuers(
        now=pool.now,
        monotonic=clock.monotonic,
        jitter=jitter,
        broker_name=settings.aws.session_name,
        counters=counters,
        redshift=redshift,
    )
    audit = Audit(sink=audit_sink, counters=counters)
    grants = Grants(
        registry=registry,
        policy=lambda: in_force.policy,
        evaluate=evaluate,
        pool=pool,
        issuers=issuers,
        audit=audit,
        jitter=jitter,
        sts_region=sts_region(settings),
        lifetimes=Lifetimes(recheck_seconds=limits.recheck_seconds),
    )
    catalog = Catalog(lambda: registry.current().by_name, lambda: in_force.policy, may_see)
    sweeper = make_sweeper(
        settings.discovery,
        in_force.derived.matchers,
        sessions=pool,
        directory=directory,
        store=store,
        publish=sources.put_discovered,
        clock=clock,
        jitter=jitter,
        broker_name=settings.aws.session_name,
        sts_region=sts_region(settings),
    )
    inspector = None
    if directory is not None:
        inspector = Inspector(
            sweeper.eyes,
            registered=lambda: (*sources.of(Origin.STATIC), *sources.of(Origin.DYNAMIC)),
            changed=sources.refresh,
            clock=clock,
            jitter=jitter,
        )
        sources.enrich = inspector.enrich
    reports = (
        AccessServicer(
            lambda: Known(
                databases=registry.current().by_name,
                policy=in_force.policy,
                links=in_force.links,
                chain=chain_of(issuers),
            ),
            lambda: in_force.operators,
        ),
        DiagnosticsServicer(
            Diagnoser(
                policy=lambda: in_force.policy,
                sts=watched,
                issuers=issuers,
                sts_region=sts_region(settings),
                monotonic=clock.monotonic,
                check_user=UserCheck(directory) if directory is not None else no_user_check,
                check_metadata=MetadataCheck(inspector.inspect)
                if inspector and settings.discovery.fetch_metadata
                else no_metadata_check,
                note=lambda asked, roles: audit.diagnosed(at=pool.now(), request=asked, role_chain=roles),
            ),
            lambda: registry.current().by_name,
            lambda: in_force.operators,
        ),
    )
    registrar = Registrar(
        sources=sources,
        terms=lambda: in_force.terms,
        operators=lambda: in_force.operators,
        audit=audit,
        clock=clock,
        dynamic=dynamic,
        verify=inspector.verify if inspector else unverified,
    )
    discovery = DiscoveryServicer(
        sweeper,
        databases=lambda: registry.current().by_name,
        operators=lambda: in_force.operators,
        allow_changes=lambda: in_force.settings.discovery.iam_auth_changes,
        audit=audit,
    )

    async def put_in_force(_settings: Settings, derived: Derived) -> None:
        sources.put_static(derived.databases)
        if dynamic is not None:
            await dynamic.reconsider(derived.terms)
        if directory is not None:
            sweeper.configure(cells(derived.matchers))
        registry.policy_changed()

    in_force.on_change(put_in_force)
    if dynamic is not None:
        follower = dynamic.follower
        readiness.remarks.append(lambda: follower.trouble and f"registry's store away: {follower.trouble}")
    listeners = [_listener(section) for section in settings.listeners]
    watches = tuple(listener.watch for listener in listeners if isinstance(listener, TlsListener))
    metrics = telemetry.Counters()
    room = Room(max_calls=limits.max_concurrent_requests, max_watches=limits.max_watches)
    api = ApiServers(
        listeners,
        credentials=CredentialServicer(grants),
        catalog=catalog,
        room=room,
        metrics=RpcMetrics(metrics, room, clock),
        limits=ConnectionLimits(
            max_request_bytes=limits.max_message_bytes,
            max_age_seconds=limits.max_connection_age_seconds,
            max_age_grace_seconds=limits.max_connection_age_grace_seconds,
        ),
        call_seconds=limits.request_timeout_seconds,
        may=in_force.may,
        more=(add_reports(*reports), RegistryServicer(registrar).add_to, discovery.add_to),
    )
    expose(metrics, counters, registry=registry, pool=pool, sts=watched, readiness=readiness, watches=watches)
    expose_registry(metrics, sources, dynamic)
    expose_discovery(metrics, sweeper, counters.discovery)
    host, _colon, port = settings.admin.address.rpartition(":")
    admin = AdminServer(
        host.strip("[]"), int(port), live=lambda: True, ready=readiness.ready, metrics=metrics.exposition
    )
    return Broker(
        api=api,
        admin=admin,
        readiness=readiness,
        pool=pool,
        issuers=issuers,
        registry=registry,
        sources=sources,
        catalog=catalog,
        metrics=metrics,
        watches=watches,
        in_force=in_force,
        sweeper=sweeper,
        inspector=inspector if settings.discovery.fetch_metadata else None,
        dynamic=dynamic,
    )


def serve(settings: Settings, source: ConfigFile | None = None) -> int:
    """Serve until told to stop. The process's exit code: 0 after a stop, 1 when it could not start or failed.

    `source` is where the settings came from, which is followed.
    """
    try:
        return run(_serve(settings, source))
    except Exception:  # noqa: BLE001 - a bug ends the process; its supervisor starts it again
        _log.exception("the broker ends because of a bug")
        return 1


async def _serve(settings: Settings, source: ConfigFile | None) -> int:
    region = sts_region(settings)
    if not region:
        _log.error("no AWS region: set aws.region in the configuration, AWS_REGION, or region in the AWS profile")
        return 1
    clock, counters, lifecycle = SystemClock(), Counters(), Lifecycle()
    sts = BotoSts(clock=clock, region=region, counters=counters, workers=settings.limits.sts_threads)
    redshift = BotoRedshift(clock=clock, counters=counters.redshift, skew=sts.skew, workers=settings.limits.api_threads)
    directory = BotoDirectory(
        clock=clock, counters=counters.discovery, skew=sts.skew, workers=settings.discovery.threads
    )
    try:
        audit = AuditFile(settings.audit.file)
        lifecycle.on_reload(audit.reopen)
        broker = build(
            settings,
            sts=sts,
            redshift=redshift,
            counters=counters,
            directory=directory,
            clock=clock,
            audit_sink=audit.write,
            make_store=lambda pool: make_store(settings, pool, clock=clock, counters=counters.dynamodb, skew=sts.skew),
        )
        reload = source.follow(broker.in_force) if source else None
        if reload is not None:
            lifecycle.on_reload(reload.request)
            broker.readiness.remarks.append(lambda: reload.trouble)
            expose_reload(broker.metrics, reload)
        with lifecycle.signals():
            return await _live(broker, lifecycle, settings.limits.stop_grace_seconds, reload)
    except (TlsFilesError, OSError) as error:
        _log.error("cannot start: %s", error)
        return 1
    finally:
        directory.close()
        redshift.close()
        sts.close()


async def _live(broker: Broker, lifecycle: Lifecycle, grace: float, reload: Reload | None) -> int:
    try:
        try:
            await broker.start()
        except (ListenError, OSError, StoreError) as error:
            _log.error("cannot start: %s", error)
            return 1
        _log.info("serving on %s, admin port on %s", ", ".join(broker.addresses), broker.admin_address)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(broker.run(), name="broker")
            following = group.create_task(reload.run(), name="configuration") if reload else None
            await lifecycle.draining()
            if not await lifecycle.drained_by(grace + _STOP_MARGIN_SECONDS, broker.stop(grace)):
                _log.warning("the drain was cut short")
            work.cancel()
            if following is not None:
                following.cancel()
    finally:
        await broker.stop(0)
    _log.info("stopped")
    return 0


def sts_region(settings: Settings) -> str:
    """The region whose STS is called: configured, or where the SDK's environment or profile says the broker is."""
    return (
        settings.aws.sts_region
        or settings.aws.region
        or os.environ.get("AWS_REGION", "")
        or os.environ.get("AWS_DEFAULT_REGION", "")
        or profile_region()
    )


def _listener(section: ListenerSection) -> Listener:
    if section.tls is None:
        return PlaintextListener(section.address, section.caller)
    host, _colon, port = section.address.rpartition(":")
    files = TlsFiles(
        cert_file=Path(section.tls.cert_file),
        key_file=Path(section.tls.key_file),
        ca_file=Path(section.tls.client_ca_file),
    )
    watch = TlsWatch(files, what=f"listener {section.address}")
    return TlsListener(host.strip("[]"), int(port), watch, section.tls.allow_dns_identity)
