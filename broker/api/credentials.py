"""CredentialService: parse, ask the use case, convert."""

from __future__ import annotations

from typing import Any, Protocol

import grpc

from broker.api import convert, identity
from broker.model import GrantRequest
from tollbridge.model import Grant, StsChallenge, StsProof
from tollbridge.v1 import credential_service_pb2 as pb
from tollbridge.v1 import credential_service_pb2_grpc


class Issues(Protocol):
    """What the servicer needs of `broker.grants.Grants`."""

    async def issue(self, request: GrantRequest) -> Grant:
        """Decide and issue. Raises BrokerError."""
        ...

    async def sign_challenge(self, request: GrantRequest, challenge: StsChallenge) -> tuple[str, StsProof]:
        """Decide and sign: the decision's id and the proof. Raises BrokerError."""
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

    async def SignChallenge(  # noqa: N802 - the contract's name
        self, request: pb.SignChallengeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SignChallengeResponse:
        """One decision, one proof."""
        asked, challenge = convert.challenge_request(request, identity.current_caller())
        decision_id, proof = await self._grants.sign_challenge(asked, challenge)
        return convert.proof(decision_id, proof)
