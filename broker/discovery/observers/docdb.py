"""DocumentDB clusters, which answer to RDS's calls. PURE.

https://docs.aws.amazon.com/documentdb/latest/developerguide/iam-identity-auth.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.discovery.labels import ENGINE, ENGINE_VERSION
from broker.discovery.model import Cause, Item, Sighting, Skipped
from broker.discovery.observers.rds import CLUSTERS, has_reader
from broker.discovery.observers.reading import Answers, Observer, Outcome, many, number, older, tags, text, unavailable
from tollbridge.model import Product, Protocol

_LEAST: Final = (5, 0)


def _read(answers: Answers) -> Iterator[Outcome]:
    for cluster in answers.get(CLUSTERS.operation, ()):
        if text(cluster, "Engine") == "docdb":
            yield from _cluster(cluster)


def _cluster(item: Item) -> Iterator[Outcome]:
    name, arn = text(item, "DBClusterIdentifier"), text(item, "DBClusterArn")
    tagged = tags(many(item, "TagList"))
    if gone := unavailable(Product.DOCDB, name, arn, text(item, "Status"), tagged):
        yield gone
        return
    if older(text(item, "EngineVersion"), *_LEAST):
        why = f"DocumentDB {text(item, 'EngineVersion')}: logins with IAM need 5.0 or later"
        yield Skipped(product=Product.DOCDB, name=name, arn=arn, cause=Cause.VERSION, why=why, tags=tagged)
        return
    for member, kind, suffix in (("Endpoint", "cluster", ""), ("ReaderEndpoint", "reader", "reader")):
        host = text(item, member)
        if not suffix or (host and has_reader(item)):
            yield Sighting(
                name=name,
                protocol=Protocol.MONGODB,
                host=host,
                port=number(item, "Port"),
                arn=arn,
                kind=kind,
                suffix=suffix,
                ids={"docdb.cluster_id": name},
                facts={ENGINE: "docdb", ENGINE_VERSION: text(item, "EngineVersion")},
                tags=tagged,
            )


DOCDB: Final = Observer(product=Product.DOCDB, listings=(CLUSTERS,), read=_read)
