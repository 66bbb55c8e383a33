"""`explain --config` and `rules test`, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from broker.ctl.__main__ import main
from tests.unit.broker.policies.test_plan import CONFIG

WORKLOAD = "spiffe://example.org/ns/shop/sa/checkout"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "broker.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def run(*arguments: object) -> Result:
    """`tollbridge`."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def explained(config: Path, *more: str, workload: str = WORKLOAD, user: str = "app") -> Result:
    """Of `orders`."""
    words = ("explain", "--config", config, "--workload", workload, "--database", "orders", "--db-user", user)
    return run(*words, *more)


def test_an_allowed_login_exits_0_and_shows_the_way(config: Path) -> None:
    answer = explained(config)
    assert answer.exit_code == 0
    assert "allowed by rule 'dev'" in answer.stdout
    assert "external ID set by the static database" in answer.stdout
    assert "kept-between-us" not in answer.output


def test_a_denied_one_exits_1_and_says_which_rule_came_closest(config: Path) -> None:
    answer = explained(config, user="root")
    assert answer.exit_code == 1
    assert "not allowed: DENIED_BY_RULE" in answer.stdout


def test_programs_get_the_same(config: Path) -> None:
    value = json.loads(explained(config, "-o", "json").stdout)
    assert value == yaml.safe_load(explained(config, "-o", "yaml").stdout)
    assert value["allowed"] is True
    assert value["role_chain"][0]["external_id"] == "set by the static database"
    assert {each["rule"]: each["matches"] for each in value["rules"]} == {
        "dev": True, "lake": False, "no-root": False,
    }  # fmt: skip


def test_a_configuration_that_is_wrong_exits_2_with_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "broker.yaml"
    path.write_text("db_service: {databases: [{name: 1x, protocol: pg}]}")
    answer = explained(path)
    assert answer.exit_code == 2
    assert answer.stderr.count("error:") >= 3


def judged(tmp_path: Path, *rows: dict[str, object], head: dict[str, object] | None = None) -> Result:
    """`rules test` of these rows."""
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"config": "broker.yaml", "tests": list(rows), **(head or {})}))
    return run("rules", "test", file, "-o", "json")


def row(expect: str, **more: object) -> dict[str, object]:
    """About `orders` as `app` unless told otherwise."""
    named = {} if "labels" in more else {"database": "orders"}
    return {"workload": WORKLOAD, "db_user": "app", "expect": expect, **named, **more}


def test_rows_that_hold_exit_0(config: Path) -> None:
    answer = judged(
        config.parent,
        row("allow"),
        row("allow", rule="dev"),
        row("deny", db_user="root", rule="no-root"),
        row("deny", workload="spiffe://elsewhere/x"),
        row("allow", labels={"env": "dev"}),
        row("deny", labels={"env": "prod"}),
        row("allow", labels={"env": "lake"}, db_user="Reader", protocol="dynamodb"),
        row("deny", proxy="spiffe://example.org/proxy"),
    )
    assert answer.exit_code == 0, answer.output


@pytest.mark.parametrize(
    "wrong",
    [
        row("deny"),
        row("allow", db_user="root"),
        row("allow", rule="lake"),
        row("allow", database="order"),
        row("deny", database="order"),
        row("deny", labels={"env": "dev"}),
    ],
)
def test_one_row_that_does_not_hold_exits_1_and_is_named(config: Path, wrong: dict[str, object]) -> None:
    answer = judged(config.parent, row("allow"), wrong)
    assert answer.exit_code == 1
    results = json.loads(answer.stdout)["tests"]
    assert [each["ok"] for each in results] == [True, False]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"workload": "", "db_user": "app", "expect": "allow", "database": "orders"}, "workload"),
        (row("maybe"), "expect"),
        ({**row("allow"), "labels": {"env": "dev"}}, "one of the two"),
        ({**row("allow"), "databse": "orders"}, "unknown key"),
    ],
)
def test_a_file_that_is_wrong_exits_2(config: Path, bad: dict[str, object], says: str) -> None:
    answer = judged(config.parent, bad)
    assert answer.exit_code == 2
    assert says in answer.stderr


def test_a_file_without_tests_proves_nothing(config: Path) -> None:
    assert judged(config.parent).exit_code == 2


def test_without_rules_there_is_nothing_to_test(tmp_path: Path) -> None:
    answer = judged(tmp_path, row("allow"), head={"config": ""})
    assert answer.exit_code == 2
    assert "--config" in answer.stderr
