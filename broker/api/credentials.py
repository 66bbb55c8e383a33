"""CredentialService: parse, ask the use case, convert."""

from __future__ import annotations

from typing import Any, Protocol

import grpc

from broker.api import convert, identity
from broker.model import GrantRequest
from tollbridge.model import Grant
from tollbridge.v1 import credential_service_pb2 as pb
from tollbridge.v1 import credential_service_pb2_grpc


class Issues(Protocol):
    """What the servicer needs of `broker.grants.Grants`."""

    async def issue(self, request: GrantRequest) -> Grant:
        """Decide and issue. Raises BrokerError."""
        ...


class CredentialServicer(credential_service_pb2_grpc.CredentialServiceServicer):
    """Serves tollbridge.v1.CredentialService."""

    def __init__(self, grants: Issues) -> None:
        self._grants = grants

    async def IssueCredential(  # noqa: N802 - the contract's name
        self, request: pb.IssueCredentialRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.IssueCredentialResponse:
        """One decision, one credential."""
        asked = convert.grant_request(request, identity.current_caller())
        return convert.grant(await self._grants.issue(asked))
