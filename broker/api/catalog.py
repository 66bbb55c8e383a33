"""CatalogService: what exists, filtered by what the caller may see, and every change to it.

A watcher holds no queue. It holds the view it has shown, which all watchers of one caller share; when woken it compares
that with the present view and sends the difference. However slow it is, and however much changes meanwhile, it costs
two references.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc

from broker.access.model import Policy
from broker.api import convert, identity
from broker.errors import BrokerError
from broker.model import RegisteredDatabase
from tollbridge.model import Database
from tollbridge.reasons import Reason
from tollbridge.v1 import catalog_service_pb2 as pb
from tollbridge.v1 import catalog_service_pb2_grpc, database_pb2

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 1024 * 1024
"""A page ends here although more entries would fit its count: entries can bring CA bundles."""

MAX_VIEWS: Final = 1000
"""Callers whose views are remembered; with more of them they are computed again, not wrong."""

Databases = Mapping[str, RegisteredDatabase]
MaySee = Callable[[Policy, str, Database], bool]


@dataclass(frozen=True, slots=True, eq=False)
class CallerView:
    """What one caller may see, as messages by name, in the order of names."""

    policy_version: str
    databases: Mapping[str, database_pb2.Database]


class Catalog:
    """The present registry and policy as each caller sees them, and the news that they changed."""

    def __init__(self, databases: Callable[[], Databases], policy: Callable[[], Policy], may_see: MaySee) -> None:
        self._databases = databases
        self._policy = policy
        self._may_see = may_see
        self._based_on: tuple[Databases, Policy] | None = None
        self._views: dict[str, CallerView] = {}
        self._messages: dict[str, tuple[Database, database_pb2.Database]] = {}
        self._watchers: set[asyncio.Event] = set()
        self._stopped = False

    def view(self, caller: str) -> CallerView:
        """What the caller may see now."""
        databases, policy = self._databases(), self._policy()
        stale = self._based_on is None or self._based_on[0] is not databases or self._based_on[1] is not policy
        if stale or len(self._views) >= MAX_VIEWS:
            self._based_on = (databases, policy)
            self._views = {}
            self._messages = {name: self._message(entry.facts) for name, entry in sorted(databases.items())}
        view = self._views.get(caller)
        if view is None:
            visible = {
                name: message
                for name, (facts, message) in self._messages.items()
                if self._may_see(policy, caller, facts)
            }
            view = self._views[caller] = CallerView(policy.version, visible)
        return view

    def changed(self) -> None:
        """Wake every watcher: the registry or the policy is another."""
        for wakeup in self._watchers:
            wakeup.set()

    def stop(self) -> None:
        """End every watch and take no more."""
        self._stopped = True
        self.changed()

    @contextmanager
    def watching(self) -> Iterator[Callable[[], Any]]:
        """Yields an async function that waits for news; it answers False when the watch shall end."""
        if self._stopped:
            raise BrokerError(Reason.DRAINING, "this broker is shutting down: watch another one")
        wakeup = asyncio.Event()
        self._watchers.add(wakeup)

        async def news() -> bool:
            await wakeup.wait()
            wakeup.clear()
            return not self._stopped

        try:
            yield news
        finally:
            self._watchers.discard(wakeup)

    def _message(self, facts: Database) -> tuple[Database, database_pb2.Database]:
        # The same facts keep the same message, so that views compare by identity.
        held = self._messages.get(facts.name)
        return held if held is not None and held[0] == facts else (facts, convert.database(facts))


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Serves tollbridge.v1.CatalogService."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ListDatabases(  # noqa: N802 - the contract's name
        self, request: pb.ListDatabasesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListDatabasesResponse:
        """One page."""
        return page(self._catalog.view(identity.current_caller()), request.page_size, request.page_token)

    async def WatchDatabases(  # noqa: N802 - the contract's name
        self, request: pb.WatchDatabasesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WatchDatabasesResponse]:
        """Everything, then every change, until the client leaves or the broker stops."""
        caller = identity.current_caller()
        shown: CallerView | None = None
        with self._catalog.watching() as news:
            while True:
                view = self._catalog.view(caller)
                for message in difference(shown, view):
                    yield message
                shown = view
                if not await news():
                    return


def difference(shown: CallerView | None, view: CallerView) -> Iterator[pb.WatchDatabasesResponse]:
    """What a watcher that was shown `shown` must hear to know `view`. None: it knows nothing yet."""
    if view is shown:
        return
    version = view.policy_version
    before = shown.databases if shown is not None else {}
    if shown is not None and shown.policy_version != version:
        yield pb.WatchDatabasesResponse(policy_changed=pb.PolicyChanged(), policy_version=version)
    for name in before.keys() - view.databases.keys():
        yield pb.WatchDatabasesResponse(delete=name, policy_version=version)
    for name, message in view.databases.items():
        if before.get(name) is not message:
            yield pb.WatchDatabasesResponse(upsert=message, policy_version=version)
    if shown is None:
        yield pb.WatchDatabasesResponse(synced=pb.Synced(), policy_version=version)


def page(view: CallerView, size: int, token: str) -> pb.ListDatabasesResponse:
    """The entries after the one that `token` names. Raises INVALID_REQUEST."""
    if size < 0:
        raise BrokerError(Reason.INVALID_REQUEST, "page_size must not be negative")
    size = min(size or DEFAULT_PAGE, MAX_PAGE)
    names = list(view.databases)
    start = bisect_right(names, _decode(token)) if token else 0
    answer = pb.ListDatabasesResponse()
    total = 0
    for index in range(start, min(start + size, len(names))):
        message = view.databases[names[index]]
        total += message.ByteSize()
        if total > MAX_PAGE_BYTES and answer.databases:
            break
        answer.databases.append(message)
    if start + len(answer.databases) < len(names):
        answer.next_page_token = base64.urlsafe_b64encode(answer.databases[-1].name.encode()).decode()
    return answer


def _decode(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BrokerError(Reason.INVALID_REQUEST, "page_token is not one that this broker gave out") from error
