"""A broker that leaves finishes what it began, and says so beforehand."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.api.server import SERVICES, ListenError, PlaintextListener
from tests.contract.house import APP, House, eventually
from tollbridge.client import Client, RpcFailed
from tollbridge.reasons import Reason

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_calls_in_flight_are_answered(house: House) -> None:
    house.grants.held["slow"] = asyncio.Event()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        serving = house.serving(grace=20.0)
        await serving.__aenter__()
        client = await stack.enter_async_context(house.client())
        calls = [group.create_task(client.issue_credential("slow", "app")) for _ in range(10)]
        await eventually(lambda: len(house.grants.asked) == 10)
        stop = group.create_task(serving.__aexit__(None, None, None))
        await eventually(lambda: house.catalog._stopped)
        house.grants.held["slow"].set()
        assert [(await call).decision_id for call in calls] == ["d-1"] * 10
        async with asyncio.timeout(15):
            await stop


async def test_calls_that_outlast_the_grace_fail_as_retryable(house: House) -> None:
    house.grants.held["slow"] = asyncio.Event()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        serving = house.serving(grace=0.1)
        await serving.__aenter__()
        client = await stack.enter_async_context(house.client())
        call = group.create_task(_failure(client))
        await eventually(lambda: house.grants.asked)
        await serving.__aexit__(None, None, None)
        failure = await call
    assert (failure.reason, failure.retryable) == (Reason.BROKER_UNAVAILABLE, True)


async def _failure(client: Client) -> RpcFailed:
    with pytest.raises(RpcFailed) as caught:
        await client.issue_credential("slow", "app")
    return caught.value


async def test_health_follows_readiness_for_the_whole_and_each_service(house: House) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(house.serving(PlaintextListener("127.0.0.1:0", APP)))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(house.address))
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert house.servers is not None
        for ready, status in ((True, SERVING), (False, NOT_SERVING)):
            await house.servers.set_ready(ready)
            for service in ("", *SERVICES):
                assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == status
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_health_watch_does_not_hold_up_the_end(house: House) -> None:
    async with AsyncExitStack() as stack:
        serving = house.serving(PlaintextListener("127.0.0.1:0", APP), grace=30.0)
        await serving.__aenter__()
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(house.address))
        stub: Any = health_pb2_grpc.HealthStub(channel)
        stream = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await stream.read()).status == SERVING
        async with asyncio.timeout(20):
            await serving.__aexit__(None, None, None)


async def test_a_taken_port_is_named(house: House) -> None:
    async with house.serving(PlaintextListener("127.0.0.1:0", APP)):
        port = house.address.rpartition(":")[2]
        second = House(house.folder)
        with pytest.raises(ListenError, match=port):
            async with second.serving(PlaintextListener(f"127.0.0.1:{port}", APP)):
                pass


async def test_a_unix_socket_is_taken_over_from_the_dead_alone(house: House, tmp_path: Path) -> None:
    listener = PlaintextListener(f"unix:{tmp_path}/b.sock", APP)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(f"{tmp_path}/b.sock")
    async with house.serving(listener), Client(listener.address) as client:
        (tmp_path / "second").mkdir()
        with pytest.raises(ListenError, match="another process"):
            async with House(tmp_path / "second").serving(listener):
                pass
        await client.issue_credential("orders", "app")
    async with Client(listener.address) as client:
        with pytest.raises(RpcFailed, match="nothing listens"):
            await client.issue_credential("orders", "app")


async def test_plaintext_off_loopback_is_refused(house: House) -> None:
    with pytest.raises(ListenError, match="loopback"):
        async with house.serving(PlaintextListener("0.0.0.0:0", APP)):
            pass
