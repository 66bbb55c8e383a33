"""What operators do to the registry: look, create, change, delete. Who may, was asked before only in general; for which
databases is asked here, by their labels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from broker.access.operators import Operators, Power
from broker.audit import UNKNOWN, Audit
from broker.errors import BrokerError, DocumentRefused
from broker.model import Origin, RegisteredDatabase
from broker.registry.documents import Judged, Terms, judge, text_of, with_revision
from broker.registry.dynamic import DynamicDatabases, Entry
from broker.registry.snapshot import Snapshot, longer_name
from broker.registry.sources import Sources
from broker.registry.store import DATABASES, Change, Conflict, Item, StoreError
from tollbridge.clock import Clock
from tollbridge.process.settings import Problem
from tollbridge.reasons import Reason

MAX_DOCUMENT_BYTES: Final = 48 * 1024
"""The page's example has 800; a request has 64 KB by default."""
MAX_DATABASES: Final = 20_000
"""Stored ones: each broker judges all of them when its configuration changes, at some milliseconds each."""
_ATTEMPTS: Final = 4
"""Of a change that is to happen whatever the revision, while others change the same."""

Verify = Callable[[RegisteredDatabase], Awaitable[Sequence[Problem]]]
"""What AWS says against a database that is about to be registered; nothing when it could not be asked."""


async def unverified(_database: RegisteredDatabase) -> Sequence[Problem]:
    """The `Verify` of a broker that asks nobody."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A database as it is registered with this broker."""

    name: str
    origin: Origin
    write: Callable[[], str] = field(compare=False, repr=False)
    """Writes it as a document. Some tenths of a millisecond, so that only what is shown is written."""
    labels: dict[str, str]
    served: RegisteredDatabase | None = None
    """As it is served, perhaps under a longer name."""
    role_arn: str = ""
    account_link: str = ""
    revision: int = 0
    problems: tuple[Problem, ...] = ()
    errors: bool = False
    """The problems keep it from being served; else they are warnings."""
    written_at: datetime | None = None
    written_by: str = ""

    @property
    def document(self) -> str:
        """As a `kind: db` document."""
        return self.write()


class Registrar:
    """The use cases of RegistryService."""

    def __init__(
        self,
        *,
        sources: Sources,
        terms: Callable[[], Terms],
        operators: Callable[[], Operators],
        audit: Audit,
        clock: Clock,
        dynamic: DynamicDatabases | None = None,
        verify: Verify = unverified,
    ) -> None:
        self._sources = sources
        self._terms = terms
        self._operators = operators
        self._audit = audit
        self._clock = clock
        self._dynamic = dynamic
        self._verify = verify

    def list(self, caller: str, *, name: str = "") -> list[Registration]:
        """What the caller may see, by name; of one name, what beats the others first. `name`: what may be called so."""
        order = list(Origin)
        found = [entry for entry in self._everything(name) if self._may(caller, Power.VIEW, entry)]
        return sorted(found, key=lambda entry: (entry.name, order.index(entry.origin)))

    def get(self, caller: str, name: str) -> Registration:
        """One, by the name it is registered or served under. Raises DATABASE_UNKNOWN."""
        found = self.list(caller, name=name)
        for entry in found:
            if entry.served is not None and entry.served.name == name:
                return entry
        for entry in found:
            if entry.name == name:
                return entry
        raise _unknown(name)

    async def create(self, caller: str, text: str, *, validate_only: bool = False) -> Registration:
        """Register. Raises BrokerError: DocumentRefused, DATABASE_EXISTS, CALLER_NOT_ALLOWED."""
        judged = await self._judge(caller, text)
        return await self._create(caller, judged, validate_only=validate_only)

    async def update(
        self, caller: str, text: str, *, revision: str = "", allow_missing: bool = False, validate_only: bool = False
    ) -> Registration:
        """Replace. Raises BrokerError: as `create`, DATABASE_UNKNOWN, REVISION_CONFLICT."""
        judged = await self._judge(caller, text)
        wanted = _revision(revision or judged.revision)
        for attempt in range(_ATTEMPTS):
            entry = await self._present(caller, judged.name)
            if entry is None:
                if wanted is None and allow_missing:
                    with suppress(_Taken):
                        return await self._create(caller, judged, validate_only=validate_only, again=True)
                    continue
                raise _unknown(judged.name)
            if wanted is not None and wanted != entry.item.revision:
                raise _stale(judged.name, entry.item)
            if validate_only:
                return self._registration(Entry(entry.item, judged))
            change = Change(name=judged.name, document=judged.text, expected=entry.item.revision)
            try:
                item = await self._write(caller, "update", change, judged)
            except Conflict as conflict:
                self._lost(conflict, final=wanted is not None or attempt == _ATTEMPTS - 1)
                continue
            return self._registration(Entry(item, judged))
        raise _busy(judged.name)

    async def delete(self, caller: str, name: str, *, revision: str = "") -> None:
        """Remove. Raises BrokerError: DATABASE_UNKNOWN, REVISION_CONFLICT, CALLER_NOT_ALLOWED."""
        wanted = _revision(revision)
        for attempt in range(_ATTEMPTS):
            entry = await self._present(caller, name)
            if entry is None:
                raise _unknown(name, self._other_origin(name))
            if wanted is not None and wanted != entry.item.revision:
                raise _stale(name, entry.item)
            change = Change(name=name, document=None, expected=entry.item.revision)
            try:
                await self._write(caller, "delete", change, entry.judged)
            except Conflict as conflict:
                self._lost(conflict, final=wanted is not None or attempt == _ATTEMPTS - 1)
                continue
            return
        raise _busy(name)

    async def _create(self, caller: str, judged: Judged, *, validate_only: bool, again: bool = False) -> Registration:
        dynamic = self._enabled()
        if len(dynamic.entries) >= MAX_DATABASES:
            message = f"the registry holds {MAX_DATABASES} dynamic databases, which is all it takes: delete some"
            raise BrokerError(Reason.BROKER_OVERLOADED, message)
        if validate_only:
            await self._refresh()
            if (entry := dynamic.entries.get(judged.name)) is not None:
                raise _exists(judged.name, entry.item.revision)
            item = Item(name=judged.name, revision=0, document=judged.text, written_at=self._clock.now())
            return self._registration(Entry(item, judged))
        try:
            item = await self._write(
                caller, "create", Change(name=judged.name, document=judged.text, expected=0), judged
            )
        except Conflict as conflict:
            if again:
                raise _Taken from conflict
            raise _exists(judged.name, conflict.found) from conflict
        return self._registration(Entry(item, judged))

    async def _judge(self, caller: str, text: str) -> Judged:
        self._enabled()
        if len(text.encode()) > MAX_DOCUMENT_BYTES:
            raise BrokerError(Reason.INVALID_REQUEST, f"the document is longer than {MAX_DOCUMENT_BYTES} bytes")
        judged = await asyncio.to_thread(judge, text, self._terms())
        if judged.errors or judged.database is None:
            raise DocumentRefused(judged.name, judged.problems)
        self._check(caller, judged.name, judged.labels)
        displaced = self._sources.snapshot.by_name.get(judged.name)
        if displaced is not None and displaced.origin is not Origin.STATIC:
            # Dynamic beats discovered, and the longer name of another that lost its own: whoever takes a name must be
            # allowed to touch whose it is.
            self._check(caller, judged.name, displaced.facts.labels)
        if problems := await self._verify(judged.database):
            raise DocumentRefused(judged.name, problems)
        return judged

    async def _present(self, caller: str, name: str) -> Entry | None:
        """The stored document as of now, which the caller may change."""
        dynamic = self._enabled()
        await self._refresh()
        entry = dynamic.entries.get(name)
        if entry is not None:
            self._check(caller, name, entry.judged.labels)
        return entry

    async def _write(self, caller: str, action: str, change: Change, judged: Judged) -> Item:
        dynamic = self._enabled()
        role = judged.database.access.role_arn if judged.database else ""
        note = partial(self._audit.registry_changed, caller=caller, action=action, database=change.name, role_arn=role)
        try:
            (item,) = await dynamic.store.write(DATABASES, [change], by=caller)
        except (StoreError, asyncio.CancelledError) as error:
            # It may be written all the same: nobody changes anything unseen by leaving before the answer.
            note(at=self._clock.now(), revision=0, result=UNKNOWN)
            if isinstance(error, StoreError):
                raise _unavailable(error) from error
            raise
        note(at=self._clock.now(), revision=item.revision)
        # Served here at once; the others hear of it within a second. That it is written stands, whatever comes now.
        await dynamic.follower.try_refresh()
        return item

    async def _refresh(self) -> None:
        try:
            await self._enabled().follower.refresh()
        except StoreError as error:
            raise _unavailable(error) from error

    def _enabled(self) -> DynamicDatabases:
        if self._dynamic is None:
            raise BrokerError(
                Reason.REGISTRY_DISABLED,
                "this broker takes no dynamic databases: add db_service.resources to its configuration, such as "
                '[{labels: {"*": "*"}}], which says which of them it serves',
            )
        return self._dynamic

    def _check(self, caller: str, name: str, labels: Mapping[str, str]) -> None:
        if not self._operators().may_for(caller, Power.REGISTER, labels):
            shown = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"
            message = (
                f"{caller} may not register database {name!r} with these labels ({shown}): the db_labels of its rows "
                "in operators select other ones"
            )
            reason = Reason.CALLER_NOT_ALLOWED
            self._audit.registry_refused(
                at=self._clock.now(), caller=caller, database=name, reason=reason, message=message
            )
            metadata = {"caller": caller, "database": name, "power": Power.REGISTER.value}
            raise BrokerError(reason, message, metadata=metadata)

    def _lost(self, conflict: Conflict, *, final: bool) -> None:
        if final:
            raise _stale_at(conflict.name, conflict.found, deleted=conflict.deleted) from conflict

    def _may(self, caller: str, power: Power, entry: Registration) -> bool:
        return self._operators().may_for(caller, power, entry.labels)

    def _everything(self, name: str) -> Iterator[Registration]:
        snapshot, links = self._sources.snapshot, self._terms().links
        for origin in (Origin.STATIC, Origin.DISCOVERED):
            for database in self._sources.of(origin):
                if not name.startswith(database.name) and name:  # a longer name begins with what it was made from
                    continue
                link = links.find(database.access.role_arn, origin)
                yield Registration(
                    name=database.name,
                    origin=origin,
                    write=partial(text_of, database),
                    labels=dict(database.facts.labels),
                    served=served_as(snapshot, database),
                    role_arn=database.access.role_arn,
                    account_link=link.name if link else "",
                    problems=_renamed(snapshot, database),
                )
        if self._dynamic is not None:
            for stored, entry in self._dynamic.entries.items():
                if name.startswith(stored) or not name:
                    yield self._registration(entry)

    def _registration(self, entry: Entry) -> Registration:
        judged, item, snapshot = entry.judged, entry.item, self._sources.snapshot
        problems = judged.problems
        database = judged.database
        link = self._terms().links.find(database.access.role_arn, Origin.DYNAMIC) if database else None
        if database is not None:
            problems += _renamed(snapshot, database) if judged.selected else (_unselected(judged),)
        return Registration(
            name=item.name,
            origin=Origin.DYNAMIC,
            write=partial(with_revision, item.document, item.revision) if item.revision else lambda: item.document,
            labels=dict(judged.labels),
            served=served_as(snapshot, database) if database and judged.selected else None,
            role_arn=database.access.role_arn if database else "",
            account_link=link.name if link else "",
            revision=item.revision,
            problems=problems,
            errors=judged.errors,
            written_at=item.written_at,
            written_by=item.written_by,
        )

    def _other_origin(self, name: str) -> Origin | None:
        found = self._sources.snapshot.by_name.get(name)
        return found.origin if found else None


class _Taken(Exception):
    """Somebody created it in between."""


def served_as(snapshot: Snapshot, database: RegisteredDatabase) -> RegisteredDatabase | None:
    """The database as the snapshot serves it: under its own name, a longer one, or not at all."""
    for name in (database.name, longer_name(database.facts)):
        found = snapshot.by_name.get(name)
        # Not their labels: what is served has those of AWS beside its own.
        if found is not None and _same(found, database):
            return found
    return None


def _same(one: RegisteredDatabase, other: RegisteredDatabase) -> bool:
    return (one.facts.endpoint, one.origin, one.access, one.facts.product, one.facts.region) == (
        other.facts.endpoint,
        other.origin,
        other.access,
        other.facts.product,
        other.facts.region,
    )


def _renamed(snapshot: Snapshot, database: RegisteredDatabase) -> tuple[Problem, ...]:
    winner = snapshot.by_name.get(database.name)
    served = served_as(snapshot, database)
    if winner is None or (served is not None and served.name == database.name):
        return ()
    how = f"it is served as {served.name!r}" if served else "it is not served: the longer name is taken too"
    message = f"a {winner.origin} database already has the name {database.name!r}: {how}"
    return (Problem(path="metadata.name", line=None, message=message, hint="give one of them another name"),)


def _unselected(judged: Judged) -> Problem:
    message = f"no resource selector of this broker selects database {judged.name!r}: it is stored, not served here"
    hint = "give it labels that db_service.resources selects, or add a selector"
    return Problem(path="metadata.labels", line=None, message=message, hint=hint)


def _revision(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise BrokerError(Reason.INVALID_REQUEST, f"revision {text[:40]!r} is none that a broker gave out")
    return int(text)


def _unknown(name: str, origin: Origin | None = None) -> BrokerError:
    message = f"no database {name[:100]!r} is registered"
    if origin is Origin.STATIC:
        message = f"database {name!r} is not dynamic: it stands in the broker's configuration file, remove it there"
    elif origin is Origin.DISCOVERED:
        message = f"database {name!r} is not dynamic: discovery found it; `forget` removes one that is gone from AWS"
    return BrokerError(Reason.DATABASE_UNKNOWN, message, metadata={"database": name[:100]})


def _exists(name: str, revision: int) -> BrokerError:
    return BrokerError(
        Reason.DATABASE_EXISTS,
        f"dynamic database {name!r} exists already, at revision {revision}: update it, or choose another name",
        metadata={"database": name, "revision": str(revision)},
    )


def _stale(name: str, item: Item) -> BrokerError:
    return _stale_at(name, item.revision, deleted=item.deleted)


def _stale_at(name: str, revision: int, *, deleted: bool) -> BrokerError:
    now = "is deleted" if deleted else f"is at revision {revision}"
    return BrokerError(
        Reason.REVISION_CONFLICT,
        f"dynamic database {name!r} {now}: somebody else was first; get it again, and make the change to that",
        metadata={"database": name, "revision": "" if deleted else str(revision)},
    )


def _busy(name: str) -> BrokerError:
    return BrokerError(
        Reason.REVISION_CONFLICT, f"dynamic database {name!r} keeps changing: try again", metadata={"database": name}
    )


def _unavailable(error: StoreError) -> BrokerError:
    return BrokerError(Reason.REGISTRY_UNAVAILABLE, f"the registry's store does not answer: {error}")
