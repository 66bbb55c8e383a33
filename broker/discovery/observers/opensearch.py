"""OpenSearch Service domains. PURE.

https://docs.aws.amazon.com/opensearch-service/latest/APIReference/API_DescribeDomains.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.discovery.labels import ENGINE, ENGINE_VERSION, VPC_ID
from broker.discovery.model import Cause, Details, Listing, Sighting, Skipped, TagCall
from broker.discovery.observers.reading import Answers, Observer, Outcome, text
from tollbridge.model import Product, Protocol

DOMAINS: Final = Listing(
    service="opensearch",
    operation="ListDomainNames",
    items="DomainNames",
    page="",
    action="es:ListDomainNames",
    then=Details(
        operation="DescribeDomains",
        member="DomainName",
        parameter="DomainNames",
        items="DomainStatusList",
        at_once=5,
        action="es:DescribeDomains",
    ),
)
TAGS: Final = TagCall(
    service="opensearch", operation="ListTags", parameter="ARN", items="TagList", action="es:ListTags"
)
_PORT: Final = 443


def _read(answers: Answers) -> Iterator[Outcome]:
    for item in answers.get(DOMAINS.operation, ()):
        name, arn = text(item, "DomainName"), text(item, "ARN")
        host = text(item, "Endpoint") or text(item, "Endpoints", "vpc")
        if item.get("Deleted") or not host:
            why = "it is being deleted" if item.get("Deleted") else "it has no endpoint yet: it is being made"
            yield Skipped(product=Product.OPENSEARCH, name=name, arn=arn, cause=Cause.NOT_AVAILABLE, why=why)
            continue
        engine, _, engine_version = text(item, "EngineVersion").partition("_")
        yield Sighting(
            name=name,
            protocol=Protocol.OPENSEARCH,
            host=host,
            port=_PORT,
            arn=arn,
            kind="domain",
            ids={"opensearch.domain_name": name},
            facts={
                ENGINE: engine.lower(),
                ENGINE_VERSION: engine_version,
                VPC_ID: text(item, "VPCOptions", "VPCId"),
            },
        )


OPENSEARCH: Final = Observer(product=Product.OPENSEARCH, listings=(DOMAINS,), read=_read, tags=TAGS)
