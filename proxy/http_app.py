"""Composes listeners whose protocol is spoken over HTTP. Called by `proxy.app` alone."""

from __future__ import annotations

from collections.abc import Callable

from proxy.engine import HttpEngine
from proxy.http_settings import HttpListenerSettings
from proxy.model import Door
from proxy.net.bind import Bind
from proxy.net.counters import Counters
from proxy.net.events import RequestLog
from proxy.net.http.house import HttpCounters, HttpLimits
from proxy.net.http.listener import HttpListener
from proxy.net.http.pool import PoolLimits
from proxy.net.identity import ClientTls
from proxy.net.services import Services


def make_http_listener(
    settings: HttpListenerSettings,
    *,
    door: Door,
    engine: HttpEngine,
    where: Bind,
    services: Services,
    log: RequestLog,
    counters: Counters,
    http: HttpCounters,
    max_connections: int,
    client_tls: ClientTls | None,
    audited: Callable[[str], bool],
) -> HttpListener:
    """One door for HTTP."""
    return HttpListener(
        door=door,
        engine=engine,
        where=where,
        services=services,
        log=log,
        counters=counters,
        http=http,
        max_connections=max_connections,
        client_tls=client_tls,
        audited=audited,
        limits=HttpLimits(
            head_seconds=settings.head_seconds,
            idle_seconds=settings.idle_seconds,
            stall_seconds=settings.stall_seconds,
            answer_seconds=settings.answer_seconds,
            body_bytes=settings.max_body_bytes,
            buffer_bytes=settings.max_buffer_bytes,
            spool_dir=settings.spool_dir,
            spool_bytes=settings.max_spool_bytes,
        ),
        pool_limits=PoolLimits(
            idle_seconds=settings.upstream_idle_seconds,
            age_seconds=settings.upstream_age_seconds,
            connections=settings.upstream_connections,
            wait_seconds=settings.wait_seconds,
        ),
    )
