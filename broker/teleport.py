"""Teleport's own `db_service` section as sections of ours: loaded unchanged, checked by `broker.registry.static`.

Fields default to empty where Teleport says in its own words that they must not be: those words come from the checks,
so that they stand beside everything else that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

from pydantic import ConfigDict, Field

from broker.model import Attribution
from broker.registry.arns import parse_role_arn, partition_of_region
from tollbridge.model import Protocol, TlsMode
from tollbridge.process.settings import Finding, SecretText, Section, TextList
from tollbridge.process.words import usual_protocol
from tollbridge.secret import Secret

REGION_HINT: Final = "a region's code, such as us-west-1"
ROLE_HINT: Final = "such as arn:aws:iam::222222222222:role/example-role"


class RdsIds(Section):
    """Of an RDS instance or Aurora cluster."""

    known_elsewhere: ClassVar = frozenset({"subnets", "vpc_id", "security_groups", "resource_id", "iam_auth"})
    instance_id: str = ""
    cluster_id: str = ""


class RdsProxyIds(Section):
    """Of an RDS Proxy."""

    known_elsewhere: ClassVar = frozenset({"custom_endpoint_name", "resource_id"})
    name: str = ""


class RedshiftIds(Section):
    """Of a provisioned Redshift cluster."""

    cluster_id: str = ""
    db_groups: TextList = Field(
        default_factory=list,
        description="Groups that every database user joins for its session; needs redshift:JoinGroup. Not Teleport's.",
    )


class RedshiftServerlessIds(Section):
    """Of a Redshift Serverless workgroup."""

    known_elsewhere: ClassVar = frozenset({"workgroup_id"})
    workgroup_name: str = ""
    endpoint_name: str = ""


class ElastiCacheIds(Section):
    """Of an ElastiCache replication group."""

    known_elsewhere: ClassVar = frozenset({"user_group_ids", "transit_encryption_enabled", "endpoint_type"})
    replication_group_id: str = ""


class ElastiCacheServerlessIds(Section):
    """Of an ElastiCache serverless cache."""

    cache_name: str = ""


class MemoryDbIds(Section):
    """Of a MemoryDB cluster."""

    known_elsewhere: ClassVar = frozenset({"acl_name", "tls_enabled", "endpoint_type"})
    cluster_name: str = ""


class OpenSearchIds(Section):
    """Of an OpenSearch domain."""

    known_elsewhere: ClassVar = frozenset({"domain_id", "endpoint_type"})
    domain_name: str = ""


class DocumentDbIds(Section):
    """Of a DocumentDB cluster."""

    known_elsewhere: ClassVar = frozenset({"endpoint_type"})
    cluster_id: str = ""
    instance_id: str = ""


class AwsBlock(Section):
    """`aws:` of a database."""

    known_elsewhere: ClassVar = frozenset({"secret_store", "iam_policy_status"})
    region: str = Field(default="", description="Derived from the URI where that is an AWS endpoint name.")
    account_id: str = Field(
        default="", description="Derived from assume_role_arn. Empty without a role: the broker's own."
    )
    assume_role_arn: str = Field(
        default="", description="Role in the database's account. Empty: the broker's own account."
    )
    external_id: SecretText = Field(
        default_factory=lambda: Secret(""), description="Sent when that role is assumed. An account link may hold it."
    )
    session_tags: dict[str, str] = Field(default_factory=dict)
    narrow_session: bool = Field(
        default=False,
        description="Where users are roles: a session policy leaves the role this database's own resources only.",
    )
    rds: RdsIds = Field(default_factory=RdsIds)
    rdsproxy: RdsProxyIds = Field(default_factory=RdsProxyIds)
    redshift: RedshiftIds = Field(default_factory=RedshiftIds)
    redshift_serverless: RedshiftServerlessIds = Field(default_factory=RedshiftServerlessIds)
    elasticache: ElastiCacheIds = Field(default_factory=ElastiCacheIds)
    elasticache_serverless: ElastiCacheServerlessIds = Field(default_factory=ElastiCacheServerlessIds)
    memorydb: MemoryDbIds = Field(default_factory=MemoryDbIds)
    opensearch: OpenSearchIds = Field(default_factory=OpenSearchIds)
    docdb: DocumentDbIds = Field(default_factory=DocumentDbIds)

    def resource_ids(self) -> dict[str, str]:
        """AWS identifiers as written, by their config names: rds.instance_id."""
        return {
            f"{block}.{key}": value
            for block in type(self).model_fields
            if isinstance(section := getattr(self, block), Section)
            for key in type(section).model_fields
            if isinstance(value := getattr(section, key), str) and value
        }


class TlsBlock(Section):
    """`tls:` of a database, whatever way it is registered."""

    mode: TlsMode = TlsMode.VERIFY_FULL
    server_name: str = Field(default="", description="Name expected in the certificate. Empty: the host of the URI.")
    trust_system_cert_pool: bool = Field(
        default=False, description="With a CA of its own: trust the system's CAs as well."
    )


class StaticTls(TlsBlock):
    """`tls:` of a static database."""

    ca_cert_file: str = Field(default="", description="PEM file that replaces the product's usual CAs.")


class MysqlBlock(Section):
    """`mysql:` of a database."""

    server_version: str = Field(
        default="",
        max_length=60,
        pattern=r"^[ -~]*$",
        description="Version a client is greeted with; empty: what the server itself says.",
    )


class DatabaseCore(Section):
    """What static databases and `kind: db` documents share."""

    protocol: str = Field(default="", description="postgres, mysql, redis, dynamodb, opensearch, cassandra or mongodb")
    uri: str = Field(default="", description="HOST:PORT of the real endpoint: credentials are signed for it.")
    tls: TlsBlock = Field(default_factory=TlsBlock)
    mysql: MysqlBlock = Field(default_factory=MysqlBlock)
    aws: AwsBlock = Field(default_factory=AwsBlock)

    def findings(self) -> Iterable[Finding]:
        """A port that another protocol is known for."""
        usual = usual_protocol(self.uri)
        if usual and self.protocol in set(Protocol) and usual != self.protocol:
            message = f"its port is usually {usual}, and protocol is {self.protocol}"
            yield Finding(self.at("uri"), message, "right only where the server was given that port", warning=True)


class StaticDatabase(DatabaseCore):
    """One of `db_service.databases`."""

    model_config = ConfigDict(json_schema_extra={"required": ["name", "protocol"]})
    known_elsewhere: ClassVar = frozenset(
        {"dynamic_labels", "admin_user", "oracle", "ad", "gcp", "azure", "mongo_atlas", "ca_cert_file"}
    )
    name: str = ""
    description: str = ""
    tls: StaticTls = Field(default_factory=StaticTls)
    static_labels: dict[str, str] = Field(default_factory=dict)
    attribution: Attribution = Field(
        default=Attribution.BROKER,
        description="`workload`: sessions named after the workload, one AssumeRole each per hour.",
    )


Labels = dict[str, TextList]
"""Label -> value or values."""

MATCHER_TYPES: Final = (
    "rds",
    "rdsproxy",
    "redshift",
    "redshift-serverless",
    "elasticache",
    "elasticache-serverless",
    "memorydb",
    "opensearch",
    "docdb",
)
_ROLE_IS_USER: Final = {"redshift-serverless", "opensearch", "docdb"}
"""Their first hop may be the db_user's own role, so that an external ID needs no other."""


class Matcher(Section):
    """One of `db_service.aws`: what to discover where."""

    known_elsewhere: ClassVar = frozenset({"integration", "discovery_group", "ssm", "install", "kube_app_discovery"})
    types: TextList = Field(default_factory=list)
    regions: TextList = Field(default_factory=list)
    tags: Labels = Field(default_factory=lambda: {"*": ["*"]})
    assume_role_arn: str = ""
    external_id: SecretText = Field(default_factory=lambda: Secret(""))

    def findings(self) -> Iterable[Finding]:
        """The checks and words of Teleport's matchers."""
        for key in ("types", "regions"):
            if not getattr(self, key):
                hint = "such as [rds]" if key == "types" else "such as [us-west-1]"
                yield Finding(self.at(key), f"discovery requires at least one {key[:-1]}", hint)
        for index, kind in enumerate(self.types):
            if kind not in MATCHER_TYPES:
                message = f"discovery service type does not support {kind!r}"
                yield Finding(
                    self.at("types", index), message, f"supported resource types are: {', '.join(MATCHER_TYPES)}"
                )
        for index, region in enumerate(self.regions):
            if not partition_of_region(region):
                yield Finding(self.at("regions", index), f"discovery does not support region {region!r}", REGION_HINT)
        if self.assume_role_arn:
            try:
                parse_role_arn(self.assume_role_arn)
            except ValueError as error:
                yield Finding(self.at("assume_role_arn"), f"invalid assume role: {error}", ROLE_HINT)
        elif self.external_id and not set(self.types) <= _ROLE_IS_USER:
            message = "AWS matcher assume_role_arn is empty, but has external_id"
            yield Finding(self.at("external_id"), message, "name the role that asks for it, or remove external_id")


class SelectorAws(Section):
    """`aws:` of a resource selector: overrides what the resource says."""

    assume_role_arn: str = ""
    external_id: SecretText = Field(default_factory=lambda: Secret(""))

    def findings(self) -> Iterable[Finding]:
        """A role is one, and an external ID is for a role."""
        if self.assume_role_arn:
            try:
                parse_role_arn(self.assume_role_arn)
            except ValueError as error:
                message = f"role ARN {self.assume_role_arn!r} is invalid: {error}"
                yield Finding(self.at("assume_role_arn"), message, ROLE_HINT)
        elif self.external_id:
            message = "resource selector has external_id, but assume_role_arn is empty"
            yield Finding(self.at("external_id"), message, "name the role that asks for it, or remove external_id")


class Selector(Section):
    """One of `db_service.resources`: which dynamic databases this broker serves. The first that matches counts."""

    labels: Labels = Field(
        default_factory=dict, description='Label -> accepted values (globs); {"*": "*"} selects every one.'
    )
    aws: SelectorAws = Field(default_factory=SelectorAws)

    def findings(self) -> Iterable[Finding]:
        """A selector without labels would select nothing."""
        if not self.labels:
            yield Finding(self.at("labels"), "is empty: no database is selected", '{"*": "*"} selects every one')


class DbService(Section):
    """`db_service:`."""

    known_elsewhere: ClassVar = frozenset({"azure", "gcp"})
    enabled: bool = True
    databases: list[StaticDatabase] = Field(default_factory=list)
    aws: list[Matcher] = Field(default_factory=list)
    resources: list[Selector] = Field(default_factory=list)

    def findings(self) -> Iterable[Finding]:
        if not self.enabled and (self.databases or self.aws):
            yield Finding(self.at("enabled"), "is false: the databases of this section are not served", warning=True)
