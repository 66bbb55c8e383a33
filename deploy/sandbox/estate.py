"""What is in the accounts as AWS would describe it: the sandbox's own databases, and as many more as a test wants.

A resource is where it is, the call that lists it, and the item of that call's answer (``aws.inventory``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from deploy.sandbox import topology

Resource = dict[str, Any]

_TAGS = {"env": "dev", "team": "shop"}


def resource(account_id: str, region: str, service: str, operation: str, item: Mapping[str, Any]) -> Resource:
    """``service`` as IAM names it."""
    return {
        "account_id": account_id,
        "region": region,
        "service": service,
        "operation": operation,
        "item": dict(item),
    }


def resources(spec: topology.DatabaseSpec) -> Iterator[Resource]:
    """One of the sandbox's databases; nothing for products that AWS does not list (DynamoDB, Keyspaces, DSQL...)."""
    describe = _LISTED.get(spec.product)
    for service, operation, item in describe(spec) if describe else ():
        yield resource(spec.account_id, topology.REGION, service, operation, item)


def instance(
    name: str,
    account_id: str,
    host: str = "",
    *,
    region: str = topology.REGION,
    engine: str = "postgres",
    port: int = 5432,
    resource_id: str = "",
    iam_auth: bool = True,
    tags: Mapping[str, str] = _TAGS,
) -> dict[str, Any]:
    """An RDS instance as DescribeDBInstances has it."""
    return {
        "DBInstanceIdentifier": name,
        "DBInstanceClass": "db.t4g.medium",
        "Engine": engine,
        "EngineVersion": "10.11.9" if engine == "mariadb" else "15.8",
        "DBInstanceStatus": "available",
        "MasterUsername": "master",
        "Endpoint": {"Address": host or f"{name}.abcdef{account_id[:6]}.{region}.rds.amazonaws.com", "Port": port},
        "AllocatedStorage": 20,
        "DBSubnetGroup": {"DBSubnetGroupName": "default", "VpcId": f"vpc-{account_id}"},
        "MultiAZ": False,
        "StorageEncrypted": True,
        "DbiResourceId": resource_id or f"db-{name.upper().replace('-', '')}",
        "CACertificateIdentifier": "rds-ca-rsa2048-g1",
        "IAMDatabaseAuthenticationEnabled": iam_auth,
        "DBInstanceArn": f"arn:aws:rds:{region}:{account_id}:db:{name}",
        "TagList": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def cluster(
    name: str,
    account_id: str,
    host: str,
    resource_id: str,
    *,
    region: str = topology.REGION,
    iam_auth: bool = True,
) -> dict[str, Any]:
    """An Aurora cluster of one writer as DescribeDBClusters has it."""
    return {
        "DBClusterIdentifier": name,
        "Status": "available",
        "Engine": "aurora-postgresql",
        "EngineVersion": "15.4",
        "EngineMode": "provisioned",
        "Endpoint": host,
        "ReaderEndpoint": host.replace(".cluster-", ".cluster-ro-"),
        "Port": 5432,
        "DBClusterMembers": [{"DBInstanceIdentifier": f"{name}-1", "IsClusterWriter": True}],
        "DbClusterResourceId": resource_id,
        "DBClusterArn": f"arn:aws:rds:{region}:{account_id}:cluster:{name}",
        "IAMDatabaseAuthenticationEnabled": iam_auth,
        "TagList": [{"Key": key, "Value": value} for key, value in _TAGS.items()],
    }


def cache_users(spec: topology.DatabaseSpec) -> Iterator[dict[str, Any]]:
    """Those that log in with IAM, and one with a password."""
    service = "memorydb" if spec.product == "memorydb" else "elasticache"
    for name in (*topology.IAM_DB_USERS, *topology.VALKEY_PASSWORD_USERS):
        yield {
            "UserId": name,
            "UserName": name,
            "Status": "active",
            "Engine": "valkey",
            "AccessString": "on ~* +@all",
            "Authentication": {"Type": "iam" if name in topology.IAM_DB_USERS else "password", "PasswordCount": 0},
            "ARN": f"arn:aws:{service}:{topology.REGION}:{spec.account_id}:user:{name}",
        }


def fleet(count: int, account_id: str, region: str) -> list[Resource]:
    """So many RDS instances; of the same names in every account and region."""
    return [
        resource(
            account_id, region, "rds", "DescribeDBInstances", instance(f"orders-{n:04d}", account_id, region=region)
        )
        for n in range(count)
    ]


def _arn(service: str, spec: topology.DatabaseSpec, rest: str) -> str:
    return f"arn:aws:{service}:{topology.REGION}:{spec.account_id}:{rest}"


def _proxy(name: str, spec: topology.DatabaseSpec) -> dict[str, Any]:
    return {
        "DBProxyName": name,
        "DBProxyArn": _arn("rds", spec, f"db-proxy:{spec.resource_id}"),
        "Status": "available",
        "EngineFamily": "POSTGRESQL",
        "VpcId": f"vpc-{spec.account_id}",
        "Auth": [{"AuthScheme": "SECRETS", "IAMAuth": "REQUIRED"}],
        "Endpoint": spec.host,
        "RequireTLS": True,
        "_tags": _TAGS,
    }


def _warehouse(name: str, spec: topology.DatabaseSpec) -> dict[str, Any]:
    return {
        "ClusterIdentifier": name,
        "ClusterStatus": "available",
        "Endpoint": {"Address": spec.host, "Port": spec.port},
        "ClusterVersion": "1.0",
        "VpcId": f"vpc-{spec.account_id}",
        "ClusterNamespaceArn": _arn("redshift", spec, "namespace:11111111-2222-4333-8444-555555555555"),
        "Tags": [{"Key": key, "Value": value} for key, value in _TAGS.items()],
        "_arn": _arn("redshift", spec, f"cluster:{name}"),
    }


def _workgroup(name: str, spec: topology.DatabaseSpec) -> dict[str, Any]:
    return {
        "workgroupName": name,
        "workgroupId": spec.resource_id,
        "workgroupArn": _arn("redshift-serverless", spec, f"workgroup/{spec.resource_id}"),
        "status": "AVAILABLE",
        "endpoint": {"address": spec.host, "port": spec.port},
        "workgroupVersion": "1.0.70089",
        "_tags": _TAGS,
    }


def _group(spec: topology.DatabaseSpec) -> dict[str, Any]:
    return {
        "ReplicationGroupId": spec.resource_id,
        "Description": "of the sandbox",
        "Status": "available",
        "Engine": "valkey",
        "ClusterEnabled": False,
        "TransitEncryptionEnabled": True,
        "UserGroupIds": ["apps"],
        "NodeGroups": [{"NodeGroupId": "0001", "PrimaryEndpoint": {"Address": spec.host, "Port": spec.port}}],
        "ARN": _arn("elasticache", spec, f"replicationgroup:{spec.resource_id}"),
        "_tags": _TAGS,
    }


def _serverless_cache(spec: topology.DatabaseSpec) -> dict[str, Any]:
    return {
        "ServerlessCacheName": spec.resource_id,
        "Status": "available",
        "Engine": "valkey",
        "MajorEngineVersion": "8",
        "FullEngineVersion": "8.0",
        "Endpoint": {"Address": spec.host, "Port": spec.port},
        "UserGroupId": "apps",
        "ARN": _arn("elasticache", spec, f"serverlesscache:{spec.resource_id}"),
        "_tags": _TAGS,
    }


def _memorydb(spec: topology.DatabaseSpec) -> dict[str, Any]:
    return {
        "Name": spec.resource_id,
        "Status": "available",
        "ClusterEndpoint": {"Address": spec.host, "Port": spec.port},
        "Engine": "valkey",
        "EngineVersion": "7.3",
        "TLSEnabled": True,
        "ACLName": "apps",
        "ARN": _arn("memorydb", spec, f"cluster/{spec.resource_id}"),
        "_tags": _TAGS,
    }


def _domain(spec: topology.DatabaseSpec) -> dict[str, Any]:
    name = spec.host.partition(".")[0].removeprefix("search-").rpartition("-")[0]
    return {
        "DomainName": name,
        "DomainId": f"{spec.account_id}/{name}",
        "ARN": _arn("es", spec, f"domain/{name}"),
        "Created": True,
        "Deleted": False,
        "Endpoint": spec.host,
        "EngineVersion": "OpenSearch_2.17",
        "EngineType": "OpenSearch",
        "ClusterConfig": {"InstanceType": "t3.small.search", "InstanceCount": 1},
        "_tags": _TAGS,
    }


def _docdb(name: str, spec: topology.DatabaseSpec) -> dict[str, Any]:
    return {
        "DBClusterIdentifier": name,
        "Status": "available",
        "Engine": "docdb",
        "EngineVersion": "5.0.0",
        "Endpoint": spec.host,
        "ReaderEndpoint": spec.host.replace(".cluster-", ".cluster-ro-"),
        "Port": spec.port,
        "DBClusterMembers": [{"DBInstanceIdentifier": f"{name}-1", "IsClusterWriter": True}],
        "DbClusterResourceId": "cluster-DOCUMENTDB222222222222",
        "DBClusterArn": _arn("rds", spec, f"cluster:{name}"),
        "IAMDatabaseAuthenticationEnabled": False,
        "TagList": [{"Key": key, "Value": value} for key, value in _TAGS.items()],
    }


_Listed = Iterator[tuple[str, str, dict[str, Any]]]


def _name(spec: topology.DatabaseSpec) -> str:
    return spec.host.partition(".")[0]


def _rds_listed(spec: topology.DatabaseSpec) -> _Listed:
    name, account_id, resource_id = _name(spec), spec.account_id, spec.resource_id
    if ".cluster-" in spec.host:
        yield "rds", "DescribeDBClusters", cluster(name, account_id, spec.host, resource_id)
        return
    engine = "mariadb" if spec.protocol == "mysql" else "postgres"
    item = instance(name, account_id, spec.host, engine=engine, port=spec.port, resource_id=resource_id)
    yield "rds", "DescribeDBInstances", item


def _group_listed(spec: topology.DatabaseSpec) -> _Listed:
    yield "elasticache", "DescribeReplicationGroups", _group(spec)
    for user in cache_users(spec):
        yield "elasticache", "DescribeUsers", user


def _memorydb_listed(spec: topology.DatabaseSpec) -> _Listed:
    yield "memorydb", "DescribeClusters", _memorydb(spec)
    for user in cache_users(spec):
        yield "memorydb", "DescribeUsers", {**user, "Name": user["UserName"]}


_LISTED: Mapping[str, Callable[[topology.DatabaseSpec], Iterable[tuple[str, str, dict[str, Any]]]]] = {
    "rds": _rds_listed,
    "rdsproxy": lambda spec: [("rds", "DescribeDBProxies", _proxy(_name(spec), spec))],
    "redshift": lambda spec: [("redshift", "DescribeClusters", _warehouse(_name(spec), spec))],
    "redshift-serverless": lambda spec: [("redshift-serverless", "ListWorkgroups", _workgroup(_name(spec), spec))],
    "elasticache": _group_listed,
    "elasticache-serverless": lambda spec: [("elasticache", "DescribeServerlessCaches", _serverless_cache(spec))],
    "memorydb": _memorydb_listed,
    "opensearch": lambda spec: [("es", "DescribeDomains", _domain(spec))],
    "docdb": lambda spec: [("rds", "DescribeDBClusters", _docdb(_name(spec), spec))],
}
"""Product -> (service, call, item) of a database and what belongs to it."""
