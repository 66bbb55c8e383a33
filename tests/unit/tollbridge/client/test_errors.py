from __future__ import annotations

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from tollbridge.client import errors
from tollbridge.client.errors import RpcFailed
from tollbridge.reasons import Reason

CODE = grpc.StatusCode


def failure(code: grpc.StatusCode, details: str = "", trailers: tuple[tuple[str, bytes], ...] = ()) -> RpcFailed:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details)
    return errors.decode(error, "broker.example:7443", certificate=lambda: "; NOTE")


def info(reason: str, domain: str = "tollbridge") -> tuple[tuple[str, bytes], ...]:
    packed = AnyMessage()
    packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"rule": "r"}))
    return (("grpc-status-details-bin", status_pb2.Status(code=7, message="m", details=[packed]).SerializeToString()),)


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        (CODE.UNAVAILABLE, Reason.BROKER_UNAVAILABLE, True),
        (CODE.DEADLINE_EXCEEDED, Reason.BROKER_UNAVAILABLE, True),
        (CODE.CANCELLED, Reason.BROKER_UNAVAILABLE, True),
        (CODE.RESOURCE_EXHAUSTED, Reason.BROKER_OVERLOADED, True),
        (CODE.PERMISSION_DENIED, Reason.DATABASE_NOT_ALLOWED, False),
        (CODE.UNAUTHENTICATED, Reason.CALLER_UNIDENTIFIED, False),
        (CODE.UNIMPLEMENTED, Reason.INTERNAL, False),
        (CODE.UNKNOWN, Reason.INTERNAL, False),
    ],
)
def test_without_a_reason_the_code_decides(code: grpc.StatusCode, reason: Reason, retryable: bool) -> None:
    failed = failure(code, "x")
    assert (failed.reason, failed.retryable, failed.code) == (reason, retryable, code)
    assert "broker.example:7443" in failed.message


def test_a_reason_beats_the_code() -> None:
    failed = failure(CODE.PERMISSION_DENIED, "no rule", info("DENIED_BY_RULE"))
    assert (failed.reason, failed.message, failed.metadata) == (Reason.DENIED_BY_RULE, "no rule", {"rule": "r"})


def test_a_newer_reason_falls_back_to_its_code_and_says_so() -> None:
    failed = failure(CODE.PERMISSION_DENIED, "why", info("SOMETHING_NEW"))
    assert failed.reason is Reason.DATABASE_NOT_ALLOWED
    assert "SOMETHING_NEW" in failed.message


@pytest.mark.parametrize(
    "trailers",
    [info("DENIED_BY_RULE", "other.example"), (("grpc-status-details-bin", b"\xff\xff"),), (("x-bin", b""),)],
)
def test_details_that_are_not_ours_do_not_count(trailers: tuple[tuple[str, bytes], ...]) -> None:
    assert failure(CODE.UNAVAILABLE, "x", trailers).reason is Reason.BROKER_UNAVAILABLE


@pytest.mark.parametrize(
    ("details", "says"),
    [
        ("Ssl handshake failed: SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED: certificate has expired", "ca_file"),
        ("Hostname Verification Check failed.", "server_name"),
        ("Failed to connect to remote host: Connection refused", "nothing listens"),
        ("Failed to connect to remote host: connect: No such file or directory", "nothing listens"),
        ("DNS resolution failed for broker.example:7443", "does not resolve"),
        ("Socket closed", "client_ca; NOTE"),
        ("recvmsg:Connection reset by peer", "client_ca; NOTE"),
        ("something else", "not available; NOTE"),
    ],
)
def test_what_grpc_says_becomes_what_to_do(details: str, says: str) -> None:
    message = failure(CODE.UNAVAILABLE, details).message
    assert says in message
    assert details in message


def test_what_grpc_says_is_bounded() -> None:
    assert len(failure(CODE.UNAVAILABLE, "x" * 100_000).message) < 500
