"""What every login of a process shares, and who answers a script's questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.model import Location, SealedGrant
from proxy.net.dial import Dialer
from proxy.net.facts import EndpointFacts
from proxy.net.gate import Gate, Slot
from proxy.net.sessions import Sessions
from proxy.net.shared.trunks import Trunks
from proxy.net.tls import UpstreamTls
from tollbridge.clock import Clock
from tollbridge.model import Credential, StsChallenge, StsProof


class Grants(Protocol):
    """Who answers RequestGrant."""

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
    ) -> tuple[SealedGrant, Credential]:
        """A grant and its credential, apart. Raises Refused.

        `rejected` is the credential_id of a grant whose credential the database has refused, or empty.
        """
        ...

    async def sign_challenge(
        self, *, workload: str, database: str, db_user: str, db_name: str, challenge: StsChallenge
    ) -> StsProof:
        """The proof that a server asks for, where a grant's credential is a Challenge. Never kept. Raises Refused."""
        ...


class Catalog(Protocol):
    """Who answers Locate."""

    def locate(self, database: str) -> Location:
        """Where a database is. Raises Refused."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What every login of a process shares."""

    grants: Grants
    catalog: Catalog
    dialer: Dialer
    upstream_tls: UpstreamTls
    sessions: Sessions
    clock: Clock
    facts: EndpointFacts = field(default_factory=EndpointFacts)
    """What servers that speak first were last heard to say."""
    gate: Gate = field(default_factory=Gate)
    """How many connections each database bears, and how fast they may come."""
    trunks: Trunks = field(default_factory=Trunks)
    """Connections that clients share."""

    async def place(self, database: str, *, wait_seconds: float, alive: Callable[[], bool]) -> Slot:
        """As the gate's `enter`. Where no place is free, a shared connection that is only kept gives up its own."""
        if self.gate.full(database):
            self.trunks.make_room(database)
        return await self.gate.enter(database, wait_seconds=wait_seconds, alive=alive)
