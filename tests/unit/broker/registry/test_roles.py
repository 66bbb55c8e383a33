"""A rule about one spelling of a role is a rule about the role."""

from __future__ import annotations

import pytest

from broker.access.evaluate import evaluate
from broker.access.model import Policy, Rule
from broker.registry.roles import is_role, spellings
from tests.unit.broker.issuers.databases import database
from tollbridge.model import Database, Product

ARN = "arn:aws:iam::222222222222:role/analyst"
ALL = frozenset({"analyst", "role/analyst", ARN})


def facts(product: Product = Product.REDSHIFT_SERVERLESS, account_id: str = "222222222222") -> Database:
    return database(product=product, account_id=account_id).facts


@pytest.mark.parametrize("spelling", sorted(ALL))
def test_three_spellings_are_one_role(spelling: str) -> None:
    assert spellings(facts(), spelling) == ALL


def test_on_redshift_a_name_alone_is_another_user() -> None:
    cluster = facts(Product.REDSHIFT)
    assert not is_role(cluster, "analyst")
    assert spellings(cluster, "analyst") == {"analyst"}
    assert spellings(cluster, "role/analyst") == spellings(cluster, ARN) == {"role/analyst", ARN}


def test_a_path_makes_another_role() -> None:
    assert spellings(facts(), "role/team/analyst") == {
        "role/team/analyst",
        "arn:aws:iam::222222222222:role/team/analyst",
    }


def test_a_role_of_another_account_is_the_same_only_to_a_denial() -> None:
    other = ARN.replace("2" * 12, "3" * 12)
    assert spellings(facts(), other) == {other}
    assert "analyst" in spellings(facts(), other, any_account=True)
    assert spellings(facts(account_id=""), ARN) == {ARN}


def test_database_users_and_nonsense_stand_for_themselves() -> None:
    for db_user in ("app", "role/x", ARN):
        assert spellings(facts(Product.RDS), db_user) == {db_user}
    assert spellings(facts(), "arn:nonsense") == {"arn:nonsense"}


def allowed(db_user: str, *rules: Rule, product: Product = Product.REDSHIFT_SERVERLESS, db_name: str = "dev") -> bool:
    policy = Policy(version="1", rules=rules)
    database = facts(product)
    decided = evaluate(policy, caller="w", workload="w", database=database, db_user=db_user, db_name=db_name)
    return decided.allowed


def rule(*db_users: str, deny: bool = False, db_names: tuple[str, ...] = ("*",)) -> Rule:
    return Rule(name="r", workloads=("w",), db_labels={"*": ("*",)}, db_users=db_users, db_names=db_names, deny=deny)


@pytest.mark.parametrize("asked", sorted(ALL))
@pytest.mark.parametrize("written", sorted(ALL))
def test_a_denied_role_cannot_be_entered_by_another_spelling(written: str, asked: str) -> None:
    assert not allowed(asked, rule("*"), rule(written, deny=True))
    assert allowed(asked, rule(written))
    assert not allowed("another", rule(written))


@pytest.mark.parametrize("asked", ["role/team/analyst", "arn:aws:iam::222222222222:role/a/b/analyst"])
def test_a_denied_name_holds_under_any_path_and_an_allowed_one_under_none(asked: str) -> None:
    """An account has one role of a name, wherever it lies, and Redshift knows it as IAMR:NAME."""
    assert not allowed(asked, rule("*"), rule("analyst", deny=True))
    assert allowed(asked, rule("*"), rule("role/other/analyst", deny=True))
    assert not allowed(asked, rule("analyst"))


@pytest.mark.parametrize(("written", "asked"), [("admin", "ADMIN"), ("Admin*", "admin2"), ("admin", "admin")])
def test_on_redshift_a_denial_holds_in_any_case_and_an_allowance_in_its_own(written: str, asked: str) -> None:
    cluster = Product.REDSHIFT
    assert not allowed(asked, rule("*"), rule(written, deny=True), product=cluster)
    assert allowed(asked, rule(written), product=cluster) is (written == asked)
    names = rule("*", deny=True, db_names=(written,))
    assert not allowed("app", rule("*"), names, product=cluster, db_name=asked)
    assert allowed(asked, rule("*"), rule(written, deny=True), product=Product.RDS) is (written != asked)
