"""Clients that have said all they will, and requests behind a body: everything whole that was asked is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import Refused
from proxy.net.http.bodies import SPOOL_BYTES
from proxy.net.http.house import HttpLimits
from tests.support.ca import TestCa
from tests.support.http_stage import HttpStage, Request, Upstream, answer, call, http_stage, read_answer
from tests.support.peer import Peer
from tollbridge.reasons import Reason

POST = (
    b"POST /_bulk HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 Credential=reader/1/2/3/4, x\r\n"
    b"Content-Type: application/x-ndjson\r\n"
)
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


async def echo(_: Upstream, peer: Peer, request: Request) -> None:
    """What was sent."""
    await peer.send(answer(request.body))


async def test_pipelined_requests_of_a_client_that_has_shut_its_side_are_all_answered(ca: TestCa) -> None:
    """In order, the last of them with a word of goodbye."""
    async with http_stage(ca, echo) as stage:
        client = await stage.dial()
        await client.send(b"".join(call(b'{"n":%d}' % number) for number in range(20)))
        await client.finish()
        got = [await read_answer(client) for _ in range(20)]
        assert [each.body for each in got] == [b'{"n":%d}' % number for number in range(20)]
        assert ["connection" in each.headers for each in got] == [False] * 19 + [True]
        assert await client.to_end() == b""


@pytest.mark.parametrize("rest", [b"POST / HT", call(b"12345")[:-1]])
async def test_what_was_cut_is_sent_to_nobody_and_harms_nothing_before_it(ca: TestCa, rest: bytes) -> None:
    """Half a head, half a body."""
    async with http_stage(ca, echo) as stage:
        client = await stage.dial()
        await client.send(call(b"first") + call(b"second") + rest)
        await client.finish()
        assert [(await read_answer(client)).body for _ in range(2)] == [b"first", b"second"]
        assert await client.to_end() == b""
        assert [request.body for request in stage.upstream.requests] == [b"first", b"second"]


async def test_a_body_that_is_still_being_written_to_its_file(ca: TestCa, tmp_path: Path) -> None:
    """It has ended, and its client has nothing more to say: it is answered all the same."""
    size = 3_000_000
    limits = HttpLimits(body_bytes=1000, spool_dir=tmp_path, spool_bytes=8_000_000)
    async with http_stage(ca, echo, service="es", limits=limits) as stage:
        client = await stage.dial()
        await client.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
        await client.finish()
        assert len((await read_answer(client)).body) == size


async def twice(stage: HttpStage, data: bytes, then: Callable[[], None] = lambda: None) -> list[int]:
    """One request behind the other on one connection, the first while nobody knows yet whether it may."""
    stage.grants.hold = asyncio.Event()
    client = await stage.dial()
    statuses = []
    for _ in range(2):
        await client.send(data)
        async with asyncio.timeout(3):
            while not stage.grants.asked:  # noqa: ASYNC110 - sockets set no event
                await asyncio.sleep(0.002)
            stage.grants.hold.set()
            statuses.append((await read_answer(client)).status)
        then()
    return statuses


async def test_a_chunked_body_that_came_with_its_head_leaves_its_connection_in_use(ca: TestCa) -> None:
    """It had ended before there was a place for it."""
    async with http_stage(ca, echo, service="es") as stage:
        assert await twice(stage, CHUNKED) == [200, 200]


async def test_a_spooled_body_whose_last_piece_was_one_too_many_does_too(ca: TestCa, tmp_path: Path) -> None:
    """Its client was held up in its last bytes."""
    limits = HttpLimits(body_bytes=1000, spool_dir=tmp_path, spool_bytes=8_000_000)
    async with http_stage(ca, echo, service="es", limits=limits) as stage:
        body = POST + b"Content-Length: %d\r\n\r\n" % SPOOL_BYTES + b"x" * SPOOL_BYTES
        assert await twice(stage, body) == [200, 200]


async def test_a_streamed_body_that_nobody_took_does_too(ca: TestCa) -> None:
    """All of it was there when the way to the server was found closed."""
    async with http_stage(ca, echo, service="aoss", limits=HttpLimits(body_bytes=3)) as stage:

        async def unreachable(*_: object, **__: object) -> None:
            raise Refused(Reason.UPSTREAM_UNREACHABLE, "nobody is there")

        dialer = stage.listener.pools.dialer
        connect = dialer.connect
        dialer.connect = unreachable  # type: ignore[assignment, method-assign]

        def mend() -> None:
            dialer.connect = connect  # type: ignore[method-assign]

        assert await twice(stage, CHUNKED, mend) == [503, 200]
