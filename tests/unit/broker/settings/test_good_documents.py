"""What must load: the spec page's example, ours, and the forms between."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.model import Attribution, Origin
from broker.settings import Settings, derive, is_local, load
from tollbridge.model import Product, Protocol, TlsMode, TrustStore
from tollbridge.process.settings import json_schema, load_text
from tollbridge.secret import Secret

_ROOT = Path(__file__).parents[4]

SPEC_EXAMPLE = """\
# This example configuration will statically register an RDS PostgreSQL instance
# in us-west-1 within AWS account `222222222222` by assuming an external AWS
# IAM role "example-role".
db_service:
  enabled: true
  databases:
  - name: "rds-postgres"
    protocol: "postgres"
    uri: "rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com:5432"
    aws:
        assume_role_arn: "arn:aws:iam::222222222222:role/example-role"
        external_id: "example-external-id"
"""

SPEC_DISCOVERY = """\
db_service:
  enabled: true
  aws:
    - types: ["rds"]
      regions: ["us-west-1"]
      assume_role_arn: "arn:aws:iam::222222222222:role/example-role"
      external_id: "example-external-id"
"""


def test_the_specs_static_example_loads_unchanged() -> None:
    [database] = derive(load_text(SPEC_EXAMPLE, Settings).value).databases
    facts, access = database.facts, database.access
    assert (facts.name, facts.protocol, facts.product) == ("rds-postgres", Protocol.POSTGRES, Product.RDS)
    assert (facts.region, facts.account_id) == ("us-west-1", "222222222222")
    assert str(facts.endpoint) == "rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com:5432"
    assert (facts.tls.mode, facts.tls.trust_store) == (TlsMode.VERIFY_FULL, TrustStore.AWS_RDS)
    assert access.role_arn == "arn:aws:iam::222222222222:role/example-role"
    assert access.external_id == Secret("example-external-id")
    assert (access.partition, access.session_duration_seconds) == ("aws", 3600)
    assert database.origin is Origin.STATIC
    assert database.resource_ids == {"rds.instance_id": "rds-postgres"}


def test_the_specs_example_warns_only_of_what_else_a_broker_needs() -> None:
    assert {w.path for w in load_text(SPEC_EXAMPLE, Settings).warnings} == {"access.rules", "aws.region", "listeners"}


def test_the_specs_discovery_example_loads_as_it_stands() -> None:
    loaded = load_text(SPEC_DISCOVERY, Settings)
    assert {w.path for w in loaded.warnings} == {"access.rules", "aws.region", "listeners"}
    (matcher,) = derive(loaded.value).matchers
    assert (matcher.products, matcher.regions, matcher.tags) == ((Product.RDS,), ("us-west-1",), {"*": ("*",)})
    assert matcher.role_arn == "arn:aws:iam::222222222222:role/example-role"
    assert matcher.external_id == Secret("example-external-id")


def test_our_example_loads_clean() -> None:
    loaded = load(_ROOT / "deploy/config/broker.example.yaml")
    assert loaded.warnings == []
    databases = {database.name: database for database in derive(loaded.value).databases}
    assert databases["rds-postgres"].access.external_id == Secret("example-external-id")
    assert databases["billing"].facts.product is Product.RDSPROXY
    assert databases["billing"].facts.tls.trust_store is TrustStore.SYSTEM
    assert databases["billing"].attribution is Attribution.WORKLOAD
    assert {database.facts.protocol for database in databases.values()} == set(Protocol), "one of each to copy"
    assert (databases["tickets"].access.role_arn, databases["tickets"].facts.account_id) == ("", "")


def test_text_is_what_was_written() -> None:
    text = "db_service:\n  enabled: yes\n  databases:\n  - name: no\n    protocol: postgres\n"
    text += "    uri: 'no.abc.us-west-1.rds.amazonaws.com:5432'\n    aws: {account_id: 012345670123}\n"
    [database] = derive(load_text(text, Settings).value).databases
    assert (database.name, database.facts.account_id) == ("no", "012345670123")


def test_teleport_keys_that_are_not_implemented_are_named_warnings() -> None:
    text = "version: v3\nteleport: {nodename: x}\n" + SPEC_EXAMPLE
    text += "        secret_store: {key_prefix: a}\n    admin_user: {name: x}\n    dynamic_labels: []\n"
    warnings = {w.path: w.message for w in load_text(text, Settings).warnings}
    for path in (
        "version",
        "teleport",
        "db_service.databases[0].admin_user",
        "db_service.databases[0].dynamic_labels",
        "db_service.databases[0].aws.secret_store",
    ):
        assert warnings[path] == "known to Teleport, not implemented here: ignored"


RULE = """\
aws: {region: us-west-1}
listeners: [{address: "127.0.0.1:8443", caller: "spiffe://a/b"}]
access:
  rules: [{name: r, workloads: WORKLOAD, db_labels: {env: dev}, db_users: app}]
proxies: [{caller: "spiffe://a/proxy", workloads: "*", db_labels: {team: shop}}]
"""


def said(text: str) -> dict[str, str]:
    return {warning.path: f"{warning.message} > {warning.hint}" for warning in load_text(text, Settings).warnings}


def test_rows_that_select_none_of_the_files_databases_are_warned_of() -> None:
    labelled = SPEC_EXAMPLE.replace("    uri:", "    static_labels: {env: prod, team: shop}\n    uri:")
    warnings = said(RULE.replace("WORKLOAD", '"*"') + labelled)
    assert set(warnings) == {"access.rules[0].db_labels"}
    assert "selects none of this file's databases > labels in this file: env=prod, team=shop" in warnings.popitem()[1]
    assert said(RULE.replace("WORKLOAD", '"*"') + labelled.replace("env: prod", "env: dev")) == {}


@pytest.mark.parametrize("more", ["  resources: [{labels: {env: dev}}]\n", SPEC_DISCOVERY.partition("true\n")[2]])
def test_rows_may_wait_for_databases_that_come(more: str) -> None:
    assert not [path for path in said(RULE.replace("WORKLOAD", '"*"') + SPEC_EXAMPLE + more) if "db_labels" in path]


def test_names_that_nobody_has_are_warned_of() -> None:
    text = RULE.replace("WORKLOAD", "[checkout, 'spiffe://a/*']").replace("spiffe://a/proxy", "spife://a/proxy")
    text += "operators: [{caller: operator}]\n"
    warnings = said(text)
    assert set(warnings) == {"access.rules[0].workloads", "proxies[0].caller", "operators[0].caller"}
    assert warnings["access.rules[0].workloads"].startswith("nobody is called 'checkout': identities are SPIFFE IDs")


def test_another_protocols_port_is_warned_of() -> None:
    warnings = said(SPEC_EXAMPLE.replace(":5432", ":3306"))
    assert "its port is usually mysql" in warnings["db_service.databases[0].uri"]
    assert "db_service.databases[0].uri" not in said(SPEC_EXAMPLE.replace(":5432", ":15432"))


def test_a_disabled_service_serves_nothing_and_says_so() -> None:
    loaded = load_text(SPEC_EXAMPLE.replace("enabled: true", "enabled: no"), Settings)
    assert derive(loaded.value).databases == ()
    assert "db_service.enabled" in {w.path for w in loaded.warnings}


def test_a_link_gives_its_external_id_and_duration(tmp_path: Path) -> None:
    file = tmp_path / "external-id"
    file.write_text("from-a-file\n")
    text = f"""\
account_links:
  - name: shop
    role_arns: arn:aws:iam::222222222222:role/example-role
    external_id_file: {file}
    session_duration_seconds: 900
    for: static
""".replace("for: static", "for: [static]")
    [database] = derive(
        load_text(text + SPEC_EXAMPLE.replace('        external_id: "example-external-id"\n', ""), Settings).value
    ).databases
    assert database.access.external_id == Secret("from-a-file")
    assert database.access.session_duration_seconds == 900


def test_a_link_for_other_origins_gives_nothing() -> None:
    text = "account_links: [{name: a, role_arns: ['arn:aws:iam::222222222222:role/example-role'], for: [dynamic]}]\n"
    [database] = derive(load_text(text + SPEC_EXAMPLE, Settings).value).databases
    assert database.access.external_id == Secret("example-external-id")


def warned(text: str) -> set[str]:
    """Paths of the warnings about a registry."""
    paths = {warning.path for warning in load_text(text, Settings).warnings}
    return {path for path in paths if path.startswith(("operators", "registry", "db_service.resources"))}


def test_halves_of_a_registry_are_named() -> None:
    """Each is right by itself and does nothing."""
    operator = "operators: [{caller: 'spiffe://a/ops', may: [view, register]}]\n"
    link = "account_links: [{name: a, role_arns: ['arn:aws:iam::222222222222:role/example-role']}]\n"
    resources = "db_service: {resources: [{labels: {'*': '*'}}]}\n"
    table = "registry: {dynamodb: {table: tollbridge}}\n"
    assert warned(operator + table) == {"operators[0].may", "registry.dynamodb.table"}
    assert warned(resources) == {"db_service.resources"}
    assert warned(operator + link + resources + table) == set()
    role = "{assume_role_arn: 'arn:aws:iam::222222222222:role/x'}"
    assert warned(f"db_service: {{resources: [{{labels: {{a: b}}, aws: {role}}}]}}\n") == set()


def test_two_external_ids_for_one_role_are_a_warning_between_databases() -> None:
    """A trust policy may accept both for a time; a link, which speaks for the role, may not be contradicted."""
    second = (
        SPEC_EXAMPLE.split("  databases:\n")[1].replace("rds-postgres", "other", 1).replace("example-ext", "other-ext")
    )
    warnings = load_text(SPEC_EXAMPLE + second, Settings).warnings
    assert "db_service.databases[1].aws.external_id" in {w.path for w in warnings}


def test_a_database_may_be_an_endpoint_of_a_region() -> None:
    text = "db_service: {databases: [{name: ddb, protocol: dynamodb, aws: {region: eu-west-1}}]}\n"
    loaded = load_text(text, Settings)
    assert str(derive(loaded.value).databases[0].facts.endpoint) == "dynamodb.eu-west-1.amazonaws.com:443"


def test_nothing_that_prints_settings_shows_an_external_id() -> None:
    loaded = load_text(SPEC_EXAMPLE, Settings)
    for shown in (repr(loaded), str(loaded.value), repr(derive(loaded.value))):
        assert "example-external-id" not in shown


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.8.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/run/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.evil.example:1", False),
    ],
)
def test_what_counts_as_this_machine(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_the_schema_names_every_section_and_no_secret_default() -> None:
    schema = json_schema(Settings)
    assert set(Settings.model_fields) == set(schema["properties"])
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["$defs"]["AccountLinkSection"]["properties"]["for"]["items"]
