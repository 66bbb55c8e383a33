"""BrokerError -> the gRPC status a caller sees. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from broker.errors import BrokerError, DocumentRefused
from tollbridge.process.settings import Problem
from tollbridge.reasons import ERROR_DOMAIN, ROWS, Reason
from tollbridge.v1 import registry_service_pb2

MAX_MESSAGE_BYTES: Final = 1500
MAX_ENCODED_BYTES: Final = 3000
"""Peers drop a whole status whose headers pass 8 KB (seen), and the message is in there twice: percent-encoded, where a
byte that is not ASCII takes three, and in base64 with the details."""
_MAX_METADATA_BYTES: Final = 1000
_MAX_PROBLEM_BYTES: Final = 3500
_MAX_BESIDE_PROBLEMS: Final = 400
"""Of the message, where a document's problems stand in the details: base64 makes 3,500 bytes 4,700."""
_MAX_PATH_CHARS: Final = 200

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
    details = [_packed(info)]
    message = cut(error.message)
    if isinstance(error, DocumentRefused):
        message = cut(error.message, _MAX_BESIDE_PROBLEMS)
        details.append(_packed(invalid_document(error.problems)))
    number, _name = code.value
    rich = rpc_status.to_status(status_pb2.Status(code=number, message=message, details=details))
    trailing = tuple(rich.trailing_metadata or ())
    if code is grpc.StatusCode.UNAVAILABLE and error.reason not in _ANOTHER_BROKER_MAY_HELP:
        trailing += (("grpc-retry-pushback-ms", "-1"),)
    return Status(code=code, details=message, trailing_metadata=trailing)


def invalid_document(problems: Sequence[Problem]) -> registry_service_pb2.InvalidDocument:
    """The first problems that there is room for, and how many there was none for."""
    detail = registry_service_pb2.InvalidDocument()
    for problem in problems:
        detail.problems.append(document_problem(problem))
        if detail.ByteSize() > _MAX_PROBLEM_BYTES:
            del detail.problems[-1]
            break
    detail.omitted = len(problems) - len(detail.problems)
    return detail


def document_problem(problem: Problem, *, warning: bool = False) -> registry_service_pb2.DocumentProblem:
    """As a message."""
    return registry_service_pb2.DocumentProblem(
        path=problem.path[:_MAX_PATH_CHARS],
        line=problem.line or 0,
        message=cut(problem.message),
        hint=cut(problem.hint),
        warning=warning,
    )


def cut(message: str, max_bytes: int = MAX_MESSAGE_BYTES) -> str:
    """The message, or as much of its beginning as a status has room for."""
    if _fits(message, max_bytes):
        return message
    low, high = 0, min(len(message), max_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(message[:middle] + "...", max_bytes) else (low, middle - 1)
    return message[:low] + "..."


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _fits(message: str, max_bytes: int) -> bool:
    raw = message.encode()
    return len(raw) <= max_bytes and sum(1 if 0x20 <= byte < 0x7F else 3 for byte in raw) <= MAX_ENCODED_BYTES


def _fitting(metadata: Mapping[str, str]) -> dict[str, str]:
    """The first entries that there is room for."""
    kept: dict[str, str] = {}
    room = _MAX_METADATA_BYTES
    for key, value in metadata.items():
        room -= len(key.encode()) + len(value.encode()) + 8
        if room >= 0:
            kept[key] = value
    return kept
