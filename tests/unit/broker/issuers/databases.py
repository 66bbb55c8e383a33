"""Registered databases as examples."""

from __future__ import annotations

from collections.abc import Mapping

from broker.model import Attribution, AwsAccess, GrantRequest, Origin, RegisteredDatabase
from tests.unit.broker.sessions.fakes import ROLE
from tollbridge.model import Database, Endpoint, Product, Protocol, TlsFacts
from tollbridge.secret import Secret

HOST = "orders.abc.us-west-1.rds.amazonaws.com"


def database(
    *,
    role_arn: str = ROLE,
    product: Product = Product.RDS,
    protocol: Protocol = Protocol.POSTGRES,
    account_id: str = "222222222222",
    attribution: Attribution = Attribution.BROKER,
    external_id: str = "",
    port: int = 5432,
    name: str = "orders",
    partition: str = "aws",
    seconds: int = 3600,
    host: str = HOST,
    ids: Mapping[str, str] | None = None,
    db_groups: tuple[str, ...] = (),
    tags: tuple[tuple[str, str], ...] = (),
) -> RegisteredDatabase:
    return RegisteredDatabase(
        facts=Database(
            name=name,
            protocol=protocol,
            product=product,
            endpoint=Endpoint(host=host, port=port),
            tls=TlsFacts(),
            region="us-west-1",
            account_id=account_id,
        ),
        access=AwsAccess(
            partition=partition,
            role_arn=role_arn,
            external_id=Secret(external_id),
            session_duration_seconds=seconds,
            session_tags=tags,
        ),
        origin=Origin.STATIC,
        attribution=attribution,
        db_groups=db_groups,
        resource_ids={"rds.resource_id": "db-ABC"} if ids is None else ids,
    )


def request(
    *,
    workload: str = "spiffe://example.org/ns/shop/sa/api",
    db_user: str = "app",
    rejected: str = "",
    name: str = "orders",
    db_name: str = "orders",
) -> GrantRequest:
    return GrantRequest(
        caller="spiffe://example.org/proxy",
        workload=workload,
        database=name,
        db_user=db_user,
        db_name=db_name,
        rejected=rejected,
    )
