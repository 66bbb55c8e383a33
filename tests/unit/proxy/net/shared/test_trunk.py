"""A shared connection: a server that does not keep to the rules, clients that do not read, and its own end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.errors import Refused
from proxy.net.lifetime import SessionLimits
from proxy.net.shared import seat as seats
from proxy.net.shared import trunk as trunks
from proxy.net.shared.trunk import Trunk
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.peer import Peer
from tests.support.stage import HOST, Stage, proxy_stage, toy_login, until
from tests.support.toy_shared import SharingToy, answer, ask, by_hand
from tollbridge.reasons import Reason


def trunk_of(stage: Stage) -> Trunk:
    """The only one."""
    (trunk,) = stage.trunks._all
    return trunk


@pytest.mark.parametrize(
    ("said", "heard", "reason"),
    [
        (b"=a\n=b\n=one too many\n", b"=a\n=b\n", None),
        (b"=a\ngarbage\n", b"=a\nBYE UPSTREAM_PROTOCOL\n", Reason.UPSTREAM_PROTOCOL),
        (b"garbage\n=a\n=b\n", b"BYE UPSTREAM_PROTOCOL\n", Reason.UPSTREAM_PROTOCOL),
    ],
    ids=["an answer too many", "garbage behind an answer", "garbage"],
)
async def test_what_does_not_add_up_ends_the_connection(
    ca: TestCa, tmp_path: Path, said: bytes, heard: bytes, reason: Reason | None
) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        asks, idle = await stage.login(), await stage.login()
        (database,) = stage.upstreams
        for request in (b"a\n", b"b\n"):
            await asks.send(request)
            assert await database.receive() == request
        await database.send(said)
        await until(lambda: stage.trunks.connections == 0)
        if reason is None:  # it waited for nothing any more, so nothing happened to it
            assert await asks.exactly(len(heard)) == heard
        else:
            assert await asks.to_end() == heard
            await until(lambda: stage.log.ends)
            assert (stage.log.ends[0].ended, stage.log.ends[0].reason) == ("upstream", reason)
        await idle.send(b"c\n")
        await until(lambda: len(stage.upstreams) == 2)
        assert await stage.upstreams[1].receive() == b"c\n"
        await stage.upstreams[1].send(b"=c\n")
        assert await idle.exactly(3) == b"=c\n"


async def test_an_answer_that_nobody_asked_for_reaches_nobody(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        client = await stage.login()
        await stage.upstreams[0].send(b"=what was that\n")
        await until(lambda: stage.trunks.connections == 0)
        await client.send(b"a\n")
        await until(lambda: len(stage.upstreams) == 2)
        assert await stage.upstreams[1].receive() == b"a\n"
        await stage.upstreams[1].send(b"=a\n")
        assert await client.exactly(3) == b"=a\n"


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "reset"])
async def test_who_waits_for_an_answer_hears_that_it_will_not_come(ca: TestCa, tmp_path: Path, reset: bool) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        begun, waits, idle = [await stage.login() for _ in range(3)]
        (database,) = stage.upstreams
        for client in (begun, waits):
            await client.send(b"a\n")
            assert await database.receive() == b"a\n"
        await database.send(b"=half an ans")
        assert await begun.exactly(12) == b"=half an ans"
        database.close(reset=reset)
        assert await begun.to_end() == b""  # no goodbye inside an answer
        assert await waits.to_end() == b"BYE UPSTREAM_CLOSED\n"
        assert stage.trunks.clients == 0
        asked = stage.grants.asked
        await idle.send(b"b\n")
        await until(lambda: len(stage.upstreams) == 2)
        assert stage.grants.asked == asked + 2  # for itself, and for the connection
        assert await stage.upstreams[1].receive() == b"b\n"
        await stage.upstreams[1].send(b"=b\n")
        assert await idle.exactly(3) == b"=b\n"
        assert stage.trunks.clients == 1


async def test_permission_is_asked_again_for_another_connection(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        client = await stage.login()
        await stage.upstreams[0].finish()
        await until(lambda: stage.trunks.clients == 0)
        stage.grants.refusal = Refused(Reason.DENIED_BY_RULE, "not any more")
        await client.send(b"a\n")
        assert await client.to_end() == b"BYE DENIED_BY_RULE\n"
        await until(lambda: stage.log.ends)
        assert (stage.log.ends[0].ended, stage.log.ends[0].reason) == ("proxy", Reason.DENIED_BY_RULE)
        assert stage.database.accepted == 1


async def test_a_client_can_leave_while_it_waits_for_another_connection(ca: TestCa, tmp_path: Path) -> None:
    context = ca.server_context(HOST)
    stuck = False

    async def database(peer: Peer) -> None:
        if stuck:
            await peer.to_end()
        else:
            await toy_login(peer, context)
            await peer.exactly(2)

    async with proxy_stage(ca, tmp_path, engine=SharingToy(), database=database) as stage:
        leaves, other = await stage.login(), await stage.login()
        await other.send(b"x\n")  # the server closes
        assert await other.to_end() == b"BYE UPSTREAM_CLOSED\n"
        stuck = True
        await leaves.send(b"a\n")
        await until(lambda: stage.database.accepted == 2)
        leaves.close(reset=True)
        await until(lambda: len(stage.log.ends) == 2, 2.0)  # before its login's time is over
        assert stage.log.ends[1].ended == "client"
        assert stage.listener.open_connections == stage.trunks.connections == 0


async def test_a_server_that_closes_every_connection_is_not_dialled_for_ever(ca: TestCa, tmp_path: Path) -> None:
    context = ca.server_context(HOST)

    async def database(peer: Peer) -> None:
        await toy_login(peer, context)
        if stage.database.accepted > 1:
            await peer.finish()
        await peer.exactly(2)

    async with proxy_stage(ca, tmp_path, engine=SharingToy(), database=database) as stage:
        client, other = await stage.login(), await stage.login()
        await other.send(b"x\n")
        assert await other.to_end() == b"BYE UPSTREAM_CLOSED\n"
        await client.send(b"a\n")
        assert await client.to_end() == b"BYE UPSTREAM_CLOSED\n"
        assert stage.database.accepted <= 2 + seats.TRIES


async def test_a_connection_that_is_too_old_is_left_in_order(ca: TestCa, tmp_path: Path) -> None:
    engine = SharingToy(retire_at=FakeClock().now() + timedelta(hours=1))
    async with proxy_stage(ca, tmp_path, engine=engine, handler=by_hand) as stage:
        idle, waits = await stage.login(), await stage.login()
        await waits.send(b"a\n")
        assert await stage.upstreams[0].receive() == b"a\n"
        old = trunk_of(stage)
        stage.clock.advance(3600)
        engine.retire_at += timedelta(hours=1)
        old.look()
        await waits.send(b"b\n")
        await idle.send(b"c\n")
        await until(lambda: len(stage.upstreams) == 2)
        assert await stage.upstreams[1].receive() == b"c\n"  # b waits for the answer to a
        assert stage.trunks.connections == 2
        await stage.upstreams[0].send(b"=a\n")
        assert await waits.exactly(3) == b"=a\n"
        assert await stage.upstreams[1].receive() == b"b\n"
        await stage.upstreams[1].send(b"=c\n=b\n")
        assert (await idle.exactly(3), await waits.exactly(3)) == (b"=c\n", b"=b\n")
        old.look()
        assert await stage.upstreams[0].to_end() == b""
        stage.upstreams[0].close()
        await until(lambda: stage.trunks.connections == 1)


async def test_who_comes_too_late_for_a_connection_gets_another(ca: TestCa, tmp_path: Path) -> None:
    engine = SharingToy(retire_at=FakeClock().now() + timedelta(hours=1))
    async with proxy_stage(ca, tmp_path, engine=engine, handler=answer) as stage:
        early = await stage.login()
        stage.clock.advance(3600)
        engine.retire_at += timedelta(hours=1)
        late = await stage.login()
        await ask(late, b"a")
        await ask(early, b"b")
        assert stage.database.accepted == 2
        assert stage.trunks.clients == 2


async def test_a_connection_without_clients_is_kept_for_a_minute(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        for seconds, accepted in ((0.0, 1), (59.0, 1), (61.0, 2)):
            client = await stage.login()
            assert stage.database.accepted == accepted
            await ask(client, b"a")
            trunk = trunk_of(stage)
            stage.clock.advance(100)
            trunk.look()
            assert trunk.open
            await client.finish()
            await client.to_end()
            await until(lambda: stage.trunks.clients == 0)
            stage.clock.advance(59 if seconds == 0 else 61)
            trunk.look()
            assert trunk.ended is (seconds != 0)
            await until(lambda: stage.trunks.connections == (0 if seconds else 1))  # noqa: B023


async def test_a_server_that_does_not_answer_is_asked_nothing_new(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        client = await stage.login()
        trunk = trunk_of(stage)
        await client.send(b"a\n")
        assert await stage.upstreams[0].receive() == b"a\n"
        trunk.look()
        stage.clock.advance(trunks.OVERDUE_SECONDS - 1)
        trunk.look()
        assert trunk.open
        stage.clock.advance(1)
        trunk.look()
        assert not trunk.open
        other = await stage.login()
        await other.send(b"b\n")
        assert await stage.upstreams[1].receive() == b"b\n"
        await stage.upstreams[0].send(b"=a\n")  # late, and still right
        assert await client.exactly(3) == b"=a\n"


async def test_a_crash_over_an_answer_ends_that_connection_alone(
    ca: TestCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        victim, other = await stage.login(), await stage.login(b"bob")
        trunk = next(iter(stage.trunks._trunks.values()))
        trunk._advance = lambda data, at, count: (at, 0)
        await victim.send(b"a\n")
        assert await victim.to_end() == b"BYE INTERNAL\n"
        await ask(other, b"fine")
        assert "counts answers that are not there" in caplog.text


async def flood(peer: Peer) -> None:
    """Answer with the number of megabytes that a request says."""
    begun = b""
    while data := await peer.receive():
        *lines, begun = (begun + data).split(b"\n")
        for line in lines:
            for _ in range(16 * int(line)):
                await peer.send(b"=" * 65536)
            await peer.send(b"=\n")


async def test_a_client_that_does_not_read_holds_up_others_for_so_long_and_no_longer(
    ca: TestCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trunks, "STALL_SECONDS", 0.5)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=flood) as stage:
        stuck, waits = await stage.login(receive_buffer=4096), await stage.login()
        await stuck.send(b"16\n")
        trunk = trunk_of(stage)
        await until(lambda: trunk._stalled)
        (seat,) = trunk._stalled
        assert seats.UNSENT_LIMIT < seat.client.unsent_bytes < seats.UNSENT_LIMIT + 200_000
        assert trunk.link._holds & trunks.HOLD_READER
        await waits.send(b"0\n")
        assert await waits.exactly(2) == b"=\n"
        await until(lambda: stage.log.ends)
        end = stage.log.ends[0]
        assert (end.ended, end.reason) == ("proxy", Reason.CLIENT_PROTOCOL)
        assert "did not read" in end.message
        assert not trunk.link._holds
        assert stage.database.accepted == 1


async def test_a_client_that_leaves_unread_answers_behind_holds_up_nobody(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=flood) as stage:
        stuck, waits = await stage.login(receive_buffer=4096), await stage.login()
        await stuck.send(b"16\n")
        trunk = trunk_of(stage)
        await until(lambda: trunk._stalled)
        stuck.close(reset=True)
        await until(lambda: trunk.clients == 1, 4.0)  # before its patience ends
        assert not trunk._stalled
        await waits.send(b"0\n")
        assert await waits.exactly(2) == b"=\n"


async def test_a_client_that_reads_slowly_gets_everything(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=flood) as stage:
        slow, waits = await stage.login(receive_buffer=65536), await stage.login()
        await slow.send(b"16\n0\n")
        trunk = trunk_of(stage)
        await until(lambda: trunk._stalled)
        await slow.send(b"0\n")
        await waits.send(b"0\n")
        size = 16 * 1024 * 1024 + 6
        assert await slow.exactly(size) == b"=" * (size - 5) + b"\n=\n=\n"
        assert await waits.exactly(2) == b"=\n"
        assert not trunk.link._holds
        assert not trunk._stalled


async def test_a_server_that_does_not_read_stops_the_clients(ca: TestCa, tmp_path: Path) -> None:
    go = asyncio.Event()

    async def late(peer: Peer) -> None:
        await go.wait()
        begun = b""
        while data := await peer.receive():
            *lines, begun = (begun + data).split(b"\n")
            await peer.send(b"".join(b"=%c\n" % line[0] for line in lines))

    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=late) as stage:
        greedy, idle = await stage.login(), await stage.login()
        sent = 0

        async def push() -> None:
            nonlocal sent
            while True:
                await greedy.send(b"x" * 65535 + b"\n")
                sent += 1

        trunk = trunk_of(stage)
        async with asyncio.TaskGroup() as group:
            pushing = group.create_task(push())
            await until(lambda: all(seat.client._holds & trunks.HOLD_TRUNK for seat in trunk._seats))
            await asyncio.sleep(0.5)  # the kernel takes some more
            pushing.cancel()
        assert sent * 65536 < 40_000_000
        newcomer = await stage.login()
        await until(lambda: trunk.clients == 3)
        assert all(seat.client._holds & trunks.HOLD_TRUNK for seat in trunk._seats)
        await newcomer.send(b"n\n")
        await idle.send(b"i\n")
        go.set()
        assert await newcomer.exactly(3) == b"=n\n"
        assert await idle.exactly(3) == b"=i\n"
        greedy.close()
        await until(lambda: stage.log.ends)
        await until(lambda: not any(seat.client._holds for seat in trunk._seats))


async def test_requests_that_wait_for_an_answer_are_bounded(
    ca: TestCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trunks, "QUEUE_LIMIT", 10)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        client = await stage.login()
        (database,) = stage.upstreams
        trunk = trunk_of(stage)
        for number in range(11):
            await client.send(b"%d\n" % number)
            await database.receive()
        (seat,) = trunk._seats
        assert seat.client._holds & trunks.HOLD_TRUNK
        await client.send(b"waits\n")
        await database.send(b"".join(b"=%d\n" % number for number in range(11)))
        assert await database.receive() == b"waits\n"


async def test_a_server_that_owes_answers_to_nobody_is_let_go(ca: TestCa, tmp_path: Path) -> None:
    """Its place at the database is worth more than answers that nobody will hear."""
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=by_hand) as stage:
        client = await stage.login()
        trunk = trunk_of(stage)
        await client.send(b"a\n")
        assert await stage.upstreams[0].receive() == b"a\n"
        trunk.look()
        stage.clock.advance(trunks.OVERDUE_SECONDS)
        trunk.look()
        assert not trunk.ended  # the client still waits
        client.close(reset=True)
        await until(lambda: stage.trunks.clients == 0)
        trunk.look()
        assert trunk.ended


async def test_a_connection_is_as_old_as_sessions_may_be_at_most(ca: TestCa, tmp_path: Path) -> None:
    """What the server thinks of the user now is asked with a login; who joins an old one would not ask for hours."""
    hour = SessionLimits(max_session_seconds=3600)
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer, session_limits=hour) as stage:
        for seconds, accepted in ((0, 1), (3599, 1), (1, 2)):
            stage.clock.advance(seconds)
            await ask(await stage.login(), b"a")
            assert stage.database.accepted == accepted
