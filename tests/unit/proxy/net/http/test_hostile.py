"""Clients and servers that break HTTP: refused clearly, cut visibly, and nobody else notices."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import Refused
from proxy.http.heads import HEAD_LIMIT
from proxy.model import PeerFacts
from proxy.net.dial import Dialer
from proxy.net.http.house import HttpLimits
from proxy.net.http.pool import PoolLimits
from tests.support.ca import TestCa
from tests.support.http_stage import (
    HOSTS,
    Request,
    Upstream,
    answer,
    call,
    http_stage,
    read_answer,
)
from tests.support.peer import Peer
from tollbridge.reasons import Reason

GET = b"GET /shop/_search HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 Credential=reader/1/2/3/4, x\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (GET + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (GET + b"X: a\r\n folded\r\n\r\n", 400),
        (GET + b"X: a\nY: b\r\n\r\n", 400),
        (GET + b"Host: other\r\n\r\n", 400),
        (GET + b"X: " + b"a" * HEAD_LIMIT + b"\r\n\r\n", 431),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400),
        (GET.replace(b"/shop/_search", b"http://169.254.169.254/") + b"\r\n", 400),
        (GET.replace(b"/shop/_search", b"/a/../b") + b"\r\n", 400),
        (GET.replace(b"/shop/_search", b"/\xc3\xa4") + b"\r\n", 400),
        (GET.replace(b"GET ", b"TRACE ") + b"\r\n", 400),
        (GET + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", 400),
        (GET.replace(b"1.1", b"3.1") + b"\r\n", 505),
    ],
)
async def test_what_is_refused_reaches_no_server(ca: TestCa, data: bytes, status: int) -> None:
    """Each with its status in JSON; what is pipelined behind it goes nowhere."""
    async with http_stage(ca, service="es") as stage:
        client = await stage.dial()
        await client.send(data + GET + b"\r\n")
        got = await read_answer(client)
        assert got.status == status
        assert got.headers["content-type"].startswith("application/json")
        if got.headers.get("connection") == "close":
            assert await client.to_end() == b""
            assert stage.upstream.requests == []


async def test_a_head_that_never_ends(ca: TestCa) -> None:
    """408, and the end."""
    async with http_stage(ca, limits=HttpLimits(head_seconds=0.05)) as stage:
        client = await stage.dial()
        await client.send(b"POST / HTTP/1.1\r\nHost: h\r\n")
        assert (await read_answer(client)).status == 408
        assert await client.to_end() == b""


async def test_a_body_that_stops(ca: TestCa) -> None:
    """The same."""
    async with http_stage(ca, limits=HttpLimits(stall_seconds=0.05)) as stage:
        client = await stage.dial()
        await client.send(call(b"x" * 1000)[:-10])
        assert (await read_answer(client)).status == 408


async def test_a_client_that_says_nothing_is_let_go(ca: TestCa) -> None:
    """Without a word: it has asked for nothing."""
    async with http_stage(ca, limits=HttpLimits(idle_seconds=0.5)) as stage:
        client = await stage.dial()
        await client.send(call())
        await read_answer(client)
        assert await client.to_end() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * (2 * HEAD_LIMIT),
    ],
)
async def test_answers_that_are_garbage_are_an_error_of_ours(ca: TestCa, data: bytes) -> None:
    """502, and not a byte of them."""

    async def garbage(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(data)

    async with http_stage(ca, garbage, service="es") as stage:
        got = await stage.ask(GET + b"\r\n")
        assert got.status == 502
        assert b"UPSTREAM_PROTOCOL" in got.body
        assert stage.listener.pools.connections == 0


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\n",
    ],
)
async def test_an_answer_that_is_cut_never_looks_complete(ca: TestCa, data: bytes) -> None:
    """The client's connection breaks in the middle of it."""

    async def cut(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(data)
        await peer.finish()

    async with http_stage(ca, cut, service="es") as stage:
        with pytest.raises((EOFError, ConnectionError, ValueError)):
            await stage.ask(GET + b"\r\n")
        assert stage.http.aborted == 1


async def test_bytes_behind_an_answer_are_nobodys(ca: TestCa) -> None:
    """A server that answers twice: the second answer is not given to the next request."""

    async def twice(upstream: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(answer(b"%d" % len(upstream.requests)) + answer(b"smuggled"))

    async with http_stage(ca, twice, service="es") as stage:
        client = await stage.dial()
        for number in (b"1", b"2", b"3"):
            await client.send(GET + b"\r\n")
            assert (await read_answer(client)).body == number
        assert stage.upstream.connections == 3


async def test_head_204_and_304_end_with_their_heads(ca: TestCa) -> None:
    """Whatever their lengths say; the next answer is the next one's."""

    async def bodiless(_: Upstream, peer: Peer, request: Request) -> None:
        path = request.line.split()[1]
        if request.line.startswith("HEAD"):
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        elif path == "/204":
            await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif path == "/304":
            await peer.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
        else:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"last"))

    async with http_stage(ca, bodiless, service="es") as stage:
        client = await stage.dial()
        await client.send(
            b"".join(
                b"%b HTTP/1.1\r\nHost: h\r\n%b\r\n" % (first, who())
                for first in (b"HEAD /x", b"GET /204", b"GET /304", b"GET /")
            )
        )
        head = await read_answer(client, bodiless=True)
        assert (head.status, head.headers["content-length"]) == (200, "1000")
        assert (await read_answer(client)).status == 204
        assert (await read_answer(client)).status == 304
        assert (await read_answer(client)).body == b"last"
        assert stage.upstream.connections == 1


def who() -> bytes:
    """An Authorization line."""
    return b"Authorization: AWS4-HMAC-SHA256 Credential=reader/1/2/3/4, x\r\n"


async def test_a_server_that_says_nothing(ca: TestCa) -> None:
    """An error that clients try again, after as long as configured."""

    async def silent(_: Upstream, peer: Peer, request: Request) -> None:
        await asyncio.Event().wait()

    async with http_stage(ca, silent, service="es", limits=HttpLimits(answer_seconds=0.05)) as stage:
        got = await stage.ask(GET + b"\r\n")
        assert got.status == 504
        assert b"UPSTREAM_TIMEOUT" in got.body


async def test_no_more_connections_than_configured(ca: TestCa) -> None:
    """Requests wait for one, and are told when that takes too long."""
    go = asyncio.Event()

    async def slow(_: Upstream, peer: Peer, request: Request) -> None:
        await go.wait()
        await peer.send(answer())

    async with http_stage(ca, slow, pool=PoolLimits(connections=1, wait_seconds=1.0)) as stage:
        first, second = await stage.dial(), await stage.dial()
        await first.send(call())
        await second.send(call())
        got = await read_answer(second)
        assert got.status == 400
        assert b"ThrottlingException" in got.body
        await second.send(call())
        go.set()
        assert [(await read_answer(peer)).status for peer in (first, second)] == [200, 200]
        assert stage.upstream.connections == 1


async def test_no_more_clients_than_configured(ca: TestCa) -> None:
    """One more is told at once."""
    async with http_stage(ca, max_connections=1) as stage:
        first = await stage.dial()
        await first.send(call())
        assert (await read_answer(first)).status == 200
        got = await read_answer(await stage.dial())
        assert got.status == 400
        assert b"TOO_MANY_CONNECTIONS" in got.body
        assert [row.reason for row in stage.log.refusals] == [Reason.TOO_MANY_CONNECTIONS]


async def test_a_drain_lets_requests_end(ca: TestCa) -> None:
    """The one under way is answered, the idle connection closed."""
    go = asyncio.Event()

    async def slow(_: Upstream, peer: Peer, request: Request) -> None:
        await go.wait()
        await peer.send(answer())

    async with http_stage(ca, slow) as stage:
        busy, idle = await stage.dial(), await stage.dial()
        await busy.send(call())
        async with asyncio.timeout(60):
            while not stage.upstream.requests:  # noqa: ASYNC110 - sockets set no event
                await asyncio.sleep(0.002)
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.listener.drain(60))
            assert await idle.to_end() == b""
            go.set()
            got = await read_answer(busy)
        assert (got.status, got.headers["connection"]) == (200, "close")


async def test_a_drain_that_lasts_too_long_says_so(ca: TestCa) -> None:
    """In the service's own words: another replica answers."""

    async def silent(_: Upstream, peer: Peer, request: Request) -> None:
        await asyncio.Event().wait()

    async with http_stage(ca, silent) as stage:
        client = await stage.dial()
        await client.send(call())
        async with asyncio.timeout(60):
            while not stage.upstream.requests:  # noqa: ASYNC110 - sockets set no event
                await asyncio.sleep(0.002)
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.listener.drain(0))
            got = await read_answer(client)
        assert got.status == 503
        assert b"DRAINING" in got.body


@pytest.mark.parametrize(
    ("door", "credential", "host", "found"),
    [
        ({}, "role/Reader", "h", ("shop", "role/Reader")),
        ({}, "Reader", "h", ("shop", "Reader")),
        ({}, "arn:aws:iam::222222222222:role/team/Reader", "h", ("shop", "arn:aws:iam::222222222222:role/team/Reader")),
        ({"db_user": "fixed"}, "Reader", "h", ("shop", "fixed")),
        ({"db_user": "fixed"}, "AKIAIOSFODNN7EXAMPLE", "h", ("shop", "fixed")),
        ({"db_user": "fixed"}, "role/Reader", "h", ("shop", "role/Reader")),
        ({"database": None, "by_login_name": True}, "role/Reader@other", "h", ("other", "role/Reader")),
        ({"database": None, "by_login_name": True, "db_user": "fixed"}, "any@other", "h", ("other", "fixed")),
        (
            {"database": None, "hosts": {"orders.internal": "orders"}},
            "Reader",
            "Orders.Internal:8000",
            ("orders", "Reader"),
        ),
        ({"database": None, "sni_databases": {"s.internal": "sni"}}, "Reader", "h", ("sni", "Reader")),
    ],
)
async def test_whose_request_it_is(door: dict[str, object], credential: str, host: str, found: tuple[str, str]) -> None:
    """By listener, Host, server name or login name; the user by the access key id, or the listener's own."""
    from proxy.http.replies import user_of
    from proxy.model import Door

    fixed: dict[str, object] = {"name": "d", "tls_available": False, "tls_required": False, "database": "shop"}
    authorization = f"AWS4-HMAC-SHA256 Credential={credential}/20260115/r/s/aws4_request, SignedHeaders=host"
    target = Door(**(fixed | door)).route_http(  # type: ignore[arg-type]
        user_of(authorization.encode()), host, PeerFacts(sni="s.internal")
    )
    assert (target.database, target.db_user) == found


@pytest.mark.parametrize(
    "authorization", ["", "Basic eDp5", "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/1/2/3/4"]
)
async def test_a_request_that_names_nobody(ca: TestCa, authorization: str) -> None:
    """AWS's own key ids name nobody here."""
    async with http_stage(ca) as stage:
        got = await stage.ask(
            f"POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: DynamoDB_20120810.ListTables\r\n"
            f"Authorization: {authorization}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        assert got.status == 400
        assert b"no user: sign with the role (role/NAME) as access key id" in got.body


async def test_an_unidentified_client(ca: TestCa) -> None:
    """Says what to do."""
    async with http_stage(ca, workload=None) as stage:
        got = await stage.ask(call())
        assert got.status == 403
        assert b"CLIENT_UNIDENTIFIED" in got.body


async def test_a_database_of_another_service(ca: TestCa) -> None:
    """A key that signs for something else is not used."""
    async with http_stage(ca) as stage:
        stage.grants.service = "cassandra"
        got = await stage.ask(call())
        assert b"PRODUCT_UNSUPPORTED" in got.body


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("", Reason.INVALID_REQUEST),
        ("DynamoDB", Reason.INVALID_REQUEST),
        ("AmazonDAXV3.CreateCluster", Reason.INVALID_REQUEST),
        ("AmazonDAX_20170419.CreateCluster", Reason.FEATURE_REFUSED),
        ("DynamoDB_20111205.GetItem", Reason.FEATURE_REFUSED),
    ],
)
async def test_targets_that_are_not_dynamodbs(ca: TestCa, target: str, reason: Reason) -> None:
    """Refused; nothing is signed."""
    async with http_stage(ca) as stage:
        got = await stage.ask(call(target=target))
        assert got.status == 400
        assert reason.encode() in got.body
        assert stage.upstream.requests == []
        assert isinstance(stage.log.refusals[0].reason, type(Refused(reason, "").reason))


async def test_requests_that_wait_for_a_server_that_is_gone_are_all_told(ca: TestCa) -> None:
    """More of them than connections that may be dialled."""

    async def refuse(_: Upstream, peer: Peer, request: Request) -> None:
        peer.close()

    async with http_stage(ca, refuse, pool=PoolLimits(connections=1)) as stage:
        stage.listener.pools.dialer = Dialer(connect_seconds=0.5, dial={HOSTS["dynamodb"]: "127.0.0.1:1"})
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(stage.ask(call())) for _ in range(5)]
        assert [task.result().status for task in asking] == [503] * 5
