"""The IAM side of the sandbox's accounts: what ``up`` makes, and what tests change while it runs.

Acts as the root of each account, which in this sandbox is the account number as an access key.
"""

import json
from collections.abc import Iterable
from typing import Any

import boto3
from botocore.config import Config

from deploy.sandbox import topology

CONNECT_POLICY = "connect"
MORE_PRODUCTS_POLICY = "more-products"
DISCOVERY_POLICY = "discovery"
ASSUME_POLICY = "assume"
REGISTRY_POLICY = "registry"
ROLE_SESSION_SECONDS = 3600
LONG_SESSION_SECONDS = 43200

Policy = dict[str, Any]


def policy(*statements: Policy) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: str | list[str], resource: str | list[str]) -> Policy:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def trust_policy(*principal_arns: str, external_id: str | None = None, tag_session: bool = True) -> Policy:
    """Who may assume a role; with ``external_id`` only those who know it."""
    statement: Policy = {"Effect": "Allow", "Principal": {"AWS": list(principal_arns)}, "Action": "sts:AssumeRole"}
    if external_id is not None:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    if not tag_session:
        return policy(statement)
    # A statement of its own: the external ID is no part of the TagSession check.
    tagging = {"Effect": "Allow", "Principal": {"AWS": list(principal_arns)}, "Action": "sts:TagSession"}
    return policy(statement, tagging)


def broker_trust_policy(external_id: str | None = None) -> Policy:
    """Trusts the broker both as its user and on its role."""
    return trust_policy(topology.BROKER_USER_ARN, topology.BROKER_ROLE_ARN, external_id=external_id)


def rds_policy(database: topology.DatabaseSpec, db_users: Iterable[str] = topology.IAM_DB_USERS) -> Policy:
    """The RDS policy of the cross-account page, with rds-db:connect narrowed to some users of one database."""
    return policy(
        allow(["rds:ModifyDBCluster", "rds:ModifyDBInstance"], "*"),
        allow("rds-db:connect", [database.connect_arn(user) for user in db_users]),
        allow(["rds:DescribeDBClusters", "rds:DescribeDBInstances"], "*"),
    )


def more_products_policy() -> Policy:
    """What example-role may do beside its first database."""
    databases = (topology.RDS_MARIADB, topology.RDS_PROXY)
    users = [database.connect_arn(user) for database in databases for user in topology.IAM_DB_USERS]
    dsql = f"arn:aws:dsql:{topology.REGION}:{topology.EXAMPLE_ACCOUNT}:cluster/{topology.DSQL.resource_id}"
    elasticache = f"arn:aws:elasticache:{topology.REGION}:{topology.EXAMPLE_ACCOUNT}"
    caches = [
        f"{elasticache}:replicationgroup:{topology.CACHE.resource_id}",
        f"{elasticache}:serverlesscache:{topology.SERVERLESS_CACHE.resource_id}",
        *(f"{elasticache}:user:{user}" for user in topology.IAM_DB_USERS),
    ]
    return policy(
        allow("rds-db:connect", users),
        allow("elasticache:Connect", caches),
        allow("memorydb:Connect", "*"),
        allow("dsql:DbConnect", dsql),
        *_redshift_statements(),
    )


def discovery_policy() -> Policy:
    """What discovery needs beside the fetching of metadata on the cross-account page: lists and tags."""
    return policy(
        allow(["rds:DescribeDBProxies", "rds:DescribeDBProxyEndpoints", "rds:ListTagsForResource"], "*"),
        allow(["elasticache:DescribeReplicationGroups", "elasticache:DescribeCacheClusters"], "*"),
        allow(["elasticache:DescribeServerlessCaches", "elasticache:DescribeUsers"], "*"),
        allow("elasticache:ListTagsForResource", "*"),
        allow(["memorydb:DescribeClusters", "memorydb:DescribeUsers", "memorydb:ListTags"], "*"),
        allow(["redshift-serverless:ListWorkgroups", "redshift-serverless:ListEndpointAccess"], "*"),
        allow(["redshift-serverless:GetWorkgroup", "redshift-serverless:GetEndpointAccess"], "*"),
        allow("redshift-serverless:ListTagsForResource", "*"),
        allow(["es:ListDomainNames", "es:DescribeDomains", "es:ListTags"], "*"),
    )


def _redshift_statements() -> list[Policy]:
    """As on the cross-account page, narrowed to some users of one cluster's databases."""
    prefix = f"arn:aws:redshift:{topology.REGION}:{topology.EXAMPLE_ACCOUNT}"
    cluster = topology.REDSHIFT.resource_id
    users = [f"{prefix}:dbuser:{cluster}/{user}" for user in (*topology.IAM_DB_USERS, "missing")]
    names = [f"{prefix}:dbname:{cluster}/{name}" for name in (topology.DB_NAME, "postgres")]
    user_roles = [topology.DATABASE_USER_ROLE_ARN, topology.POWERLESS_USER_ROLE_ARN, topology.READER_ROLE_ARN]
    return [
        allow("redshift:GetClusterCredentials", [*users, *names]),
        allow("redshift:JoinGroup", f"{prefix}:dbgroup:{cluster}/analysts"),
        allow("redshift:DescribeClusters", "*"),
        allow(["sts:AssumeRole", "sts:TagSession"], user_roles),
    ]


def database_user_policy() -> Policy:
    """What a role needs to be a database user of the products whose users are roles."""
    return policy(
        allow("redshift:GetClusterCredentialsWithIAM", "*"),
        allow("redshift-serverless:GetCredentials", "*"),
        *_signed_statements(topology.EXAMPLE_ACCOUNT),
        allow("cassandra:*", keyspaces_arn()),
    )


def registry_policy() -> Policy:
    """What brokers need that share a table of their own account, and make it."""
    actions = ["BatchGetItem", "DescribeTable", "GetItem", "PutItem", "Query", "UpdateItem"]
    making = ["CreateTable", "UpdateTimeToLive"]
    tables = f"arn:aws:dynamodb:{topology.REGION}:{topology.BROKER_ACCOUNT}:table/{topology.REGISTRY_TABLES}"
    return policy(allow([f"dynamodb:{action}" for action in (*actions, *making)], [tables, f"{tables}/index/*"]))


def keyspaces_arn() -> str:
    """Every table of the example account."""
    return f"arn:aws:cassandra:{topology.REGION}:{topology.EXAMPLE_ACCOUNT}:/keyspace/*"


def _signed_statements(account_id: str) -> list[Policy]:
    """Everything in the tables and indexes of one account."""
    place = f"{topology.REGION}:{account_id}"
    return [
        allow("dynamodb:*", f"arn:aws:dynamodb:{place}:*"),
        # These know no resource.
        allow(["dynamodb:DescribeEndpoints", "dynamodb:ListStreams", "dynamodb:ListTables"], "*"),
        # ministack asks for PartiQL's operations by name, and for streams without their ARN; AWS for
        # dynamodb:PartiQLSelect and so on, on the table, and for the stream's ARN.
        allow(["dynamodb:BatchExecuteStatement", "dynamodb:ExecuteStatement", "dynamodb:ExecuteTransaction"], "*"),
        allow(["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"], "*"),
        allow("es:ESHttp*", f"arn:aws:es:{place}:domain/{topology.OPENSEARCH.resource_id}/*"),
        allow("aoss:APIAccessAll", f"arn:aws:aoss:{place}:collection/{topology.OPENSEARCH_SERVERLESS.resource_id}"),
    ]


def reader_policy() -> Policy:
    """Reads tables and indexes, and nothing else."""
    place = f"{topology.REGION}:{topology.EXAMPLE_ACCOUNT}"
    read = ["dynamodb:BatchGetItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan"]
    return policy(
        allow(read, f"arn:aws:dynamodb:{place}:table/*"),
        allow(["es:ESHttpGet", "es:ESHttpHead"], f"arn:aws:es:{place}:domain/{topology.OPENSEARCH.resource_id}/*"),
        allow("cassandra:Select", keyspaces_arn()),
    )


class Accounts:
    """Blocking; changes are in force when a method returns. Roles are named by ARN."""

    def __init__(self, aws_endpoint: str) -> None:
        self._aws_endpoint = aws_endpoint
        self._session = boto3.session.Session()
        self._clients: dict[str, Any] = {}

    def iam(self, account_id: str) -> Any:
        """boto3's IAM client as the root of an account."""
        if account_id not in self._clients:
            self._clients[account_id] = self._client(account_id)
        return self._clients[account_id]

    def _client(self, account_id: str) -> Any:
        return self._session.client(
            "iam",
            region_name=topology.REGION,
            endpoint_url=self._aws_endpoint,
            aws_access_key_id=account_id,
            aws_secret_access_key="root",  # noqa: S106 - root calls are not checked
            config=Config(retries={"max_attempts": 0}, proxies={}, connect_timeout=5, read_timeout=10),
        )

    def seed(self) -> tuple[str, str]:
        """Everything in ``topology``. Access key id and secret of the broker's user."""
        broker = self.iam(topology.BROKER_ACCOUNT)
        broker.create_user(UserName=topology.BROKER_USER)
        may_assume = policy(allow(["sts:AssumeRole", "sts:TagSession"], list(topology.ASSUMABLE_ROLE_ARNS)))
        self.create_role(topology.BROKER_ROLE_ARN, trust=trust_policy(topology.BROKER_USER_ARN))
        connect = rds_policy(topology.LOCAL)
        policies = {ASSUME_POLICY: may_assume, CONNECT_POLICY: connect, REGISTRY_POLICY: registry_policy()}
        for name, document in policies.items():
            text = json.dumps(document)
            broker.put_user_policy(UserName=topology.BROKER_USER, PolicyName=name, PolicyDocument=text)
            self.put_role_policy(topology.BROKER_ROLE_ARN, name, document)
        self._seed_external_roles()
        key = broker.create_access_key(UserName=topology.BROKER_USER)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def _seed_external_roles(self) -> None:
        trusted = broker_trust_policy(topology.EXAMPLE_EXTERNAL_ID)
        example = rds_policy(topology.RDS_POSTGRES)
        somebody_else = trust_policy(
            f"arn:aws:iam::{topology.EXAMPLE_ACCOUNT}:root", external_id=topology.EXAMPLE_EXTERNAL_ID
        )
        self.create_role(topology.EXAMPLE_ROLE_ARN, trust=trusted, permissions=example)
        self.put_role_policy(topology.EXAMPLE_ROLE_ARN, MORE_PRODUCTS_POLICY, more_products_policy())
        self.put_role_policy(topology.EXAMPLE_ROLE_ARN, DISCOVERY_POLICY, discovery_policy())
        trusting_example = trust_policy(topology.EXAMPLE_ROLE_ARN)
        self.create_role(topology.DATABASE_USER_ROLE_ARN, trust=trusting_example, permissions=database_user_policy())
        self.create_role(topology.POWERLESS_USER_ROLE_ARN, trust=trusting_example)
        self.create_role(topology.READER_ROLE_ARN, trust=trusting_example, permissions=reader_policy())
        self.create_role(topology.NO_CONNECT_ROLE_ARN, trust=trusted)
        self.create_role(topology.NO_TRUST_ROLE_ARN, trust=somebody_else, permissions=example)
        self.create_role(topology.UNLISTED_ROLE_ARN, trust=trusted, permissions=example)
        self.create_role(
            topology.LONG_SESSION_ROLE_ARN,
            trust=trusted,
            permissions=example,
            max_session_seconds=LONG_SESSION_SECONDS,
        )
        self.create_role(
            topology.ANALYTICS_ROLE_ARN,
            trust=broker_trust_policy(topology.ANALYTICS_EXTERNAL_ID),
            permissions=rds_policy(topology.ANALYTICS),
        )
        may_chain = policy(allow(["sts:AssumeRole", "sts:TagSession"], topology.ANALYTICS_USER_ROLE_ARN))
        self.put_role_policy(topology.ANALYTICS_ROLE_ARN, ASSUME_POLICY, may_chain)
        self.create_role(
            topology.ANALYTICS_USER_ROLE_ARN,
            trust=trust_policy(topology.ANALYTICS_ROLE_ARN),
            permissions=policy(*_signed_statements(topology.ANALYTICS_ACCOUNT)),
        )

    def create_role(
        self,
        role_arn: str,
        *,
        trust: Policy,
        permissions: Policy | None = None,
        max_session_seconds: int = ROLE_SESSION_SECONDS,
    ) -> None:
        """``permissions`` become its inline policy CONNECT_POLICY."""
        account_id, name = _role(role_arn)
        self.iam(account_id).create_role(
            RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=max_session_seconds
        )
        if permissions is not None:
            self.put_role_policy(role_arn, CONNECT_POLICY, permissions)

    def delete_role(self, role_arn: str) -> None:
        """With its inline policies. Its sessions, and the tokens they signed, are dead from now on."""
        account_id, name = _role(role_arn)
        iam = self.iam(account_id)
        for policy_name in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy_name)
        iam.delete_role(RoleName=name)

    def recreate_role(self, role_arn: str) -> None:
        """Delete a role and make it again with the same trust and policies: same ARN, new unique id."""
        account_id, name = _role(role_arn)
        iam = self.iam(account_id)
        role = iam.get_role(RoleName=name)["Role"]
        policies = {
            policy_name: iam.get_role_policy(RoleName=name, PolicyName=policy_name)["PolicyDocument"]
            for policy_name in iam.list_role_policies(RoleName=name)["PolicyNames"]
        }
        self.delete_role(role_arn)
        self.create_role(
            role_arn, trust=role["AssumeRolePolicyDocument"], max_session_seconds=role["MaxSessionDuration"]
        )
        for policy_name, document in policies.items():
            self.put_role_policy(role_arn, policy_name, document)

    def set_trust_policy(self, role_arn: str, trust: Policy) -> None:
        account_id, name = _role(role_arn)
        self.iam(account_id).update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))

    def put_role_policy(self, role_arn: str, policy_name: str, document: Policy) -> None:
        """Sessions that exist already feel it at once, as on AWS."""
        account_id, name = _role(role_arn)
        self.iam(account_id).put_role_policy(RoleName=name, PolicyName=policy_name, PolicyDocument=json.dumps(document))

    def remove_role_policy(self, role_arn: str, policy_name: str = CONNECT_POLICY) -> None:
        account_id, name = _role(role_arn)
        self.iam(account_id).delete_role_policy(RoleName=name, PolicyName=policy_name)


def _role(role_arn: str) -> tuple[str, str]:
    return role_arn.split(":")[4], role_arn.rsplit("/", 1)[-1]
