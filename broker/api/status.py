"""BrokerError -> the gRPC status a caller sees. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from broker.errors import BrokerError
from tollbridge.reasons import ERROR_DOMAIN, ROWS, Reason

MAX_MESSAGE_BYTES: Final = 1500
MAX_ENCODED_BYTES: Final = 3000
"""Peers drop a whole status whose headers pass 8 KB (seen), and the message is in there twice: percent-encoded, where a
byte that is not ASCII takes three, and in base64 with the details."""
_MAX_METADATA_BYTES: Final = 1000

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
        metadata=_fitting(error.metadata),
    )
    packed = AnyMessage()
    packed.Pack(info)
    message = cut(error.message)
    number, _name = code.value
    rich = rpc_status.to_status(status_pb2.Status(code=number, message=message, details=[packed]))
    trailing = tuple(rich.trailing_metadata or ())
    if code is grpc.StatusCode.UNAVAILABLE and error.reason not in _ANOTHER_BROKER_MAY_HELP:
        trailing += (("grpc-retry-pushback-ms", "-1"),)
    return Status(code=code, details=message, trailing_metadata=trailing)


def cut(message: str) -> str:
    """The message, or as much of its beginning as a status has room for."""
    if _fits(message):
        return message
    low, high = 0, min(len(message), MAX_MESSAGE_BYTES)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(message[:middle] + "...") else (low, middle - 1)
    return message[:low] + "..."


def _fits(message: str) -> bool:
    raw = message.encode()
    return len(raw) <= MAX_MESSAGE_BYTES and sum(1 if 0x20 <= byte < 0x7F else 3 for byte in raw) <= MAX_ENCODED_BYTES


def _fitting(metadata: Mapping[str, str]) -> dict[str, str]:
    """The first entries that there is room for."""
    kept: dict[str, str] = {}
    room = _MAX_METADATA_BYTES
    for key, value in metadata.items():
        room -= len(key.encode()) + len(value.encode()) + 8
        if room >= 0:
            kept[key] = value
    return kept
