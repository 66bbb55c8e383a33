"""Every product has an issuer, and the tables know no other."""

from __future__ import annotations

from broker.registry.products import IDENTIFIERS, PROTOCOLS, ROLE_IS_USER
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.fakes import issuers
from tollbridge.model import Product


def test_every_product_has_an_issuer() -> None:
    """The use case looks it up without asking whether it is there."""
    assert set(issuers(FakeClock())) == set(Product)


def test_the_tables_know_only_products() -> None:
    """Each speaks something; the others are about some of them."""
    assert set(PROTOCOLS) == set(Product)
    assert set(IDENTIFIERS) <= set(Product)
    assert set(Product) >= ROLE_IS_USER
