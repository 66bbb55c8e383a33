"""As test_doctor.py, where IAM roles are the database users: each product's statement leads to its own user role."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, policy
from deploy.sandbox.bridge import APP_WORKLOAD, Bridge
from deploy.sandbox.world import World
from tests.e2e.clients import run

ROLE: Final = topology.TEST_ROLES_ARN.replace("test-*", "test-doctor-roles")
EXTERNAL_ID: Final = "doctors-external-id"
PRINTED: Final = "printed"

STOPS: Final = {
    "DynamoDBConnectAsIAMRole": "dynamodb",
    "OpenSearchConnectAsIAMRole": "opensearch",
    "OpenSearchServerlessConnectAsIAMRole": "opensearch-serverless",
}
"""What stops without each statement. DynamoDB's sessions carry tags here."""


def user_role(product: str) -> str:
    """The role that is the user of a product's database."""
    return f"{ROLE}-{product}"


class Ward:
    """Databases named after their products, all through one role."""

    def __init__(self, world: World, bridge: Bridge) -> None:
        self.bridge = bridge
        self.accounts = Accounts(world.aws_endpoint)
        self.permissions = json.loads(self._printed("--for", "role", "--role", ROLE))["Statement"]
        listed = json.loads(
            self._printed("--for", "trust", "--principal", topology.BROKER_USER_ARN, "--external-id", EXTERNAL_ID)
        )
        self.trusts = {each["attach_to"]: each["policy"] for each in listed}
        for role, trust in self.trusts.items():
            self.accounts.create_role(role, trust=trust)
        self.put(self.permissions)

    def put(self, statements: list[dict[str, Any]]) -> None:
        """The role's one policy."""
        self.accounts.put_role_policy(ROLE, PRINTED, policy(*statements))

    def broken(self) -> dict[str, dict[str, Any]]:
        """The failed step of each database that has one."""
        files = (
            *("--broker", f"localhost:{self.bridge.ports['broker']}", "--ca", self.bridge.file("mesh-ca.crt")),
            *("--cert", self.bridge.file("operator.crt"), "--key", self.bridge.file("operator.key")),
        )
        answer = run(
            *(sys.executable, "-m", "broker.ctl", "doctor", "--all", "--workload", APP_WORKLOAD, "-o", "json"), *files
        )
        assert EXTERNAL_ID not in answer.stdout
        return {
            each["database"]: next(step for step in each["steps"] if step["ok"] is False)
            for each in json.loads(answer.stdout)
            if not each["ok"]
        }

    def _printed(self, *arguments: str) -> str:
        command = ("iam", "print", "--config", self.bridge.file("broker.yaml"), *arguments)
        answer = run(sys.executable, "-m", "broker.ctl", *command)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


@pytest.fixture(scope="module")
def ward(http_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    wanted = ("dynamodb", "opensearch", "opensearch-serverless")
    first = {database.product: database.endpoint for database in reversed(http_world.databases)}
    products = {first[product]: product for product in wanted}

    def change(document: dict[str, Any]) -> None:
        databases = [
            {
                **copy.deepcopy(entry),
                "name": products[entry["uri"]],
                "static_labels": {"product": products[entry["uri"]]},
                "aws": {
                    **{key: value for key, value in entry["aws"].items() if key == "region"},
                    "assume_role_arn": ROLE,
                    "external_id": EXTERNAL_ID,
                    **({"session_tags": {"team": "shop"}} if products[entry["uri"]] == "dynamodb" else {}),
                },
            }
            # One per product, whichever account has it in the sandbox.
            for entry in {each["uri"]: each for each in document["db_service"]["databases"]}.values()
            if entry["uri"] in products
        ]
        document["db_service"]["databases"] = databases
        document["access"]["rules"] = [
            {
                "name": each["name"],
                "workloads": [APP_WORKLOAD],
                "db_labels": {"product": each["name"]},
                "db_users": [user_role(each["name"])],
            }
            for each in databases
        ]

    bridge = Bridge(http_world, tmp_path_factory.mktemp("ward"), change)
    made = Ward(http_world, bridge)
    bridge.broker.start()
    try:
        yield made
    finally:
        bridge.down()


def test_the_printed_policies_are_all_that_leads_to_the_user_roles(ward: Ward) -> None:
    assert {each["Sid"] for each in ward.permissions} >= set(STOPS)
    assert ward.broken() == {}


@pytest.mark.parametrize("sid", STOPS)
def test_without_a_statement_exactly_its_logins_stop_and_doctor_names_it(ward: Ward, sid: str) -> None:
    ward.put([each for each in ward.permissions if each["Sid"] != sid])
    try:
        broken = ward.broken()
    finally:
        ward.put(ward.permissions)
    ((name, found),) = broken.items()
    assert name == STOPS[sid]
    assert (found["step"], found["reason"]) == ("role 2", "ASSUME_ROLE_DENIED")
    (own,) = [each for each in found["statements"] if not each["trust"]]
    assert own["attach_to"] == ROLE
    assert own["statement"]["Resource"] == user_role(name)
    assert "sts:AssumeRole" in own["statement"]["Action"]


def test_a_user_role_that_does_not_let_itself_be_tagged_stops_tagged_sessions_and_the_cause_is_certain(
    ward: Ward,
) -> None:
    role = user_role("dynamodb")
    trust = ward.trusts[role]
    assume = [each for each in trust["Statement"] if each["Action"] == "sts:AssumeRole"]
    assert len(assume) < len(trust["Statement"])
    ward.accounts.set_trust_policy(role, policy(*assume))
    try:
        broken = ward.broken()
    finally:
        ward.accounts.set_trust_policy(role, trust)
    assert set(broken) == {"dynamodb"}
    (cause,) = broken["dynamodb"]["causes"]
    assert "sts:TagSession" in cause
    assert {each["attach_to"] for each in broken["dynamodb"]["statements"] if each["trust"]} == {role}
