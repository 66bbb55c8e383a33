"""What goes wrong for one request harms no other, and never looks like something else."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import shutil
import sys
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.engines.dynamodb import refusals, routing
from proxy.http.heads import RequestHead
from proxy.http.model import Plan
from proxy.net.http.bodies import Budget, MemoryBody, Room
from proxy.net.http.house import HttpLimits
from proxy.net.http.stamps import Stamps
from tests.support import http_stage as staging
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.http_stage import Request, Upstream, answer, call, http_stage, read_answer
from tests.support.peer import Peer

POST = b"POST /_bulk HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 Credential=reader/1/2/3/4, x\r\n"


async def test_a_bug_behind_a_grant_ends_one_connection(ca: TestCa, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the listener, nor the request that waited for the same grant."""
    plan = routing.plan

    def broken(head: RequestHead, endpoint_host: str) -> Plan:
        if head.amz_target.endswith(b"Crash"):
            raise KeyError("a bug")
        return plan(head, endpoint_host)

    monkeypatch.setattr(routing, "plan", broken)
    async with http_stage(ca) as stage:
        stage.grants.hold = asyncio.Event()
        first, second = await stage.dial(), await stage.dial()
        await first.send(call(b"{}", "DynamoDB_20120810.Crash"))
        await second.send(call())
        async with asyncio.timeout(60):
            while len(stage.grants.asked) < 1 or stage.listener.open_connections < 2:  # noqa: ASYNC110 - others run
                await asyncio.sleep(0)
            stage.grants.hold.set()
            assert await first.to_end() == b""
            assert (await read_answer(second)).status == 200
            assert (await stage.ask(call())).status == 200


async def test_a_spool_that_is_gone_harms_only_who_needs_it(ca: TestCa, tmp_path: Path) -> None:
    """Who waited for room gets an error; who gave the room back gets its answer, and the next one."""
    spool, go = tmp_path / "spool", asyncio.Event()
    spool.mkdir()

    async def hold_the_first(upstream: Upstream, peer: Peer, _: Request) -> None:
        if len(upstream.requests) == 1:
            await go.wait()
        await peer.send(answer())

    body = b"x" * 150_000
    limits = HttpLimits(body_bytes=100_000, spool_dir=spool, spool_bytes=200_000)
    async with http_stage(ca, hold_the_first, service="es", limits=limits) as stage, asyncio.timeout(60):
        first, second = await stage.dial(), await stage.dial()
        await first.send(POST + b"Content-Length: 150000\r\n\r\n" + body)
        while not stage.upstream.requests:  # noqa: ASYNC110 - others run
            await asyncio.sleep(0)
        await second.send(POST + b"Content-Length: 150000\r\n\r\n")
        while len(stage.listener._house.spool._waiting) < 1:  # noqa: ASYNC110 - others run
            await asyncio.sleep(0)
        shutil.rmtree(spool)
        go.set()
        assert (await read_answer(first)).status == 200
        assert (await read_answer(second)).status == 500
        await first.send(POST + b"Content-Length: 2\r\n\r\n{}")
        assert (await read_answer(first)).status == 200
        assert stage.listener.buffered() == (0, 0)


def test_a_body_in_crumbs_takes_no_more_memory_than_it_has_room() -> None:
    """Each piece is an object of its own, many times its bytes when it has two of them."""
    budget = Budget(4_000_000)
    body = MemoryBody(Room(budget, 0))
    for number in range(100_000):
        assert body.add(b"%02d" % (number % 100))
    assert sum(map(sys.getsizeof, body.parts)) < 250_000
    body.finish(lambda: None)
    assert b"".join(body.parts) == b"".join(b"%02d" % (number % 100) for number in range(100_000))


async def test_an_answer_under_way_is_cut_and_never_followed_by_another(
    ca: TestCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that breaks the rules in its body, when the server has begun to answer: ours would pass for the rest."""

    async def heads_alone(peer: Peer) -> Request | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (byte := await peer.receive(1)):
                return None
            head += byte
        return Request(head.decode(), {}, b"")

    async def begin(_: Upstream, peer: Peer, _request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
        while await peer.receive(65536):
            pass

    monkeypatch.setattr(staging, "read_request", heads_alone)
    async with http_stage(ca, begin, service="aoss", limits=HttpLimits(body_bytes=100_000)) as stage:
        client = await stage.dial()
        size = b"%x\r\n" % 300_000
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"x" * 300_000)
        async with asyncio.timeout(60):
            got = b""
            while not got.endswith(b"begun"):
                got += await client.receive(1)
            await client.send(b"no chunk ends so")
            try:
                rest = await client.to_end()
            except ConnectionError:
                rest = b""
        assert rest == b""


async def test_a_refused_signature_that_is_quoted_at_length_stays_here(ca: TestCa) -> None:
    """AWS quotes what should have been signed, the session's token and the target among it."""

    async def quotes(_: Upstream, peer: Peer, request: Request) -> None:
        said = f"The request signature we calculated does not match {request.headers} {'/long' * 8000}"
        await peer.send(answer(said.encode(), 403))

    async with http_stage(ca, quotes, service="es") as stage:
        got = await stage.ask(POST + b"Content-Length: 2\r\n\r\n{}")
        assert got.status == 403
        assert b"token-" not in got.body


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_refused_signature_that_came_compressed_stays_here(
    ca: TestCa, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    """A client that accepts gzip gets refusals in it, too; one that grows over all bounds is none."""
    bomb = pack(b"ExpiredTokenException" * 10_000_000)

    async def refuse_the_first(_: Upstream, peer: Peer, request: Request) -> None:
        said = pack(b"The security token included in the request is expired: token-1")
        said = bomb if request.line.startswith("POST /bomb") else said
        late = request.generation == "1" or said is bomb
        await peer.send(answer(said, 403, f"Content-Encoding: {coding}") if late else answer())

    async with http_stage(ca, refuse_the_first, service="es") as stage:
        ask = POST + b"Accept-Encoding: gzip, deflate\r\nContent-Length: 2\r\n\r\n{}"
        assert (await stage.ask(ask)).status == 200
        assert stage.http.resigned == 1
        assert (await stage.ask(ask.replace(b"/_bulk", b"/bomb"))).body == bomb
        assert stage.http.resigned == 1


@pytest.mark.parametrize(
    "date",
    [
        b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        b"Mon, 01 Jan 2026 00:00:00 +99999999999999",
        b"\xff",
        b"",
    ],
)
def test_a_date_that_is_none_explains_nothing(date: bytes) -> None:
    """Whatever a server says of its clock."""
    stamps = Stamps(FakeClock(datetime(2026, 1, 15, 12, tzinfo=UTC)))
    assert stamps.learn(date) is None
    assert stamps.now().time == b"20260115T120000Z"


async def test_a_client_that_asks_and_never_reads_fills_no_memory(ca: TestCa) -> None:
    """Its next requests wait until it has taken the answers before; then each is answered."""

    async def big(_: Upstream, peer: Peer, _request: Request) -> None:
        await peer.send(answer(b"x" * 15_000))

    async with http_stage(ca, big) as stage, asyncio.timeout(60):
        greedy, other = await stage.dial(receive_buffer=4096), await stage.dial()
        await greedy.send(call() * 1000)
        for _ in range(300):
            await other.send(call())
            assert (await read_answer(other)).status == 200
        waiting = [link._transport.get_write_buffer_size() for link in stage.listener._open]
        assert max(waiting) < 256 * 1024
        for _ in range(1000):
            assert (await read_answer(greedy)).status == 200
        assert stage.listener.open_connections == 2


async def test_a_bug_behind_an_answer_ends_its_client_at_once(
    ca: TestCa, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nobody else's request; the log says where it is, and not what it was about."""

    def broken(body: bytes) -> None:
        raise KeyError(body)

    async def deny_crash(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(answer(b"private", 400 if request.headers["x-amz-target"].endswith("Crash") else 200))

    monkeypatch.setattr(refusals, "judge", broken)
    async with http_stage(ca, deny_crash) as stage, asyncio.timeout(60):
        client = await stage.dial()
        await client.send(call(b"{}", "DynamoDB_20120810.Crash"))
        with contextlib.suppress(ConnectionError):
            assert await client.to_end() == b""
        assert (await stage.ask(call())).status == 200
    assert "an answer crashed: KeyError" in caplog.text
    assert "in broken" in caplog.text
    assert "private" not in caplog.text
