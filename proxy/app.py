"""The composition root: the only place that constructs things, top to bottom.

    settings --> client --> catalog, grants --> services --> listeners --> admin

Order matters and is this: certificates are read and addresses bound before anything runs, so that a mistake ends the
process at once; the catalog's watch starts before the listeners accept; the process is ready when the first list is
complete. On SIGTERM: readiness goes, listeners close, sessions go on up to `drain.seconds` (or a second signal), then
each is told goodbye in its own protocol; last the audit log is written out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from proxy.addresses import parse_address
from proxy.admission import LoginLimits
from proxy.audit import AuditedGrants, AuditLog, Writer
from proxy.catalog import Catalog
from proxy.engines import ENGINES, HTTP_ENGINES
from proxy.grants import GrantCache
from proxy.http_app import make_http_listener
from proxy.http_settings import HttpListenerSettings
from proxy.listener_settings import ListenerSettings, ListenerTls
from proxy.metrics import Metrics, Sources
from proxy.model import Door
from proxy.net import lifetime
from proxy.net.bind import Bind, TcpBind, UnixBind
from proxy.net.counters import Counters
from proxy.net.dial import Dialer
from proxy.net.driver import Services
from proxy.net.gate import Gate
from proxy.net.http.house import HttpCounters
from proxy.net.http.listener import HttpListener
from proxy.net.identity import ClientCertificates, ClientTls, ClientTlsFiles
from proxy.net.listener import Limits, Listener
from proxy.net.sessions import Sessions
from proxy.net.tls import UpstreamTls
from proxy.protocols import OneProtocol
from proxy.settings import ProxySettings, SessionLimits
from tollbridge.client import Client
from tollbridge.clock import Clock
from tollbridge.process.admin import AdminServer
from tollbridge.process.lifecycle import Lifecycle

GOODBYE_SECONDS: Final = 5.0
"""After the drain: for goodbyes to leave and clients that do not read them."""

_log = logging.getLogger(__name__)


def make_client(settings: ProxySettings, clock: Clock) -> Client:
    """The broker's client. Raises ValueError and TlsFilesError."""
    broker = settings.broker
    tls = broker.tls
    return Client(broker.address, tls.files() if tls else None, server_name=tls.server_name if tls else "", clock=clock)


def make_dialer(settings: ProxySettings) -> Dialer:
    """Where endpoints are dialled."""
    return Dialer(dial=settings.dial)


def make_upstream_tls(settings: ProxySettings) -> UpstreamTls:
    """How servers are verified."""
    return UpstreamTls(settings.trust.stores())


def make_door(listener: ListenerSettings) -> Door:
    """What a listener fixes for every login."""
    return Door(
        name=listener.name,
        tls_available=listener.tls is not None,
        tls_required=listener.tls is not None and listener.tls.required,
        workload=listener.workload,
        database=listener.database,
        db_user=listener.db_user,
        sni_databases=listener.sni,
        by_login_name=listener.route == "login_name",
        server_version=listener.mysql.server_version if listener.mysql else "",
        local_infile=listener.mysql.local_infile if listener.mysql else False,
        advertise=listener.mongodb.advertise if listener.mongodb else "",
        multiplex=listener.redis is not None and listener.redis.multiplex,
        login_seconds=listener.limits.login_seconds,
        hosts=listener.http.hosts if listener.http else {},
    )


def make_client_tls(tls: ListenerTls, *, clock: Clock) -> ClientTls:
    """Towards clients. Raises OSError and TlsFilesError.

    A client without a certificate gets through the handshake: the refusal it then reads is the database's own and says
    what to do, which a TLS alert does not.
    """
    asks = ClientCertificates.NONE if tls.client_ca_file is None else ClientCertificates.OPTIONAL
    return ClientTls(
        ClientTlsFiles(certificate=tls.cert_file, key=tls.key_file, client_ca=tls.client_ca_file),
        client_certificates=asks,
        clock=clock,
        allow_dns_identity=tls.allow_dns_identity,
    )


def make_bind(address_text: str) -> Bind:
    """Where a listener listens."""
    address = parse_address(address_text)
    if address.path:
        return UnixBind(path=Path(address.path))
    return TcpBind(host=address.host, port=address.port)


def session_limits(settings: SessionLimits) -> lifetime.SessionLimits:
    """As the network side takes them."""
    return lifetime.SessionLimits(idle_seconds=settings.idle_seconds, max_session_seconds=settings.max_session_seconds)


def make_gate(settings: ProxySettings) -> Gate:
    """How many logins each database bears."""

    def limits_of(database: str) -> LoginLimits:
        limits = settings.limits_of(database)
        return LoginLimits(
            max_connections=limits.max_connections,
            logins_per_second=limits.logins_per_second,
            wait_seconds=limits.wait_seconds,
        )

    return Gate(limits_of)


class ProxyApp:
    """One proxy. Construction reads files and raises what is wrong with them; `run` serves until told to stop."""

    def __init__(self, settings: ProxySettings, *, clock: Clock, lifecycle: Lifecycle) -> None:
        """Raises OSError, ValueError and TlsFilesError."""
        self._settings = settings
        self._lifecycle = lifecycle
        self.client = make_client(settings, clock)
        self.catalog = Catalog(self.client, clock)
        self.grants = GrantCache(self.client, clock, self.catalog.basis)
        self.counters = Counters()
        self.sessions = Sessions()
        self.gate = make_gate(settings)
        self._writer = Writer(settings.audit.file)
        lifecycle.on_reload(self._writer.reopen)
        audit = AuditLog(self._writer, clock)
        services = Services(
            grants=AuditedGrants(self.grants, self._writer),
            catalog=self.catalog,
            dialer=make_dialer(settings),
            upstream_tls=make_upstream_tls(settings),
            sessions=self.sessions,
            clock=clock,
            gate=self.gate,
        )
        self.trunks = services.trunks
        self.http = HttpCounters()
        self.listeners = [
            self._listener(listener, self._services(listener.protocol, services), audit)
            for listener in settings.listeners
        ]
        self._metrics = Metrics(
            Sources(
                net=self.counters,
                gate=self.gate,
                trunks=self.trunks,
                live_bytes=self._live_bytes,
                grants=self.grants,
                catalog=self.catalog,
                audit=self._writer,
                http=self.http,
                http_listeners=[row for row in self.listeners if isinstance(row, HttpListener)],
                draining=lambda: lifecycle.is_draining,
            )
        )
        admin = parse_address(settings.admin.address)
        self.admin = AdminServer(
            admin.host, admin.port, live=lambda: True, ready=self.readiness, metrics=self._metrics.exposition
        )
        self._bound = False

    def bind(self) -> None:
        """Take every address. Raises OSError with the listener's name."""
        for settings, listener in zip(self._settings.listeners, self.listeners, strict=True):
            try:
                listener.bind()
            except OSError as error:
                raise OSError(
                    f"listener {settings.name!r} cannot listen on {settings.address}: {error.strerror or error}"
                ) from error
        self._bound = True

    @property
    def bound_addresses(self) -> Mapping[str, tuple[str, int]]:
        """Host and port in use by each TCP listener, and by `admin`; for port 0."""
        bound = {
            listener.door.name: (address.host, listener.port)
            for listener, settings in zip(self.listeners, self._settings.listeners, strict=True)
            if not (address := parse_address(settings.address)).path
        }
        return {**bound, "admin": self.admin.address}

    def readiness(self) -> tuple[bool, str]:
        """Whether to send clients here, and why (not)."""
        if self._lifecycle.is_draining:
            return False, "draining"
        if not self._bound:
            return False, "listeners are not bound yet"
        if not self.catalog.ready:
            return False, f"waiting for the broker's list of databases: {self.catalog.trouble or 'not connected yet'}"
        if not self.catalog.connected:
            return True, f"ready, on what was known: the broker is away: {self.catalog.trouble}"
        return True, "ready"

    async def run(self) -> None:
        """Serve until the lifecycle says drain. Raises OSError when an address cannot be taken."""
        try:
            if not self._bound:
                self.bind()
            async with self.admin, self.client, asyncio.TaskGroup() as group:
                watching = group.create_task(self.catalog.run(), name="catalog")
                serving = [
                    group.create_task(listener.run(), name=f"listener {listener.door.name}")
                    for listener in self.listeners
                ]
                _log.info("listening", extra={"listeners": [row.address for row in self._settings.listeners]})
                await self._lifecycle.draining()
                await self._drain(serving)
                await self.trunks.aclose()
                watching.cancel()
                await self.grants.aclose()
        finally:
            await asyncio.to_thread(self._writer.close)
        _log.info("stopped")

    async def _drain(self, serving: list[asyncio.Task[None]]) -> None:
        """Stop accepting, let sessions finish, say goodbye to the rest, and wait for that no longer than needed."""
        seconds = self._settings.drain.seconds
        _log.info("draining", extra={"seconds": seconds, "connections": self.counters.connections_open})
        if not await self._lifecycle.drained_by(seconds + 1, self._drain_listeners(seconds)):
            await self._drain_listeners(0)
        _, late = await asyncio.wait(serving, timeout=GOODBYE_SECONDS)
        for task in late:
            task.cancel()

    async def _drain_listeners(self, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            for listener in self.listeners:
                group.create_task(listener.drain(seconds), name=f"drain {listener.door.name}")

    def _services(self, protocol: str, shared: Services) -> Services:
        """As a listener of one protocol sees them."""
        own = OneProtocol(protocol, self.catalog, shared.grants)
        return replace(shared, catalog=own, grants=own)

    def _listener(self, row: ListenerSettings, services: Services, audit: AuditLog) -> Listener | HttpListener:
        """The door that a row of the configuration describes."""
        settings, clock = self._settings, services.clock
        client_tls = make_client_tls(row.tls, clock=clock) if row.tls else None
        if row.protocol in HTTP_ENGINES:
            return make_http_listener(
                row.http or HttpListenerSettings(),
                door=make_door(row),
                engine=HTTP_ENGINES[row.protocol],
                where=make_bind(row.address),
                services=services,
                log=audit,
                counters=self.counters,
                http=self.http,
                max_connections=row.limits.max_connections,
                client_tls=client_tls,
                audited=lambda database: settings.limits_of(database).audit_requests,
            )
        return Listener(
            door=make_door(row),
            engine=ENGINES[row.protocol],
            where=make_bind(row.address),
            services=services,
            log=audit,
            counters=self.counters,
            limits=Limits(max_connections=row.limits.max_connections, handshake_seconds=row.limits.handshake_seconds),
            client_tls=client_tls,
            session_limits=session_limits(settings.sessions),
            database_limits={name: session_limits(settings.limits_of(name)) for name in settings.databases},
        )

    def _live_bytes(self) -> tuple[int, int]:
        pairs = [listener.live_bytes() for listener in self.listeners]
        return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
