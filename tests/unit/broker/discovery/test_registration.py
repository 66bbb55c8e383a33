"""Names, labels and tags of what was found; who is wanted."""

from __future__ import annotations

import pytest

from broker.discovery.labels import MAX_TAGS, MAX_VALUE_CHARS, labels
from broker.discovery.model import Cause
from broker.discovery.naming import is_name, unique_names
from broker.discovery.registration import register
from tests.unit.broker.discovery.answers import (
    ANSWERS,
    CLUSTER,
    GROUP,
    INSTANCE,
    PLACE,
    cell,
    changed,
    found,
    read,
)
from tollbridge.model import Product


def tagged(**tags: str) -> list[dict[str, str]]:
    return [{"Key": key.replace("__", "-"), "Value": value} for key, value in tags.items()]


def test_facts_of_aws_override_tags_and_a_missing_fact_is_not_replaced_by_one() -> None:
    instance = changed(
        INSTANCE,
        TagList=tagged(account__id="999999999999", region="eu-west-1", engine="oracle", vpc__id="vpc-mine", env="dev"),
        DBSubnetGroup={},
    )
    databases, _ = found(Product.RDS, {"DescribeDBInstances": [instance]})
    assert databases[0].database.facts.labels == {
        "account-id": "222222222222",
        "endpoint-type": "instance",
        "engine": "postgres",
        "engine-version": "16.4",
        "env": "dev",
        "region": "us-west-1",
    }


def test_a_tag_cannot_pass_for_a_label_of_ours() -> None:
    made = labels({"teleport.dev/origin": "config-file", "TOLLBRIDGE/x": "y", "env": "dev"}, {})
    assert made == {"env": "dev"}


def test_hostile_tags_are_cleaned_and_bounded() -> None:
    assert labels({"k\x1b[2J\n": "v\x1b]0;x\x07\u202e"}, {}) == {"k__2J_": "v_]0;x__"}
    made = labels({"long": "x" * 5000, **{f"t{n}": "" for n in range(500)}}, {})
    assert len(made["long"]) == MAX_VALUE_CHARS
    assert len(made) == MAX_TAGS


def test_a_tag_that_needed_no_cleaning_keeps_its_key() -> None:
    for order in (("env ", "env_"), ("env_", "env ")):
        assert labels({key: key for key in order}, {}) == {"env_": "env_"}


def test_an_override_tag_names_nothing_unless_the_operator_says_which() -> None:
    instance = changed(INSTANCE, TagList=tagged(name="payments"))
    outcomes = read(Product.RDS, {"DescribeDBInstances": [instance]})
    names = [
        register(outcomes, cell(Product.RDS), PLACE, name_tag=tag)[0][0].database.name for tag in ("", "name", "other")
    ]
    assert names == ["rds-postgres", "payments", "rds-postgres"]


@pytest.mark.parametrize("name", ["-x", "x y", "1st", "", "x" * 64, "x\n"])
def test_an_override_tag_that_is_no_name_is_not_used(name: str) -> None:
    outcomes = read(Product.RDS, {"DescribeDBInstances": [changed(INSTANCE, TagList=tagged(name=name))]})
    assert register(outcomes, cell(Product.RDS), PLACE, name_tag="name")[0][0].database.name == "rds-postgres"


def test_the_endpoints_of_a_cluster_named_by_a_tag_keep_their_suffixes() -> None:
    outcomes = read(Product.RDS, {"DescribeDBClusters": [changed(CLUSTER, TagList=tagged(name="payments"))]})
    databases, _ = register(outcomes, cell(Product.RDS), PLACE, name_tag="name")
    assert {each.database.name for each in databases} == {"payments", "payments-reader", "payments-custom-reports"}


def test_two_with_the_same_name_in_one_cell_are_both_served_and_the_resources_own_name_wins() -> None:
    reader = "orders.cluster-ro-abcdef012345.us-west-1.rds.amazonaws.com"
    own = "orders-reader.zzzzzz012345.us-west-1.rds.amazonaws.com"
    rows = [("orders-reader", reader, False), ("orders-reader", own, True)]
    names = unique_names(rows)
    assert names[own] == "orders-reader"
    assert names[reader].startswith("orders-reader-")
    assert unique_names(reversed(rows)) == names


def test_a_workgroup_that_begins_with_a_digit_gets_a_name_all_the_same() -> None:
    item = changed(
        ANSWERS[Product.REDSHIFT_SERVERLESS]["ListWorkgroups"][0],
        workgroupName="2024-sales",
        endpoint={"address": "2024-sales.222222222222.us-west-1.redshift-serverless.amazonaws.com", "port": 5439},
    )
    databases, _ = found(Product.REDSHIFT_SERVERLESS, {"ListWorkgroups": [item]})
    assert [each.database.name for each in databases] == ["redshift-serverless-2024-sales"]
    assert all(is_name(each.database.name) for each in databases)


@pytest.mark.parametrize(
    ("selectors", "served"),
    [
        ([{"*": ("*",)}], True),
        ([{"env": ("dev",)}], True),
        ([{"env": ("prod", "d*")}], True),
        ([{"env": ("prod",)}], False),
        ([{"env": ("dev",), "team": ("bank",)}], False),
        ([{"env": ("prod",)}, {"team": ("shop",)}], True),
        ([{"owner": ("*",)}], False),
    ],
)
def test_matchers_choose_by_tags(selectors: list[dict[str, tuple[str, ...]]], served: bool) -> None:
    outcomes = read(Product.RDS, {"DescribeDBInstances": [INSTANCE]})
    databases, skipped = register(outcomes, cell(Product.RDS, *selectors), PLACE)
    assert (len(databases), skipped) == (int(served), [])


def test_what_no_matcher_asks_for_is_not_even_listed_as_skipped() -> None:
    off = changed(INSTANCE, IAMDatabaseAuthenticationEnabled=False)
    outcomes = read(Product.RDS, {"DescribeDBInstances": [off]})
    assert register(outcomes, cell(Product.RDS, {"env": ("prod",)}), PLACE) == ([], [])


def test_without_tags_a_matcher_that_asks_for_some_serves_nothing_and_says_so() -> None:
    outcomes = read(Product.ELASTICACHE, {"DescribeReplicationGroups": [GROUP]})
    databases, skipped = register(outcomes, cell(Product.ELASTICACHE, {"env": ("dev",)}), PLACE)
    assert databases == []
    assert {each.cause for each in skipped} == {Cause.TAGS}
    assert len(register(outcomes, cell(Product.ELASTICACHE), PLACE)[0]) == 2


def test_a_host_listed_twice_is_one_database() -> None:
    assert len(found(Product.RDS, {"DescribeDBInstances": [INSTANCE, INSTANCE]})[0]) == 1
