"""Words that people write where a configuration wants one of ours."""

from __future__ import annotations

import pytest

from tollbridge.model import Product, Protocol
from tollbridge.process.words import may_be_identity, protocol_hint, usual_protocol


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("mariadb", "mysql"),
        ("Valkey", "redis"),
        ("postgers", "postgres"),
        ("PostgreSQL", "postgres"),
        ("cql", "cassandra"),
    ],
)
def test_a_protocol_by_another_name_is_known(word: str, meant: str) -> None:
    assert protocol_hint(word) == f"did you mean '{meant}'?"


@pytest.mark.parametrize("word", ["oracle", "", "x" * 1000])
def test_a_protocol_nobody_can_guess_is_not_guessed(word: str) -> None:
    assert protocol_hint(word) == ""


@pytest.mark.parametrize("product", [product for product in Product if not product.startswith("rds")])
def test_every_product_of_one_protocol_is_known_by_its_name(product: Product) -> None:
    name = product.removesuffix("-serverless")
    assert name in set(Protocol) or protocol_hint(name) in {f"did you mean '{protocol}'?" for protocol in Protocol}


@pytest.mark.parametrize(
    "glob", ["*", "spiffe://example.org/ns/*", "spiffe://*", "s*", "*/sa/checkout", "dns:web", "d?s:web", "?piffe://x"]
)
def test_globs_that_an_identity_can_fit(glob: str) -> None:
    assert may_be_identity(glob)


@pytest.mark.parametrize(
    "glob", ["checkout", "", "spiffe:/example.org/x", "spife://*", "example.org/*", "SPIFFE://x", "s"]
)
def test_globs_that_no_identity_fits(glob: str) -> None:
    assert not may_be_identity(glob)


@pytest.mark.parametrize(
    ("uri", "protocol"),
    [("h:5432", "postgres"), ("h:3306", "mysql"), ("h:443", None), ("h", None), ("", None), ("h:" + "9" * 5000, None)],
)
def test_ports_with_a_usual_protocol(uri: str, protocol: str | None) -> None:
    assert usual_protocol(uri) == protocol
