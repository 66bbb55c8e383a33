"""What `make demo PRODUCTS=...` takes."""

from __future__ import annotations

from deploy.demo.__main__ import DEFAULT_PRODUCTS, OTHER_NAMES, PRODUCTS, chosen


def test_products_are_chosen_by_the_names_people_use() -> None:
    assert chosen("postgres,MySQL, redis ,,mariadb") == ("postgres", "mariadb", "valkey")
    assert chosen("oracle") == ("oracle",), "not dropped: the caller says that there is none"
    assert chosen(" , ") == ()


def test_every_name_leads_to_a_tour() -> None:
    assert set(OTHER_NAMES.values()) <= set(PRODUCTS)
    assert not OTHER_NAMES.keys() & set(PRODUCTS)
    assert chosen(",".join(DEFAULT_PRODUCTS)) == DEFAULT_PRODUCTS
