"""The broker's own keys, from the SDK's credential chain: environment, shared files, web identity, container, IMDS...

Each reading builds the chain anew. So rotated files are seen, no window of the SDK's applies (its 15 minutes would
renew a short session at every use), and how long keys are kept is decided in one place: `broker.sessions.freshness`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import botocore.session
from botocore.exceptions import BotoCoreError

from broker.aws.clients import sdk_config
from broker.aws.errors import CREDENTIAL_ERRORS, AwsFault, Kind, fault_of
from tollbridge.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseKeys:
    """What the chain gave, before AWS was asked whose it is."""

    access_key_id: str
    secret_key: Secret
    session_token: Secret
    expires_at: datetime | None
    """None where the provider knows of no end."""
    source: str
    """The SDK's name of the provider: env, shared-credentials-file, assume-role-with-web-identity, container-role,
    iam-role, ..."""


def profile_region() -> str:
    """The region that the AWS profile in use names; empty when none does. Reads files."""
    try:
        return str(botocore.session.Session().get_config_variable("region") or "")
    except BotoCoreError:
        # A profile that does not exist, a file that cannot be read: reading the keys will say so in full.
        return ""


def read_base_keys(region: str) -> BaseKeys:
    """Walk the chain. Blocks for files, processes and HTTP: never on the loop. Raises AwsFault."""
    try:
        session = botocore.session.Session()
        # For the STS calls that some providers make themselves.
        session.set_config_variable("region", region)
        session.set_default_client_config(sdk_config())
        credentials = session.get_credentials()
        if credentials is None:
            raise AwsFault(Kind.NO_CREDENTIALS, "NoCredentialsError")
        # One triple: the properties refresh one by one and can mix two sessions.
        frozen = credentials.get_frozen_credentials()
        if not frozen.access_key or not frozen.secret_key:
            raise AwsFault(Kind.NO_CREDENTIALS, "PartialCredentialsError")
    except CREDENTIAL_ERRORS as error:
        fault = fault_of(error)
        raise AwsFault(Kind.NO_CREDENTIALS, fault.code, "" if fault.kind is Kind.INVALID else fault.detail) from None
    # The SDK shows a provider's expiry nowhere else; the AWS CLI reads it so as well.
    expires_at = getattr(credentials, "_expiry_time", None)
    return BaseKeys(
        access_key_id=frozen.access_key,
        secret_key=Secret(frozen.secret_key),
        session_token=Secret(frozen.token or ""),
        expires_at=expires_at.astimezone(UTC) if isinstance(expires_at, datetime) else None,
        source=credentials.method or "unknown",
    )
