"""Guards that look at one side, or now and then: what they need not see goes the fast way, what they stop waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.errors import Refused, Side
from proxy.guard import Answer, Deadline, Drop, Guard, Inject, NeedGrant, Pass, Release, Stop, Verdict, Watch
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.stage import APP, proxy_stage, until
from tests.support.toy import ToyEngine
from tollbridge.reasons import Reason

both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
START = FakeClock().now()


class Asker(Guard):
    """`?` is kept from upstream: it asks `who` there, swallows the echo, and answers for itself. Client side only."""

    watches_upstream = False

    def __init__(self) -> None:
        self.unseen = 0
        self.shown: list[bytes] = []
        self.upstream: list[bytes] = []
        self.first: Sequence[Verdict] = ()

    def start(self) -> Sequence[Verdict]:
        return self.first

    def passes(self, data: bytes) -> bool:
        self.unseen += b"?" not in data
        return b"?" not in data

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        self.shown.append(data)
        at = data.find(b"?")
        if at < 0:
            return [Pass(len(data))]
        return [Pass(at), Drop(1), Inject(b"who"), Watch(True), Stop(Side.CLIENT)]

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        self.upstream.append(data)
        if not data.endswith(b"who"):
            return [Pass(len(data))]
        return [Pass(len(data) - 3), Drop(3), Answer(b"me"), Watch(False), Release(Side.CLIENT)]

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        return [Inject(b"AUTH")]


def nothing() -> Sequence[Verdict]:
    return ()


def engine(guards: list[Asker], first: Callable[[], Sequence[Verdict]] = nothing) -> ToyEngine:
    def make() -> Guard:
        guards.append(Asker())
        guards[-1].first = first()
        return guards[-1]

    return ToyEngine(make)


@both
async def test_a_guard_watches_upstream_only_while_it_wants_to(ca: TestCa, tmp_path: Path, encrypted: bool) -> None:
    guards: list[Asker] = []
    async with proxy_stage(ca, tmp_path, engine=engine(guards)) as stage:
        client = await stage.login(encrypted=encrypted)
        for said, heard in ((b"before", b"before"), (b"a?b", b"ameb"), (b"after", b"after"), (b"??x", b"memex")):
            await client.send(said)
            assert await client.exactly(len(heard)) == heard
        assert guards[0].unseen == 2
        assert b"".join(guards[0].upstream) == b"awhowhowho"
        await client.send(b"last?")
        await client.finish()  # the end waits behind what is stopped
        assert await client.to_end() == b"lastme"
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].ended == "client"


@both
async def test_a_gate_is_asked_instead_until_the_guard_was_shown_something(
    ca: TestCa, tmp_path: Path, encrypted: bool
) -> None:
    """Then the guard may give another, and none while something is held."""

    class Gatekeeper(Asker):
        def gate(self) -> Callable[[bytes], object]:
            return re.compile(b"[^?%d]+" % len(self.upstream)).fullmatch

    guards: list[Gatekeeper] = []

    def guard() -> Guard:
        guards.append(Gatekeeper())
        return guards[-1]

    async with proxy_stage(ca, tmp_path, engine=ToyEngine(guard)) as stage:
        client = await stage.login(encrypted=encrypted)
        for said, heard in ((b"1", b"1"), (b"0", b"0"), (b"a?b", b"ameb"), (b"0", b"0"), (b"??1", b"meme1")):
            await client.send(said)
            assert await client.exactly(len(heard)) == heard
        assert guards[0].unseen == 0
        assert guards[0].shown == [b"0", b"a?b", b"b", b"??1", b"?1", b"1"]


async def test_what_is_stopped_is_shown_again_in_order(ca: TestCa, tmp_path: Path) -> None:
    """Bytes behind a stop, and those that arrive meanwhile, reach the guard and upstream once, in order."""
    guards: list[Asker] = []
    async with proxy_stage(ca, tmp_path, engine=engine(guards)) as stage:
        client = await stage.login(encrypted=True)
        await client.send(b"one?two")
        await client.send(b"three?four")
        assert await client.exactly(19) == b"onemetwothreemefour"


@both
async def test_what_comes_in_one_piece_with_the_login_is_guarded_from_its_start(
    ca: TestCa, tmp_path: Path, encrypted: bool
) -> None:
    """The guard has begun by then, and its watch on the answers stands."""
    guards: list[Asker] = []
    async with proxy_stage(ca, tmp_path, engine=engine(guards, lambda: [Inject(b"begun ")])) as stage:
        client = await stage.dial()
        if encrypted:
            await client.send(b"S")
            assert await client.receive(1) == b"S"
            await client.tls(stage.ca.client_context(APP), "proxy.example")
        await client.send(b"\x03app" + b"a?b")
        assert await client.exactly(13) == b"OK\nbegun ameb"


async def test_a_guard_whose_fast_path_fails_harms_its_own_session_only(ca: TestCa, tmp_path: Path) -> None:
    class Broken(Asker):
        def passes(self, data: bytes) -> bool:
            raise ZeroDivisionError

    async with proxy_stage(ca, tmp_path, engine=ToyEngine(Broken)) as stage:
        client = await stage.login()
        await client.send(b"x")
        assert await client.to_end() == b""
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].ended == "fault"


async def test_a_deadline_ends_the_session_with_its_refusal(ca: TestCa, tmp_path: Path) -> None:
    over = Refused(Reason.SESSION_TOO_LONG, "over")
    async with proxy_stage(ca, tmp_path, engine=engine([], lambda: [Deadline(START, over)])) as stage:
        client = await stage.login()
        assert await client.to_end() == b"BYE SESSION_TOO_LONG\n"


async def test_a_later_deadline_replaces_an_earlier_one(ca: TestCa, tmp_path: Path) -> None:
    over = Refused(Reason.SESSION_TOO_LONG, "over")

    def first() -> Sequence[Verdict]:
        return [Deadline(START + timedelta(seconds=s), over) for s in (0.05, 3600)]

    async with proxy_stage(ca, tmp_path, engine=engine([], first)) as stage:
        client = await stage.login()
        stage.clock.advance(60)
        await asyncio.sleep(0.1)
        await client.send(b"alive")
        assert await client.exactly(5) == b"alive"


@pytest.mark.parametrize(("reason", "goes_on"), [(Reason.BROKER_UNAVAILABLE, True), (Reason.DENIED_BY_RULE, False)])
async def test_a_grant_that_is_not_to_be_had(ca: TestCa, tmp_path: Path, reason: Reason, goes_on: bool) -> None:
    """With time left, a broker that is away is asked again later; its no ends the session."""
    guards: list[Asker] = []

    def first() -> Sequence[Verdict]:
        over = Refused(Reason.SESSION_TOO_LONG, "over")
        return [NeedGrant(START + timedelta(seconds=0.05)), Deadline(START + timedelta(hours=1), over)]

    async with proxy_stage(ca, tmp_path, engine=engine(guards, first)) as stage:
        client = await stage.login()
        stage.grants.refusal = Refused(reason, "no")
        stage.clock.advance(1)
        await until(lambda: stage.grants.asked == 2)
        if goes_on:
            await client.send(b"x")
            assert await client.exactly(1) == b"x"
        else:
            assert await client.to_end() == b"BYE DENIED_BY_RULE\n"
