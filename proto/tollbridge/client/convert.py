"""Messages -> tollbridge.model. What the broker sends is checked once, here."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.timestamp_pb2 import Timestamp

from tollbridge.model import (
    Challenge,
    Credential,
    Database,
    Endpoint,
    Grant,
    Product,
    Protocol,
    SigningKey,
    StsProof,
    TlsFacts,
    TlsMode,
    Token,
    TrustStore,
)
from tollbridge.secret import Secret
from tollbridge.v1 import credential_service_pb2, database_pb2

E = TypeVar("E", bound=StrEnum)

CLOCK_NOISE: Final = timedelta(seconds=2)
"""A difference between two clocks that may as well be the time an answer takes."""


class NotUnderstood(ValueError):
    """An answer that does not follow the contract, or follows a newer one."""


def database(message: database_pb2.Database) -> Database:
    """A catalog entry. Raises NotUnderstood."""
    if not message.name:
        raise NotUnderstood("a database without a name")
    return Database(
        name=message.name,
        protocol=_enum(Protocol, database_pb2.Protocol, message.protocol),
        product=_enum(Product, database_pb2.Product, message.product),
        endpoint=_endpoint(message.endpoint),
        tls=_tls(message.tls),
        region=message.region,
        account_id=message.account_id,
        description=message.description,
        labels=dict(message.labels),
        server_version=message.server_version,
    )


def grant(message: credential_service_pb2.IssueCredentialResponse) -> Grant:
    """An allowed decision. Raises NotUnderstood."""
    return Grant(
        decision_id=message.decision_id,
        credential_id=message.credential_id,
        endpoint=_endpoint(message.endpoint),
        tls=_tls(message.tls),
        credential=_credential(message),
        issued_at=_instant(message.issued_at),
        expires_at=_instant(message.expires_at),
        recheck_after=_instant(message.recheck_after),
        usable_until=_instant(message.usable_until),
        policy_version=message.policy_version,
        decided_at=_instant(message.decided_at) if message.HasField("decided_at") else None,
    )


def proof(message: credential_service_pb2.SignChallengeResponse) -> StsProof:
    """The answer to a challenge. Raises NotUnderstood."""
    if message.WhichOneof("proof") != "mongodb_aws":
        raise NotUnderstood("a proof of a kind this client does not know")
    made = message.mongodb_aws
    return StsProof(authorization=Secret(made.authorization), date=made.date, session_token=Secret(made.session_token))


def on_our_clock(grant: Grant, received_at: datetime) -> Grant:
    """The same grant with its instants as the clock that read `received_at` will show them.

    Without this a caller whose clock is slow would keep a withdrawn decision for longer than it stands.
    """
    if grant.decided_at is None:
        return grant
    ahead = received_at - grant.decided_at
    if abs(ahead) <= CLOCK_NOISE:
        return grant
    return replace(
        grant,
        decided_at=received_at,
        issued_at=grant.issued_at + ahead,
        expires_at=grant.expires_at + ahead,
        recheck_after=grant.recheck_after + ahead,
        usable_until=grant.usable_until + ahead,
    )


def _credential(message: credential_service_pb2.IssueCredentialResponse) -> Credential:
    match message.WhichOneof("credential"):
        case "token":
            return Token(user=message.token.user, password=Secret(message.token.password))
        case "signing_key":
            made = message.signing_key
            keys = {day.date: Secret(day.key.hex()) for day in made.keys}
            if not keys:
                raise NotUnderstood("a signing key without a day on which it signs")
            return SigningKey(
                access_key_id=made.access_key_id,
                session_token=Secret(made.session_token),
                region=made.region,
                service=made.service,
                keys=keys,
            )
        case "challenge":
            return Challenge(host=message.challenge.host)
    raise NotUnderstood("a grant without a credential of a kind this client knows")


def _endpoint(message: database_pb2.Endpoint) -> Endpoint:
    try:
        return Endpoint(host=message.host, port=message.port)
    except ValueError as error:
        raise NotUnderstood(str(error)) from error


def _tls(message: database_pb2.TlsFacts) -> TlsFacts:
    # A mode or store we do not know must never turn into a weaker check: _enum raises.
    return TlsFacts(
        mode=_enum(TlsMode, database_pb2.TlsMode, message.mode),
        trust_store=_enum(TrustStore, database_pb2.TrustStore, message.trust_store),
        server_name=message.server_name,
        ca_pem=message.ca_pem,
    )


def _enum(kind: type[E], wrapper: EnumTypeWrapper, number: int) -> E:
    """TLS_MODE_VERIFY_FULL -> TlsMode.VERIFY_FULL."""
    try:
        name = wrapper.Name(number)
        prefix = wrapper.Name(0).removesuffix("UNSPECIFIED")
        return kind[name.removeprefix(prefix)]
    except (KeyError, ValueError) as error:
        raise NotUnderstood(f"{kind.__name__} number {number} is unknown here") from error


def _instant(message: Timestamp) -> datetime:
    if message.seconds <= 0:
        raise NotUnderstood("a grant lacks one of its times")
    return message.ToDatetime(tzinfo=UTC)
