"""Does AWS know a dynamic database under the address it is registered with? Asked before it is registered.

Only where that matters for credentials: a token for a cache, and a password of Redshift, are made for a NAME, which
somebody else's cache or cluster, in an account of his own, may bear too. Its endpoint would fit every grammar. Where
users log in by host (RDS, DSQL, signed requests) a credential is good at its own host alone.

AWS is asked with the session that logins would use. Where that may not list, the grammar has to do, and the log says so
once for each role and product.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from broker.discovery.look import Eyes
from broker.discovery.model import Cell, CellKey, Item, Sighting
from broker.discovery.observers import OBSERVERS
from broker.errors import BrokerError
from broker.model import AccountSession, RegisteredDatabase
from broker.policies.statements import Place
from broker.registry.arns import partition_of_region
from broker.registry.products import IDENTIFIERS
from broker.sessions.errors import SessionGone
from tollbridge.model import Product
from tollbridge.process.settings import Problem
from tollbridge.reasons import Reason

PATIENCE_SECONDS: Final = 6.0
"""An operator's call waits ten."""

_log = logging.getLogger(__name__)


class Verifier:
    """A `broker.registry.registrar.Verify`."""

    def __init__(self, eyes: Eyes, *, seconds: float = PATIENCE_SECONDS) -> None:
        self._eyes = eyes
        self._seconds = seconds
        self._complained: set[tuple[str, Product]] = set()

    async def __call__(self, database: RegisteredDatabase) -> Sequence[Problem]:
        """What keeps it from being registered."""
        facts, access = database.facts, database.access
        if facts.product not in IDENTIFIERS or facts.product not in OBSERVERS:
            return ()
        cell = Cell(
            key=CellKey(role_arn=access.role_arn, region=facts.region, product=facts.product),
            external_id=access.external_id,
            session_duration_seconds=access.session_duration_seconds,
        )
        try:
            async with asyncio.timeout(self._seconds):
                hosts = await self._eyes.with_session(cell, lambda session: self._hosts(cell, session))
        except (BrokerError, TimeoutError) as error:
            self._complain(cell, error.message if isinstance(error, BrokerError) else "AWS did not answer in time")
            return ()
        if facts.endpoint.host in hosts:
            return ()
        message = f"AWS lists no {facts.product} at {facts.endpoint.host} in account {facts.account_id}, {facts.region}"
        hint = "write an endpoint that AWS gives, of one that can be used"
        if names := sorted(hosts)[:3]:
            hint += f": there are {', '.join(names)}{' and others' if len(hosts) > len(names) else ''}"
        return (Problem(path="spec.uri", line=None, message=message, hint=hint),)

    async def _hosts(self, cell: Cell, session: AccountSession) -> frozenset[str]:
        region = cell.key.region
        place = Place(partition=partition_of_region(region), region=region, account_id=session.account_id)
        observer = OBSERVERS[cell.key.product]
        answers: dict[str, Sequence[Item]] = {}
        for listing in observer.listings:
            try:
                answers[listing.operation] = await self._eyes.directory.items(session, place, listing)
            except BrokerError as error:
                denied = listing.optional and error.reason is Reason.CREDENTIAL_DENIED
                if not denied or isinstance(error, SessionGone):
                    raise
                answers[listing.operation] = ()
        return frozenset(seen.host for seen in observer.read(answers) if isinstance(seen, Sighting))

    def _complain(self, cell: Cell, why: str) -> None:
        key = cell.key.role_arn, cell.key.product
        if key not in self._complained:
            self._complained.add(key)
            _log.warning("the address of a dynamic %s database was checked by its form alone: %s", key[1], why)
