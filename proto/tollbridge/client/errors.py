"""How a call to the broker fails: one exception, decoded from google.rpc.ErrorInfo or from what gRPC says itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from tollbridge.client.registrations import DocumentProblem, problem
from tollbridge.reasons import ERROR_DOMAIN, ROWS, Reason
from tollbridge.v1 import registry_service_pb2

_DETAILS_KEY: Final = "grpc-status-details-bin"
_MAX_DETAIL: Final = 300
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_BY_CODE: Final[Mapping[grpc.StatusCode, Reason]] = MappingProxyType(
    {
        grpc.StatusCode.UNAVAILABLE: Reason.BROKER_UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED: Reason.BROKER_UNAVAILABLE,
        grpc.StatusCode.CANCELLED: Reason.BROKER_UNAVAILABLE,
        grpc.StatusCode.ABORTED: Reason.BROKER_UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.BROKER_OVERLOADED,
        grpc.StatusCode.INVALID_ARGUMENT: Reason.INVALID_REQUEST,
        grpc.StatusCode.NOT_FOUND: Reason.DATABASE_UNKNOWN,
        grpc.StatusCode.PERMISSION_DENIED: Reason.DATABASE_NOT_ALLOWED,
        grpc.StatusCode.UNAUTHENTICATED: Reason.CALLER_UNIDENTIFIED,
    }
)
"""For answers without a reason we know: from a mesh or load balancer in between, or from a newer broker."""


class RpcFailed(Exception):
    """A call to the broker that ended without a result. The message says what to do about it."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retryable: bool | None = None,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        metadata: Mapping[str, str] = _NOTHING,
        problems: tuple[DocumentProblem, ...] = (),
        omitted: int = 0,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = ROWS[reason].retryable if retryable is None else retryable
        """The same call can succeed later although nobody changed anything."""
        self.code = code
        self.metadata = metadata
        """From ErrorInfo: names of roles, accounts and rules, the decision id."""
        self.problems = problems
        """What is wrong with the document that was sent."""
        self.omitted = omitted
        """How many more there are."""


def unavailable(message: str) -> RpcFailed:
    """The broker gave no answer."""
    return RpcFailed(Reason.BROKER_UNAVAILABLE, message, code=grpc.StatusCode.UNAVAILABLE)


def decode(error: grpc.aio.AioRpcError, target: str, *, certificate: Callable[[], str]) -> RpcFailed:
    """What went wrong. `certificate` gives a note about this side's own certificate, for handshakes that fail."""
    code = error.code()
    info = _error_info(error)
    details = error.details() or ""
    if info is not None and info.reason in Reason.__members__:
        problems, omitted = _problems(error)
        return RpcFailed(
            Reason[info.reason],
            details,
            code=code,
            metadata=dict(info.metadata),
            problems=problems,
            omitted=omitted,
        )
    reason = _BY_CODE.get(code, Reason.INTERNAL)
    if info is not None:
        message = f"{details} (the broker's reason {info.reason} is newer than this client)"
        return RpcFailed(reason, message, code=code, metadata=dict(info.metadata))
    return RpcFailed(reason, _explain(code, details, target, certificate), code=code)


def _error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    for detail in _details(error):
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            return info
    return None


def _problems(error: grpc.aio.AioRpcError) -> tuple[tuple[DocumentProblem, ...], int]:
    for detail in _details(error):
        document = registry_service_pb2.InvalidDocument()
        if detail.Unpack(document):
            return tuple(map(problem, document.problems)), document.omitted
    return (), 0


def _details(error: grpc.aio.AioRpcError) -> Sequence[Any]:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return tuple(status_pb2.Status.FromString(value).details)
            except DecodeError:  # not our broker's
                return ()
    return ()


def _explain(code: grpc.StatusCode, details: str, target: str, certificate: Callable[[], str]) -> str:
    """A message for the person who can fix it, for failures that gRPC itself reports."""
    said = f" (gRPC: {details[:_MAX_DETAIL]})" if details else ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"the broker at {target} did not answer in time{said}"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"the broker at {target} does not know this call: it is older than this client, or no broker{said}"
    if code is not grpc.StatusCode.UNAVAILABLE:
        return f"the broker at {target} answered {code.name}{said}"
    lower = details.lower()
    if "certificate_verify_failed" in lower or "hostname verification" in lower:
        return (
            f"the certificate of the broker at {target} was not accepted: it must be signed by a CA in ca_file, not be "
            f"expired, and name the host in a DNS SAN (else set server_name){said}"
        )
    if "connection refused" in lower or "no such file" in lower:
        # gRPC names one address only: with several, another may have failed for a better reason.
        return f"nothing listens at {target}, or at one of its addresses: check that the broker runs there{said}"
    if any(word in lower for word in ("dns resolution failed", "domain name not found", "no address")):
        return f"the name in {target} does not resolve: check the broker's address{said}"
    if any(word in lower for word in ("handshake", "socket closed", "reset by peer", "broken pipe", "eof", "ssl_")):
        return (
            f"the broker at {target} closed the connection: check that it speaks TLS there, and that this client's "
            f"certificate is not expired and is signed by a CA of the broker's client_ca{certificate()}{said}"
        )
    return f"the broker at {target} is not available{certificate()}{said}"
