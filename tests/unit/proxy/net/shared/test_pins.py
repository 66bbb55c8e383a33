"""A client that needs a connection of its own leaves the shared one, and its session goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.errors import Refused
from proxy.inbox import INBOX_LIMIT
from proxy.net.channel import HOLD_INBOX
from proxy.net.gate import Gate
from proxy.net.lifetime import SessionLimits
from proxy.net.listener import Limits
from proxy.net.shared.trunks import WHYS_LIMIT, Trunks
from tests.support.ca import TestCa
from tests.support.peer import Peer
from tests.support.stage import HOST, proxy_stage, toy_login, until
from tests.support.toy_shared import SharingToy, answer, ask, by_hand
from tollbridge.reasons import Reason


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
async def test_a_pinned_client_goes_on_alone_in_one_session(ca: TestCa, tmp_path: Path, encrypted: bool) -> None:
    gate = Gate()
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate) as stage:
        one, two = await stage.login(encrypted=encrypted), await stage.login()
        await ask(one, b"a")
        await ask(two, b"b")
        await ask(one, b"!watch x", b"!c", b"d")
        await until(lambda: stage.trunks.clients == 1)
        await ask(one, b"e", b"?relayed")
        await ask(two, b"f")
        assert stage.database.accepted == gate.turnstiles["orders"].open == 2
        assert stage.trunks.pins == {"watch": 1}
        assert stage.counters.sessions_open == 2
        await one.finish()
        assert await one.to_end() == b""
        await until(lambda: stage.log.ends)
        assert (len(stage.log.starts), len(stage.log.ends)) == (2, 1)
        start, end = stage.log.starts[0], stage.log.ends[0]
        assert start.facts.notes == {}
        assert end.facts.notes == {"pinned": "watch"}
        assert (end.ended, end.reason) == ("client", None)
        sent = len(b"a\n!watch x\n!c\nd\ne\n?relayed\n")
        assert (end.bytes_to_upstream, end.bytes_to_client) == (sent, sent + 6)
        await until(lambda: gate.turnstiles["orders"].open == 1)


async def test_a_pin_waits_for_the_answers_before_it(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        client = await stage.login()
        await client.send(b"a\n!b\nc\n")
        (shared,) = stage.upstreams
        assert await shared.receive() == b"a\n"
        await client.send(b"d\n")
        assert stage.database.accepted == 1
        await shared.send(b"=a\n")
        await until(lambda: len(stage.upstreams) == 2)
        own = stage.upstreams[1]
        assert await own.exactly(7) == b"!b\nc\nd\n"
        await own.send(b"=!b\n=c\n=d\n")
        assert await client.exactly(13) == b"=a\n=!b\n=c\n=d\n"
        await shared.send(b"=unasked\n")  # the end of the shared connection is nothing to it now
        await until(lambda: stage.trunks.connections == 0)
        await client.send(b"e\n")
        assert await own.receive() == b"e\n"
        own.close()
        assert await client.to_end() == b""


async def test_a_pin_that_is_refused_is_told(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        client = await stage.login()
        await ask(client, b"a")
        stage.grants.refusal = Refused(Reason.DENIED_BY_RULE, "not any more")
        await client.send(b"!b\n")
        assert await client.to_end() == b"BYE DENIED_BY_RULE\n"
        await until(lambda: stage.log.ends)
        end = stage.log.ends[0]
        assert (end.ended, end.reason, end.message) == ("proxy", Reason.DENIED_BY_RULE, "not any more")
        assert end.facts.notes == {"pinned": "b"}
        assert stage.counters.sessions_ended == {Reason.DENIED_BY_RULE: 1}
        assert not stage.log.refusals


async def test_a_pin_has_as_long_as_a_login(ca: TestCa, tmp_path: Path) -> None:
    context = ca.server_context(HOST)
    stuck = False

    async def database(peer: Peer) -> None:
        if stuck:
            await peer.to_end()
        else:
            await toy_login(peer, context)
            await answer(peer)

    limits = Limits(handshake_seconds=1.5)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), database=database, limits=limits) as stage:
        client = await stage.login()
        stuck = True
        await client.send(b"!b\n")
        assert await client.to_end() == b"BYE HANDSHAKE_TIMEOUT\n"
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].reason is Reason.HANDSHAKE_TIMEOUT


async def test_a_drain_ends_a_pin_under_way(ca: TestCa, tmp_path: Path) -> None:
    context = ca.server_context(HOST)
    stuck = False

    async def database(peer: Peer) -> None:
        if stuck:
            await peer.to_end()
        else:
            await toy_login(peer, context)
            await answer(peer)

    async with proxy_stage(ca, tmp_path, engine=SharingToy(), database=database) as stage:
        client = await stage.login()
        stuck = True
        await client.send(b"!b\n")
        await until(lambda: stage.database.accepted == 2)
        await stage.listener.drain(0)
        assert await client.to_end() == b"BYE DRAINING\n"
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].reason is Reason.DRAINING


async def test_the_time_of_a_session_goes_on_when_it_is_pinned(ca: TestCa, tmp_path: Path) -> None:
    limits = SessionLimits(idle_seconds=0.3)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, session_limits=limits) as stage:
        client = await stage.login()
        await ask(client, b"!b")
        assert await client.to_end() == b"BYE SESSION_IDLE\n"
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].seconds > 0.3


async def test_a_drain_ends_a_pinned_session(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        client = await stage.login()
        await ask(client, b"!b")
        await stage.listener.drain(0)
        assert await client.to_end() == b"BYE DRAINING\n"


async def test_a_client_that_has_closed_its_side_is_pinned_and_answered(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        client = await stage.login()
        await client.send(b"a\n!b\n")
        await client.finish()
        assert await client.to_end() == b"=a\n=!b\n"


async def test_a_client_that_goes_during_its_pin_is_let_go(ca: TestCa, tmp_path: Path) -> None:
    gate = Gate()
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, gate=gate) as stage:
        client = await stage.login()
        await client.send(b"!b\n")
        client.close(reset=True)
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].reason is None
        await until(lambda: gate.turnstiles["orders"].open == 1)


async def test_an_answer_from_the_server_that_closes_ends_the_pinned_session(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        client = await stage.login()
        await client.send(b"!b\n")
        await until(lambda: len(stage.upstreams) == 2)
        await stage.upstreams[1].send(b"=!b\n")
        await stage.upstreams[1].finish()
        assert await client.to_end() == b"=!b\n"
        assert stage.trunks.connections == 1


def test_why_clients_are_pinned_is_counted_and_bounded() -> None:
    trunks = Trunks()
    for number in range(WHYS_LIMIT + 10):
        trunks.pinned(f"why {number}")
    trunks.pinned("why 0")
    assert len(trunks.pins) == WHYS_LIMIT + 1
    assert (trunks.pins["why 0"], trunks.pins["other"]) == (2, 10)


@pytest.mark.parametrize(("said", "used"), [([b"!b"], False), ([b"?a", b"!b"], False), ([b"a", b"!b"], True)])
async def test_an_engine_knows_whether_a_client_has_shared_before_its_pin(
    ca: TestCa, tmp_path: Path, said: list[bytes], used: bool
) -> None:
    """What the proxy has answered was not asked over the shared connection."""
    engine = SharingToy()
    async with proxy_stage(ca, tmp_path, engine=engine, handler=answer) as stage:
        await ask(await stage.login(), b"another's")
        client = await stage.login()
        await client.send(b"".join(line + b"\n" for line in said))
        wanted = b"".join((b"~" if line[:1] == b"?" else b"=") + line + b"\n" for line in said)
        assert await client.exactly(len(wanted)) == wanted
        assert engine.pinned_after == [used]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
async def test_what_comes_behind_a_pin_is_read_no_further_than_needed_and_not_lost(
    ca: TestCa, tmp_path: Path, encrypted: bool
) -> None:
    context = ca.server_context(HOST)
    go = asyncio.Event()

    async def database(peer: Peer) -> None:
        if stage.database.accepted > 1:
            await go.wait()
        await toy_login(peer, context)
        await answer(peer)

    async with proxy_stage(ca, tmp_path, engine=SharingToy(), database=database) as stage:
        client = await stage.login(encrypted=encrypted)
        lines = [b"!b", *(b"%d" % number + b"x" * 1000 for number in range(2000))]

        async def push() -> None:
            await client.send(b"".join(line + b"\n" for line in lines))

        async with asyncio.TaskGroup() as group:
            group.create_task(push())
            (connection,) = stage.listener._open.values()
            link = connection.driver.client
            assert link is not None
            await until(lambda: link._holds & HOLD_INBOX)
            assert len(link.inbox) <= INBOX_LIMIT + 2 * 65536
            go.set()
            wanted = b"".join(b"=" + line + b"\n" for line in lines)
            assert await client.exactly(len(wanted)) == wanted
