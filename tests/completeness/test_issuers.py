"""What the broker says it can log in to is what it has an issuer for."""

from __future__ import annotations

import pytest

from broker.errors import BrokerError
from broker.issuers import issuer_for
from broker.registry.products import IDENTIFIERS, ISSUED, PROTOCOLS, ROLE_IS_USER
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.databases import database
from tests.unit.broker.issuers.fakes import issuers
from tollbridge.model import Product
from tollbridge.reasons import Reason


def test_the_table_and_the_list_agree() -> None:
    """`ISSUED` is what a configuration is warned by."""
    assert set(issuers(FakeClock())) == ISSUED


@pytest.mark.parametrize("product", sorted(set(Product) - ISSUED))
def test_every_other_product_is_refused_by_name(product: Product) -> None:
    """And the refusal says what works."""
    with pytest.raises(BrokerError) as caught:
        issuer_for(issuers(FakeClock()), database(product=product))
    assert caught.value.reason is Reason.PRODUCT_UNSUPPORTED
    assert product in caught.value.message
    assert "redshift-serverless" in caught.value.message


def test_the_tables_know_only_products() -> None:
    """Each speaks something; the others are about some of them."""
    assert set(PROTOCOLS) == set(Product)
    assert set(IDENTIFIERS) <= set(Product)
    assert set(Product) >= ROLE_IS_USER
