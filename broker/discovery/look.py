"""One look at one cell: assume the role, list, read, judge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

from broker.discovery.model import Cell, Directory, Item, Listing, TagCall
from broker.discovery.observers import OBSERVERS
from broker.discovery.observers.reading import Outcome
from broker.discovery.registration import register
from broker.discovery.table import Look
from broker.errors import BrokerError
from broker.model import AccountSession, ChainKey, Hop
from broker.policies.statements import Place
from broker.registry.arns import partition_of_region
from broker.sessions.errors import SessionGone
from broker.sessions.keeper import Verdict
from tollbridge.reasons import Reason

TAG_CALLS_AT_ONCE: Final = 4
"""Per cell: AWS gives these calls some tens a second in an account and region."""

FEW: Final = 50
"""So many resources are read and judged on the loop: a tenth of a millisecond each."""

_T = TypeVar("_T")


class Sessions(Protocol):
    """What a look needs of `broker.sessions.pool.Pool`."""

    async def session(self, key: ChainKey, *, need_seconds: float = 0.0) -> AccountSession:
        """The session a chain leads to. Raises BrokerError."""
        ...

    async def reject(self, key: ChainKey, access_key_id: str) -> Verdict:
        """AWS refused what that session signed: ask whether it lives. Raises BrokerError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Eyes:
    """What every look needs."""

    sessions: Sessions
    directory: Directory
    broker_name: str
    """Session name, as in logins: so that they share sessions."""
    sts_region: str
    name_tag: str = ""

    async def look(self, cell: Cell) -> Look:
        """Everything in the cell. Raises BrokerError; nothing is known then, not even half of it."""
        return await self.with_session(cell, lambda session: self._look(cell, session))

    async def with_session(self, cell: Cell, work: Callable[[AccountSession], Awaitable[_T]]) -> _T:
        """Do something with the cell's session, once more when that one turns out dead. Raises BrokerError."""
        key = chain(cell, broker_name=self.broker_name, sts_region=self.sts_region)
        session = await self.sessions.session(key)
        try:
            return await work(session)
        except SessionGone:
            if not key.hops or await self.sessions.reject(key, session.access_key_id) is Verdict.ALIVE:
                raise
        return await work(await self.sessions.session(key))

    async def _look(self, cell: Cell, session: AccountSession) -> Look:
        place = Place(
            partition=partition_of_region(cell.key.region), region=cell.key.region, account_id=session.account_id
        )
        observer = OBSERVERS[cell.key.product]
        notes: list[str] = []
        answers: dict[str, Sequence[Item]] = {}
        for listing in observer.listings:
            answers[listing.operation] = await self._list(session, place, listing, notes)
        many = sum(len(items) for items in answers.values()) > FEW
        outcomes = await _worked(many, lambda: list(observer.read(answers)))
        if observer.tags is not None:
            outcomes = await _Tags(self.directory, session, place, observer.tags).read(outcomes, notes)
        registered, skipped = await _worked(many, lambda: register(outcomes, cell, place, name_tag=self.name_tag))
        return Look(account_id=session.account_id, registered=registered, skipped=skipped, notes=notes)

    async def _list(self, session: AccountSession, place: Place, listing: Listing, notes: list[str]) -> Sequence[Item]:
        try:
            return await self.directory.items(session, place, listing)
        except BrokerError as error:
            if not (listing.optional and error.reason is Reason.CREDENTIAL_DENIED) or isinstance(error, SessionGone):
                raise
            notes.append(error.message)
            return ()


async def _worked(in_thread: bool, work: Callable[[], _T]) -> _T:
    """Pure work, off the loop where it would hold up logins."""
    return await asyncio.to_thread(work) if in_thread else work()


def chain(cell: Cell, *, broker_name: str, sts_region: str) -> ChainKey:
    """The session that looks: the very one that logins of databases without attribution use."""
    key = cell.key
    hops: tuple[Hop, ...] = ()
    if key.role_arn:
        hops = (
            Hop(
                role_arn=key.role_arn,
                session_name=broker_name,
                duration_seconds=cell.session_duration_seconds,
                external_id=cell.external_id,
            ),
        )
    return ChainKey(partition=partition_of_region(key.region), sts_region=sts_region, hops=hops)


@dataclass(slots=True)
class _Tags:
    """Reads the tags that listings leave out, some at a time, until AWS denies it."""

    directory: Directory
    session: AccountSession
    place: Place
    call: TagCall
    found: dict[str, Mapping[str, str]] = field(default_factory=dict)
    failure: BrokerError | None = None
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TAG_CALLS_AT_ONCE))

    async def read(self, outcomes: Sequence[Outcome], notes: list[str]) -> list[Outcome]:
        """The same, with tags; without, and a note, where AWS denies to tell them. Raises BrokerError for the rest."""
        async with asyncio.TaskGroup() as group:
            for arn in sorted({outcome.arn for outcome in outcomes if outcome.tags is None and outcome.arn}):
                group.create_task(self._one(arn), name="discovery: tags")
        if self.failure is not None:
            if self.failure.reason is not Reason.CREDENTIAL_DENIED or isinstance(self.failure, SessionGone):
                raise self.failure
            notes.append(f"tags are no labels here: {self.failure.message}")
        return [
            replace(outcome, tags=self.found[outcome.arn])
            if outcome.tags is None and outcome.arn in self.found
            else outcome
            for outcome in outcomes
        ]

    async def _one(self, arn: str) -> None:
        async with self.room:
            if self.failure is not None:  # what one is refused, the others would be
                return
            try:
                self.found[arn] = await self.directory.tags(self.session, self.place, self.call, arn)
            except BrokerError as error:
                self.failure = error
