"""What `tollbridge iam print` prints is what the AWS cross-account page says, compared by meaning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from broker.ctl.__main__ import main
from broker.policies.catalog import NEEDS
from tests.unit.broker.policies import page
from tollbridge.model import Product


def printed(*arguments: str) -> dict[str, Any]:
    """The policy that the command line prints."""
    answer = CliRunner().invoke(main, ["iam", "print", *arguments])
    assert answer.exit_code == 0, answer.output
    policy: dict[str, Any] = json.loads(answer.stdout)
    assert policy["Version"] == "2012-10-17"
    return policy


def listed(value: str | list[str]) -> set[str]:
    """IAM takes one text for a list of one."""
    return {value} if isinstance(value, str) else set(value)


def meaning(policy: dict[str, Any]) -> dict[str, tuple[set[str], set[str]]]:
    """Statement -> actions, resources; every statement allows and has no condition."""
    for statement in policy["Statement"]:
        assert statement.keys() <= {"Sid", "Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
    found = {each.get("Sid", ""): (listed(each["Action"]), listed(each["Resource"])) for each in policy["Statement"]}
    assert len(found) == len(policy["Statement"]), "statement IDs are unique"
    return found


@pytest.mark.parametrize("product", page.ROLE, ids=str)
def test_the_policy_of_each_type(product: Product) -> None:
    assert meaning(printed("--for", "role", "--types", product.value)) == page.ROLE[product]


def test_all_types_together_say_what_each_says() -> None:
    together = {sid: said for statements in page.ROLE.values() for sid, said in statements.items()}
    names = ",".join(page.ROLE)
    assert meaning(printed("--for", "role", "--types", names)) == together


def test_the_policy_of_the_identity() -> None:
    (role,) = page.IDENTITY[1]
    assert meaning(printed("--for", "identity", "--role", role)) == {"": page.IDENTITY}


def test_the_trust_policy() -> None:
    principal = str(page.TRUST["Principal"]["AWS"])  # type: ignore[index]
    policy = printed("--for", "trust", "--principal", principal, "--external-id", "example-external-id")
    assert policy["Statement"] == [page.TRUST]


def test_a_user_role_replaces_the_placeholder() -> None:
    role = "arn:aws:iam::222222222222:role/reader"
    said = meaning(printed("--types", "docdb", "--user-role", role))
    assert said["DocumentDBConnectAsIAMRole"] == ({"sts:AssumeRole"}, {role})


def test_every_product_has_statements_and_one_of_them_is_for_logins() -> None:
    assert set(NEEDS) == set(Product)
    for product, needs in NEEDS.items():
        assert any(need.purpose == "login" and need.by_default for need in needs), product
        assert all(need.enables for need in needs)
        assert len({need.sid for need in needs}) == len(needs)


def test_the_table_names_every_statement_of_the_page() -> None:
    answer = CliRunner().invoke(main, ["iam", "table"])
    for statements in page.ROLE.values():
        for sid, (actions, _) in statements.items():
            (line,) = [line for line in answer.stdout.splitlines() if sid in line.split()]
            assert all(action in line for action in actions)
