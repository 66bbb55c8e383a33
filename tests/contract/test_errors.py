"""Every refusal arrives as it was meant, and nothing else arrives with it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from broker.api.interceptors import Room
from tests.contract.house import APP, PASSWORD, House, PlaintextListener, eventually, refused
from tollbridge.client import Client, RpcFailed
from tollbridge.model import Challenge, SigningKey, StsChallenge
from tollbridge.reasons import ROWS, Reason
from tollbridge.secret import Secret
from tollbridge.v1 import credential_service_pb2, credential_service_pb2_grpc


async def test_a_grant_arrives_whole(house: House) -> None:
    async with house.serving(), house.client() as client:
        grant = await client.issue_credential("orders", "app")
    assert grant == await house.grants.issue(house.grants.asked[0])
    assert PASSWORD not in repr(grant)
    assert grant.token.password.reveal() == PASSWORD


async def test_keys_and_challenges_arrive_as_what_they_are(house: House) -> None:
    key = SigningKey(
        access_key_id="ASIA1",
        session_token=Secret(PASSWORD),
        region="us-west-1",
        service="dynamodb",
        keys={"20300101": Secret("0a" * 32), "20300102": Secret("0b" * 32)},
    )
    async with house.serving(), house.client() as client:
        for credential in (key, Challenge(host="sts.us-west-1.amazonaws.com")):
            house.grants.credential = credential
            grant = await client.issue_credential("orders", "reader")
            assert grant.credential == credential
            assert PASSWORD not in repr(grant)
            assert "0a0a" not in repr(grant)


async def test_a_proof_arrives_and_so_does_its_refusal(house: House) -> None:
    challenge = StsChallenge(nonce=bytes(range(64)), host="sts.us-west-1.amazonaws.com")
    async with house.serving(), house.client() as client:
        proof = await client.sign_challenge("orders", "reader", challenge, workload=APP)
        assert proof.authorization.reveal() == f"{challenge.host} {challenge.nonce.hex()}"
        assert proof.session_token.reveal() == PASSWORD
        house.grants.raises["orders"] = refused(Reason.DENIED_BY_RULE, "rule no says no")
        with pytest.raises(RpcFailed, match="rule no says no"):
            await client.sign_challenge("orders", "reader", challenge)


@pytest.mark.parametrize("reason", list(Reason))
async def test_every_reason_arrives_with_its_code_and_text(house: House, reason: Reason) -> None:
    house.grants.raises["orders"] = refused(reason, "grant rds-db:connect to röle", role="arn:aws:iam::1:role/x")
    async with house.serving(), house.client() as client:
        with pytest.raises(RpcFailed) as caught:
            await client.issue_credential("orders", "app")
    failure = caught.value
    assert (failure.reason, failure.message) == (reason, "grant rds-db:connect to röle")
    assert failure.code.name == ROWS[reason].code
    assert failure.retryable is ROWS[reason].retryable
    assert failure.metadata == {"role": "arn:aws:iam::1:role/x"}


async def test_only_what_another_broker_may_know_better_is_retried(house: House) -> None:
    house.grants.raises["aws"] = refused(Reason.AWS_UNAVAILABLE)
    house.grants.raises["draining"] = refused(Reason.DRAINING)
    house.grants.raises["throttled"] = refused(Reason.AWS_THROTTLED)
    async with house.serving(), house.client() as client:
        for name in ("aws", "draining", "throttled"):
            with pytest.raises(RpcFailed):
                await client.issue_credential(name, "app")
    names = [request.database for request in house.grants.asked]
    assert (names.count("aws"), names.count("draining"), names.count("throttled")) == (1, 4, 1)


async def test_an_unforeseen_exception_is_told_by_its_id_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.grants.raises["orders"] = RuntimeError("the password is hunter2")
    async with house.serving(), house.client() as client:
        with caplog.at_level(logging.ERROR), pytest.raises(RpcFailed) as caught:
            await client.issue_credential("orders", "app")
    failure = caught.value
    assert failure.reason is Reason.INTERNAL
    assert "hunter2" not in failure.message + str(failure.metadata)
    (record,) = [record for record in caplog.records if record.name.startswith("broker")]
    assert vars(record)["error_id"] == failure.metadata["error_id"]
    assert failure.metadata["error_id"] in failure.message


@pytest.mark.parametrize("letter", ["a", "ä", "\n", "🌉", "%"])
async def test_a_long_message_is_cut_not_lost(house: House, letter: str) -> None:
    many = {f"k{number}": "v" * 90 for number in range(99)}
    house.grants.raises["orders"] = refused(Reason.ASSUME_ROLE_DENIED, letter * 10_000, **many)
    async with house.serving(), house.client() as client:
        with pytest.raises(RpcFailed) as caught:
            await client.issue_credential("orders", "app")
    assert caught.value.reason is Reason.ASSUME_ROLE_DENIED
    assert caught.value.message.startswith(letter * 200)
    assert caught.value.message.endswith("...")
    assert 5 <= len(caught.value.metadata) <= 10


async def test_the_credential_is_in_the_message_alone(house: House) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(house.serving(PlaintextListener("127.0.0.1:0", APP)))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(house.address))
        stub: Any = credential_service_pb2_grpc.CredentialServiceStub(channel)  # type: ignore[no-untyped-call]
        call = stub.IssueCredential(credential_service_pb2.IssueCredentialRequest(database="orders", db_user="app"))
        answer = await call
        seen = f"{list(await call.initial_metadata())}{list(await call.trailing_metadata())}{await call.details()}"
    assert answer.token.password == PASSWORD
    assert PASSWORD not in seen
    assert "Signature" not in seen


async def test_calls_beyond_the_limit_are_refused_and_the_rest_go_on(tmp_path: Any) -> None:
    house = House(tmp_path, room=Room(max_calls=3, max_watches=2))
    house.grants.held["slow"] = asyncio.Event()
    async with house.serving(), house.client() as client, asyncio.TaskGroup() as group:
        held = [group.create_task(client.issue_credential("slow", "app")) for _ in range(3)]
        await eventually(lambda: len(house.grants.asked) == 3)
        with pytest.raises(RpcFailed, match="all of its 3") as caught:
            await client.issue_credential("orders", "app")
        assert (caught.value.reason, caught.value.retryable) == (Reason.BROKER_OVERLOADED, True)
        house.grants.held["slow"].set()
        assert [(await task).decision_id for task in held] == ["d-1"] * 3
        await client.issue_credential("orders", "app")


async def test_watches_beyond_the_limit_are_refused(tmp_path: Any) -> None:
    house = House(tmp_path, room=Room(max_calls=3, max_watches=2))
    async with house.serving(), house.client() as client, AsyncExitStack() as stack:
        for _ in range(2):
            events = client.watch_databases()
            stack.push_async_callback(events.aclose)  # type: ignore[attr-defined]
            await anext(events)
        with pytest.raises(RpcFailed) as caught:
            await anext(client.watch_databases())
    assert caught.value.reason is Reason.BROKER_OVERLOADED


async def test_a_call_has_a_deadline(house: House) -> None:
    house.grants.held["slow"] = asyncio.Event()
    async with house.serving(), house.client(deadline_seconds=0.2) as client:
        with pytest.raises(RpcFailed, match="did not answer in time") as caught:
            await client.issue_credential("slow", "app")
    assert (caught.value.reason, caught.value.retryable) == (Reason.BROKER_UNAVAILABLE, True)


async def test_no_broker_is_one_clear_error(house: House) -> None:
    async with house.serving():
        address = house.address
    async with Client(address, house.identity(APP)) as client:
        with pytest.raises(RpcFailed, match="nothing listens at") as caught:
            await client.issue_credential("orders", "app")
        with pytest.raises(RpcFailed, match="nothing listens at"):
            await anext(client.watch_databases())
    assert (caught.value.reason, caught.value.retryable) == (Reason.BROKER_UNAVAILABLE, True)


async def test_a_cancelled_call_is_cancelled_on_both_sides(house: House) -> None:
    house.grants.held["slow"] = asyncio.Event()
    async with house.serving(), house.client() as client:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(client.issue_credential("slow", "app"))
            await eventually(lambda: house.grants.asked)
            call.cancel()
        assert call.cancelled()
        await eventually(lambda: not any(house.room.taken.values()))


async def test_calls_in_a_closed_client_fail_and_are_not_cancelled(house: House) -> None:
    house.grants.held["slow"] = asyncio.Event()
    async with house.serving(), asyncio.TaskGroup() as group:
        async with house.client() as client:
            call = group.create_task(_failure(client))
            await eventually(lambda: house.grants.asked)
        assert (await call).reason is Reason.BROKER_UNAVAILABLE
        with pytest.raises(RpcFailed, match="closed"):
            await client.list_databases()


async def _failure(client: Client) -> RpcFailed:
    with pytest.raises(RpcFailed) as caught:
        await client.issue_credential("slow", "app")
    return caught.value


async def test_metrics_count_calls_by_reason(house: House) -> None:
    house.grants.raises["denied"] = refused(Reason.DENIED_BY_RULE)
    async with house.serving(), house.client() as client:
        await client.issue_credential("orders", "app")
        with pytest.raises(RpcFailed):
            await client.issue_credential("denied", "app")
        exposition = house.counters.exposition().decode()
    method = "/tollbridge.v1.CredentialService/IssueCredential"
    assert f'tollbridge_broker_rpcs_total{{method="{method}",reason="OK"}} 1.0' in exposition
    assert f'tollbridge_broker_rpcs_total{{method="{method}",reason="DENIED_BY_RULE"}} 1.0' in exposition
    assert 'tollbridge_broker_rpc_seconds_bucket{le="+Inf"' in exposition
