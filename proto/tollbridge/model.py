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
class Grant:
    """An allowed decision: a credential, where it may be shown, and how long each part lasts."""

    decision_id: str
    credential_id: str
    """Names the credential, which many decisions may share. Not a secret."""
    endpoint: Endpoint
    tls: TlsFacts
    credential: Token
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
