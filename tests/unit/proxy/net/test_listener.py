"""A door over loopback: whole connections, limits, drain, and one connection that harms no other."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
from pathlib import Path

import pytest

from proxy.errors import Refused
from proxy.net.bind import TcpBind, UnixBind, bind
from proxy.net.channel import Channel
from proxy.net.counters import LOGIN_BUCKETS, Counters
from proxy.net.limits import SOURCES_LIMIT, SourceLimiter
from proxy.net.listener import Limits
from proxy.net.relay import Relay
from proxy.net.sessions import Address, Place, Sessions
from proxy.net.tls import UpstreamTls
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.peer import Peer
from tests.support.stage import APP, echo, proxy_stage, toy_login, until
from tests.support.toy import ToyEngine, ToyGrants
from tollbridge.model import Endpoint, TlsFacts, TlsMode, TrustStore
from tollbridge.reasons import Reason


@pytest.mark.parametrize("encrypted", [False, True])
async def test_login_then_bytes_both_ways(ca: TestCa, tmp_path: Path, encrypted: bool) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.login(encrypted=encrypted)
        await client.send(b"hello\n")
        assert await client.exactly(6) == b"hello\n"
        assert stage.listener.live_bytes() == (6, 6)
        big = bytes(range(256)) * 1000
        await client.send(big)
        assert await client.exactly(len(big)) == big
        await client.finish()
        assert await client.to_end() == b""
        await until(lambda: stage.log.ends)
        start, end = stage.log.starts[0], stage.log.ends[0]
        assert (start.facts.workload, start.facts.database, start.facts.db_user) == (APP, "orders", "app")
        assert (start.facts.decision_id, start.facts.encrypted) == ("d1", encrypted)
        assert start.facts.notes == {"login": "app"}
        assert start.facts.upstream == f"127.0.0.1:{stage.database.port}"
        assert (end.ended, end.bytes_to_client, end.bytes_to_upstream) == ("client", 256_006, 256_006)
        counters = stage.counters
        assert counters.logins == {"ok": 1}
        assert (counters.connections_open, counters.sessions_open, counters.connections_total) == (0, 0, 1)
        assert sum(counters.login_seconds) == 1
        assert len(stage.sessions) == 0


async def test_a_thousand_idle_sessions(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, limits=Limits(handshake_seconds=60.0, max_connections=1000)) as stage:
        for _ in range(20):
            await asyncio.gather(*(stage.login() for _ in range(50)))
        assert stage.listener.open_connections == stage.counters.sessions_open == 1000
        extra = await stage.dial()
        assert await extra.to_end() == b"ERR TOO_MANY_CONNECTIONS\n"
        for client in (stage.clients[0], stage.clients[500], stage.clients[999]):
            await client.send(b"still here\n")
            assert await client.exactly(11) == b"still here\n"
        await stage.listener.drain(0)
        for client in stage.clients[:1000]:
            assert await client.to_end() == b"BYE DRAINING\n"
        await until(lambda: len(stage.log.ends) == 1000)
        assert {end.reason for end in stage.log.ends} == {Reason.DRAINING}


async def test_one_too_many_is_told_so(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, limits=Limits(max_connections=1)) as stage:
        first = await stage.login()
        second = await stage.dial()
        await second.send(b"\x03app")  # unread when we close: must not become a reset
        assert await second.to_end() == b"ERR TOO_MANY_CONNECTIONS\n"
        assert stage.log.refusals[0].reason is Reason.TOO_MANY_CONNECTIONS
        await first.finish()
        await first.to_end()
        await until(lambda: not stage.listener.open_connections)
        await stage.login()


async def test_a_drain_lets_sessions_finish(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.login()
        async with asyncio.TaskGroup() as group:
            drain = group.create_task(stage.listener.drain(60))
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectionRefusedError):
                await stage.dial()
            await client.send(b"more\n")
            assert await client.exactly(5) == b"more\n"
            assert not drain.done()
            await client.finish()
            await client.to_end()
        assert stage.log.ends[0].ended == "client"


async def test_a_drain_sends_no_goodbye_into_a_message(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.login()
        await client.send(b"half a mess")
        assert await client.exactly(11) == b"half a mess"
        await stage.listener.drain(0)
        assert await client.to_end() == b""


async def test_health_checks_leave_no_audit_line(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        for ending in (b"", b"S"):
            client = await stage.dial()
            await client.send(ending)
            await client.finish()
            await client.to_end()
        await until(lambda: stage.counters.logins == {"left": 2})
        assert not stage.log.refusals


@pytest.mark.parametrize("point", ["start", "before TLS"])
async def test_a_crash_harms_no_other(ca: TestCa, tmp_path: Path, point: str) -> None:
    armed = False

    def sabotage(here: str) -> None:
        if armed and here == point:
            raise ZeroDivisionError

    async with proxy_stage(ca, tmp_path, engine=ToyEngine(sabotage=sabotage)) as stage:
        before = await stage.login(encrypted=True)
        armed = True
        victim = await stage.dial()
        await victim.send(b"\x03app")
        await victim.to_end()
        armed = False
        after = await stage.login()
        for client in (before, after):
            await client.send(b"ok\n")
            assert await client.exactly(3) == b"ok\n"
        assert stage.counters.crashes == 1
        assert stage.log.refusals[0].reason is Reason.INTERNAL


async def test_a_session_log_that_fails_harms_no_other(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.login()
        stage.log.on_start = None  # type: ignore[assignment,method-assign]
        victim = await stage.dial()
        await victim.send(b"\x03app")
        assert await victim.to_end() == b"OK\n"
        await client.send(b"ok\n")
        assert await client.exactly(3) == b"ok\n"
        assert stage.counters.crashes == 1
        assert stage.counters.sessions_open == 1


async def test_a_refusal_that_cannot_be_logged_harms_no_other(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, limits=Limits(handshake_seconds=1.0)) as stage:
        client = await stage.login()
        stage.log.on_refusal = None  # type: ignore[assignment,method-assign]
        for said in (b"", b"SX"):  # silence is refused at the deadline, plaintext before TLS is a violation
            victim = await stage.dial()
            await victim.send(said)
            await victim.to_end()
        await until(lambda: stage.counters.crashes == 2)
        await client.send(b"ok\n")
        assert await client.exactly(3) == b"ok\n"
        assert stage.listener.open_connections == stage.counters.connections_open == 1


async def test_clients_that_never_got_in_and_do_not_leave_are_bounded(ca: TestCa, tmp_path: Path) -> None:
    limits = Limits(max_connections=5)
    async with proxy_stage(ca, tmp_path, limits=limits) as stage:
        for number in range(60):
            await (await stage.dial()).send(b"SX")  # refused at once; none of them closes
            await until(lambda: stage.counters.logins.get(Reason.CLIENT_PROTOCOL) == number + 1)  # noqa: B023
        assert stage.listener._leaving <= 2 * limits.max_connections


async def cancel(stage_dial: Peer, key: bytes) -> bytes:
    await stage_dial.send(b"X" + key)
    await stage_dial.finish()
    return await stage_dial.to_end()


async def test_cancels_reach_their_session_and_are_limited_without_tls(ca: TestCa, tmp_path: Path) -> None:
    cancelled: list[bytes] = []
    context = ca.server_context("db.example")

    async def database(peer: Peer) -> None:
        if await toy_login(peer, context):
            await echo(peer)
        else:
            cancelled.append(await peer.exactly(4))

    limits = Limits(cancels_per_second=1.0, cancels_burst=2)
    async with proxy_stage(ca, tmp_path, database=database, limits=limits, tls_required=True) as stage:
        await stage.login(encrypted=True)
        assert [await cancel(await stage.dial(), b"KEY1") for _ in range(4)] == [b""] * 2 + [
            b"ERR TOO_MANY_CONNECTIONS\n"
        ] * 2
        await cancel(await stage.dial(), b"KEY2")
        await until(lambda: stage.counters.logins == {"ok": 1, "finished": 3, "TOO_MANY_CONNECTIONS": 2})
        assert cancelled == [b"KEY1", b"KEY1"]
        stage.clock.advance(1.5)
        await cancel(await stage.dial(), b"KEY1")
        await until(lambda: len(cancelled) == 3)


@pytest.mark.parametrize(
    ("identity", "workload", "limited"), [(None, None, True), (APP, None, False), (None, APP, False)]
)
async def test_cancels_over_tls_are_limited_for_clients_that_are_not_known(
    ca: TestCa, tmp_path: Path, identity: str | None, workload: str | None, limited: bool
) -> None:
    cancelled: list[bytes] = []
    context = ca.server_context("db.example")

    async def database(peer: Peer) -> None:
        if await toy_login(peer, context):
            await echo(peer)
        else:
            cancelled.append(await peer.exactly(4))

    limits = Limits(cancels_per_second=1.0, cancels_burst=2)
    async with proxy_stage(
        ca, tmp_path, database=database, limits=limits, tls_required=True, workload=workload
    ) as stage:
        await stage.login(encrypted=True)
        for _ in range(4):
            client = await stage.dial()
            await client.send(b"S")
            assert await client.receive(1) == b"S"
            await client.tls(ca.client_context(identity) if identity else ca.client_context(), "proxy.example")
            assert (await cancel(client, b"KEY1")) in (b"", b"ERR TOO_MANY_CONNECTIONS\n")
        await until(lambda: sum(stage.counters.logins.values()) == 5)
        assert len(cancelled) == (2 if limited else 4)


async def test_refused_password_is_told(ca: TestCa, tmp_path: Path) -> None:
    async def picky(peer: Peer) -> None:
        await toy_login(peer, ca.server_context("other.example"))

    async with proxy_stage(ca, tmp_path, database=picky) as stage:
        client = await stage.dial()
        await client.send(b"\x03app")
        assert await client.to_end() == b"ERR UPSTREAM_TLS_UNVERIFIED\n"
        await until(lambda: stage.log.refusals)
        assert "expected db.example" in stage.log.refusals[0].message
        assert stage.log.refusals[0].facts.decision_id == "d1"


async def test_memory_of_sessions_that_are_over_is_given_back(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        for _ in range(20):
            client = await stage.login(encrypted=True)
            await client.finish()
            await client.to_end()
        await until(lambda: len(stage.log.ends) == 20)

        def left() -> int:
            gc.collect()
            return sum(isinstance(item, Channel | Relay) for item in gc.get_objects())

        await until(lambda: left() <= 3)


def test_ports_are_taken_at_once_and_a_taken_one_is_an_error() -> None:
    (first,) = bind(TcpBind(host="127.0.0.1", port=0))
    with first:
        first.listen()
        with pytest.raises(OSError, match="in use"):
            bind(TcpBind(host="127.0.0.1", port=first.getsockname()[1]))


def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (first,) = bind(UnixBind(path=path, mode=0o600))
    with first:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        first.listen()
        with pytest.raises(OSError, match="another process"):
            bind(UnixBind(path=path))
    (second,) = bind(UnixBind(path=path))  # the first is stale now
    second.close()
    other = tmp_path / "file"
    other.touch()
    with pytest.raises(FileExistsError, match="no socket"):
        bind(UnixBind(path=other))


def test_a_source_has_a_bucket_of_its_own() -> None:
    clock = FakeClock()
    limiter = SourceLimiter(per_second=2.0, burst=2, clock=clock)
    assert [limiter.admit("a") for _ in range(3)] == [True, True, False]
    assert limiter.admit("b")
    clock.advance(0.5)
    assert [limiter.admit("a") for _ in range(2)] == [True, False]
    for number in range(SOURCES_LIMIT + 10):
        limiter.admit(str(number))
    assert len(limiter._buckets) == SOURCES_LIMIT


def test_login_times_fall_into_buckets() -> None:
    counters = Counters()
    for seconds in (0.001, 0.005, 0.3, 1000.0):
        counters.login_took(seconds)
    assert counters.login_seconds[0] == 2
    assert counters.login_seconds[LOGIN_BUCKETS.index(0.5)] == 1
    assert counters.login_seconds[-1] == 1


def test_a_cancel_key_that_was_given_twice_stays_with_the_living(ca: TestCa) -> None:
    location = ToyGrants(Endpoint(host="h", port=1), TlsFacts()).location
    one, two = (Place(location=location, address=Address(host="10.0.0.1", port=port)) for port in (1, 2))
    sessions = Sessions()
    sessions.add(b"key", one)
    sessions.add(b"key", two)
    sessions.remove(b"key", one)
    assert sessions.recall(b"key") is two
    sessions.remove(b"key", two)
    assert len(sessions) == 0


async def test_contexts_are_built_once_and_bounded(ca: TestCa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.net.tls.CONTEXT_LIMIT", 2)
    tls = UpstreamTls()
    inline = TlsFacts(trust_store=TrustStore.INLINE, ca_pem=ca.pem)
    assert await tls.context(inline) is await tls.context(inline)
    assert await tls.context(inline) is not await tls.context(inline, ("toy",))
    await tls.context(TlsFacts(mode=TlsMode.INSECURE))
    assert len(tls._contexts) == 2


@pytest.mark.parametrize("pem", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_trust_that_cannot_be_loaded_is_refused(pem: str) -> None:
    with pytest.raises(Refused, match="trust store inline") as caught:
        await UpstreamTls().context(TlsFacts(trust_store=TrustStore.INLINE, ca_pem=pem))
    assert caught.value.reason is Reason.UPSTREAM_TLS_UNVERIFIED


@pytest.mark.parametrize("store", [TrustStore.SYSTEM, TrustStore.AWS_RDS, TrustStore.AWS_REDSHIFT])
async def test_bundles_load(store: TrustStore) -> None:
    context = await UpstreamTls().context(TlsFacts(trust_store=store))
    assert context.check_hostname
