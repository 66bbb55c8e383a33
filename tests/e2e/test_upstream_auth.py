"""The ways PostgreSQL asks for a password, each against the real server: clear text, MD5, SCRAM.

IAM uses the first alone; RDS Proxy asks for the others too. The engine's own upstream script runs over the proxy's own
sockets and TLS; only the broker is missing: a stub hands out the password as the credential.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.sandbox.world import World
from proxy.engines.postgres import PostgresEngine
from proxy.errors import Refused
from proxy.model import Location, SealedGrant
from proxy.net.dial import Dialer, Observer
from proxy.net.driver import Driver, Services
from proxy.net.events import LoginFacts
from proxy.net.sessions import Address, Sessions
from proxy.net.tls import TrustStores, UpstreamTls
from proxy.net.transport import Link
from tests.support.clock import FakeClock
from tests.support.proofs import NoProofs
from tollbridge.model import Credential, Endpoint, TlsFacts, Token, TrustStore
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

USERS = ("cleartextuser", "md5user", "scramuser")


@dataclass(frozen=True, slots=True)
class Passwords(NoProofs):
    """Grants and locations of one server, with passwords for credentials."""

    world: World
    passwords: dict[str, str]

    def locate(self, database: str) -> Location:
        facts = self.world.database(database)
        return Location(
            database=database,
            endpoint=Endpoint(host=facts.host, port=facts.port),
            tls=TlsFacts(trust_store=TrustStore.AWS_RDS),
        )

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
    ) -> tuple[SealedGrant, Credential]:
        number = "second" if rejected else "first"
        grant = SealedGrant(
            location=self.locate(database),
            decision_id=f"{workload} as {db_user} in {db_name}",
            credential_id=number,
            user=db_user,
            reused=False,
        )
        return grant, Token(user=db_user, password=Secret(self.passwords[db_user]))


class RememberingDialer(Dialer):
    """Keeps what it dialled, for a clean end: the proxy's own loop outlives its connections, a test's does not."""

    def __init__(self, world: World) -> None:
        super().__init__(dial=world.dial)
        self.links: list[Link] = []

    async def connect(
        self, endpoint: Endpoint, pinned: Address | None = None, observer: Observer | None = None
    ) -> tuple[Link, Address]:
        link, address = await super().connect(endpoint, pinned, observer)
        self.links.append(link)
        return link, address


async def probe(world: World, passwords: dict[str, str], user: str) -> str:
    """Log in upstream as a user, ask for one row, say goodbye."""
    known, dialer = Passwords(world, passwords), RememberingDialer(world)
    services = Services(
        grants=known,
        catalog=known,
        dialer=dialer,
        upstream_tls=UpstreamTls(TrustStores(aws_rds=Path(world.ca_cert_file))),
        sessions=Sessions(),
        clock=FakeClock(datetime.now(UTC)),
    )
    driver = Driver(services, facts=LoginFacts(peer="test", door="test"))
    script = PostgresEngine().probe(workload="test", database="rds-postgres", db_user=user, db_name="app")
    try:
        return await driver.run(script, 10)
    finally:
        for link in dialer.links:
            closed = asyncio.Event()
            link.when_closed(closed.set)
            link.abort()
            if not link.lost:
                await closed.wait()


@pytest.mark.parametrize("user", USERS)
async def test_the_right_password_gets_in(world: World, user: str) -> None:
    assert (await probe(world, world.password_users, user)).startswith("PostgreSQL 15")


@pytest.mark.parametrize("user", USERS)
async def test_a_wrong_password_is_refused_after_one_more_try(world: World, user: str) -> None:
    with pytest.raises(Refused) as caught:
        await probe(world, {user: "wrong"}, user)
    assert caught.value.reason is Reason.DATABASE_REFUSED
    assert "28P01" in caught.value.message
    assert "wrong" not in caught.value.message


async def test_a_long_scram_password_with_every_kind_of_character(world: World) -> None:
    """Wrong, but computed: SASLprep and base64 meet no character they cannot take."""
    with pytest.raises(Refused) as caught:
        await probe(world, {"scramuser": "pä$$ wörd,=\u00ad\u2028" * 40}, "scramuser")
    assert "28P01" in caught.value.message
