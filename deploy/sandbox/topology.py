"""The accounts, roles and databases of every sandbox: names only, nothing running.

Account, role, external ID and endpoint of ``rds-postgres`` are those of the AWS cross-account page that tollbridge
implements, so that its examples work here word for word.
"""

from dataclasses import dataclass

REGION = "us-west-1"

BROKER_ACCOUNT = "111111111111"
EXAMPLE_ACCOUNT = "222222222222"
ANALYTICS_ACCOUNT = "333333333333"
ACCOUNTS = (BROKER_ACCOUNT, EXAMPLE_ACCOUNT, ANALYTICS_ACCOUNT)

BROKER_USER = "tollbridge-broker-user"
BROKER_ROLE = "tollbridge-broker"
BROKER_USER_ARN = f"arn:aws:iam::{BROKER_ACCOUNT}:user/{BROKER_USER}"
BROKER_ROLE_ARN = f"arn:aws:iam::{BROKER_ACCOUNT}:role/{BROKER_ROLE}"

EXAMPLE_EXTERNAL_ID = "example-external-id"
ANALYTICS_EXTERNAL_ID = "analytics-external-id"

EXAMPLE_ROLE_ARN = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/example-role"
ANALYTICS_ROLE_ARN = f"arn:aws:iam::{ANALYTICS_ACCOUNT}:role/analytics-access"
NO_CONNECT_ROLE_ARN = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/no-connect-role"
"""Trusts the broker, but no policy of it allows rds-db:connect."""
NO_TRUST_ROLE_ARN = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/no-trust-role"
"""May connect, but its trust policy names somebody else."""
UNLISTED_ROLE_ARN = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/unlisted-role"
"""Trusts the broker, but the broker's own policy does not list it."""
LONG_SESSION_ROLE_ARN = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/long-session-role"
"""As example-role, with a MaxSessionDuration of 12 hours (all others: one hour)."""
DATABASE_USER_ROLE_ARN = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/DatabaseUserRole"
"""A database user of products whose users are roles; trusts example-role, which may assume it."""
READER_ROLE_ARN = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/ReaderRole"
"""The same, and may read tables and indexes, not write them."""
ANALYTICS_USER_ROLE_ARN = f"arn:aws:iam::{ANALYTICS_ACCOUNT}:role/DatabaseUserRole"
"""The one of that name in the other account; trusts analytics-access."""
POWERLESS_USER_ROLE_ARN = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/PowerlessUserRole"
"""The same, and no policy of it allows to ask for credentials."""
REGISTRY_TABLES = "tollbridge*"
"""Tables of the broker's account that brokers may share."""
TEST_ROLES_ARN = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/test-*"
"""The broker may assume any role called so: tests make their own roles without touching the broker's policy."""

ASSUMABLE_ROLE_ARNS = (
    EXAMPLE_ROLE_ARN,
    ANALYTICS_ROLE_ARN,
    NO_CONNECT_ROLE_ARN,
    NO_TRUST_ROLE_ARN,
    LONG_SESSION_ROLE_ARN,
    TEST_ROLES_ARN,
    BROKER_ROLE_ARN,
)

DB_NAME = "app"
IAM_DB_USERS = ("app", "readonly", "admin")
"""Members of rds_iam on every server; their only password is an IAM token."""
PASSWORD_DB_USERS = ("md5user", "scramuser", "cleartextuser")
"""Roles with a password of their own, for the authentication method each is named after."""
MARIADB_PASSWORD_USERS = ("nativeuser", "ed25519user")
"""The same on MariaDB. ``nativeuser`` may also come without TLS."""
VALKEY_PASSWORD_USERS = ("passworduser",)
"""The same on Valkey."""
CASSANDRA_PASSWORD_USERS = ("serviceuser",)
"""The same on Cassandra: a service-specific credential of an IAM user. May do everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSpec:
    """A database as AWS knows it; ``role_arn`` is None in the broker's own account.

    ``resource_id`` is what policies call it: RDS's resource id, a cache's or cluster's name, a workgroup's id.
    """

    name: str
    account_id: str
    host: str
    resource_id: str
    role_arn: str | None
    external_id: str | None
    port: int = 5432
    protocol: str = "postgres"
    product: str = "rds"
    other_hosts: tuple[str, ...] = ()
    """Where it is to be had under another name."""

    def connect_arn(self, db_user: str) -> str:
        """The resource an rds-db:connect policy names for one database user ("*" for all of them)."""
        return f"arn:aws:rds-db:{REGION}:{self.account_id}:dbuser:{self.resource_id}/{db_user}"


RDS_POSTGRES = DatabaseSpec(
    name="rds-postgres",
    account_id=EXAMPLE_ACCOUNT,
    host="rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com",
    resource_id="db-RDSPOSTGRES222222222222",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
)
ANALYTICS = DatabaseSpec(
    name="analytics",
    account_id=ANALYTICS_ACCOUNT,
    host="analytics.cluster-abcdef012345.us-west-1.rds.amazonaws.com",
    resource_id="cluster-ANALYTICS333333333333",
    role_arn=ANALYTICS_ROLE_ARN,
    external_id=ANALYTICS_EXTERNAL_ID,
)
LOCAL = DatabaseSpec(
    name="local",
    account_id=BROKER_ACCOUNT,
    host="local.fedcba543210.us-west-1.rds.amazonaws.com",
    resource_id="db-LOCAL111111111111",
    role_arn=None,
    external_id=None,
)
RDS_MARIADB = DatabaseSpec(
    name="rds-mariadb",
    account_id=EXAMPLE_ACCOUNT,
    host="rds-mariadb.abcdef012345.us-west-1.rds.amazonaws.com",
    resource_id="db-RDSMARIADB2222222222222",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=3306,
    protocol="mysql",
)
RDS_PROXY = DatabaseSpec(
    name="rds-proxy",
    account_id=EXAMPLE_ACCOUNT,
    host="pool.proxy-abcdef012345.us-west-1.rds.amazonaws.com",
    resource_id="prx-0123456789abcdef0",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    product="rdsproxy",
)
DSQL = DatabaseSpec(
    name="dsql",
    account_id=EXAMPLE_ACCOUNT,
    host="abcdefghijklmnopqrst123456.dsql.us-west-1.on.aws",
    resource_id="abcdefghijklmnopqrst123456",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    product="dsql",
)
"""Its SQL is PostgreSQL's; what is DSQL's own is how to get in."""
CACHE = DatabaseSpec(
    name="cache",
    account_id=EXAMPLE_ACCOUNT,
    host="master.my-rg.abcdef.usw1.cache.amazonaws.com",
    resource_id="my-rg",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=6379,
    protocol="redis",
    product="elasticache",
)
SERVERLESS_CACHE = DatabaseSpec(
    name="serverless-cache",
    account_id=EXAMPLE_ACCOUNT,
    host="cache-01-abcdef.serverless.usw1.cache.amazonaws.com",
    resource_id="cache-01",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=6379,
    protocol="redis",
    product="elasticache-serverless",
)
MEMORYDB = DatabaseSpec(
    name="memory",
    account_id=EXAMPLE_ACCOUNT,
    host="clustercfg.cluster-01.abcdef.memorydb.us-west-1.amazonaws.com",
    resource_id="cluster-01",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=6379,
    protocol="redis",
    product="memorydb",
)
REDSHIFT = DatabaseSpec(
    name="warehouse",
    account_id=EXAMPLE_ACCOUNT,
    host="wh.abcdef012345.us-west-1.redshift.amazonaws.com",
    resource_id="wh",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=5439,
    product="redshift",
)
REDSHIFT_SERVERLESS = DatabaseSpec(
    name="serverless-warehouse",
    account_id=EXAMPLE_ACCOUNT,
    host="default.222222222222.us-west-1.redshift-serverless.amazonaws.com",
    resource_id="11111111-2222-4333-8444-555555555555",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=5439,
    product="redshift-serverless",
)
DYNAMODB = DatabaseSpec(
    name="tables",
    account_id=EXAMPLE_ACCOUNT,
    host="dynamodb.us-west-1.amazonaws.com",
    resource_id="*",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=443,
    protocol="dynamodb",
    product="dynamodb",
    other_hosts=(
        "streams.dynamodb.us-west-1.amazonaws.com",
        "dynamodb-fips.us-west-1.amazonaws.com",
        "streams.dynamodb-fips.us-west-1.amazonaws.com",
        "dynamodb.us-west-1.api.aws",
        "streams-dynamodb.us-west-1.api.aws",
        f"{EXAMPLE_ACCOUNT}.ddb.us-west-1.amazonaws.com",
        f"{EXAMPLE_ACCOUNT}.streams-ddb.us-west-1.amazonaws.com",
    ),
)
"""The tables of an account in a region."""
ANALYTICS_DYNAMODB = DatabaseSpec(
    name="analytics-tables",
    account_id=ANALYTICS_ACCOUNT,
    host="dynamodb.us-west-1.amazonaws.com",
    resource_id="*",
    role_arn=ANALYTICS_ROLE_ARN,
    external_id=ANALYTICS_EXTERNAL_ID,
    port=443,
    protocol="dynamodb",
    product="dynamodb",
)
"""The same endpoint: whose tables it shows depends on who signs."""
OPENSEARCH = DatabaseSpec(
    name="search",
    account_id=EXAMPLE_ACCOUNT,
    host="search-movies-abcdefghijklmnopqrstuvwxyz.us-west-1.es.amazonaws.com",
    resource_id="movies",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=443,
    protocol="opensearch",
    product="opensearch",
)
OPENSEARCH_SERVERLESS = DatabaseSpec(
    name="serverless-search",
    account_id=EXAMPLE_ACCOUNT,
    host="abcdefghij0123456789.us-west-1.aoss.amazonaws.com",
    resource_id="abcdefghij0123456789",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=443,
    protocol="opensearch",
    product="opensearch-serverless",
)
KEYSPACES = DatabaseSpec(
    name="keyspaces",
    account_id=EXAMPLE_ACCOUNT,
    host="cassandra.us-west-1.amazonaws.com",
    resource_id="shop",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=9142,
    protocol="cassandra",
    product="keyspaces",
)
"""The keyspaces of an account in a region; the resource id names the one that comes with it."""
DOCUMENTDB = DatabaseSpec(
    name="documents",
    account_id=EXAMPLE_ACCOUNT,
    host="mycluster.cluster-abcdef012345.us-west-1.docdb.amazonaws.com",
    resource_id="mycluster",
    role_arn=EXAMPLE_ROLE_ARN,
    external_id=EXAMPLE_EXTERNAL_ID,
    port=27017,
    protocol="mongodb",
    product="docdb",
)
DATABASES = (RDS_POSTGRES, ANALYTICS, LOCAL)
"""What every sandbox has: PostgreSQL servers."""
ENGINE_DATABASES = {
    "postgres": DATABASES,
    "rdsproxy": (RDS_PROXY,),
    "dsql": (DSQL,),
    "mariadb": (RDS_MARIADB,),
    "valkey": (CACHE, SERVERLESS_CACHE, MEMORYDB),
    "redshift": (REDSHIFT, REDSHIFT_SERVERLESS),
    "cassandra": (KEYSPACES,),
    "mongodb": (DOCUMENTDB,),
    "dynamodb": (DYNAMODB, ANALYTICS_DYNAMODB),
    "opensearch": (OPENSEARCH, OPENSEARCH_SERVERLESS),
}
"""What a sandbox has with an engine."""
