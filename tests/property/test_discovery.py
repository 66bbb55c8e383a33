"""Whatever AWS answers and whatever people write into tags: nothing breaks, and no host but AWS's own is served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.discovery import documents
from broker.discovery.labels import FACTS, MAX_KEY_CHARS, MAX_TAGS, MAX_VALUE_CHARS, labels
from broker.discovery.naming import is_name, unique_names
from broker.discovery.observers import OBSERVERS
from broker.discovery.registration import register
from broker.registry.endpoints import parse_endpoint
from tests.unit.broker.discovery.answers import ANSWERS, PLACE, cell
from tollbridge.model import Product

words = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "orders.abcdef012345.us-west-1.rds.amazonaws.com",
            "orders.abcdef012345.us-west-1.rds.amazonaws.com.evil.example",
            "orders.abcdef012345.eu-west-1.rds.amazonaws.com",
            "ORDERS.abcdef012345.us-west-1.rds.amazonaws.com",
            "available",
            "postgres",
            "arn:aws:rds:us-west-1:222222222222:db:x",
        ]
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), words),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["Address", "Port", "Key", "Value"]), inner)
    ),
    max_leaves=6,
)
tags = st.dictionaries(st.text(max_size=200), st.text(max_size=400), max_size=90)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Product, dict[str, list[Any]]]:
    """A suitable resource of some service, some of its members replaced by anything."""
    product = draw(st.sampled_from(list(OBSERVERS)))
    found: dict[str, list[Any]] = {}
    for operation, items in ANSWERS[product].items():
        item = dict(items[0])
        for member in draw(st.lists(st.sampled_from(sorted(item)), max_size=4)):
            item[member] = draw(values)
        found[operation] = [item, *items][: draw(st.integers(1, 2))]
    return product, found


@given(answers(), tags)
def test_every_answer_is_read_and_serves_only_hosts_of_aws(
    made: tuple[Product, dict[str, list[Any]]], some: dict[str, str]
) -> None:
    product, found = made

    read = OBSERVERS[product].read(found)
    outcomes = [outcome if outcome.tags is not None else replace(outcome, tags=some) for outcome in read]
    databases, _ = register(outcomes, cell(product), PLACE)
    names = [each.database.name for each in databases]
    assert len(set(names)) == len(names)
    for each in databases:
        facts = each.database.facts
        known = parse_endpoint(facts.endpoint.host)
        assert known is not None
        assert (known.product, known.region) == (product, PLACE.region)
        assert is_name(facts.name)
        assert facts.labels["account-id"] == PLACE.account_id
        assert each.database.access.role_arn == cell(product).key.role_arn


@given(tags, st.dictionaries(st.sampled_from(sorted(FACTS)), st.text(max_size=300)))
def test_labels_are_clean_bounded_and_true(some: dict[str, str], facts: dict[str, str]) -> None:
    made = labels(some, facts)
    assert len(made) <= MAX_TAGS + len(FACTS)
    for key, value in made.items():
        assert len(key) <= MAX_KEY_CHARS
        assert len(value) <= MAX_VALUE_CHARS
        assert (key + value).isprintable()
    assert {key for key in made if key in FACTS} == {key for key, value in facts.items() if value}


@given(st.dictionaries(st.text("abc.", min_size=1, max_size=6), st.tuples(st.sampled_from(["a", "b"]), st.booleans())))
def test_names_are_unique_and_do_not_depend_on_the_order(rows: dict[str, tuple[str, bool]]) -> None:
    listed = [(name, host, first) for host, (name, first) in rows.items()]
    names = unique_names(listed)
    assert len(set(names.values())) == len(names) == len(rows)
    assert all(is_name(name) for name in names.values())
    assert unique_names(list(reversed(listed))) == names


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_refused(document: bytes) -> None:
    try:
        documents.unpack(document, cell(Product.RDS))
    except documents.Unreadable:
        return
    raise AssertionError("no such bytes are a document")
