"""A narrowed session can do less than its role, and never too much to fit into an AssumeRole call."""

from __future__ import annotations

import json

import pytest

from broker.issuers.chain import role_hops
from broker.policies.narrow import NARROWED, POLICY_MAX, session_policy
from tests.unit.broker.issuers.databases import database, request
from tests.unit.broker.registry.test_static import registered
from tollbridge.model import Product

ROLE = "arn:aws:iam::222222222222:role/example-role"
HOSTS = {
    Product.OPENSEARCH: "search-movies-abc123.us-west-1.es.amazonaws.com",
    Product.OPENSEARCH_SERVERLESS: "abc123.us-west-1.aoss.amazonaws.com",
}


@pytest.mark.parametrize(
    ("product", "resource"),
    [
        (Product.DYNAMODB, "arn:aws:dynamodb:us-west-1:222222222222:*"),
        (Product.OPENSEARCH, "arn:aws:es:us-west-1:222222222222:domain/movies/*"),
        (Product.OPENSEARCH_SERVERLESS, "arn:aws:aoss:us-west-1:222222222222:collection/abc123"),
        (Product.KEYSPACES, "arn:aws:cassandra:us-west-1:222222222222:/keyspace/*"),
    ],
)
def test_the_database_s_own_resource_is_what_is_left(product: Product, resource: str) -> None:
    facts = database(product=product, host=HOSTS.get(product, "x.example")).facts
    document = json.loads(session_policy(facts, "aws"))
    assert document["Statement"][0]["Resource"] == resource
    assert {statement["Effect"] for statement in document["Statement"]} == {"Allow"}


@pytest.mark.parametrize("product", sorted(NARROWED))
def test_the_longest_fits_into_the_call(product: Product) -> None:
    host = f"search-{'d' * 28}-{'i' * 26}.us-gov-west-1.es.amazonaws.com"
    assert 0 < len(session_policy(database(product=product, host=host).facts, "aws-us-gov")) < POLICY_MAX / 2 + 1


@pytest.mark.parametrize("product", sorted(set(Product) - NARROWED))
def test_others_have_nothing_to_narrow(product: Product) -> None:
    assert session_policy(database(product=product).facts, "aws") == ""


def test_a_custom_domain_endpoint_does_not_show_the_domain() -> None:
    facts = database(product=Product.OPENSEARCH, host="search.shop.example").facts
    assert "domain/*/*" in session_policy(facts, "aws")


def test_it_goes_with_the_last_hop_only() -> None:
    aws = {"assume_role_arn": ROLE, "region": "us-west-1", "narrow_session": True}
    made = registered(protocol="dynamodb", uri="", aws=aws).database
    assert made is not None
    through, last = role_hops(made, request(db_user="reader"), broker_name="tollbridge")
    assert through.session_policy == ""
    assert json.loads(last.session_policy)["Version"] == "2012-10-17"


def test_without_asking_for_it_nothing_is_narrowed() -> None:
    made = registered(protocol="dynamodb", uri="", aws={"assume_role_arn": ROLE, "region": "us-west-1"}).database
    assert made is not None
    assert made.session_policy == ""


def test_a_product_with_database_users_cannot_be_narrowed() -> None:
    made = registered(aws={"assume_role_arn": ROLE, "narrow_session": True})
    assert [finding.message for finding in made.findings if not finding.warning] == [
        "database 'db' has narrow_session, but rds has no session of its own to narrow"
    ]
