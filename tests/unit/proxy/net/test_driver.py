"""What the driver keeps whatever an engine does: deadlines, seals, destinations, the start of TLS."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.errors import LocalFault, PeerClosed, PeerViolation, Refused, Side
from proxy.inbox import INBOX_LIMIT
from proxy.model import Location, SealedGrant
from proxy.net.dial import Dialer, Step
from proxy.net.driver import Driver, Services
from proxy.net.events import LoginFacts
from proxy.net.listener import Limits
from proxy.net.sessions import Address, Place, Sessions
from proxy.net.tls import UpstreamTls
from proxy.script import (
    CLIENT,
    UPSTREAM,
    Connect,
    Locate,
    Now,
    Random,
    Recall,
    Receive,
    RequestGrant,
    Reveal,
    Script,
    Send,
    StartTls,
)
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.peer import Peer, serving
from tests.support.stage import HOST, echo, proxy_stage, toy_login, until
from tests.support.toy import ToyEngine, ToyGrants
from tollbridge.model import Endpoint, TlsFacts, TlsMode, TrustStore
from tollbridge.reasons import Reason

ASK = RequestGrant("spiffe://td/app", "orders", "app", "")


def services(ca: TestCa, port: int, *, tls: TlsFacts | None = None, sessions: Sessions | None = None) -> Services:
    grants = ToyGrants(Endpoint(host=HOST, port=5432), tls or TlsFacts(trust_store=TrustStore.INLINE, ca_pem=ca.pem))
    return Services(
        grants=grants,
        catalog=grants,
        dialer=Dialer(dial={HOST: f"127.0.0.1:{port}"}, connect_seconds=1.0),
        upstream_tls=UpstreamTls(),
        sessions=sessions or Sessions(),
        clock=FakeClock(),
    )


class Steps:
    """An observer that keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Step] = []

    def step(self, step: Step) -> None:
        self.seen.append(step)


def driver(shared: Services, observer: Steps | None = None) -> Driver:
    return Driver(shared, facts=LoginFacts(peer="test", door="test"), observer=observer)


async def drive(shared: Services, script: Script[object], seconds: float = 3.0) -> object:
    subject = driver(shared)
    try:
        return await subject.run(script, seconds)
    finally:
        if (upstream := subject.upstream) is not None:
            upstream.abort()
            await until(lambda: upstream.lost)


async def test_probe_runs_the_upstream_half_and_shows_its_steps(ca: TestCa) -> None:
    context = ca.server_context(HOST)

    async def database(peer: Peer) -> None:
        await toy_login(peer, context)

    async with serving(database) as server:
        steps = Steps()
        subject = driver(services(ca, server.port), steps)
        script = ToyEngine().probe(workload="w", database="orders", db_user="app", db_name="")
        assert await subject.run(script, 3.0) == "ok"
        assert [step.name for step in steps.seen] == ["dns", "tcp", "tls"]
        assert steps.seen[0].detail == f"127.0.0.1:{server.port}"
        assert "name db.example" in steps.seen[2].detail
        assert subject.upstream is not None
        subject.upstream.close()


async def start_tls_then_reveal(
    ca: TestCa, server_context: ssl.SSLContext, grant_tls: TlsFacts | None = None
) -> object:
    async def database(peer: Peer) -> None:
        await peer.tls(server_context, server=True)
        await echo(peer)

    def script() -> Script[object]:
        grant = yield ASK
        yield Connect()
        yield StartTls(UPSTREAM)
        return (yield Reveal(grant))

    async with serving(database) as server:
        return await drive(services(ca, server.port, tls=grant_tls), script())


async def test_a_secret_is_shown_to_a_verified_server(ca: TestCa) -> None:
    assert await start_tls_then_reveal(ca, ca.server_context(HOST)) == ToyGrants.PASSWORD


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_for_another_name_is_refused_and_both_names_are_said(
    ca: TestCa, version: ssl.TLSVersion
) -> None:
    context = ca.server_context("other.example")
    context.maximum_version = version
    with pytest.raises(Refused) as caught:
        await start_tls_then_reveal(ca, context)
    assert caught.value.reason is Reason.UPSTREAM_TLS_UNVERIFIED
    assert "is for other.example, expected db.example" in caught.value.message


async def test_an_unknown_authority_is_refused_and_the_store_named(ca: TestCa, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        await start_tls_then_reveal(ca, TestCa(tmp_path).server_context(HOST))
    assert caught.value.reason is Reason.UPSTREAM_TLS_UNVERIFIED
    assert "trust store inline" in caught.value.message


async def test_an_expired_certificate_is_refused(ca: TestCa) -> None:
    with pytest.raises(Refused, match="has expired") as caught:
        await start_tls_then_reveal(ca, ca.server_context(HOST, expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert caught.value.reason is Reason.UPSTREAM_TLS_UNVERIFIED


async def test_tls_1_1_is_refused(ca: TestCa) -> None:
    context = ca.server_context(HOST)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(Refused) as caught:
        await start_tls_then_reveal(ca, context)
    assert caught.value.reason is Reason.UPSTREAM_TLS_REFUSED


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (TlsFacts(mode=TlsMode.INSECURE), "wrong.example"),
        (TlsFacts(mode=TlsMode.VERIFY_CA, trust_store=TrustStore.INLINE, ca_pem="CA"), "wrong.example"),
        (TlsFacts(trust_store=TrustStore.INLINE, ca_pem="CA", server_name="right.example"), "right.example"),
    ],
    ids=["insecure", "verify-ca", "server_name"],
)
async def test_weaker_checks_only_where_asked_by_name(ca: TestCa, facts: TlsFacts, name: str) -> None:
    if facts.ca_pem:
        facts = TlsFacts(mode=facts.mode, trust_store=facts.trust_store, ca_pem=ca.pem, server_name=facts.server_name)
    assert await start_tls_then_reveal(ca, ca.server_context(name), facts) == ToyGrants.PASSWORD


async def test_no_secret_before_tls(ca: TestCa) -> None:
    def script() -> Script[object]:
        grant = yield ASK
        yield Connect()
        return (yield Reveal(grant))

    async with serving(echo) as server:
        with pytest.raises(LocalFault, match="before upstream has proved"):
            await drive(services(ca, server.port), script())


@pytest.mark.parametrize("change", ["endpoint", "tls"])
async def test_no_secret_to_another_server_than_it_was_given_for(ca: TestCa, change: str) -> None:
    context = ca.server_context(HOST)

    async def database(peer: Peer) -> None:
        await peer.tls(context, server=True)
        await echo(peer)

    async with serving(database) as server:
        shared = services(ca, server.port)
        grants = shared.grants
        assert isinstance(grants, ToyGrants)
        here = grants.location
        there = (
            Location(database="orders", endpoint=Endpoint(host="elsewhere.example", port=5432), tls=here.tls)
            if change == "endpoint"
            else Location(database="orders", endpoint=here.endpoint, tls=TlsFacts(mode=TlsMode.VERIFY_CA))
        )

        def script() -> Script[object]:
            yield Locate("orders")
            yield Connect()
            yield StartTls(UPSTREAM)
            grants.location = there
            grant = yield ASK
            return (yield Reveal(grant))

        with pytest.raises(LocalFault, match="another server"):
            await drive(shared, script())


async def test_no_secret_for_a_grant_that_was_made_up(ca: TestCa) -> None:
    def script() -> Script[object]:
        grant = yield ASK
        yield Connect()
        copy = SealedGrant(
            location=grant.location, decision_id="d1", credential_id="c1", user=grant.user, reused=grant.reused
        )
        return (yield Reveal(copy))

    async with serving(echo) as server:
        with pytest.raises(LocalFault, match="was not given"):
            await drive(services(ca, server.port), script())


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (Connect(), "has not said where"),
        (Receive(UPSTREAM, 1), "not connected"),
        (Send(CLIENT, b"x"), "not connected"),
        (Random(1 << 30), "random bytes"),
        ("no effect", "is no effect"),
    ],
)
async def test_scripts_that_break_the_rules_are_our_bug(ca: TestCa, effect: object, said: str) -> None:
    def script() -> Script[object]:
        return (yield effect)  # type: ignore[misc]

    with pytest.raises(LocalFault, match=said):
        await drive(services(ca, 1), script())


async def test_a_script_cannot_ask_for_more_than_the_inbox_holds(ca: TestCa) -> None:
    def script() -> Script[object]:
        yield ASK
        yield Connect()
        return (yield Receive(UPSTREAM, INBOX_LIMIT + 1))

    async with serving(echo) as server:
        with pytest.raises(LocalFault, match="bytes at once"):
            await drive(services(ca, server.port), script())


async def test_the_largest_allowed_read_is_answered(ca: TestCa) -> None:
    def script() -> Script[object]:
        yield ASK
        yield Connect()
        yield Send(UPSTREAM, b"." * 3 * INBOX_LIMIT)
        total = 0
        for _ in range(3):
            total += len((yield Receive(UPSTREAM, INBOX_LIMIT)))
        return total

    async with serving(echo) as server:
        assert await drive(services(ca, server.port), script()) == 3 * INBOX_LIMIT


async def test_small_effects(ca: TestCa) -> None:
    def script() -> Script[object]:
        one, other = (yield Random(16)), (yield Random(16))
        return len(one), one != other, (yield Now()), (yield Recall(b"none"))

    assert await drive(services(ca, 1), script()) == (16, True, datetime(2030, 1, 1, tzinfo=UTC), None)


async def test_bytes_before_our_client_hello_are_a_violation(ca: TestCa) -> None:
    async def smuggler(peer: Peer) -> None:
        await peer.receive(1)
        await peer.send(b"Sinjected")
        await peer.receive()

    def script() -> Script[object]:
        yield ASK
        yield Connect()
        yield Send(UPSTREAM, b"S")
        yield Receive(UPSTREAM, 1)
        return (yield StartTls(UPSTREAM))

    async with serving(smuggler) as server:
        with pytest.raises(PeerViolation, match="before TLS") as caught:
            await drive(services(ca, server.port), script())
        assert caught.value.side is Side.UPSTREAM


@pytest.mark.parametrize("answer", [b"E this is no TLS", b""], ids=["garbage", "closed"])
async def test_an_upstream_that_speaks_no_tls(ca: TestCa, answer: bytes) -> None:
    async def database(peer: Peer) -> None:
        await peer.receive()
        await peer.send(answer)

    def script() -> Script[object]:
        yield ASK
        yield Connect()
        return (yield StartTls(UPSTREAM))

    async with serving(database) as server:
        with pytest.raises(Refused if answer else PeerClosed) as caught:
            await drive(services(ca, server.port), script())
        assert HOST in str(caught.value)


async def test_recall_dials_the_very_address_of_the_session(ca: TestCa) -> None:
    sessions = Sessions()
    elsewhere = Location(database="orders", endpoint=Endpoint(host="no.such.host", port=1), tls=TlsFacts())

    def script() -> Script[object]:
        found = yield Recall(b"key")
        yield Connect()
        yield Send(UPSTREAM, b"hi")
        return found, (yield Receive(UPSTREAM, 2))

    async with serving(echo) as server:
        sessions.add(b"key", Place(location=elsewhere, address=Address(host="127.0.0.1", port=server.port)))
        shared = services(ca, 1, sessions=sessions)
        assert await drive(shared, script()) == (elsewhere, b"hi")


async def test_slow_loris_is_told_at_the_deadline(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, limits=Limits(handshake_seconds=0.2)) as stage:
        silent, slow = await stage.dial(), await stage.dial()
        await slow.send(b"\x03a")
        assert await silent.to_end() == await slow.to_end() == b"ERR HANDSHAKE_TIMEOUT\n"
        await until(lambda: len(stage.log.refusals) == 2)
        assert {event.reason for event in stage.log.refusals} == {Reason.HANDSHAKE_TIMEOUT}


async def test_deadline_inside_the_clients_handshake_ends_without_plaintext(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, limits=Limits(handshake_seconds=1.0)) as stage:
        client = await stage.dial()
        await client.send(b"S")
        assert await client.to_end() == b"S"


@pytest.mark.parametrize("failing", ["grants", "script"])
async def test_our_own_bug_is_said_natively_where_it_can_be(
    ca: TestCa, tmp_path: Path, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    def sabotage(point: str) -> None:
        if failing == "script" and point == "before TLS":
            raise RuntimeError(ToyGrants.PASSWORD)

    async with proxy_stage(ca, tmp_path, engine=ToyEngine(sabotage=sabotage)) as stage:
        if failing == "grants":
            stage.grants.refusal = RuntimeError(ToyGrants.PASSWORD)
        client = await stage.dial()
        await client.send(b"\x03app")
        assert await client.to_end() == (b"ERR INTERNAL\n" if failing == "grants" else b"")
        await until(lambda: stage.counters.crashes)
        assert stage.log.refusals[0].reason is Reason.INTERNAL
        assert "RuntimeError" in caplog.text
        assert "sesame" not in caplog.text


async def test_a_drain_refuses_logins_at_its_limit(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.dial()
        await until(lambda: stage.listener.open_connections)
        await stage.listener.drain(0)
        assert await client.to_end() == b"ERR DRAINING\n"


async def test_interrupting_twice_or_too_late_does_nothing(ca: TestCa) -> None:
    def script() -> Script[object]:
        return (yield Random(1))

    subject = driver(services(ca, 1))
    await subject.run(script(), 1.0)
    subject.interrupt(Refused(Reason.DRAINING, "late"))
    await asyncio.sleep(0)
