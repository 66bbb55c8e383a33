"""Connections to upstream are kept for the next request, and not for ever."""

from __future__ import annotations

import asyncio

from proxy.net.dial import Dialer
from proxy.net.http.pool import PoolLimits
from tests.support.ca import TestCa
from tests.support.http_stage import HOSTS, HttpStage, answer, call, http_stage, read_answer, read_request
from tests.support.peer import Peer, serving


async def none_is_open(stage: HttpStage) -> None:
    """What is old is looked for now and then."""
    async with asyncio.timeout(3):
        while stage.listener.pools.connections:  # noqa: ASYNC110 - sockets set no event
            await asyncio.sleep(0.01)


async def test_one_that_nobody_needs_is_closed_before_the_server_does(ca: TestCa) -> None:
    """A request that meets the server's own end would be lost."""
    async with http_stage(ca, pool=PoolLimits(idle_seconds=0.05)) as stage:
        assert (await stage.ask(call())).status == 200
        await none_is_open(stage)
        assert (await stage.ask(call())).status == 200
        assert stage.upstream.connections == 2


async def test_a_name_that_has_moved_is_followed(ca: TestCa) -> None:
    """By a client that never stops asking, too: its connection takes requests for so long and no longer."""
    context = ca.server_context(HOSTS["dynamodb"])

    async def elsewhere(peer: Peer) -> None:
        await peer.tls(context, server=True)
        while await read_request(peer) is not None:
            await peer.send(answer(b"moved"))

    async with serving(elsewhere) as server, http_stage(ca, pool=PoolLimits(age_seconds=0.3)) as stage:
        client = await stage.dial()
        bodies: list[bytes] = []
        async with asyncio.timeout(5):
            while not bodies or bodies[-1] != b"moved":
                await client.send(call())
                bodies.append((await read_answer(client)).body)
                stage.listener.pools.dialer = Dialer(dial={HOSTS["dynamodb"]: f"127.0.0.1:{server.port}"})
        assert bodies[0] == b"{}"
        assert stage.upstream.connections == 1
