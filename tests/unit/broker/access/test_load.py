"""From configuration to policy."""

from __future__ import annotations

from broker.access.load import AccessSection, ProxySection, load_policy
from broker.access.model import ProxyRow, Rule

RULE = {"name": "a", "workloads": "w*", "db_labels": {"env": "dev"}, "db_users": ["app"]}
ROW = {"caller": "p", "workloads": ["w"], "db_labels": {"*": "*"}}


def test_texts_stand_for_lists_and_names_default_to_all() -> None:
    policy = load_policy(AccessSection.model_validate({"rules": [RULE]}), [ProxySection.model_validate(ROW)])
    assert policy.rules == (
        Rule(name="a", workloads=("w*",), db_labels={"env": ("dev",)}, db_users=("app",), db_names=("*",)),
    )
    assert policy.proxies == (ProxyRow(caller="p", workloads=("w",), db_labels={"*": ("*",)}),)


def test_the_version_changes_with_any_of_it_and_with_nothing_else() -> None:
    versions = {
        load_policy(
            AccessSection.model_validate({"rules": rules}), [ProxySection.model_validate(row) for row in rows]
        ).version
        for rules, rows in (
            ([RULE], [ROW]),
            ([{**RULE, "deny": True}], [ROW]),
            ([{**RULE, "db_users": ["app", "b"]}], [ROW]),
            ([{**RULE, "db_labels": {"env": ["dev", "x"]}}], [ROW]),
            ([RULE], [{**ROW, "caller": "q"}]),
            ([RULE], []),
            ([], []),
        )
    }
    assert len(versions) == 7
    again = load_policy(AccessSection.model_validate({"rules": [dict(RULE)]}), [ProxySection.model_validate(ROW)])
    assert again.version in versions
