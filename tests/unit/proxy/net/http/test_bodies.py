"""Bodies: hashed as sent, kept within bounds, spooled, streamed, refused; and answers of any length."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
from pathlib import Path

import pytest

from proxy.http.bodies import chunk
from proxy.net.http.bodies import Budget
from proxy.net.http.house import HttpLimits
from tests.support.ca import TestCa
from tests.support.http_stage import Request, Upstream, answer, call, http_stage, read_answer
from tests.support.peer import Peer

MIB = 1024 * 1024
POST = b"POST /_bulk HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n"
WHO = b"Authorization: AWS4-HMAC-SHA256 Credential=reader/1/2/3/4, x\r\n"


def bulk(body: bytes, *lines: bytes) -> bytes:
    """A request with its length."""
    return POST + WHO + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunks(body: bytes, size: int) -> bytes:
    """The same, chunked."""
    parts = b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size))
    return POST + WHO + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"


def hashed(request: Request) -> bool:
    """Whether the payload's hash, which is signed, is that of the body."""
    return request.headers["x-amz-content-sha256"] == hashlib.sha256(request.body).hexdigest()


async def test_the_largest_batch_of_dynamodb(ca: TestCa) -> None:
    """16 MiB and some, in memory, and sent again when the first signature is refused."""
    error = b'{"__type":"x#ExpiredTokenException","message":"x"}'

    async def refuse_the_first(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(answer(error, 400) if request.generation == "1" else answer())

    body = os.urandom(16 * MIB + 100_000)
    async with http_stage(ca, refuse_the_first) as stage:
        assert (await stage.ask(call(body, "DynamoDB_20120810.BatchWriteItem"))).status == 200
        assert [request.body == body for request in stage.upstream.requests] == [True, True]
        assert stage.listener.buffered() == (0, 0)


@pytest.mark.parametrize("size", [0, 1, 70_000, 300_000])
async def test_chunked_bodies_go_on_with_a_length(ca: TestCa, size: int) -> None:
    """Decoded, hashed, whole."""
    body = os.urandom(size)
    async with http_stage(ca, service="es") as stage:
        assert (await stage.ask(chunks(body, 1000))).status == 200
        (request,) = stage.upstream.requests
        assert request.body == body
        assert hashed(request)
        assert request.headers["content-length"] == str(size)
        assert "transfer-encoding" not in request.headers


async def test_gzip_is_hashed_as_it_is_sent(ca: TestCa) -> None:
    """And stays gzip."""
    body = gzip.compress(b'{"index":{}}\n{"a":1}\n' * 10_000)
    async with http_stage(ca, service="es") as stage:
        assert (await stage.ask(bulk(body, b"Content-Encoding: gzip"))).status == 200
        (request,) = stage.upstream.requests
        assert (request.body, request.headers["content-encoding"]) == (body, "gzip")
        assert hashed(request)


async def test_expect_is_answered_here(ca: TestCa) -> None:
    """When the client is let in; the server never hears of it."""
    async with http_stage(ca, service="es") as stage:
        client = await stage.dial()
        await client.send(POST + WHO + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await read_answer(client)).status == 100
        await client.send(b"12345")
        assert (await read_answer(client)).status == 200
        (request,) = stage.upstream.requests
        assert request.body == b"12345"
        assert "expect" not in request.headers


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(ca: TestCa, chunked: bool) -> None:
    """413 in the service's form, before the body is read where its length is known."""
    body = b"x" * 300_000
    async with http_stage(ca, limits=HttpLimits(body_bytes=200_000)) as stage:
        client = await stage.dial()
        if chunked:
            head = call(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            await client.send(head + b"".join(chunk(body[at : at + 50_000]) for at in range(0, 300_000, 50_000)))
        else:
            await client.send(call(body)[:-200_000])
        got = await read_answer(client)
        assert (got.status, got.headers["connection"]) == (413, "close")
        assert b"RequestEntityTooLarge" in got.body
        assert b"200000 bytes" in got.body
        assert stage.upstream.requests == []
        assert stage.listener.buffered() == (0, 0)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_spooled(ca: TestCa, tmp_path: Path, chunked: bool) -> None:
    """To a file that has no name, hashed, and sent again where need be; nothing is left."""

    async def refuse_the_first(_: Upstream, peer: Peer, request: Request) -> None:
        gone = answer(b"The security token included in the request is expired", 403)
        await peer.send(gone if request.generation == "1" else answer())

    body = os.urandom(3 * MIB)
    limits = HttpLimits(body_bytes=200_000, spool_dir=tmp_path, spool_bytes=8 * MIB)
    async with http_stage(ca, refuse_the_first, service="es", limits=limits) as stage:
        got = await stage.ask(chunks(body, 100_000) if chunked else bulk(body))
        assert got.status == 200
        assert [(request.body == body, hashed(request)) for request in stage.upstream.requests] == [(True, True)] * 2
        assert stage.listener.buffered() == (0, 0)
        assert os.listdir(tmp_path) == []


async def test_a_spool_that_is_too_small(ca: TestCa, tmp_path: Path) -> None:
    """413 for what can never fit."""
    limits = HttpLimits(body_bytes=100_000, spool_dir=tmp_path, spool_bytes=1 * MIB)
    async with http_stage(ca, service="es", limits=limits) as stage:
        assert (await stage.ask(bulk(b"x" * 2 * MIB)[:-MIB])).status == 413
        assert stage.listener.buffered() == (0, 0)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_collection_takes_a_large_body_as_it_comes(ca: TestCa, chunked: bool) -> None:
    """Unsigned, neither kept nor spooled."""
    body = os.urandom(2 * MIB)
    async with http_stage(ca, service="aoss", limits=HttpLimits(body_bytes=200_000)) as stage:
        got = await stage.ask(chunks(body, 100_000) if chunked else bulk(body))
        assert got.status == 200
        (request,) = stage.upstream.requests
        assert request.body == body
        assert request.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert stage.listener.buffered() == (0, 0)


async def test_a_streamed_body_cannot_be_sent_again(ca: TestCa) -> None:
    """The client is told to, and its next request has a fresh session."""

    async def refuse_the_first(_: Upstream, peer: Peer, request: Request) -> None:
        gone = answer(b'{"message":"The security token included in the request is expired"}', 403)
        await peer.send(gone if request.generation == "1" else answer())

    async with http_stage(ca, refuse_the_first, service="aoss", limits=HttpLimits(body_bytes=100_000)) as stage:
        got = await stage.ask(bulk(b"x" * MIB))
        assert got.status == 503
        assert (await stage.ask(bulk(b"x" * MIB))).status == 200


async def test_a_denied_client_sends_its_body_to_nobody(ca: TestCa) -> None:
    """It is not read first."""
    from proxy.errors import Refused
    from tollbridge.reasons import Reason

    async with http_stage(ca) as stage:
        stage.grants.refusal = Refused(Reason.DENIED_BY_RULE, "no")
        client = await stage.dial()
        await client.send(call(b"x" * MIB)[:100_000])
        got = await read_answer(client)
        assert (got.status, got.headers["connection"]) == (403, "close")
        assert stage.listener.buffered() == (0, 0)


async def test_bodies_wait_for_room(ca: TestCa) -> None:
    """Two that do not fit together go one after the other, the second one unread until then."""
    go = asyncio.Event()

    async def slow(_: Upstream, peer: Peer, request: Request) -> None:
        await go.wait()
        await peer.send(answer())

    async with http_stage(ca, slow, limits=HttpLimits(body_bytes=MIB, buffer_bytes=MIB)) as stage:
        first, second = await stage.dial(), await stage.dial()
        await first.send(call(b"a" * 600_000))
        async with asyncio.timeout(60):
            while not stage.upstream.requests:  # noqa: ASYNC110 - sockets set no event
                await asyncio.sleep(0.002)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(second.send(call(b"b" * 600_000)))
            await asyncio.sleep(0.01)
            assert stage.listener.buffered()[0] <= MIB
            go.set()
            await sending
            assert [(await read_answer(peer)).status for peer in (first, second)] == [200, 200]
        assert stage.listener.buffered() == (0, 0)


async def test_small_bodies_of_unknown_length_take_little_room(ca: TestCa) -> None:
    """Many of them are under way at once, and none is turned away for what it might have become."""
    all_here = asyncio.Event()

    async def answer_together(upstream: Upstream, peer: Peer, request: Request) -> None:
        if len(upstream.requests) == 16:
            all_here.set()
        await all_here.wait()
        await peer.send(answer())

    async with http_stage(ca, answer_together, limits=HttpLimits(body_bytes=MIB, buffer_bytes=MIB)) as stage:
        one = call(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + chunk(b"{}") + b"0\r\n\r\n"
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            asking = [group.create_task(stage.ask(one)) for _ in range(16)]
        assert [task.result().status for task in asking] == [200] * 16


async def test_a_client_that_leaves_in_its_body_gives_its_room_back(ca: TestCa) -> None:
    """Waiting or reading."""
    async with http_stage(ca, limits=HttpLimits(body_bytes=MIB, buffer_bytes=MIB)) as stage:
        first, second = await stage.dial(), await stage.dial()
        await first.send(call(b"a" * 600_000)[:-1])
        async with asyncio.timeout(60):
            while not stage.listener.buffered()[0]:  # noqa: ASYNC110 - sockets set no event
                await asyncio.sleep(0.002)
        await second.send(call(b"b" * 600_000)[:1000])
        second.close()
        first.close()
        async with asyncio.timeout(60):
            while stage.listener.buffered()[0] or stage.listener.open_connections:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.002)


async def test_a_long_answer_is_read_no_faster_than_it_is_taken(ca: TestCa) -> None:
    """The server is held up by a client that reads nothing, and everything arrives in the end."""
    sent = 0
    piece = b"y" * 65536

    async def long(_: Upstream, peer: Peer, request: Request) -> None:
        nonlocal sent
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (400 * len(piece)))
        for _number in range(400):
            await peer.send(piece)
            sent += len(piece)

    async with http_stage(ca, long, service="es") as stage:
        client = await stage.dial(receive_buffer=8192)
        await client.send(b"GET /_search HTTP/1.1\r\nHost: h\r\n" + WHO + b"\r\n")
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 400 * len(piece)
        received = 0
        while received < 400 * len(piece) and (data := await client.receive()):
            received += len(data)
        assert received >= 400 * len(piece)
        assert sent == 400 * len(piece)


@pytest.mark.parametrize("minor", [1, 0])
async def test_chunked_answers(ca: TestCa, minor: int) -> None:
    """Chunked again; for HTTP/1.0 the connection's end is the body's."""

    async def chunked(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"abc", b"d" * 100_000):
            await peer.send(chunk(part))
        await peer.send(b"0\r\nTrailer: x\r\n\r\n")

    async with http_stage(ca, chunked, service="es") as stage:
        client = await stage.dial()
        await client.send(b"GET / HTTP/1.%d\r\nHost: h\r\n" % minor + WHO + b"\r\n")
        if minor:
            assert (await read_answer(client)).body == b"abc" + b"d" * 100_000
        else:
            head, _, body = (await client.to_end()).partition(b"\r\n\r\n")
            assert b"Transfer-Encoding" not in head
            assert body == b"abc" + b"d" * 100_000


async def test_a_client_that_leaves_in_a_streamed_body_ends_the_request(ca: TestCa) -> None:
    """The server sees it cut, never whole."""
    async with http_stage(ca, service="aoss", limits=HttpLimits(body_bytes=1000)) as stage:
        client = await stage.dial()
        await client.send(bulk(b"x" * MIB)[:200_000])
        async with asyncio.timeout(60):
            while not stage.upstream.connections:  # noqa: ASYNC110 - sockets set no event
                await asyncio.sleep(0.002)
        client.close()
        async with asyncio.timeout(60):
            while stage.listener.open_connections or stage.listener.pools.connections:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.002)


def test_a_budget_serves_who_waits_in_turn() -> None:
    """A small one does not overtake a large one for ever."""
    budget, served = Budget(100), []
    assert budget.take(80)
    assert not budget.take(30)
    budget.wait(50, lambda: served.append(50))
    budget.wait(10, lambda: served.append(10))
    assert not budget.take(10)
    budget.give(80)
    assert served == [50, 10]
    assert budget.used == 60
