"""Policies of a whole configuration: as narrow as what is registered and whom the rules let in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from broker.ctl.__main__ import main
from broker.discovery.observers import OBSERVERS
from broker.policies.documents import wildcard
from tollbridge.model import Product

ROLE = "arn:aws:iam::222222222222:role/example-role"
OTHER = "arn:aws:iam::333333333333:role/team/other"
BROKER = "arn:aws:iam::111111111111:role/broker"
SHOP = "spiffe://example.org/ns/shop/*"

CONFIG: dict[str, Any] = {
    "aws": {"region": "us-west-1"},
    "db_service": {
        "databases": [
            {
                "name": "orders",
                "protocol": "postgres",
                "uri": "orders.abcdef012345.us-west-1.rds.amazonaws.com:5432",
                "static_labels": {"env": "dev"},
                "aws": {"assume_role_arn": ROLE, "external_id": "kept-between-us"},
            },
            {
                "name": "cache",
                "protocol": "redis",
                "uri": "master.my-rg.abcdef.usw1.cache.amazonaws.com:6379",
                "static_labels": {"env": "dev"},
                "aws": {"assume_role_arn": ROLE, "external_id": "kept-between-us"},
            },
            {
                "name": "warehouse",
                "protocol": "postgres",
                "uri": "default.333333333333.us-west-1.redshift-serverless.amazonaws.com:5439",
                "static_labels": {"env": "lake"},
                "aws": {"assume_role_arn": OTHER, "session_tags": {"team": "bi"}},
            },
        ]
    },
    "access": {
        "rules": [
            {"name": "dev", "workloads": [SHOP], "db_labels": {"env": "dev"}, "db_users": ["app", "read*"]},
            {"name": "lake", "workloads": [SHOP], "db_labels": {"env": "lake"}, "db_users": ["Reader"]},
            {"name": "no-root", "workloads": ["*"], "db_labels": {"*": "*"}, "db_users": ["root"], "deny": True},
        ]
    },
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "broker.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def run(*arguments: object) -> Result:
    """`tollbridge iam print`."""
    return CliRunner().invoke(main, ["iam", "print", *(str(argument) for argument in arguments)])


def statements(*arguments: object) -> dict[str, Any]:
    """Of the one policy that is printed, by their IDs."""
    answer = run(*arguments)
    assert answer.exit_code == 0, answer.output
    return {each.get("Sid", each["Action"]): each for each in json.loads(answer.stdout)["Statement"]}


def test_users_are_those_that_rules_let_in(config: Path) -> None:
    said = statements("--config", config, "--for", "role", "--role", ROLE, "--only", "login")
    assert said["RDSConnect"]["Resource"] == [
        "arn:aws:rds-db:us-west-1:222222222222:dbuser:*/app",
        "arn:aws:rds-db:us-west-1:222222222222:dbuser:*/read*",
    ]
    assert said["ElastiCacheConnect"]["Resource"] == [
        "arn:aws:elasticache:us-west-1:222222222222:replicationgroup:my-rg",
        "arn:aws:elasticache:us-west-1:222222222222:user:app",
        "arn:aws:elasticache:us-west-1:222222222222:user:read*",
    ]
    assert set(said) == {"RDSConnect", "ElastiCacheConnect"}


def test_roles_that_are_users_may_be_assumed_and_tagged_where_tags_are_set(config: Path) -> None:
    reader = "arn:aws:iam::333333333333:role/Reader"
    said = statements("--config", config, "--for", "role", "--role", OTHER)
    assert said["RedshiftServerlessConnectAsIAMRole"]["Resource"] == [reader]
    assert said["RedshiftServerlessSessionTagging"]["Resource"] == [reader]


def test_one_database_alone(config: Path) -> None:
    said = statements("--config", config, "--for", "role", "--database", "cache")
    assert {sid for sid in said if sid.startswith("RDS")} == set()
    assert "ElastiCacheConnect" in said


def test_wildcards_when_asked_for(config: Path) -> None:
    said = statements("--config", config, "--for", "role", "--role", ROLE, "--scope", "wildcard")
    assert said["RDSConnect"]["Resource"] == "*"


def test_the_identity_may_assume_every_role_that_is_used(config: Path) -> None:
    said = statements("--config", config, "--for", "identity")
    assert said["sts:AssumeRole"]["Resource"] == [ROLE, OTHER]


def test_trust_policies_ask_for_an_external_id_where_one_is_sent_and_never_show_it(config: Path) -> None:
    answer = run("--config", config, "--for", "trust", "--principal", BROKER)
    by_role = {each["attach_to"]: each["policy"]["Statement"] for each in json.loads(answer.stdout)}
    assert by_role[ROLE][0]["Condition"] == {"StringEquals": {"sts:ExternalId": "<external_id>"}}
    assert "Condition" not in by_role[OTHER][0]
    assert by_role[ROLE][0]["Principal"] == {"AWS": BROKER}
    assert "kept-between-us" not in answer.output
    assert "replace <external_id>" in answer.stderr


def test_a_role_that_is_a_user_trusts_the_role_before_it_and_lets_it_tag(config: Path) -> None:
    answer = run("--config", config, "--for", "trust", "--principal", BROKER)
    by_role = {each["attach_to"]: each["policy"]["Statement"] for each in json.loads(answer.stdout)}
    assume, tag = by_role["arn:aws:iam::333333333333:role/Reader"]
    assert assume["Principal"] == tag["Principal"] == {"AWS": OTHER}
    assert (assume["Action"], tag["Action"]) == ("sts:AssumeRole", "sts:TagSession")


def test_a_matcher_asks_for_whole_products(tmp_path: Path) -> None:
    """What it will find has no name yet."""
    matcher = {"types": ["rds"], "regions": ["us-west-1"], "assume_role_arn": ROLE}
    path = tmp_path / "broker.yaml"
    path.write_text(yaml.safe_dump({"aws": {"region": "us-west-1"}, "db_service": {"aws": [matcher]}}))
    assert statements("--config", path, "--for", "role")["RDSConnect"]["Resource"] == "*"


def test_many_databases_make_several_policies_and_say_so(tmp_path: Path) -> None:
    entry = CONFIG["db_service"]["databases"][1]
    databases = [
        {**entry, "name": f"cache-{number}", "uri": f"master.group-{number}.abcdef.usw1.cache.amazonaws.com:6379"}
        for number in range(200)
    ]
    path = tmp_path / "broker.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "db_service": {"databases": databases}}))
    answer = run("--config", path, "--for", "role")
    assert len(json.loads(answer.stdout)) > 1
    assert "split" in answer.stderr
    refused = run("--config", path, "--for", "role", "--attach", "inline-role")
    assert refused.exit_code == 2
    assert "--attach managed" in refused.stderr


def test_terraform_and_cloudformation_carry_the_same_policies(config: Path) -> None:
    wanted = [each["policy"] for each in json.loads(run("--config", config).stdout)]
    terraform = run("--config", config, "-o", "terraform").stdout
    decoder = json.JSONDecoder()
    bodies = [decoder.raw_decode(part.replace("$${", "${"))[0] for part in terraform.split("jsonencode(")[1:]]
    assert bodies == wanted
    template = yaml.safe_load(run("--config", config, "-o", "cloudformation").stdout)
    properties = [resource["Properties"] for resource in template["Resources"].values()]
    assert [each.get("PolicyDocument") or each["AssumeRolePolicyDocument"] for each in properties] == wanted
    assert "&id" not in run("--config", config, "-o", "cloudformation").stdout


def test_templates_for_several_accounts_are_told_apart(config: Path) -> None:
    """A stack belongs to one account."""
    several = run("--config", config, "--principal", BROKER, "-o", "cloudformation")
    assert "111111111111, 222222222222, 333333333333" in several.stderr
    assert "accounts" not in run("--config", config, "--for", "role", "--role", ROLE, "-o", "cloudformation").stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--for", "role"], "--types"),
        (["--for", "identity"], "--role"),
        (["--types", "rsd"], "rds"),
        (["--types", "rds", "--role", "example-role"], "no role ARN"),
        (["--types", "rds", "--account", "12"], "12 digits"),
        (["--database", "orders"], "--config"),
        (["--config", "/nonexistent.yaml"], "cannot read"),
    ],
)
def test_a_wrong_command_line_says_what_to_give(arguments: list[str], says: str) -> None:
    answer = run(*arguments)
    assert answer.exit_code == 2
    assert says in answer.stderr


def test_a_database_that_is_not_registered_is_named_with_those_that_are(config: Path) -> None:
    answer = run("--config", config, "--database", "order")
    assert answer.exit_code == 2
    assert "orders, cache, warehouse" in answer.stderr


@pytest.mark.parametrize("product", sorted(OBSERVERS))
def test_what_discovery_calls_is_in_the_policy_that_a_matcher_needs(product: Product) -> None:
    observer = OBSERVERS[product]
    calls = {listing.permission for listing in observer.listings}
    calls |= {listing.then.action for listing in observer.listings if listing.then}
    calls |= {observer.tags.action} if observer.tags else set()
    allowed: set[str] = set()
    for statement in wildcard([product], discovery=True):
        action = statement["Action"]
        allowed |= {action} if isinstance(action, str) else set(action)  # type: ignore[call-overload]
    assert calls <= allowed


def test_discovery_adds_to_the_page_only_when_asked_for() -> None:
    def sids(*more: str) -> set[str]:
        said = statements("--types", "rdsproxy,elasticache", *more)
        return set(said)

    assert sids("--discovery") - sids() == {"RDSProxyDiscover", "ElastiCacheDiscover"}
