"""Asks AWS about registered databases: once when one is about to be registered, and from time to time for labels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.discovery.inspection import Inspection, Question, Verdict, absent, enriched, judge, question, tag_call
from broker.discovery.look import Eyes
from broker.discovery.model import Cell, CellKey
from broker.errors import BrokerError
from broker.model import AccountSession, Origin, RegisteredDatabase
from broker.policies.statements import Place
from broker.registry.products import IDENTIFIERS
from broker.sessions.errors import SessionGone
from tollbridge.clock import Clock
from tollbridge.process.settings import Problem
from tollbridge.reasons import Reason

VERIFY_SECONDS: Final = 6.0
"""Whoever registers a database waits ten."""
FRESH_SECONDS: Final = 1800.0
RETRY_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 5.0
"""How often the registry is looked through for what was not asked about yet."""
AT_ONCE: Final = 4

_log = logging.getLogger(__name__)

Subject = tuple[object, ...]


@dataclass(slots=True)
class _Seen:
    inspection: Inspection
    until: float


class Inspector:
    """`verify` for one, `run()` for all of the registry. Lives on one event loop."""

    def __init__(
        self,
        eyes: Eyes,
        *,
        registered: Callable[[], Iterable[RegisteredDatabase]],
        changed: Callable[[], None],
        clock: Clock,
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        verify_seconds: float = VERIFY_SECONDS,
    ) -> None:
        """`registered`: the static and dynamic databases; `changed` is called when `enrich` would answer otherwise."""
        self._eyes = eyes
        self._registered = registered
        self._changed = changed
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep
        self._verify_seconds = verify_seconds
        self._seen: dict[Subject, _Seen] = {}
        self._warned: set[tuple[str, str]] = set()

    def enrich(self, database: RegisteredDatabase) -> RegisteredDatabase | None:
        """With labels and identifiers that AWS tells; None for one that must not be served (`refused`)."""
        seen = self._seen.get(subject(database))
        if seen is None:
            return database
        if refused(database, seen.inspection):
            return None
        return enriched(database, seen.inspection)

    async def verify(self, database: RegisteredDatabase) -> Sequence[Problem]:
        """What AWS says against a database that is about to be registered; nothing when it cannot be asked.

        A `broker.registry.registrar.Verify`.
        """
        try:
            async with asyncio.timeout(self._verify_seconds):
                inspection = await self.inspect(database)
        except TimeoutError:
            return ()
        self._warn(database, inspection)
        if not refused(database, inspection):
            return ()
        hint = "register the endpoint that AWS names, in the account and region it is in"
        return (Problem(path="spec.uri", line=None, message=inspection.why, hint=hint),)

    async def inspect(self, database: RegisteredDatabase) -> Inspection:
        """What AWS says of it, now. Never raises BrokerError: what cannot be asked is judged by its form."""
        asked = question(database)
        if asked is None:
            return Inspection(verdict=Verdict.BY_GRAMMAR, why="AWS has no call that tells its endpoint")
        access = database.access
        cell = Cell(
            key=CellKey(role_arn=access.role_arn, region=database.facts.region, product=database.facts.product),
            external_id=access.external_id,
            session_duration_seconds=access.session_duration_seconds,
        )
        place = Place(partition=access.partition, region=database.facts.region, account_id=database.facts.account_id)
        try:
            return await self._eyes.with_session(cell, lambda session: self._ask(session, place, asked, database))
        except BrokerError as error:
            if "NotFound" in error.metadata.get("aws_code", ""):
                return absent(asked, database)
            denied = asked.listing.permission if error.reason is Reason.CREDENTIAL_DENIED else ""
            return Inspection(verdict=Verdict.BY_GRAMMAR, why=error.message, denied=denied)

    async def run(self) -> None:
        """Ask about everything registered, each in its turn. Ends by cancellation only."""
        while True:
            try:
                await self.round()
            except Exception:  # noqa: BLE001 - a bug here must not end a broker whose logins go on
                _log.exception("asking AWS about registered databases failed for a reason nobody foresaw")
            await self._sleep(LOOK_SECONDS * (0.5 + self._jitter()))

    async def round(self) -> None:
        """Ask about what is new, and what was asked long ago."""
        databases = {subject(database): database for database in self._registered()}
        gone = self._seen.keys() - databases.keys()
        for key in gone:
            del self._seen[key]
        now = self._clock.monotonic()
        due = [
            database
            for key, database in databases.items()
            if (seen := self._seen.get(key)) is None or now >= seen.until
        ]
        room = asyncio.Semaphore(AT_ONCE)
        told: list[bool] = []

        async def one(database: RegisteredDatabase) -> None:
            async with room:
                told.append(self._note(database, await self.inspect(database)))

        async with asyncio.TaskGroup() as group:
            for database in due:
                group.create_task(one(database), name="inspect a database")
        if any(told):
            self._changed()

    async def _ask(
        self, session: AccountSession, place: Place, asked: Question, database: RegisteredDatabase
    ) -> Inspection:
        directory = self._eyes.directory
        inspection = judge(asked, await directory.items(session, place, asked.listing), database)
        call = tag_call(asked)
        if inspection.verdict is not Verdict.CONFIRMED or call is None or not inspection.arn:
            return inspection
        try:
            tags = await directory.tags(session, place, call, inspection.arn)
        except SessionGone:
            raise
        except BrokerError as error:
            denied = call.action if error.reason is Reason.CREDENTIAL_DENIED else ""
            return replace(inspection, why=f"without tags: {error.message}", denied=denied)
        return replace(inspection, tags=tags)

    def _note(self, database: RegisteredDatabase, inspection: Inspection) -> bool:
        """Remember, and warn where somebody should know; whether anything is other than before."""
        key = subject(database)
        before = self._seen.get(key)
        # What could not be asked this time tells nothing new: labels that rules go by must not flicker.
        keep = before is not None and inspection.verdict is Verdict.BY_GRAMMAR
        kept = before.inspection if before is not None and keep else inspection
        wait = RETRY_SECONDS if inspection.verdict is Verdict.BY_GRAMMAR else FRESH_SECONDS
        self._seen[key] = _Seen(kept, self._clock.monotonic() + wait * (0.8 + 0.4 * self._jitter()))
        self._warn(database, inspection)
        return before is None or before.inspection != kept

    def _warn(self, database: RegisteredDatabase, inspection: Inspection) -> None:
        if inspection.verdict in _WRONG:
            topic, message = (database.name, inspection.why), f"database {database.name!r}: {inspection.why}"
        elif inspection.denied:
            topic = (database.access.role_arn, inspection.denied)
            by_form = inspection.verdict is Verdict.BY_GRAMMAR
            lost = "endpoints are checked by their form alone: " if by_form else "AWS tells of databases "
            message = f"{lost}{inspection.why}"
        else:
            return
        if topic not in self._warned:
            self._warned.add(topic)
            _log.warning("%s", message)


def refused(database: RegisteredDatabase, inspection: Inspection) -> bool:
    """Whether a database must not be served because AWS says that its endpoint is another's.

    Only where a credential is made for a name that is not the host's: a token for a cache, a password of Redshift.
    Somebody else's cache, in an account of his own, may bear that name too, and its host fits every grammar. Where
    users log in by host a credential is good at its own host alone. Static configuration is the operator's own word.
    """
    return (
        inspection.verdict in _WRONG and database.origin is not Origin.STATIC and database.facts.product in IDENTIFIERS
    )


def subject(database: RegisteredDatabase) -> Subject:
    """What an inspection is about."""
    facts, access = database.facts, database.access
    ids = tuple(sorted(database.resource_ids.items()))
    return database.origin, database.name, facts.product, facts.endpoint, facts.region, access, ids


_WRONG: Final = frozenset({Verdict.MISMATCH, Verdict.ABSENT})
