"""Clients of one user on one connection: the order of what they hear, and how their sessions end."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from proxy.net.lifetime import SessionLimits
from proxy.net.shared.seat import Seat
from proxy.net.shared.session import SharedSession
from tests.support.ca import TestCa
from tests.support.stage import proxy_stage, until
from tests.support.toy_shared import SharingToy, answer, ask, by_hand
from tollbridge.reasons import Reason


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
async def test_clients_share_one_connection_and_get_their_own_answers(
    ca: TestCa, tmp_path: Path, encrypted: bool
) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        one, two = await stage.login(encrypted=encrypted), await stage.login(encrypted=encrypted)
        await ask(one, b"a", b"b")
        await ask(two, b"c")
        await ask(one, b"d")
        assert stage.database.accepted == stage.trunks.connections == 1
        assert stage.trunks.clients == 2
        assert stage.listener.live_bytes() == (12, 8)
        await one.finish()
        assert await one.to_end() == b""
        await until(lambda: stage.log.ends)
        start, end = stage.log.starts[0], stage.log.ends[0]
        assert start.facts.upstream == end.facts.upstream == f"127.0.0.1:{stage.database.port}"
        assert (end.ended, end.reason, end.bytes_to_upstream, end.bytes_to_client) == ("client", None, 6, 9)
        assert stage.counters.logins == {"ok": 2}
        assert stage.counters.sessions_open == stage.trunks.clients == 1
        await ask(two, b"still here")


async def test_another_user_is_on_another_connection(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        for user in (b"app", b"bob", b"app"):
            await ask(await stage.login(user), b"hello from " + user)
        assert stage.database.accepted == stage.trunks.connections == 2


async def test_what_comes_with_the_login_is_answered_in_order(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        client = await stage.dial()
        await client.send(b"\x03appone\ntwo\n?\nthree\n.\nnever heard\n")
        assert await client.to_end() == b"OK\n=one\n=two\n~?\n=three\n"
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].ended == "client"


async def test_a_request_that_comes_in_pieces_waits_for_its_end(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        one, two = await stage.login(), await stage.login()
        await one.send(b"hal")
        await ask(two, b"in between")  # nothing of another lands inside a request
        await one.send(b"f\nnext\n")
        assert await one.exactly(11) == b"=half\n=next\n"[:11]


async def test_what_the_proxy_says_itself_comes_behind_the_answers_before_it(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        client = await stage.login()
        await client.send(b"a\n?\nb\n.\n")
        (database,) = stage.upstreams
        assert await database.receive() == b"a\n"  # b waits behind ?, and that for the answer to a
        await database.send(b"=a\n")
        assert await client.exactly(6) == b"=a\n~?\n"
        assert await database.receive() == b"b\n"
        assert stage.trunks.clients == 1  # the goodbye waits too
        await database.send(b"=b\n")
        assert await client.to_end() == b"=b\n"


async def test_a_client_that_closes_its_side_still_hears_what_it_asked_for(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        client = await stage.login()
        await client.send(b"a\nb\nnot a whole requ")
        await client.finish()
        (database,) = stage.upstreams
        assert await database.exactly(4) == b"a\nb\n"
        await database.send(b"=a\n")
        await database.send(b"=b\n")
        assert await client.to_end() == b"=a\n=b\n"


async def test_answers_of_a_client_that_left_reach_nobody(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        left, stays = await stage.login(), await stage.login()
        (database,) = stage.upstreams
        await left.send(b"mine\nmine too\n")
        assert await database.exactly(14) == b"mine\nmine too\n"
        await stays.send(b"his\n")
        assert await database.exactly(4) == b"his\n"
        await database.send(b"=mi")
        await left.receive()
        left.close(reset=True)
        await until(lambda: stage.trunks.clients == 1)
        await database.send(b"ne\n=mine too\n=his\n")
        assert await stays.exactly(5) == b"=his\n"
        assert stage.trunks.connections == 1


async def test_a_client_that_breaks_the_protocol_hears_its_answers_and_goodbye(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        good, bad = await stage.login(), await stage.login()
        (database,) = stage.upstreams
        await bad.send(b"a\n")
        assert await database.receive() == b"a\n"
        await bad.send(b"%\n")
        await good.send(b"b\n")
        assert await database.receive() == b"b\n"
        await database.send(b"=a\n=b\n")
        assert await bad.to_end() == b"=a\nBYE CLIENT_PROTOCOL\n"
        assert await good.exactly(3) == b"=b\n"
        await until(lambda: stage.log.ends)
        assert (stage.log.ends[0].ended, stage.log.ends[0].reason) == ("proxy", Reason.CLIENT_PROTOCOL)


async def test_a_crash_over_one_client_harms_no_other(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        good, bad = await stage.login(), await stage.login()
        await bad.send(b"@\n")
        assert await bad.to_end() == b""
        await ask(good, b"fine")
        await until(lambda: stage.log.ends)
        assert (stage.log.ends[0].ended, stage.log.ends[0].reason) == ("fault", Reason.INTERNAL)
        assert (stage.counters.crashes, stage.trunks.clients, stage.database.accepted) == (1, 1, 1)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (SessionLimits(idle_seconds=0.2), Reason.SESSION_IDLE),
        (SessionLimits(max_session_seconds=0.2), Reason.SESSION_TOO_LONG),
    ],
)
async def test_sessions_end_when_their_time_is_over(
    ca: TestCa, tmp_path: Path, limits: SessionLimits, reason: Reason
) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, session_limits=limits) as stage:
        client = await stage.login()
        await ask(client, b"a")
        assert await client.to_end() == b"BYE %s\n" % reason.encode()
        await until(lambda: stage.log.ends)
        assert (stage.log.ends[0].ended, stage.log.ends[0].reason) == ("proxy", reason)
        assert stage.trunks.connections == 1  # the connection is not the client's


async def test_a_drain_says_goodbye_but_not_inside_an_answer(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        idle, waits, inside = [await stage.login() for _ in range(3)]
        (database,) = stage.upstreams
        await inside.send(b"a\n")
        assert await database.receive() == b"a\n"
        await waits.send(b"b\n")
        assert await database.receive() == b"b\n"
        await database.send(b"=half an ans")
        assert await inside.exactly(12) == b"=half an ans"
        await stage.listener.drain(0)
        assert await idle.to_end() == await waits.to_end() == b"BYE DRAINING\n"
        assert await inside.to_end() == b""
        await until(lambda: len(stage.log.ends) == 3)
        assert {(end.ended, end.reason) for end in stage.log.ends} == {("proxy", Reason.DRAINING)}


async def test_nothing_is_left_when_the_proxy_stops(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        client = await stage.login()
        await ask(client, b"a")
        await stage.trunks.aclose()
        assert stage.trunks.connections == stage.trunks.clients == 0
        await client.send(b"b\n")
        assert await client.to_end() == b"BYE DRAINING\n"
        late = await stage.dial()
        await late.send(b"\x03app")
        assert await late.to_end() == b"ERR DRAINING\n"


async def test_a_client_that_leaves_at_once_leaves_nothing(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        for _ in range(5):
            (await stage.login()).close(reset=True)
        await until(lambda: len(stage.log.ends) == 5)
        assert stage.trunks.clients == 0
        await asyncio.sleep(0)
        await ask(await stage.login(), b"a")
        assert stage.database.accepted == 1


async def test_memory_of_clients_that_are_gone_is_given_back(ca: TestCa, tmp_path: Path) -> None:
    limits = SessionLimits(idle_seconds=100, max_session_seconds=1000)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, session_limits=limits) as stage:
        for number in range(20):
            client = await stage.login()
            await ask(client, b"a", b"!b" if number % 4 == 0 else b"b")
            await client.finish()
            await client.to_end()
        await until(lambda: len(stage.log.ends) == 20)

        def left() -> int:
            gc.collect()
            return sum(isinstance(item, Seat | SharedSession) for item in gc.get_objects())

        await until(lambda: left() == 0)
        assert stage.trunks.connections == 1


async def test_news_between_answers_reaches_nobody(ca: TestCa, tmp_path: Path) -> None:
    """Before, among and behind the answers to one client, and when nobody asks; the connection goes on."""
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        one, two = await stage.login(), await stage.login()
        (database,) = stage.upstreams
        for said in (b"*quiet\n*be", b"gun", b" and ended\n"):
            await database.send(said)
        await one.send(b"a\nb\nc\n")
        assert await database.receive() == b"a\nb\nc\n"
        await two.send(b"d\n")
        assert await database.receive() == b"d\n"
        await database.send(b"*x\n=a\n*=y\n=b\n=")
        assert await one.exactly(7) == b"=a\n=b\n="
        await database.send(b"c\n*z\n=d\n*=w\n*")
        assert await one.exactly(2) == b"c\n"
        assert await two.exactly(3) == b"=d\n"
        await one.send(b"e\n")
        assert await database.receive() == b"e\n"
        await database.send(b"still news\n=e\n")
        assert await one.exactly(3) == b"=e\n"
        for client in (one, two):
            await client.finish()
            assert await client.to_end() == b""
        assert stage.database.accepted == 1
        await until(lambda: len(stage.log.ends) == 2)
        assert sorted(end.bytes_to_client for end in stage.log.ends) == [3, 12]
