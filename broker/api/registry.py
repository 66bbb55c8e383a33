"""RegistryService: parse, ask the registrar, convert."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

import grpc

from broker.api import convert, identity
from broker.api.status import document_problem
from broker.errors import BrokerError
from broker.model import Origin
from broker.registry.registrar import Registrar, Registration
from tollbridge.reasons import Reason
from tollbridge.v1 import registry_service_pb2 as pb
from tollbridge.v1 import registry_service_pb2_grpc

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 500
MAX_PAGE_BYTES: Final = 1024 * 1024

Context = grpc.aio.ServicerContext[Any, Any]
_ORIGINS: Final = tuple(Origin)


class RegistryServicer(registry_service_pb2_grpc.RegistryServiceServicer):
    """Serves tollbridge.v1.RegistryService."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve there."""
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    async def CreateDatabase(self, request: pb.CreateDatabaseRequest, context: Context) -> pb.CreateDatabaseResponse:  # noqa: N802
        """Register one."""
        made = await self._registrar.create(
            identity.current_caller(), request.document, validate_only=request.validate_only
        )
        return pb.CreateDatabaseResponse(registration=registration(made))

    async def GetDatabase(self, request: pb.GetDatabaseRequest, context: Context) -> pb.GetDatabaseResponse:  # noqa: N802
        """Show one."""
        found = self._registrar.get(identity.current_caller(), request.name)
        return pb.GetDatabaseResponse(registration=registration(found))

    async def ListDatabases(  # noqa: N802
        self, request: pb.RegistryServiceListDatabasesRequest, context: Context
    ) -> pb.RegistryServiceListDatabasesResponse:
        """One page."""
        wanted = {_origin(number) for number in request.origins} or set(Origin)
        entries = [entry for entry in self._registrar.list(identity.current_caller()) if entry.origin in wanted]
        return page(entries, request.page_size, request.page_token)

    async def UpdateDatabase(self, request: pb.UpdateDatabaseRequest, context: Context) -> pb.UpdateDatabaseResponse:  # noqa: N802
        """Replace one."""
        made = await self._registrar.update(
            identity.current_caller(),
            request.document,
            revision=request.revision,
            allow_missing=request.allow_missing,
            validate_only=request.validate_only,
        )
        return pb.UpdateDatabaseResponse(registration=registration(made))

    async def DeleteDatabase(self, request: pb.DeleteDatabaseRequest, context: Context) -> pb.DeleteDatabaseResponse:  # noqa: N802
        """Remove one."""
        await self._registrar.delete(identity.current_caller(), request.name, revision=request.revision)
        return pb.DeleteDatabaseResponse()


def registration(entry: Registration) -> pb.Registration:
    """As a message."""
    made = pb.Registration(
        name=entry.name,
        served_as=entry.served.name if entry.served else "",
        origin=_wire(entry.origin),
        revision=str(entry.revision) if entry.revision else "",
        document=entry.document,
        database=convert.database(entry.served.facts) if entry.served else None,
        assume_role_arn=entry.role_arn,
        account_link=entry.account_link,
        problems=[document_problem(problem, warning=not entry.errors) for problem in entry.problems],
        written_by=entry.written_by,
    )
    if entry.written_at is not None:
        made.written_at.FromDatetime(entry.written_at)
    return made


def page(entries: Sequence[Registration], size: int, token: str) -> pb.RegistryServiceListDatabasesResponse:
    """The entries after the one that `token` names. Raises INVALID_REQUEST."""
    if size < 0:
        raise BrokerError(Reason.INVALID_REQUEST, "page_size must not be negative")
    size = min(size or DEFAULT_PAGE, MAX_PAGE)
    entries = sorted(entries, key=_key)
    keys = [_key(entry) for entry in entries]
    start = bisect_right(keys, _decode(token)) if token else 0
    answer = pb.RegistryServiceListDatabasesResponse()
    total = 0
    for entry in entries[start : start + size]:
        message = registration(entry)
        total += message.ByteSize()
        if total > MAX_PAGE_BYTES and answer.registrations:
            break
        answer.registrations.append(message)
    shown = start + len(answer.registrations)
    if shown < len(entries):
        answer.next_page_token = base64.urlsafe_b64encode("\n".join(map(str, keys[shown - 1])).encode()).decode()
    return answer


def _key(entry: Registration) -> tuple[str, int, str]:
    # Databases discovered in several accounts share a name; what they are served as they do not.
    return entry.name, _ORIGINS.index(entry.origin), entry.served.name if entry.served else ""


def _decode(token: str) -> tuple[str, int, str]:
    try:
        name, order, served = base64.b64decode(token, altchars=b"-_", validate=True).decode().split("\n")
        return name, int(order), served
    except (binascii.Error, ValueError) as error:
        raise BrokerError(Reason.INVALID_REQUEST, "page_token is not one that this broker gave out") from error


def _wire(origin: Origin) -> str:
    return f"ORIGIN_{origin.name}"


def _origin(number: int) -> Origin:
    found = {pb.Origin.Value(_wire(origin)): origin for origin in _ORIGINS}.get(number)
    if found is None:
        raise BrokerError(Reason.INVALID_REQUEST, f"origin {number} is none this broker knows")
    return found
