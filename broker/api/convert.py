"""Requests -> values, values -> messages. Generated messages stop here."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp

from broker.errors import BrokerError
from broker.model import GrantRequest
from tollbridge.model import Challenge, Database, Endpoint, Grant, SigningKey, StsChallenge, StsProof, TlsFacts, Token
from tollbridge.reasons import Reason
from tollbridge.v1 import credential_service_pb2, database_pb2


def grant_request(message: credential_service_pb2.IssueCredentialRequest, caller: str) -> GrantRequest:
    """What is asked for. Raises INVALID_REQUEST for a bad TTL; names are checked, and audited, by the use case."""
    if message.HasField("requested_ttl") and message.requested_ttl.ToNanoseconds() <= 0:
        raise BrokerError(
            Reason.INVALID_REQUEST, "requested_ttl must be positive; leave it out to take what the database offers"
        )
    return GrantRequest(
        caller=caller,
        workload=message.workload or caller,
        database=message.database,
        db_user=message.db_user,
        db_name=message.db_name,
        rejected=message.rejected,
    )


def challenge_request(
    message: credential_service_pb2.SignChallengeRequest, caller: str
) -> tuple[GrantRequest, StsChallenge]:
    """Who asks, and what for. Raises INVALID_REQUEST for a challenge of a kind that is unknown here."""
    if message.WhichOneof("challenge") != "mongodb_aws":
        raise BrokerError(Reason.INVALID_REQUEST, "a challenge is missing, or of a kind this broker does not know")
    asked = GrantRequest(
        caller=caller,
        workload=message.workload or caller,
        database=message.database,
        db_user=message.db_user,
        db_name=message.db_name,
    )
    return asked, StsChallenge(nonce=message.mongodb_aws.nonce, host=message.mongodb_aws.host)


def proof(decision_id: str, value: StsProof) -> credential_service_pb2.SignChallengeResponse:
    """The answer to SignChallenge."""
    return credential_service_pb2.SignChallengeResponse(
        decision_id=decision_id,
        mongodb_aws=credential_service_pb2.MongodbAwsProof(
            authorization=value.authorization.reveal(),
            date=value.date,
            session_token=value.session_token.reveal(),
        ),
    )


def grant(value: Grant) -> credential_service_pb2.IssueCredentialResponse:
    """The answer to IssueCredential."""
    message = credential_service_pb2.IssueCredentialResponse(
        decision_id=value.decision_id,
        credential_id=value.credential_id,
        endpoint=_endpoint(value.endpoint),
        tls=_tls(value.tls),
        issued_at=_timestamp(value.issued_at),
        expires_at=_timestamp(value.expires_at),
        recheck_after=_timestamp(value.recheck_after),
        usable_until=_timestamp(value.usable_until),
        policy_version=value.policy_version,
        decided_at=_timestamp(value.decided_at) if value.decided_at else None,
    )
    match value.credential:
        case Token(user=user, password=password):
            message.token.user, message.token.password = user, password.reveal()
        case SigningKey() as key:
            message.signing_key.CopyFrom(_signing_key(key))
        case Challenge(host=host):
            message.challenge.host = host
    return message


def database(value: Database) -> database_pb2.Database:
    """A catalog entry."""
    return database_pb2.Database(
        name=value.name,
        description=value.description,
        labels=dict(value.labels),
        protocol=_wire("PROTOCOL", value.protocol),
        product=_wire("PRODUCT", value.product),
        endpoint=_endpoint(value.endpoint),
        tls=_tls(value.tls),
        region=value.region,
        account_id=value.account_id,
        server_version=value.server_version,
    )


def _signing_key(value: SigningKey) -> credential_service_pb2.SigningKey:
    return credential_service_pb2.SigningKey(
        access_key_id=value.access_key_id,
        session_token=value.session_token.reveal(),
        region=value.region,
        service=value.service,
        keys=[
            credential_service_pb2.DayKey(date=date, key=bytes.fromhex(key.reveal()))
            for date, key in sorted(value.keys.items())
        ],
    )


def _endpoint(value: Endpoint) -> database_pb2.Endpoint:
    return database_pb2.Endpoint(host=value.host, port=value.port)


def _tls(value: TlsFacts) -> database_pb2.TlsFacts:
    return database_pb2.TlsFacts(
        mode=_wire("TLS_MODE", value.mode),
        trust_store=_wire("TRUST_STORE", value.trust_store),
        server_name=value.server_name,
        ca_pem=value.ca_pem,
    )


def _wire(prefix: str, value: StrEnum) -> str:
    """TlsMode.VERIFY_FULL -> TLS_MODE_VERIFY_FULL; protobuf takes enum values by name and refuses unknown ones."""
    return f"{prefix}_{value.name}"


def _timestamp(value: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(value)
    return message
