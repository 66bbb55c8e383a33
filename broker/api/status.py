"""BrokerError -> the gRPC status a caller sees. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from broker.errors import BrokerError
from tollbridge.reasons import ERROR_DOMAIN, ROWS, Reason

MAX_MESSAGE: Final = 1500
"""Status and details travel in trailers, for which peers grant 8 KB; the message is in there twice."""
_MAX_METADATA: Final = 16
_MAX_VALUE: Final = 200

_ANOTHER_BROKER_MAY_HELP: Final = frozenset({Reason.BROKER_UNAVAILABLE, Reason.DRAINING})


@dataclass(frozen=True, slots=True)
class Status(grpc.Status):
    """What `abort_with_status` takes."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def status_of(error: BrokerError) -> Status:
    """The status with its ErrorInfo.

    Where repeating at once cannot help, the client's retry policy is told so: what failed towards AWS was already
    retried there, and one retry multiplied by another is a storm.
    """
    code = grpc.StatusCode[ROWS[error.reason].code]
    info = error_details_pb2.ErrorInfo(
        reason=error.reason.value,
        domain=ERROR_DOMAIN,
        metadata={key: value[:_MAX_VALUE] for key, value in list(error.metadata.items())[:_MAX_METADATA]},
    )
    packed = AnyMessage()
    packed.Pack(info)
    message = error.message if len(error.message) <= MAX_MESSAGE else error.message[: MAX_MESSAGE - 3] + "..."
    number, _name = code.value
    rich = rpc_status.to_status(status_pb2.Status(code=number, message=message, details=[packed]))
    trailing = tuple(rich.trailing_metadata or ())
    if code is grpc.StatusCode.UNAVAILABLE and error.reason not in _ANOTHER_BROKER_MAY_HELP:
        trailing += (("grpc-retry-pushback-ms", "-1"),)
    return Status(code=code, details=message, trailing_metadata=trailing)
