"""What a running sandbox consists of, as the tests, the demo and the benchmarks see it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.sandbox import topology
from deploy.sandbox.pki import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database: the endpoint AWS would show, and where it really listens."""

    name: str
    account_id: str
    region: str
    host: str
    port: int
    local_port: int
    resource_id: str
    role_arn: str | None
    """None for the database in the broker's own account."""
    external_id: str | None
    db_users: tuple[str, ...]
    """Users that log in with an IAM token."""
    db_name: str
    superuser_dsn: str
    """For seeding, never for the system under test: in over the unix socket, without a password. A libpq connection
    string; for MariaDB, Valkey and Cassandra the options of ``mariadb``, ``redis-cli`` and ``cqlsh``, for MongoDB a
    URI."""
    protocol: str = "postgres"
    product: str = "rds"
    other_hosts: tuple[str, ...] = ()
    """Names under which it is to be had as well, on the same ports."""

    @classmethod
    def of(cls, spec: topology.DatabaseSpec, *, local_port: int, superuser_dsn: str) -> "Database":
        """A database of the topology, now that it runs."""
        return cls(
            name=spec.name,
            account_id=spec.account_id,
            region=topology.REGION,
            host=spec.host,
            port=spec.port,
            local_port=local_port,
            resource_id=spec.resource_id,
            role_arn=spec.role_arn,
            external_id=spec.external_id,
            db_users=topology.IAM_DB_USERS,
            db_name=topology.DB_NAME,
            superuser_dsn=superuser_dsn,
            protocol=spec.protocol,
            product=spec.product,
            other_hosts=spec.other_hosts,
        )

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def local_endpoint(self) -> str:
        return f"127.0.0.1:{self.local_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Facts only; nothing here starts or stops anything. Also in DIR/world.json, readable by its owner alone."""

    directory: str
    aws_endpoint: str
    region: str
    broker_account_id: str
    broker_user_arn: str
    broker_role_arn: str
    """A role of the broker's own account that the broker user may assume: a broker on a role, as in production."""
    broker_access_key_id: str
    broker_secret_access_key: str = field(repr=False)
    ca_cert_file: str
    ca_key_file: str
    """The CA of the database servers; ``pki.CertificateAuthority.load`` issues more from it."""
    databases: tuple[Database, ...]
    password_users: dict[str, str] = field(repr=False)
    """Users with a password of their own, by authentication method: md5user and so on (PostgreSQL), nativeuser and so
    on (MariaDB), passworduser (Valkey), serviceuser (Cassandra)."""

    @property
    def dial(self) -> dict[str, str]:
        """Real endpoint "host:port" -> where it listens here."""
        return {
            f"{host}:{database.port}": database.local_endpoint
            for database in self.databases
            for host in (database.host, *database.other_hosts)
        }

    @property
    def postgres_superuser_dsn(self) -> str:
        """The superuser's connection string for ``rds-postgres``; every database has its own ``superuser_dsn``."""
        return self.database(topology.RDS_POSTGRES.name).superuser_dsn

    def database(self, name: str) -> Database:
        """Raises KeyError for a name that is not in this world."""
        for database in self.databases:
            if database.name == name:
                return database
        raise KeyError(name)

    def environment(self) -> dict[str, str]:
        """What the broker's process needs in its environment to take this sandbox for AWS."""
        return {
            "AWS_ACCESS_KEY_ID": self.broker_access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.broker_secret_access_key,
            **self._keyless_environment(),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def instance_environment(self) -> dict[str, str]:
        """The same on an EC2 instance whose profile is ``broker_role_arn``: no keys, IMDSv2 instead."""
        return {**self._keyless_environment(), "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.aws_endpoint}

    def container_environment(self) -> dict[str, str]:
        """The same in an ECS task or EKS pod whose role is ``broker_role_arn``."""
        credentials_uri = f"{self.aws_endpoint}/v2/credentials/tollbridge-broker"
        environment = {**self._keyless_environment(), "AWS_CONTAINER_CREDENTIALS_FULL_URI": credentials_uri}
        return {**environment, "AWS_EC2_METADATA_DISABLED": "true"}

    def _keyless_environment(self) -> dict[str, str]:
        return {
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL_STS": self.aws_endpoint,
            "AWS_ENDPOINT_URL_DYNAMODB": self.aws_endpoint,
            "AWS_ENDPOINT_URL_RDS": self.aws_endpoint,
            "AWS_ENDPOINT_URL_ELASTICACHE": self.aws_endpoint,
            "AWS_ENDPOINT_URL_MEMORYDB": self.aws_endpoint,
            "AWS_ENDPOINT_URL_OPENSEARCH": self.aws_endpoint,
            "AWS_ENDPOINT_URL_REDSHIFT": self.aws_endpoint,
            "AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS": self.aws_endpoint,
        }

    def save(self, file: Path) -> None:
        write_atomically(file, json.dumps(asdict(self), indent=2).encode(), mode=0o600)

    @classmethod
    def load(cls, file: Path) -> "World":
        document = json.loads(file.read_text())
        databases = tuple(
            Database(**{**database, **{name: tuple(database[name]) for name in ("db_users", "other_hosts")}})
            for database in document["databases"]
        )
        return cls(**{**document, "databases": databases})
