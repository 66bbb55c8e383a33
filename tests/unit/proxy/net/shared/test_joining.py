"""Which shared connection a login joins, how one is made once for many, and what an engine cannot get wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import LocalFault, Refused
from proxy.model import SealedGrant
from proxy.multiplex import SharedLogin
from proxy.net.dial import Dialer
from proxy.net.driver import Driver
from proxy.net.events import LoginFacts
from proxy.net.gate import Gate
from proxy.net.services import Services
from proxy.net.sessions import Sessions
from proxy.net.shared.trunk import Trunk
from proxy.net.tls import UpstreamTls
from proxy.script import UPSTREAM, Script, connect, receive, request_grant, reveal, send, share, start_tls
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.peer import Peer, Server, serving
from tests.support.stage import HOST, proxy_stage, toy_login, until
from tests.support.toy import ToyGrants
from tests.support.toy_shared import FAR, SharingToy, ToyAnswers, answer, ask, by_hand
from tollbridge.model import Credential, Endpoint, TlsFacts, TlsMode, TrustStore
from tollbridge.reasons import Reason

WHO = {"workload": "spiffe://td/app", "database": "orders", "db_user": "app", "db_name": ""}


class Grants(ToyGrants):
    """As the toy's, for a database of any name."""

    async def request(self, **asked: Any) -> tuple[SealedGrant, Credential]:
        grant, credential = await super().request(**asked)
        return replace(grant, location=replace(self.location, database=asked["database"])), credential


class House:
    """Drivers that share the services of one process."""

    def __init__(self, ca: TestCa, server: Server) -> None:
        self.server = server
        self.longest_seconds: float | None = None
        self.grants = Grants(Endpoint(host=HOST, port=1), TlsFacts(trust_store=TrustStore.INLINE, ca_pem=ca.pem))
        self.services = Services(
            grants=self.grants,
            catalog=self.grants,
            dialer=Dialer(dial={HOST: f"127.0.0.1:{server.port}"}, connect_seconds=10.0),
            upstream_tls=UpstreamTls(),
            sessions=Sessions(),
            clock=FakeClock(),
            gate=Gate(),
        )

    def driver(self) -> Driver:
        """Of one login."""
        self.last = Driver(self.services, facts=LoginFacts(peer="test", door="test"))
        self.last.joining.longest = lambda database: self.longest_seconds
        return self.last

    async def joined(self, log_in: Any = None, *, kind: str = "toy", **who: str) -> Trunk:
        """What a login of this kind shares."""
        asked = WHO | who

        def script() -> Script[SharedLogin]:
            grant = yield from request_grant(**asked)
            return (yield from share(grant, kind=kind, log_in=log_in or (lambda: toy(asked))))

        driver = self.driver()
        await driver.run(script(), 5.0)
        assert driver.joining.trunk is not None
        return driver.joining.trunk


def toy(asked: dict[str, str], *, encrypt: bool = True) -> Script[SharedLogin]:
    """The toy's login at its database."""
    grant = yield from request_grant(**asked)
    yield from SharingToy()._upstream(grant) if encrypt else connect()
    return shared()


def shared() -> SharedLogin:
    """What a login finds."""
    return SharedLogin(answers=ToyAnswers(), user="app", greeting=b"", retire_at=FAR)


@pytest.fixture
async def house(ca: TestCa) -> AsyncIterator[House]:
    async def database(peer: Peer) -> None:
        await toy_login(peer, ca.server_context(HOST))
        await peer.to_end()

    async with serving(database) as server:
        house = House(ca, server)
        yield house
        await house.services.trunks.aclose()


async def test_who_asks_for_the_same_shares(house: House) -> None:
    assert await house.joined() is await house.joined()
    assert house.server.accepted == 1


@pytest.mark.parametrize(
    "other",
    [
        {"workload": "spiffe://td/other"},
        {"database": "stock"},
        {"db_user": "root"},
        {"db_name": "secret"},
        {"kind": "toy of another version"},
    ],
    ids=str,
)
async def test_who_asks_for_anything_else_does_not(house: House, other: dict[str, str]) -> None:
    one, two = await house.joined(), await house.joined(**other)
    assert one is not two
    assert one is await house.joined()
    assert house.server.accepted == house.services.trunks.connections == 2


async def test_a_database_that_has_moved_is_another(house: House) -> None:
    one = await house.joined()
    moved = Endpoint(host="moved.example", port=1)
    tls = replace(house.grants.location.tls, server_name=HOST)
    house.grants.location = replace(house.grants.location, endpoint=moved, tls=tls)
    dialer = Dialer(dial={"moved.example": f"127.0.0.1:{house.server.port}"}, connect_seconds=10.0)
    house.services = replace(house.services, dialer=dialer)
    assert await house.joined() is not one


@pytest.mark.parametrize("field", ["workload", "database", "db_user", "db_name"])
async def test_a_connection_is_made_for_those_who_will_share_it(house: House, field: str) -> None:
    with pytest.raises(LocalFault, match="grant for others"):
        await house.joined(lambda: toy(WHO | {field: "somebody else"}))
    assert house.services.trunks.connections == house.server.accepted == 0


async def test_a_connection_is_shared_only_on_verified_tls(house: House) -> None:
    with pytest.raises(LocalFault, match="verified TLS"):
        await house.joined(lambda: toy(WHO, encrypt=False))
    assert house.services.trunks.connections == 0


async def test_a_connection_needs_a_grant_of_its_own(house: House) -> None:
    def ungranted() -> Script[SharedLogin]:
        if False:
            yield
        return shared()

    with pytest.raises(LocalFault, match="without a grant"):
        await house.joined(ungranted)


async def test_who_was_not_given_the_grant_does_not_join(house: House) -> None:
    await house.joined()
    grant, _ = await house.grants.request(**WHO, rejected="")

    def script() -> Script[SharedLogin]:
        yield from request_grant(**WHO)
        return (yield from share(grant, kind="toy", log_in=shared))  # type: ignore[arg-type]

    with pytest.raises(LocalFault, match="not given"):
        await house.driver().run(script(), 5.0)


async def test_a_database_that_moves_during_the_login_is_not_joined(house: House) -> None:
    def log_in() -> Script[SharedLogin]:
        yield from request_grant(**WHO)
        yield from connect()
        house.grants.location = replace(house.grants.location, tls=TlsFacts(mode=TlsMode.INSECURE))
        again = yield from request_grant(**WHO)
        yield from connect()
        yield from start_tls_of_toy()
        yield from reveal(again)
        return shared()

    with pytest.raises(Refused, match="another endpoint") as caught:
        await house.joined(log_in)
    assert caught.value.reason is Reason.UPSTREAM_TLS_UNVERIFIED
    await until(lambda: house.services.trunks.connections == 0)


def start_tls_of_toy() -> Script[None]:
    """Its beginning alone."""
    yield from send(UPSTREAM, b"S")
    yield from receive(UPSTREAM, 1)
    yield from start_tls(UPSTREAM)


async def test_many_at_once_are_one_login(ca: TestCa, tmp_path: Path) -> None:
    engine = SharingToy()
    async with proxy_stage(ca, tmp_path, engine=engine, handler=answer) as stage:
        clients = await asyncio.gather(*(stage.login() for _ in range(30)))
        for number, client in enumerate(clients):
            await ask(client, b"%d" % number if number else b"first")
        assert engine.made == stage.database.accepted == 1


async def test_who_waits_shares_a_refusal_and_who_comes_later_does_not(ca: TestCa, tmp_path: Path) -> None:
    engine = SharingToy()
    context = ca.server_context(HOST)
    bad = True
    grants: list[ToyGrants] = []

    async def database(peer: Peer) -> None:
        if bad:
            await peer.exactly(1)
            await until(lambda: grants[0].asked == 6)  # five, and who makes the connection
            for _ in range(20):  # from their grants to where they wait
                await asyncio.sleep(0)
            await peer.send(b"N")
        else:
            await toy_login(peer, context)
            await answer(peer)

    async with proxy_stage(ca, tmp_path, engine=engine, database=database) as stage:
        grants.append(stage.grants)
        waiting = [await stage.dial() for _ in range(5)]
        for client in waiting:
            await client.send(b"\x03app")
        for client in waiting:
            assert await client.to_end() == b"ERR UPSTREAM_PROTOCOL\n"
        assert engine.made == 1
        bad = False
        await ask(await stage.login(), b"a")


async def test_who_waits_tries_again_when_the_first_gives_up(ca: TestCa, tmp_path: Path) -> None:
    engine = SharingToy()
    context = ca.server_context(HOST)
    stuck = True

    async def database(peer: Peer) -> None:
        nonlocal stuck
        if stuck:
            stuck = False
            await peer.to_end()
        else:
            await toy_login(peer, context)
            await answer(peer)

    async with proxy_stage(ca, tmp_path, engine=engine, database=database) as stage:
        first = await stage.dial()
        await first.send(b"\x03app")
        await until(lambda: stage.database.accepted == 1)
        (connection,) = stage.listener._open.values()
        second = await stage.dial()
        await second.send(b"\x03appa\n")
        await until(lambda: stage.grants.asked >= 3)
        connection.end(Refused(Reason.DRAINING, "as a deadline would"))
        assert await first.to_end() == b"ERR DRAINING\n"
        assert await second.exactly(6) == b"OK\n=a\n"
        assert engine.made == 2


async def test_a_login_under_way_when_the_proxy_stops_leaves_no_connection(ca: TestCa, tmp_path: Path) -> None:
    go = asyncio.Event()
    context = ca.server_context(HOST)

    async def database(peer: Peer) -> None:
        await go.wait()
        await toy_login(peer, context)
        await answer(peer)

    async with proxy_stage(ca, tmp_path, engine=SharingToy(), database=database) as stage:
        client = await stage.dial()
        await client.send(b"\x03app")
        await until(lambda: stage.database.accepted == 1)
        await stage.trunks.aclose()
        go.set()
        assert await client.to_end() == b"ERR DRAINING\n"
        await until(lambda: stage.trunks.connections == 0)


async def test_the_place_at_the_database_is_the_connections(ca: TestCa, tmp_path: Path) -> None:
    gate = Gate()
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate) as stage:
        clients = [await stage.login() for _ in range(3)]
        assert gate.turnstiles["orders"].open == 1
        for client in clients:
            await client.finish()
            await client.to_end()
        await until(lambda: len(stage.log.ends) == 3)
        assert gate.turnstiles["orders"].open == 1
        await stage.trunks.aclose()
        assert gate.turnstiles["orders"].open == 0


async def test_a_login_that_fails_gives_its_place_back(ca: TestCa, tmp_path: Path) -> None:
    gate = Gate()

    async def database(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            await peer.exactly(1)
            await peer.send(b"N")

    async with proxy_stage(ca, tmp_path, engine=SharingToy(), database=database, gate=gate) as stage:
        client = await stage.dial()
        await client.send(b"\x03app")
        assert await client.to_end() == b"ERR UPSTREAM_PROTOCOL\n"
        await until(lambda: gate.turnstiles["orders"].open == 0)


async def test_a_server_that_says_more_than_its_login_asked_for_is_not_shared(ca: TestCa, tmp_path: Path) -> None:
    context = ca.server_context(HOST)

    async def database(peer: Peer) -> None:
        await toy_login(peer, context, b"KEY1=unasked\n")
        await by_hand(peer)

    async with proxy_stage(ca, tmp_path, engine=SharingToy(), database=database) as stage:
        client = await stage.dial()
        await client.send(b"\x03app")
        assert await client.to_end() == b"ERR UPSTREAM_PROTOCOL\n"
        assert stage.trunks.clients == 0


async def test_who_may_stay_for_another_time_does_not_share(house: House) -> None:
    """A connection's own time is that of those who share it."""
    usual = await house.joined()
    house.longest_seconds = 60.0
    assert await house.joined() is not usual


async def test_who_shares_holds_no_secret(house: House) -> None:
    """The token that a client was granted is of no use to it on a connection that is there already."""
    await house.joined()
    assert house.last.asked is not None
    assert house.last._vault._held == []


async def test_a_refusal_behind_the_permission_is_known_by_its_own_decision(ca: TestCa, tmp_path: Path) -> None:
    """A client was permitted, and the grant for its connection was not: the audit line names the second."""
    engine = SharingToy()
    async with proxy_stage(ca, tmp_path, engine=engine, handler=answer) as stage:
        ask_once, refusal = stage.grants.request, Refused(Reason.DATABASE_REFUSED, "no", decision_id="d-second")

        async def once(**asked: Any) -> tuple[SealedGrant, Credential]:
            granted = await ask_once(**asked)
            stage.grants.refusal = refusal
            return granted

        stage.grants.request = once  # type: ignore[method-assign]
        client = await stage.dial()
        await client.send(b"\x03app")
        assert await client.to_end() == b"ERR DATABASE_REFUSED\n"
        await until(lambda: stage.log.refusals)
        assert stage.log.refusals[0].facts.decision_id == "d-second"
