"""Requests through a whole listener: signed anew, sent once, and again only where that does no harm."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from proxy.errors import Refused
from tests.support.ca import TestCa
from tests.support.http_stage import (
    HOSTS,
    HttpStage,
    Request,
    Upstream,
    answer,
    call,
    http_stage,
    read_answer,
)
from tests.support.peer import Peer
from tollbridge.reasons import Reason

INVALID = (
    b'{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"The canonical string was token-1"}'
)
EXPIRED = b'{"__type":"com.amazon.coral.service#ExpiredTokenException","message":"x"}'


async def test_a_request_is_signed_anew_and_keeps_nothing_of_the_clients_signature(ca: TestCa) -> None:
    """Host, date, token and signature are ours; body and the SDK's own headers are the client's."""
    async with http_stage(ca) as stage:
        got = await stage.ask(
            call(
                b'{"a":1}',
                "DynamoDB_20120810.PutItem",
                "X-Amz-Security-Token: dummy",
                "X-Amz-Date: 20200101T000000Z",
                "amz-sdk-request: attempt=1",
                "X-Forwarded-For: 10.0.0.1",
            )
        )
        assert (got.status, got.body) == (200, b"{}")
        (request,) = stage.upstream.requests
        assert request.line == "POST / HTTP/1.1"
        assert request.body == b'{"a":1}'
        headers = request.headers
        assert headers.pop("authorization").startswith(
            "AWS4-HMAC-SHA256 Credential=ASIAGENERATION000001/20260115/eu-central-1/dynamodb/aws4_request, "
            "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature="
        )
        assert headers == {
            "host": HOSTS["dynamodb"],
            "content-type": "application/x-amz-json-1.0",
            "x-amz-date": "20260115T120000Z",
            "x-amz-security-token": "token-1",
            "x-amz-target": "DynamoDB_20120810.PutItem",
            "amz-sdk-request": "attempt=1",
            "content-length": "7",
        }


async def test_one_question_and_one_connection_serve_many_requests(ca: TestCa) -> None:
    """On one client connection, and on the next."""
    async with http_stage(ca) as stage:
        client = await stage.dial()
        for _ in range(5):
            await client.send(call())
            assert (await read_answer(client)).status == 200
        assert (await stage.ask(call())).status == 200
        assert len(stage.grants.asked) == 1
        assert stage.upstream.connections == 1


async def test_pipelined_requests_are_answered_in_order(ca: TestCa) -> None:
    """One after the other, each with its own body."""

    async def echo(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(answer(request.body))

    async with http_stage(ca, echo) as stage:
        client = await stage.dial()
        await client.send(b"".join(call(b'{"n":%d}' % number) for number in range(20)))
        for number in range(20):
            assert (await read_answer(client)).body == b'{"n":%d}' % number


async def test_a_request_that_comes_byte_by_byte(ca: TestCa) -> None:
    """Head and body."""
    async with http_stage(ca) as stage:
        client = await stage.dial()
        for byte in call(b'{"a":1}'):
            await client.send(bytes([byte]))
        assert (await read_answer(client)).status == 200
        assert stage.upstream.requests[0].body == b'{"a":1}'


@pytest.mark.parametrize("error", [INVALID, EXPIRED])
async def test_a_refused_signature_is_made_anew_once(ca: TestCa, error: bytes) -> None:
    """With a fresh grant; the broker hears which credential was refused. The client sees nothing of it."""

    async def refuse_the_first(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(answer(error, 400) if request.generation == "1" else answer(b'{"ok":1}'))

    async with http_stage(ca, refuse_the_first) as stage:
        got = await stage.ask(call())
        assert (got.status, got.body) == (200, b'{"ok":1}')
        assert stage.grants.asked == [("reader", ""), ("reader", "c1")]
        assert [request.generation for request in stage.upstream.requests] == ["1", "2"]
        assert stage.http.resigned == 1


async def test_a_signature_refused_twice_is_our_error_and_quotes_nothing(ca: TestCa) -> None:
    """AWS quotes what was signed, and the token is part of that."""

    async def refuse(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(answer(INVALID, 400))

    async with http_stage(ca, refuse) as stage:
        got = await stage.ask(call())
        assert got.status == 403
        assert b"AccessDeniedException" in got.body
        assert b"DATABASE_REFUSED" in got.body
        assert b"token-1" not in got.body
        assert len(stage.upstream.requests) == 2


async def test_a_broker_that_knows_why_says_so(ca: TestCa) -> None:
    """Its causes reach the client."""

    async def refuse(_: Upstream, peer: Peer, request: Request) -> None:
        stage.grants.refusal = Refused(Reason.DATABASE_REFUSED, "the role lacks dynamodb:GetItem", decision_id="d-9")
        await peer.send(answer(EXPIRED, 400))

    async with http_stage(ca, refuse) as stage:
        got = await stage.ask(call())
        assert got.status == 403
        assert "the role lacks dynamodb:GetItem" in json.loads(got.body)["message"]
        assert "d-9" in json.loads(got.body)["message"]


async def test_many_requests_share_one_renewal(ca: TestCa) -> None:
    """Fifty with a dead session ask the broker once."""

    async def refuse_the_first(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(answer(EXPIRED, 400) if request.generation == "1" else answer())

    async with http_stage(ca, refuse_the_first) as stage:
        stage.grants.hold = asyncio.Event()
        asking = [asyncio.ensure_future(stage.ask(call())) for _ in range(50)]  # noqa: TID251 - a test's own
        await asyncio.sleep(0.05)
        stage.grants.hold.set()
        assert {got.status for got in await asyncio.gather(*asking)} == {200}
        assert [rejected for _, rejected in stage.grants.asked].count("c1") == 1


async def test_a_clock_that_is_off_is_corrected_by_the_servers(ca: TestCa) -> None:
    """The same grant, signed for the time that the refusal's Date says; and so are the next requests."""
    late = (
        b'{"__type":"InvalidSignatureException","message":"Signature expired: 20260115T120000Z is now earlier than x"}'
    )

    async def refuse_the_past(_: Upstream, peer: Peer, request: Request) -> None:
        if request.headers["x-amz-date"] < "20260115T120500Z":
            await peer.send(answer(late, 400, "Date: Thu, 15 Jan 2026 12:10:00 GMT"))
        else:
            await peer.send(answer())

    async with http_stage(ca, refuse_the_past) as stage:
        assert (await stage.ask(call())).status == 200
        assert (await stage.ask(call())).status == 200
        dates = [request.headers["x-amz-date"] for request in stage.upstream.requests]
        assert dates == ["20260115T120000Z", "20260115T121000Z", "20260115T121000Z"]
        assert len(stage.grants.asked) == 1


async def test_a_clock_that_is_far_off_is_for_somebody_to_mend(ca: TestCa) -> None:
    """No grant holds keys for it."""

    async def refuse(_: Upstream, peer: Peer, request: Request) -> None:
        await peer.send(answer(INVALID, 400, "Date: Thu, 15 Jan 2026 13:00:00 GMT"))

    async with http_stage(ca, refuse) as stage:
        got = await stage.ask(call())
        assert b"CLOCK_SKEWED" in got.body
        assert b"3600 s off" in got.body


async def test_signatures_follow_the_day(ca: TestCa) -> None:
    """At midnight the next day's key, in the middle of a connection."""
    async with http_stage(ca) as stage:
        client = await stage.dial()
        stage.clock.advance(12 * 3600 - 1)
        await client.send(call())
        await read_answer(client)
        stage.clock.advance(1)
        await client.send(call())
        assert (await read_answer(client)).status == 200
        first, second = stage.upstream.requests
        assert "/20260115/" in first.headers["authorization"]
        assert "/20260116/" in second.headers["authorization"]


async def test_a_day_without_a_key_says_so(ca: TestCa) -> None:
    """And the connection to the server is not lost for it."""
    async with http_stage(ca) as stage:
        assert (await stage.ask(call())).status == 200
        stage.clock.advance(timedelta(days=3).total_seconds())
        for _ in range(2):
            got = await stage.ask(call())
            assert got.status == 403
            assert b"CLOCK_SKEWED" in got.body
        assert (stage.upstream.connections, stage.listener.pools.connections) == (1, 1)


@pytest.mark.parametrize(("operation", "status", "seen"), [("GetItem", 200, 3), ("PutItem", 503, 2)])
async def test_a_kept_connection_that_broke(ca: TestCa, operation: str, status: int, seen: int) -> None:
    """What only reads is sent again; what writes is the client's to repeat, who is told to."""

    async def leave_the_second(upstream: Upstream, peer: Peer, request: Request) -> None:
        if len(upstream.requests) == 2:
            peer.close()
        else:
            await peer.send(answer())

    async with http_stage(ca, leave_the_second) as stage:
        client = await stage.dial()
        await client.send(call(target="DynamoDB_20120810.GetItem"))
        assert (await read_answer(client)).status == 200
        await client.send(call(target=f"DynamoDB_20120810.{operation}"))
        assert (await read_answer(client)).status == status
        assert len(stage.upstream.requests) == seen


async def test_streams_go_to_their_own_host(ca: TestCa) -> None:
    """Signed for it, as dynamodb, over a connection of its own."""
    async with http_stage(ca) as stage:
        await stage.ask(call(target="DynamoDBStreams_20120810.ListStreams"))
        await stage.ask(call())
        streams, tables = stage.upstream.requests
        assert streams.headers["host"] == f"streams.{HOSTS['dynamodb']}"
        assert "/eu-central-1/dynamodb/aws4_request" in streams.headers["authorization"]
        assert tables.headers["host"] == HOSTS["dynamodb"]
        assert stage.upstream.connections == 2


async def test_a_denied_user_is_told_as_dynamodb_would(ca: TestCa) -> None:
    """In JSON that an SDK reads, once, and written down."""
    async with http_stage(ca) as stage:
        stage.grants.refusal = Refused(Reason.DB_USER_NOT_ALLOWED, "no rule allows it", decision_id="d-1")
        client = await stage.dial()
        for _ in range(2):
            await client.send(call())
            got = await read_answer(client)
            assert (got.status, got.headers["content-type"]) == (403, "application/x-amz-json-1.0")
            assert json.loads(got.body)["__type"].endswith("#AccessDeniedException")
        assert [refusal.reason for refusal in stage.log.refusals] == [Reason.DB_USER_NOT_ALLOWED] * 2
        assert stage.upstream.connections == 0


async def test_audit_lines_of_requests(ca: TestCa) -> None:
    """What, status, bytes, duration; the session around them, with how many there were."""
    async with http_stage(ca, audited=True) as stage:
        await stage.ask(call(b'{"TableName":"orders","IndexName":"by-day","Key":{"id":{"S":"secret"}}}'))
        stage.clients[0].close()
        await until_logged(stage)
    (line,) = stage.log.requests
    assert (line.method, line.status, line.bytes_to_client) == ("POST", 200, 2)
    assert line.names == {"target": "DynamoDB_20120810.GetItem", "table": "orders", "index": "by-day"}
    assert line.facts.decision_id == "d1"
    assert "secret" not in repr(stage.log.requests)
    (end,) = stage.log.ends
    assert (end.facts.notes["requests"], end.bytes_to_client) == ("1", 2)


async def until_logged(stage: HttpStage) -> None:
    """The client's leaving is noticed by the loop."""
    async with asyncio.timeout(60):
        while not stage.log.ends:  # noqa: ASYNC110 - sockets set no event
            await asyncio.sleep(0.002)


async def test_without_audit_requests_leave_no_lines(ca: TestCa) -> None:
    """Off unless asked for."""
    async with http_stage(ca) as stage:
        await stage.ask(call())
        assert stage.log.requests == []
        assert len(stage.log.starts) == 1
