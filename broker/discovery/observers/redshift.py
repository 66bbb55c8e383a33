"""Redshift clusters, and workgroups of Redshift Serverless with their VPC endpoints. PURE.

https://docs.aws.amazon.com/redshift/latest/APIReference/API_DescribeClusters.html
https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_ListWorkgroups.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.discovery.labels import ENGINE, ENGINE_VERSION, VPC_ID
from broker.discovery.model import Item, Listing, Sighting, TagCall
from broker.discovery.observers.reading import Answers, Observer, Outcome, many, number, tags, text, unavailable
from tollbridge.model import Product, Protocol

CLUSTERS: Final = Listing(service="redshift", operation="DescribeClusters", items="Clusters")
WORKGROUPS: Final = Listing(
    service="redshift-serverless", operation="ListWorkgroups", items="workgroups", page="nextToken"
)
ENDPOINTS: Final = Listing(
    service="redshift-serverless", operation="ListEndpointAccess", items="endpoints", page="nextToken", optional=True
)
SERVERLESS_TAGS: Final = TagCall(
    service="redshift-serverless",
    operation="ListTagsForResource",
    parameter="resourceArn",
    items="tags",
    action="redshift-serverless:ListTagsForResource",
)


def _read(answers: Answers) -> Iterator[Outcome]:
    for item in answers.get(CLUSTERS.operation, ()):
        name = text(item, "ClusterIdentifier")
        # The answer holds the ARN of the cluster's namespace only.
        arn = text(item, "ClusterNamespaceArn").partition(":namespace:")[0]
        arn = f"{arn}:cluster:{name}" if arn else ""
        tagged = tags(many(item, "Tags"))
        yield unavailable(Product.REDSHIFT, name, arn, text(item, "ClusterStatus"), tagged) or Sighting(
            name=name,
            protocol=Protocol.POSTGRES,
            host=text(item, "Endpoint", "Address"),
            port=number(item, "Endpoint", "Port"),
            arn=arn,
            kind="cluster",
            ids={"redshift.cluster_id": name},
            facts={
                ENGINE: "redshift",
                ENGINE_VERSION: text(item, "ClusterVersion"),
                VPC_ID: text(item, "VpcId"),
            },
            tags=tagged,
        )


def _read_serverless(answers: Answers) -> Iterator[Outcome]:
    known: dict[str, Sighting] = {}
    for item in answers.get(WORKGROUPS.operation, ()):
        outcome = _workgroup(item)
        if isinstance(outcome, Sighting):
            known[outcome.name] = outcome
        yield outcome
    for item in answers.get(ENDPOINTS.operation, ()):
        owner = known.get(text(item, "workgroupName"))
        if owner is not None:
            yield _endpoint(item, owner)


def _workgroup(item: Item) -> Outcome:
    name, arn = text(item, "workgroupName"), text(item, "workgroupArn")
    if gone := unavailable(Product.REDSHIFT_SERVERLESS, name, arn, text(item, "status")):
        return gone
    ids = {"redshift_serverless.workgroup_name": name, "redshift_serverless.workgroup_id": text(item, "workgroupId")}
    return Sighting(
        name=name,
        protocol=Protocol.POSTGRES,
        host=text(item, "endpoint", "address"),
        port=number(item, "endpoint", "port"),
        arn=arn,
        kind="workgroup",
        ids={key: value for key, value in ids.items() if value},
        facts={ENGINE: "redshift", ENGINE_VERSION: text(item, "workgroupVersion")},
    )


def _endpoint(item: Item, owner: Sighting) -> Outcome:
    name, arn = text(item, "endpointName"), text(item, "endpointArn")
    if gone := unavailable(Product.REDSHIFT_SERVERLESS, name, arn, text(item, "endpointStatus")):
        return gone
    return Sighting(
        name=owner.name,
        protocol=Protocol.POSTGRES,
        host=text(item, "address"),
        port=number(item, "port"),
        arn=arn,
        kind="vpc-endpoint",
        suffix=name,
        ids={**owner.ids, "redshift_serverless.endpoint_name": name},
        facts={**owner.facts, VPC_ID: text(item, "vpcEndpoint", "vpcId")},
    )


REDSHIFT: Final = Observer(product=Product.REDSHIFT, listings=(CLUSTERS,), read=_read)
REDSHIFT_SERVERLESS: Final = Observer(
    product=Product.REDSHIFT_SERVERLESS,
    listings=(WORKGROUPS, ENDPOINTS),
    read=_read_serverless,
    tags=SERVERLESS_TAGS,
)
