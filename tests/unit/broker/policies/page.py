"""The IAM policies of the AWS cross-account page as facts: statement IDs, actions, resources."""

from __future__ import annotations

from typing import Final

from tollbridge.model import Product

USER_ROLE: Final = "arn:aws:iam::aws-account-id:role/DatabaseUserRole"

ROLE: Final[dict[Product, dict[str, tuple[set[str], set[str]]]]] = {
    Product.DOCDB: {
        "DocumentDBConnectAsIAMRole": ({"sts:AssumeRole"}, {USER_ROLE}),
        "DocumentDBCheckDomainURL": ({"rds:DescribeDBClusters"}, {"*"}),
    },
    Product.DYNAMODB: {
        "DynamoDBConnectAsIAMRole": ({"sts:AssumeRole"}, {USER_ROLE}),
        "DynamoDBSessionTagging": ({"sts:TagSession"}, {"*"}),
    },
    Product.ELASTICACHE: {
        "ElastiCacheFetchMetadata": ({"elasticache:DescribeReplicationGroups"}, {"*"}),
        "ElastiCacheDescribeUsers": ({"elasticache:DescribeUsers"}, {"*"}),
        "ElastiCacheConnect": ({"elasticache:Connect"}, {"*"}),
    },
    Product.ELASTICACHE_SERVERLESS: {
        "ElastiCacheServerlessFetchMetadata": ({"elasticache:DescribeServerlessCaches"}, {"*"}),
        "ElastiCacheServerlessDescribeUsers": ({"elasticache:DescribeUsers"}, {"*"}),
        "ElastiCacheServerlessConnect": ({"elasticache:Connect"}, {"*"}),
    },
    Product.KEYSPACES: {"KeyspacesConnectAsIAMRole": ({"sts:AssumeRole"}, {USER_ROLE})},
    Product.MEMORYDB: {
        "MemoryDBFetchMetadata": ({"memorydb:DescribeClusters"}, {"*"}),
        "MemoryDBDescribeUsers": ({"memorydb:DescribeUsers"}, {"*"}),
        "MemoryDBConnect": ({"memorydb:Connect"}, {"*"}),
    },
    Product.OPENSEARCH: {
        "OpenSearchCheckDomainURL": ({"es:DescribeDomains"}, {"*"}),
        "OpenSearchConnectAsIAMRole": ({"sts:AssumeRole"}, {USER_ROLE}),
    },
    Product.RDS: {
        "RDSAutoEnableIAMAuth": ({"rds:ModifyDBCluster", "rds:ModifyDBInstance"}, {"*"}),
        "RDSConnect": ({"rds-db:connect"}, {"*"}),
        "RDSFetchMetadata": ({"rds:DescribeDBClusters", "rds:DescribeDBInstances"}, {"*"}),
    },
    Product.RDSPROXY: {
        "RDSProxyConnect": ({"rds-db:connect"}, {"*"}),
        "RDSProxyFetchMetadata": ({"rds:DescribeDBProxies", "rds:DescribeDBProxyEndpoints"}, {"*"}),
    },
    Product.REDSHIFT: {
        "RedshiftConnectAsDBUser": ({"redshift:GetClusterCredentials"}, {"*"}),
        "RedshiftConnectAsIAMRole": ({"sts:AssumeRole"}, {USER_ROLE}),
        "RedshiftFetchMetadata": ({"redshift:DescribeClusters"}, {"*"}),
    },
    Product.REDSHIFT_SERVERLESS: {
        "RedshiftServerlessConnectAsIAMRole": ({"sts:AssumeRole"}, {USER_ROLE}),
        "RedshiftServerlessFetchMetadata": (
            {"redshift-serverless:GetEndpointAccess", "redshift-serverless:GetWorkgroup"},
            {"*"},
        ),
    },
}
"""What a role in the databases' account may do, by product: statement -> actions, resources."""

IDENTITY: Final = ({"sts:AssumeRole"}, {"arn:aws:iam::222222222222:role/example-role"})
"""What the broker's identity may do; its one statement has no ID."""

TRUST: Final = {
    "Sid": "Statement1",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:role/teleport-db-service"},
    "Action": "sts:AssumeRole",
    "Condition": {"StringEquals": {"sts:ExternalId": "example-external-id"}},
}
"""Who may assume that role."""
