"""Waiting at the gate: wake-ups, deadlines, places given back however a login ends, and a storm through a listener."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.admission import LoginLimits
from proxy.errors import PeerClosed, Refused
from proxy.net.dial import Dialer
from proxy.net.driver import Driver, Services
from proxy.net.events import LoginFacts
from proxy.net.gate import TURNSTILES_LIMIT, Gate, Slot
from proxy.net.lifetime import SessionLimits
from proxy.net.listener import Limits
from proxy.net.sessions import Sessions
from proxy.net.tls import UpstreamTls
from proxy.script import Connect, Locate, RequestGrant, Script
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.peer import Peer, serving
from tests.support.stage import HOST, Stage, echo, proxy_stage, until
from tests.support.toy import ToyEngine, ToyGrants
from tollbridge.model import Endpoint, TlsFacts, TrustStore
from tollbridge.reasons import Reason


def gate_of(**limits: float) -> Gate:
    return Gate(lambda _: LoginLimits(**limits))  # type: ignore[arg-type]


def opened(gate: Gate, database: str = "orders") -> int:
    turnstile = gate.turnstiles.get(database)
    return turnstile.open if turnstile else 0


async def test_the_next_comes_in_when_one_leaves_and_only_then() -> None:
    gate = gate_of(max_connections=1)
    first = await gate.enter("orders", wait_seconds=5)
    async with asyncio.TaskGroup() as group:
        second = group.create_task(gate.enter("orders", wait_seconds=5))
        await until(lambda: gate.turnstiles["orders"].waiting)
        assert not second.done()
        first.release()
    assert opened(gate) == 1
    second.result().release()
    assert opened(gate) == 0


async def test_a_place_is_given_back_once() -> None:
    gate = gate_of(max_connections=2)
    first, second = await gate.enter("orders", wait_seconds=1), await gate.enter("orders", wait_seconds=1)
    for _ in range(3):
        first.release()
    assert opened(gate) == 1
    second.release()


async def test_databases_do_not_share() -> None:
    gate = gate_of(max_connections=1)
    await gate.enter("orders", wait_seconds=1)
    assert isinstance(await gate.enter("billing", wait_seconds=1), Slot)


async def test_the_rate_wakes_those_who_wait() -> None:
    gate = gate_of(logins_per_second=5, wait_seconds=30)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(*(gate.enter("orders", wait_seconds=30) for _ in range(7)))
    assert loop.time() - started >= 2 / 5
    assert 1 <= gate.turnstiles["orders"].counters.waited <= 2


async def test_nobody_waits_past_what_it_may() -> None:
    """Where the wait cannot be foreseen: nobody knows when a session ends."""
    gate = gate_of(max_connections=1)
    await gate.enter("orders", wait_seconds=1)
    with pytest.raises(Refused) as caught:
        await gate.enter("orders", wait_seconds=0.02)
    assert caught.value.reason is Reason.TOO_MANY_CONNECTIONS
    assert gate.turnstiles["orders"].waiting == 0
    assert opened(gate) == 1


async def test_a_database_may_allow_no_wait_at_all() -> None:
    gate = gate_of(max_connections=1, wait_seconds=0)
    await gate.enter("orders", wait_seconds=10)
    with pytest.raises(Refused, match="max_connections"):
        await gate.enter("orders", wait_seconds=10)


async def test_a_login_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    gate = gate_of(max_connections=1)
    first = await gate.enter("orders", wait_seconds=5)
    async with asyncio.TaskGroup() as group:
        cancelled = group.create_task(gate.enter("orders", wait_seconds=5))
        third = group.create_task(gate.enter("orders", wait_seconds=5))
        await until(lambda: gate.turnstiles["orders"].waiting == 2)
        first.release()
        cancelled.cancel()
    assert isinstance(third.result(), Slot)
    assert opened(gate) == 1


async def test_a_client_that_left_in_the_queue_gets_no_place() -> None:
    gate = gate_of(max_connections=1)
    first = await gate.enter("orders", wait_seconds=5)

    async def gone() -> None:
        with pytest.raises(PeerClosed):
            await gate.enter("orders", wait_seconds=5, alive=lambda: False)

    async with asyncio.TaskGroup() as group:
        group.create_task(gone())
        await until(lambda: gate.turnstiles["orders"].waiting)
        first.release()
    assert opened(gate) == 0


async def test_databases_that_nobody_uses_are_forgotten() -> None:
    gate = gate_of()
    kept = await gate.enter("kept", wait_seconds=1)
    for number in range(2 * TURNSTILES_LIMIT):
        (await gate.enter(f"d{number}", wait_seconds=1)).release()
    assert len(gate.turnstiles) <= TURNSTILES_LIMIT
    assert opened(gate, "kept") == 1
    kept.release()


# Through a listener: whatever ends a login or a session, its place comes back.


async def test_a_session_holds_a_place_until_the_database_has_seen_its_end(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(max_connections=1)
    async with proxy_stage(ca, tmp_path, gate=gate) as stage:
        first = await stage.login()
        assert opened(gate) == 1
        first.close()
        second = await stage.login()  # waits for the place, and gets it
        assert opened(gate) == 1
        await second.send(b"still here\n")
        assert await second.exactly(11) == b"still here\n"


async def test_one_too_many_is_refused_natively(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(max_connections=1, wait_seconds=0)
    async with proxy_stage(ca, tmp_path, gate=gate) as stage:
        await stage.login()
        late = await stage.dial()
        await late.send(b"\x03app")
        assert await late.receive() == b"ERR TOO_MANY_CONNECTIONS\n"
        assert stage.counters.logins["TOO_MANY_CONNECTIONS"] == 1
        assert len(stage.upstreams) == 1
    assert opened(gate) == 0


async def test_a_cancel_request_needs_no_place(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(max_connections=1, wait_seconds=0)
    async with proxy_stage(ca, tmp_path, gate=gate) as stage:
        await stage.login()
        cancel = await stage.dial()
        await cancel.send(b"XKEY1")
        assert await cancel.receive() == b""
        assert stage.counters.logins["finished"] == 1
        assert opened(gate) == 1


async def ends_by_crash(stage: Stage) -> None:
    await (await stage.dial()).send(b"\x03app")


async def ends_by_refusal(stage: Stage) -> None:
    stage.grants.refusal = Refused(Reason.DATABASE_NOT_ALLOWED, "no")
    await (await stage.dial()).send(b"\x03app")


async def ends_by_client(stage: Stage) -> None:
    (await stage.login()).close()


async def ends_by_upstream(stage: Stage) -> None:
    client = await stage.login()
    assert await client.receive() == b""
    client.close()


async def ends_by_drain(stage: Stage) -> None:
    await stage.login()
    await stage.listener.drain(0)


async def ends_by_age(stage: Stage) -> None:
    await stage.login()


async def hang_up(_peer: Peer) -> None:
    """The server closes as soon as it has let somebody in."""


def crash(point: str) -> None:
    if point == "before TLS":
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "end", [ends_by_crash, ends_by_refusal, ends_by_client, ends_by_upstream, ends_by_drain, ends_by_age]
)
async def test_however_it_ends_the_place_comes_back(ca: TestCa, tmp_path: Path, end: object) -> None:
    gate = gate_of(max_connections=5)
    engine = ToyEngine(sabotage=crash) if end is ends_by_crash else None
    limits = SessionLimits(max_session_seconds=0.01) if end is ends_by_age else None
    handler = hang_up if end is ends_by_upstream else echo
    async with proxy_stage(ca, tmp_path, gate=gate, engine=engine, handler=handler, session_limits=limits) as stage:
        await end(stage)  # type: ignore[operator]
        await until(lambda: stage.log.refusals or stage.log.ends)
        await until(lambda: opened(gate) == 0)


async def test_a_login_that_runs_out_of_time_gives_its_place_back(ca: TestCa, tmp_path: Path) -> None:
    """The database takes the connection and says nothing."""

    async def silent(peer: Peer) -> None:
        await peer.to_end()

    gate = gate_of(max_connections=1)
    async with proxy_stage(ca, tmp_path, gate=gate, database=silent, limits=Limits(handshake_seconds=0.1)) as stage:
        client = await stage.dial()
        await client.send(b"\x03app")
        await until(lambda: opened(gate) == 1)
        assert await client.receive() == b"ERR HANDSHAKE_TIMEOUT\n"
        await until(lambda: opened(gate) == 0)


async def test_a_drain_ends_those_who_wait(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(max_connections=1, wait_seconds=30)
    async with proxy_stage(ca, tmp_path, gate=gate, limits=Limits(handshake_seconds=60)) as stage:
        await stage.login()
        late = await stage.dial()
        await late.send(b"\x03app")
        await until(lambda: gate.turnstiles["orders"].waiting)
        await stage.listener.drain(0)
        assert await late.receive() == b"ERR DRAINING\n"
        await until(lambda: opened(gate) == 0)
        assert gate.turnstiles["orders"].waiting == 0


async def test_half_of_what_a_handshake_has_left_stays_for_the_login(ca: TestCa, tmp_path: Path) -> None:
    """The refusal comes from the gate, with its advice, and not from the deadline."""
    gate = gate_of(max_connections=1, wait_seconds=30)
    async with proxy_stage(ca, tmp_path, gate=gate, limits=Limits(handshake_seconds=2.0)) as stage:
        await stage.login()
        late = await stage.dial()
        await late.send(b"\x03app")
        assert await late.receive() == b"ERR TOO_MANY_CONNECTIONS\n"


async def test_a_client_that_leaves_while_it_waits_is_never_dialled_for(ca: TestCa, tmp_path: Path) -> None:
    gate = gate_of(max_connections=1, wait_seconds=30)
    async with proxy_stage(ca, tmp_path, gate=gate) as stage:
        first = await stage.login()
        late = await stage.dial()
        await late.send(b"\x03app")
        await until(lambda: gate.turnstiles["orders"].waiting)
        late.close()
        await asyncio.sleep(0.02)  # its FIN is on the way
        first.close()
        await until(lambda: stage.listener.open_connections == 0)
        assert len(stage.upstreams) == 1
        assert opened(gate) == 0


def services(ca: TestCa, port: int, gate: Gate) -> Services:
    grants = ToyGrants(Endpoint(host=HOST, port=5432), TlsFacts(trust_store=TrustStore.INLINE, ca_pem=ca.pem))
    return Services(
        grants=grants,
        catalog=grants,
        dialer=Dialer(dial={HOST: f"127.0.0.1:{port}"}, connect_seconds=1.0),
        upstream_tls=UpstreamTls(),
        sessions=Sessions(),
        clock=FakeClock(),
        gate=gate,
    )


ASK = RequestGrant("spiffe://td/app", "orders", "app", "")


async def test_whoever_dials_before_it_is_granted_takes_its_place_with_the_grant(ca: TestCa) -> None:
    """A server that speaks first is dialled to hear it: not a login yet. One place for all of it, retry included."""
    gate = gate_of(max_connections=3)
    seen: list[int] = []

    def script() -> Script[None]:
        yield Locate("orders")
        yield Connect()
        seen.append(opened(gate))
        yield ASK
        seen.append(opened(gate))
        yield replace(ASK, rejected="c1")
        yield Connect()
        seen.append(opened(gate))

    async with serving(echo) as server:
        driver = Driver(services(ca, server.port, gate), facts=LoginFacts(peer="test", door="test"))
        await driver.run(script(), 3.0)
        assert driver.upstream is not None
        driver.upstream.close()
    assert seen == [0, 1, 1]
    for _ in range(2):
        driver.release()
    assert opened(gate) == 0


async def test_a_place_that_was_taken_for_a_dial_that_failed_comes_back(ca: TestCa) -> None:
    gate = gate_of(max_connections=1)
    driver = Driver(services(ca, 1, gate), facts=LoginFacts(peer="test", door="test"))
    with pytest.raises(Refused) as caught:
        await driver.run(ToyEngine().probe(workload="w", database="orders", db_user="app", db_name=""), 3.0)
    assert caught.value.reason is Reason.UPSTREAM_UNREACHABLE
    driver.release()
    assert opened(gate) == 0


async def test_a_storm_of_reconnecting_clients_meets_the_rate_and_not_the_database(ca: TestCa, tmp_path: Path) -> None:
    """500 clients at once: upstream sees the rate and one second's worth, no more. A slow machine beats that."""
    rate = 10
    gate = gate_of(logins_per_second=rate, wait_seconds=0.5)
    loop = asyncio.get_running_loop()
    seen: list[float] = []
    outcomes: Counter[bytes] = Counter()
    longest = 0.0

    async with proxy_stage(ca, tmp_path, gate=gate, limits=Limits(handshake_seconds=15.0)) as stage:

        async def client() -> None:
            nonlocal longest
            peer = await Peer.dial(stage.listener.port)
            started = loop.time()
            await peer.send(b"\x03app")
            answer = await peer.receive()
            longest = max(longest, loop.time() - started)
            outcomes[answer] += 1
            if answer == b"OK\n":
                seen.append(loop.time())
            peer.close()

        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for _ in range(500):
                group.create_task(client())
        took = loop.time() - began
        assert set(outcomes) == {b"OK\n", b"ERR LOGIN_RATE_LIMITED\n"}
        assert outcomes[b"OK\n"] <= rate + took * rate
        assert outcomes[b"OK\n"] >= rate
        assert len(stage.upstreams) == outcomes[b"OK\n"]
        assert "retry in " in stage.log.refusals[0].message
        assert longest < 10
        with contextlib.suppress(TimeoutError):
            await until(lambda: opened(gate) == 0, 5)
        assert opened(gate) == 0
