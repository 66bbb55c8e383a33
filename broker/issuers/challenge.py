"""DocumentDB: the broker signs what the server asks for, and a proxy holds nothing at all.

MONGODB-AWS has the client sign a GetCallerIdentity that the server sends to STS. The server names the STS host: a
hostile one could have a request signed for a host of its own, so only the host of the database's region is signed for.
https://github.com/mongodb/specifications/blob/master/source/auth/auth.md#mongodb-aws
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Final

from broker.errors import BrokerError
from broker.issuers.presign import ALGORITHM, TERMINATOR, DerivedKeys, Signer, signature
from broker.issuers.presigned import signer_of
from broker.issuers.roles import RoleIssuer
from broker.model import AccountSession, GrantRequest, RegisteredDatabase
from broker.registry.arns import PARTITIONS
from tollbridge.model import Challenge, StsChallenge, StsProof
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

NONCE_BYTES: Final = 64
HOST_MAX: Final = 255
_BODY: Final = "Action=GetCallerIdentity&Version=2011-06-15"
_BODY_SHA256: Final = hashlib.sha256(_BODY.encode()).hexdigest()
_SUFFIXES: Final = {partition.name: partition.dns_suffix for partition in PARTITIONS}


class ChallengeIssuer(RoleIssuer):
    """Hands out where to log in; `prove` makes the proof during the login."""

    def prove(self, database: RegisteredDatabase, session: AccountSession, challenge: StsChallenge) -> StsProof:
        """A GetCallerIdentity of that session over the server's nonce. Raises INVALID_REQUEST, PARTITION_MISMATCH.

        A host other than the database's own STS is a refusal, whoever asks.
        """
        if len(challenge.nonce) != NONCE_BYTES:
            raise _wrong(database, f"the nonce has {len(challenge.nonce)} bytes, not {NONCE_BYTES}")
        pinned = sts_host(database)
        if challenge.host != pinned:
            raise _wrong(
                database,
                f"the server asks for a proof for {challenge.host[:HOST_MAX]!r}; only {pinned} is signed for: it is no"
                " DocumentDB, or in another region than it is registered in",
            )
        return sign(
            signer_of(session), self._keys, challenge, region=database.facts.region, at=self._now().astimezone(UTC)
        )

    def _credential(
        self, database: RegisteredDatabase, session: AccountSession, now: datetime, until: datetime
    ) -> Challenge:
        return Challenge(host=sts_host(database))

    def why_refused(self, database: RegisteredDatabase, request: GrantRequest, session: AccountSession) -> str:
        """See RoleIssuer."""
        role = session.arn
        return (
            f"(1) no user of $external is the role behind {role}: as the primary user run db.getSiblingDB('$external')"
            ".runCommand({createUser: ROLE_ARN, mechanisms: ['MONGODB-AWS'], roles: [...]}); (2) the cluster is not"
            " version 5.0 or later, or an elastic cluster, which take no IAM users; (3) STS throttles the cluster's"
            " own calls: AWS counts them against the role's account"
        )


def sts_host(database: RegisteredDatabase) -> str:
    """The STS endpoint of the database's region and partition."""
    return f"sts.{database.facts.region}.{_SUFFIXES[database.access.partition]}"


def sign(signer: Signer, keys: DerivedKeys, challenge: StsChallenge, *, region: str, at: datetime) -> StsProof:
    """The proof for an instant in UTC."""
    timestamp = at.strftime("%Y%m%dT%H%M%SZ")
    headers = [
        ("content-length", str(len(_BODY))),
        ("content-type", "application/x-www-form-urlencoded"),
        ("host", challenge.host),
        ("x-amz-date", timestamp),
        ("x-amz-security-token", signer.session_token.reveal()),
        ("x-mongodb-gs2-cb-flag", "n"),
        ("x-mongodb-server-nonce", base64.b64encode(challenge.nonce).decode()),
    ]
    headers = [(name, value) for name, value in headers if value]
    signed = ";".join(name for name, _ in headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers)
    canonical = f"POST\n/\n\n{lines}\n{signed}\n{_BODY_SHA256}"
    scope = f"{timestamp[:8]}/{region}/sts/{TERMINATOR}"
    key = keys.get(signer, date=timestamp[:8], region=region, service="sts")
    authorization = (
        f"{ALGORITHM} Credential={signer.access_key_id}/{scope}, SignedHeaders={signed},"
        f" Signature={signature(key, timestamp, scope, canonical)}"
    )
    return StsProof(authorization=Secret(authorization), date=timestamp, session_token=signer.session_token)


def _wrong(database: RegisteredDatabase, why: str) -> BrokerError:
    return BrokerError(Reason.INVALID_REQUEST, why, metadata={"database": database.name, "field": "challenge"})
