"""What is known of each product as such: tables. PURE."""

from __future__ import annotations

from typing import Final

from broker.errors import BrokerError
from broker.model import RegisteredDatabase
from tollbridge.model import Database, Product, Protocol, TrustStore
from tollbridge.reasons import Reason

PROTOCOLS: Final = {
    Product.RDS: {Protocol.POSTGRES, Protocol.MYSQL},
    Product.RDSPROXY: {Protocol.POSTGRES, Protocol.MYSQL},
    Product.REDSHIFT: {Protocol.POSTGRES},
    Product.REDSHIFT_SERVERLESS: {Protocol.POSTGRES},
    Product.DSQL: {Protocol.POSTGRES},
    Product.ELASTICACHE: {Protocol.REDIS},
    Product.ELASTICACHE_SERVERLESS: {Protocol.REDIS},
    Product.MEMORYDB: {Protocol.REDIS},
    Product.DYNAMODB: {Protocol.DYNAMODB},
    Product.OPENSEARCH: {Protocol.OPENSEARCH},
    Product.OPENSEARCH_SERVERLESS: {Protocol.OPENSEARCH},
    Product.KEYSPACES: {Protocol.CASSANDRA},
    Product.DOCDB: {Protocol.MONGODB},
}
"""What each product speaks."""

TRUST_STORES: Final = {
    Product.RDS: TrustStore.AWS_RDS,
    Product.DOCDB: TrustStore.AWS_RDS,
    Product.REDSHIFT: TrustStore.AWS_REDSHIFT,
    Product.REDSHIFT_SERVERLESS: TrustStore.AWS_REDSHIFT,
}
"""Who signs their certificates; the others' chain to public CAs (RDS Proxy's too)."""

_POSTGRES_NAME_BYTES: Final = {
    Product.RDS: 63,
    Product.RDSPROXY: 63,
    Product.DSQL: 63,
    Product.REDSHIFT: 127,
    Product.REDSHIFT_SERVERLESS: 127,
}
MAY_FOLD_CASE: Final = frozenset({Product.REDSHIFT, Product.REDSHIFT_SERVERLESS})
"""Products that keep names in lower case, and may or may not lower those they are asked for: AWS does not say. A rule
that denies holds either way there."""

ROLE_IS_USER: Final = frozenset(
    {
        Product.REDSHIFT_SERVERLESS,
        Product.DYNAMODB,
        Product.OPENSEARCH,
        Product.OPENSEARCH_SERVERLESS,
        Product.KEYSPACES,
        Product.DOCDB,
    }
)
"""The db_user is a role, so without assume_role_arn that role is the first hop and may ask for the external ID."""

BY_IDS: Final = (
    ("redshift_serverless.", Product.REDSHIFT_SERVERLESS),
    ("redshift.", Product.REDSHIFT),
    ("rdsproxy.", Product.RDSPROXY),
    ("rds.", Product.RDS),
    ("elasticache_serverless.", Product.ELASTICACHE_SERVERLESS),
    ("elasticache.", Product.ELASTICACHE),
    ("memorydb.", Product.MEMORYDB),
    ("opensearch.", Product.OPENSEARCH),
    ("docdb.", Product.DOCDB),
)
"""Where the host does not tell: which product an identifier belongs to."""

IDENTIFIERS: Final = {
    Product.ELASTICACHE: "elasticache.replication_group_id",
    Product.ELASTICACHE_SERVERLESS: "elasticache_serverless.cache_name",
    Product.MEMORYDB: "memorydb.cluster_name",
    Product.REDSHIFT: "redshift.cluster_id",
    Product.REDSHIFT_SERVERLESS: "redshift_serverless.workgroup_name",
}
"""Products whose credentials are made for a name that is not the host's: from the host where it says, or configured."""

BY_PROTOCOL: Final = {
    Protocol.POSTGRES: Product.RDS,
    Protocol.MYSQL: Product.RDS,
    Protocol.REDIS: Product.ELASTICACHE,
    Protocol.DYNAMODB: Product.DYNAMODB,
    Protocol.OPENSEARCH: Product.OPENSEARCH,
    Protocol.CASSANDRA: Product.KEYSPACES,
    Protocol.MONGODB: Product.DOCDB,
}
"""Where nothing else tells."""


def identifier(database: RegisteredDatabase) -> str:
    """The name that credentials are made for. Raises CREDENTIAL_INVALID for a database registered without it."""
    key = IDENTIFIERS[database.facts.product]
    name = database.resource_ids.get(key, "")
    if not name:
        raise BrokerError(
            Reason.CREDENTIAL_INVALID,
            f"database {database.name!r} is registered without aws.{key}, which its host name does not say: set it",
            metadata={"database": database.name},
        )
    return name


def name_limit(database: Database) -> int | None:
    """How many bytes of the name of a user or logical database count; None where longer ones are simply unknown.

    PostgreSQL cuts longer names off without a word: a session would enter another database than was decided about.
    """
    return _POSTGRES_NAME_BYTES.get(database.product) if database.protocol is Protocol.POSTGRES else None
