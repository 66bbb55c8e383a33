"""Databases and grants as both ends of the contract see them: frozen values, parsed once. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tollbridge.secret import Secret


class Protocol(StrEnum):
    """What is spoken on the wire."""

    POSTGRES = "postgres"
    MYSQL = "mysql"
    REDIS = "redis"
    DYNAMODB = "dynamodb"
    OPENSEARCH = "opensearch"
    CASSANDRA = "cassandra"
    MONGODB = "mongodb"


class Product(StrEnum):
    """The AWS service behind a database."""

    RDS = "rds"
    RDSPROXY = "rdsproxy"
    REDSHIFT = "redshift"
    REDSHIFT_SERVERLESS = "redshift-serverless"
    ELASTICACHE = "elasticache"
    ELASTICACHE_SERVERLESS = "elasticache-serverless"
    MEMORYDB = "memorydb"
    DYNAMODB = "dynamodb"
    OPENSEARCH = "opensearch"
    OPENSEARCH_SERVERLESS = "opensearch-serverless"
    KEYSPACES = "keyspaces"
    DOCDB = "docdb"
    DSQL = "dsql"


class TlsMode(StrEnum):
    """How a server's certificate is checked."""

    VERIFY_FULL = "verify-full"
    VERIFY_CA = "verify-ca"
    INSECURE = "insecure"


class TrustStore(StrEnum):
    """Which certificate authorities are trusted for a database."""

    SYSTEM = "system"
    AWS_RDS = "aws-rds"
    AWS_REDSHIFT = "aws-redshift"
    INLINE = "inline"
    """Nothing but the PEM that comes with the database."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Endpoint:
    """The real address of a database: what a credential is signed for and what its certificate names."""

    host: str
    """DNS name, lower case."""
    port: int

    def __post_init__(self) -> None:
        if not self.host or self.host != self.host.lower():
            raise ValueError(f"endpoint host must be a lower-case name, not {self.host!r}")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"endpoint port must be from 1 to 65535, not {self.port}")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFacts:
    """What must be checked before a credential is shown."""

    mode: TlsMode = TlsMode.VERIFY_FULL
    trust_store: TrustStore = TrustStore.SYSTEM
    server_name: str = ""
    """Name expected in the certificate; empty means the endpoint's host."""
    ca_pem: str = ""
    """PEM; alone with INLINE, otherwise in addition to the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A registered database without anything secret: no role, no external ID."""

    name: str
    protocol: Protocol
    product: Product
    endpoint: Endpoint
    tls: TlsFacts
    region: str
    account_id: str
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    server_version: str = ""
    """What a protocol whose server speaks first greets clients with; empty: what the server itself says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A user and a password that lives for minutes."""

    user: str
    password: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """Derived SigV4 keys of one session: each signs for one service, one region and one UTC day."""

    access_key_id: str
    session_token: Secret
    region: str
    service: str
    """SigV4's name: dynamodb, es, aoss, cassandra."""
    keys: Mapping[str, Secret] = field(hash=False)
    """UTC date (YYYYMMDD) -> the key of that day, 32 bytes in hexadecimal."""

    def key_of(self, date: str) -> bytes | None:
        """The key of a UTC date (YYYYMMDD); None for a day on which this grant is not used."""
        key = self.keys.get(date)
        return None if key is None else bytes.fromhex(key.reveal())


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """No secret at all: the broker answers what the server asks during the login."""

    host: str
    """The one STS host that it signs for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StsChallenge:
    """What a server of the MONGODB-AWS mechanism asks: a GetCallerIdentity signed for a host, over a nonce."""

    nonce: bytes
    """64 bytes: the client's 32 and the server's 32."""
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StsProof:
    """The answer: who shows it can say who it is to STS, and nothing else."""

    authorization: Secret
    """The Authorization header."""
    date: str
    """The X-Amz-Date header."""
    session_token: Secret


Credential = Token | SigningKey | Challenge
"""What is issued for a login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An allowed decision: a credential, where it may be shown, and how long each part lasts."""

    decision_id: str
    credential_id: str
    """Names the credential, which many decisions may share. Not a secret."""
    endpoint: Endpoint
    tls: TlsFacts
    credential: Credential
    issued_at: datetime
    expires_at: datetime
    """When the database stops accepting the credential for new logins."""
    recheck_after: datetime
    """When the decision must be asked for again, while the broker answers."""
    usable_until: datetime
    """Until when new logins may use it while the broker does not answer."""
    policy_version: str = ""
    decided_at: datetime | None = None
    """When the decision was made, by the clock all other instants are read on; None when the broker did not say."""

    @property
    def token(self) -> Token:
        """The credential of a product that logs in with user and password. Raises TypeError for others."""
        return as_token(self.credential)


def as_token(credential: Credential) -> Token:
    """A credential that is a token. Raises TypeError for others."""
    if not isinstance(credential, Token):
        raise TypeError(f"this database issues a {type(credential).__name__}, not a user and a password")
    return credential
