"""A broker put together: what starts in which order, what runs, what stops."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from broker.api.catalog import Catalog
from broker.api.readiness import Readiness
from broker.api.server import ApiServers
from broker.discovery.inspector import Inspector
from broker.discovery.sweep import Sweeper
from broker.errors import BrokerError
from broker.inforce import InForce
from broker.issuers import Issuers, close_issuers
from broker.registry.dynamic import DynamicDatabases
from broker.registry.registry import Registry
from broker.registry.sources import Sources
from broker.sessions.pool import Pool
from tollbridge.process import telemetry
from tollbridge.process.admin import AdminServer
from tollbridge.process.tls import TlsWatch

_FIRST_RETRY_SECONDS: Final = 0.5
_MAX_RETRY_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A broker put together. `start()`, then `run()` until cancelled, then `stop(grace)`."""

    api: ApiServers
    admin: AdminServer
    readiness: Readiness
    pool: Pool
    issuers: Issuers
    registry: Registry
    sources: Sources
    catalog: Catalog
    metrics: telemetry.Counters
    watches: tuple[TlsWatch, ...]
    in_force: InForce
    sweeper: Sweeper
    inspector: Inspector | None = None
    """None where AWS is not asked about static and dynamic databases."""
    dynamic: DynamicDatabases | None = None
    """None where nothing is kept: `Settings.keeps_a_registry`."""

    @property
    def addresses(self) -> list[str]:
        """Where the listeners really listen, in the order of the settings."""
        return self.api.addresses

    @property
    def admin_address(self) -> str:
        """HOST:PORT of the admin port."""
        host, port = self.admin.address
        return f"{host}:{port}"

    async def start(self) -> None:
        """Load what is registered and bind everything. Raises ListenError, OSError or StoreError."""
        if self.dynamic is not None:
            await self.dynamic.start()
        await self.sweeper.load()
        await self.api.start()
        await self.admin.start()

    async def run(self) -> None:
        """Obtain base credentials, then follow certificates and the registry. Ends by cancellation only."""
        async with asyncio.TaskGroup() as group:
            for watch in self.watches:
                group.create_task(watch.run(), name="tls files")
            group.create_task(self._follow_registry(), name="registry")
            if self.dynamic is not None:
                group.create_task(self.dynamic.follower.run(), name="dynamic databases")
            group.create_task(self.sweeper.run(), name="discovery")
            if self.inspector is not None:
                group.create_task(self.inspector.run(), name="metadata")
            group.create_task(self._become_ready(), name="base credentials")

    async def stop(self, grace: float) -> None:
        """Refuse new work, let running calls finish for `grace` seconds, end the rest. May be called again."""
        self.readiness.draining = True
        await self.api.stop(grace)
        await close_issuers(self.issuers)
        await self.pool.close()
        await self.admin.stop()
        await self.sweeper.close()
        if self.dynamic is not None:
            await self.dynamic.store.close()

    async def _follow_registry(self) -> None:
        # The catalog works differences out itself, per caller: here only the wake-ups count.
        async for _ in self.registry.changes(lambda _database: False):
            self.catalog.changed()

    async def _become_ready(self) -> None:
        wait, said = _FIRST_RETRY_SECONDS, ""
        while True:
            try:
                base = await self.pool.base_session()
            except BrokerError as error:
                self.readiness.waiting_for = f"base credentials: {error.message}"
                if error.message != said:
                    said = error.message
                    _log.warning("no base credentials yet: %s", said, extra={telemetry.REASON: error.reason.value})
                await asyncio.sleep(wait)
                wait = min(wait * 2, _MAX_RETRY_SECONDS)
                continue
            self.readiness.base_obtained = True
            await self.api.set_ready(True)
            _log.info("ready as %s", base.arn, extra={telemetry.ACCOUNT_ID: base.account_id})
            return
