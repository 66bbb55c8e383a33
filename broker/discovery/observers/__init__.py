"""One observer per AWS service: what to list, and how to read it. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from broker.discovery.observers.caches import ELASTICACHE, ELASTICACHE_SERVERLESS, MEMORYDB
from broker.discovery.observers.docdb import DOCDB
from broker.discovery.observers.opensearch import OPENSEARCH
from broker.discovery.observers.rds import RDS, RDSPROXY
from broker.discovery.observers.reading import Observer
from broker.discovery.observers.redshift import REDSHIFT, REDSHIFT_SERVERLESS
from tollbridge.model import Product

OBSERVERS: Final[Mapping[Product, Observer]] = MappingProxyType(
    {
        observer.product: observer
        for observer in (
            RDS,
            RDSPROXY,
            REDSHIFT,
            REDSHIFT_SERVERLESS,
            ELASTICACHE,
            ELASTICACHE_SERVERLESS,
            MEMORYDB,
            OPENSEARCH,
            DOCDB,
        )
    }
)
"""What a matcher's types mean."""
