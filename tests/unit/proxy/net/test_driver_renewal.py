"""A grant for a session that runs: shown to the server of its login alone, and not piled up."""

from __future__ import annotations

import gc

import pytest

from proxy.errors import LocalFault, Refused
from proxy.model import Location, SealedGrant
from proxy.net.dial import Dialer
from proxy.net.driver import Driver, Services
from proxy.net.events import LoginFacts
from proxy.net.sessions import Sessions
from proxy.net.tls import UpstreamTls
from proxy.script import UPSTREAM, Connect, RequestGrant, Reveal, Script, StartTls
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.peer import Peer, serving
from tests.support.stage import HOST, echo, until
from tests.support.toy import ToyGrants
from tollbridge.model import Endpoint, TlsFacts, TrustStore
from tollbridge.reasons import Reason


def login() -> Script[str]:
    """To the end of an upstream half."""
    grant = yield RequestGrant("spiffe://td/app", "orders", "app", "")
    yield Connect()
    yield StartTls(UPSTREAM)
    password: str = yield Reveal(grant)
    return password


async def test_a_renewal_is_for_the_server_of_the_login(ca: TestCa) -> None:
    """However often one is asked for, one grant is kept; a database that has moved since gets none."""
    context = ca.server_context(HOST)

    async def database(peer: Peer) -> None:
        await peer.tls(context, server=True)
        await echo(peer)

    async with serving(database) as server:
        grants = ToyGrants(Endpoint(host=HOST, port=5432), TlsFacts(trust_store=TrustStore.INLINE, ca_pem=ca.pem))
        shared = Services(
            grants=grants,
            catalog=grants,
            dialer=Dialer(dial={HOST: f"127.0.0.1:{server.port}"}, connect_seconds=1.0),
            upstream_tls=UpstreamTls(),
            sessions=Sessions(),
            clock=FakeClock(),
        )
        subject = Driver(shared, facts=LoginFacts(peer="test", door="test"))
        await subject.run(login(), 3.0)
        for _ in range(20):
            assert await subject.renew() == ("app", ToyGrants.PASSWORD)
        assert subject.facts.decision_id == "d21"
        gc.collect()
        kept = [one for one in gc.get_objects() if isinstance(one, SealedGrant) and one.location is grants.location]
        assert [grant.decision_id for grant in kept] == ["d21"]

        grants.location = Location(
            database="orders", endpoint=Endpoint(host="elsewhere.example", port=5432), tls=grants.location.tls
        )
        with pytest.raises(Refused, match="another endpoint") as caught:
            await subject.renew()
        assert caught.value.reason is Reason.UPSTREAM_TLS_UNVERIFIED
        assert ToyGrants.PASSWORD not in caught.value.message
        if (upstream := subject.upstream) is not None:
            upstream.abort()
            await until(lambda: upstream.lost)


async def test_without_a_login_s_grant_there_is_nothing_to_renew() -> None:
    grants = ToyGrants(Endpoint(host=HOST, port=5432), TlsFacts())
    shared = Services(
        grants=grants,
        catalog=grants,
        dialer=Dialer(dial={}, connect_seconds=1.0),
        upstream_tls=UpstreamTls(),
        sessions=Sessions(),
        clock=FakeClock(),
    )
    with pytest.raises(LocalFault):
        await Driver(shared, facts=LoginFacts(peer="test", door="test")).renew()
