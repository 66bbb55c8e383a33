"""Established sessions: every kind of ending, back-pressure, limits, goodbyes, guards."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from proxy.errors import Refused, Side
from proxy.guard import Answer, Drop, Guard, Hold, Inject, NeedGrant, Pass, Refuse, Release, Verdict
from proxy.net.lifetime import SessionLimits
from tests.support.ca import TestCa
from tests.support.peer import Peer
from tests.support.stage import Stage, echo, proxy_stage, until
from tests.support.toy import ToyEngine
from tollbridge.reasons import Reason

both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])


@both
@pytest.mark.parametrize("close_notify", [True, False], ids=["close_notify", "bare FIN"])
async def test_client_half_closes_and_still_reads(
    ca: TestCa, tmp_path: Path, encrypted: bool, close_notify: bool
) -> None:
    async def answer_after_the_end(peer: Peer) -> None:
        data = await peer.to_end()
        await peer.send(b"late " + data)
        await peer.finish()

    async with proxy_stage(ca, tmp_path, handler=answer_after_the_end) as stage:
        client = await stage.login(encrypted=encrypted)
        await client.send(b"query")
        await client.finish(close_notify=close_notify)
        assert await client.to_end() == b"late query"
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].ended == "client"


@both
@pytest.mark.parametrize("fin", [True, False], ids=["with FIN", "close_notify alone"])
async def test_upstream_half_closes_and_still_reads(ca: TestCa, tmp_path: Path, encrypted: bool, fin: bool) -> None:
    got = bytearray()

    async def bye_then_read(peer: Peer) -> None:
        await peer.send(b"bye")
        await peer.finish(fin=fin)
        got.extend(await peer.to_end())

    async with proxy_stage(ca, tmp_path, handler=bye_then_read) as stage:
        client = await stage.login(encrypted=encrypted)
        assert await client.to_end() == b"bye"
        await client.send(b"still ")
        await client.send(b"talking")
        await client.finish()
        await until(lambda: bytes(got) == b"still talking")
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].ended == "upstream"


@both
async def test_reset_on_one_side_ends_the_other(ca: TestCa, tmp_path: Path, encrypted: bool) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.login(encrypted=encrypted)
        await client.send(b"x\n")
        await client.exactly(2)
        client.close(reset=True)
        await until(lambda: stage.log.ends)
        assert await stage.upstreams[0].to_end() == b""


@both
async def test_bytes_of_both_sides_before_the_relay_come_first(ca: TestCa, tmp_path: Path, encrypted: bool) -> None:
    async def greet(peer: Peer) -> None:
        await echo(peer)

    async with proxy_stage(ca, tmp_path, handler=greet) as stage:
        client = await stage.dial()
        if encrypted:
            await client.send(b"S")
            assert await client.receive(1) == b"S"
            await client.tls(ca.client_context(), "proxy.example")
        await client.send(b"\x03app" + b"early" * 2000)  # the query behind the login, in one go
        assert await client.exactly(3 + 10_000) == b"OK\n" + b"early" * 2000


@both
async def test_a_reader_that_stands_still_stops_the_writer_and_costs_no_memory(
    ca: TestCa, tmp_path: Path, encrypted: bool
) -> None:
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        for _ in range(1500):
            await peer.send(b"." * 65536)
            sent += 65536
        await peer.finish()

    async with proxy_stage(ca, tmp_path, handler=flood) as stage:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        client = await stage.login(encrypted=encrypted, receive_buffer=65536)
        stalled = -1
        while stalled != sent:
            stalled = sent
            await asyncio.sleep(0.3)
        assert stalled < 30_000_000  # the kernel's buffers, not ours
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KB
        assert len(await client.to_end()) == 1500 * 65536


async def test_an_upload_is_held_back_too(ca: TestCa, tmp_path: Path) -> None:
    go = asyncio.Event()
    got = 0

    async def slow(peer: Peer) -> None:
        nonlocal got
        await go.wait()
        got = len(await peer.to_end())

    async with proxy_stage(ca, tmp_path, handler=slow) as stage:
        client = await stage.login(encrypted=True)
        sent = 0

        async def push() -> None:
            nonlocal sent
            while True:
                await client.send(b"." * 65536)
                sent += 65536

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await push()
        assert sent < 30_000_000
        go.set()
        client.close()
        await until(lambda: stage.log.ends)
        assert 0 < got <= sent + 65536


async def test_idle_sessions_are_told_and_closed(ca: TestCa, tmp_path: Path) -> None:
    limits = SessionLimits(idle_seconds=1.0)
    async with proxy_stage(ca, tmp_path, session_limits=limits) as stage:
        client = await stage.login(encrypted=True)
        for _ in range(5):  # busy for longer than idle_seconds
            await asyncio.sleep(0.3)
            await client.send(b"x\n")
            assert await client.exactly(2) == b"x\n"
        assert await client.to_end() == b"BYE SESSION_IDLE\n"
        await until(lambda: stage.log.ends)
        assert (stage.log.ends[0].ended, stage.log.ends[0].reason) == ("proxy", Reason.SESSION_IDLE)


async def test_sessions_end_at_their_longest_without_a_goodbye_inside_a_message(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, session_limits=SessionLimits(max_session_seconds=1.0)) as stage:
        resting, busy = await stage.login(), await stage.login()
        await busy.send(b"half a message")
        assert await resting.to_end() == b"BYE SESSION_TOO_LONG\n"
        assert await busy.to_end() == b"half a message"
        await until(lambda: len(stage.log.ends) == 2)


class Scripted(Guard):
    """A guard whose verdicts a test writes."""

    def __init__(self, client: Callable[[bytes], Sequence[Verdict]], upstream: Callable[[bytes], Sequence[Verdict]]):
        self._client, self._upstream = client, upstream
        self.users: list[tuple[str, str]] = []

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        return self._client(data)

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        return self._upstream(data)

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        self.users.append((user, password))
        return [Inject(b"AUTH\n")]


def passing(data: bytes) -> Sequence[Verdict]:
    return [Pass(len(data))]


def guarded(client: Callable[[bytes], Sequence[Verdict]], upstream: Callable[[bytes], Sequence[Verdict]]) -> ToyEngine:
    return ToyEngine(lambda: Scripted(client, upstream))


@both
async def test_guard_passes_drops_answers_and_injects(ca: TestCa, tmp_path: Path, encrypted: bool) -> None:
    def client(data: bytes) -> Sequence[Verdict]:
        return [Drop(1), Answer(b"seen\n"), Inject(b"<"), Pass(len(data) - 1), Inject(b">")]

    async with proxy_stage(ca, tmp_path, engine=guarded(client, passing)) as stage:
        peer = await stage.login(encrypted=encrypted)
        await peer.send(b"-query")
        assert await peer.exactly(12) == b"seen\n<query>"
        await peer.finish()
        assert await peer.to_end() == b""
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].bytes_to_upstream == 7


async def test_guard_holds_one_side_until_the_other_has_spoken(ca: TestCa, tmp_path: Path) -> None:
    def client(data: bytes) -> Sequence[Verdict]:
        return [Inject(b"ping"), Hold(len(data))] if data.startswith(b"hold") else [Pass(len(data))]

    def upstream(data: bytes) -> Sequence[Verdict]:
        return [Drop(len(data)), Release(Side.CLIENT)] if data == b"ping" else [Pass(len(data))]

    async with proxy_stage(ca, tmp_path, engine=guarded(client, upstream)) as stage:
        peer = await stage.login(encrypted=True)
        await peer.send(b"hold")
        await peer.send(b"behind")
        await peer.finish()  # the end arrives while its bytes are held
        assert await peer.to_end() == b"holdbehind"


async def test_guard_refuses(ca: TestCa, tmp_path: Path) -> None:
    def client(data: bytes) -> Sequence[Verdict]:
        return [Drop(len(data)), Refuse(Refused(Reason.FEATURE_REFUSED, "not here"))]

    async with proxy_stage(ca, tmp_path, engine=guarded(client, passing)) as stage:
        peer = await stage.login()
        await peer.send(b"bad")
        assert await peer.to_end() == b"BYE FEATURE_REFUSED\n"
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].reason is Reason.FEATURE_REFUSED


async def test_guard_gets_a_fresh_grant_when_it_needs_one(ca: TestCa, tmp_path: Path) -> None:
    guards: list[Scripted] = []
    stages: list[Stage] = []

    def client(data: bytes) -> Sequence[Verdict]:
        return [Pass(len(data)), NeedGrant(stages[0].clock.now())]

    def make() -> Guard:
        guards.append(Scripted(client, passing))
        return guards[-1]

    async with proxy_stage(ca, tmp_path, engine=ToyEngine(make)) as stage:
        stages.append(stage)
        peer = await stage.login(encrypted=True)
        await peer.send(b"now\n")
        assert await peer.exactly(9) == b"now\nAUTH\n"
        assert guards[0].users == [("app", "open sesame")]
        assert stage.grants.asked == 2


@pytest.mark.parametrize(
    "verdicts", [[], [Pass(99)], [Hold(1), Pass(2)], [Pass(-1)]], ids=["too few", "too many", "overtaking", "negative"]
)
async def test_guard_that_miscounts_harms_its_own_session_only(
    ca: TestCa, tmp_path: Path, verdicts: list[Verdict]
) -> None:
    def client(data: bytes) -> Sequence[Verdict]:
        return [Pass(len(data))] if data == b"ok\n" else verdicts

    async with proxy_stage(ca, tmp_path, engine=guarded(client, passing)) as stage:
        good, bad = await stage.login(), await stage.login()
        await bad.send(b"abc")
        assert await bad.to_end() == b""
        await good.send(b"ok\n")
        assert await good.exactly(3) == b"ok\n"
        assert stage.log.ends[0].ended == "fault"
        assert stage.counters.crashes == 1
