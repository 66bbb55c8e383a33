"""As test_doctor.py, where IAM roles are the database users: each product's statement leads to its own user role."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, allow, policy
from deploy.sandbox.bridge import APP_WORKLOAD, Bridge
from deploy.sandbox.world import World
from tests.e2e.clients import run

ROLE: Final = topology.TEST_ROLES_ARN.replace("test-*", "test-doctor-roles")
EXTERNAL_ID: Final = "doctors-external-id"
PRINTED: Final = "printed"

HTTP, NOSQL = "http_world", "nosql_world"
STOPS: Final = {
    "DynamoDBConnectAsIAMRole": (HTTP, "dynamodb"),
    "OpenSearchConnectAsIAMRole": (HTTP, "opensearch"),
    "OpenSearchServerlessConnectAsIAMRole": (HTTP, "opensearch-serverless"),
    "KeyspacesConnectAsIAMRole": (NOSQL, "keyspaces"),
    "DocumentDBConnectAsIAMRole": (NOSQL, "docdb"),
}
"""What stops without each statement, and in which world. DynamoDB's sessions carry tags here."""
UNTOLD: Final = {
    "OpenSearchCheckDomainURL": (HTTP, "opensearch", "es:DescribeDomains"),
    "DocumentDBCheckDomainURL": (NOSQL, "docdb", "rds:DescribeDBClusters"),
}
"""Whose endpoint AWS no longer confirms without each statement, and the action that doctor must name."""
TAGS: Final = {"Sid": "Tags", **allow("es:ListTags", "*")}
"""What discovery needs beside the cross-account page's statements."""


def user_role(product: str) -> str:
    """The role that is the user of a product's database."""
    return f"{ROLE}-{product}"


class Ward:
    """Databases named after their products, all through one role."""

    def __init__(self, world: World, bridge: Bridge) -> None:
        self.bridge = bridge
        self.accounts = Accounts(world.aws_endpoint)
        self.permissions = [*json.loads(self._printed("--for", "role", "--role", ROLE))["Statement"], TAGS]
        listed = json.loads(
            self._printed("--for", "trust", "--principal", topology.BROKER_USER_ARN, "--external-id", EXTERNAL_ID)
        )
        self.trusts = {each["attach_to"]: each["policy"] for each in listed}
        for role, trust in self.trusts.items():
            self.accounts.create_role(role, trust=trust)
        self._put(self.permissions)

    @contextmanager
    def without(self, sid: str) -> Iterator[None]:
        """The role's policy without a statement."""
        kept = [each for each in self.permissions if each["Sid"] != sid]
        assert len(kept) == len(self.permissions) - 1, sid
        self._put(kept)
        try:
            yield
        finally:
            self._put(self.permissions)

    def broken(self) -> dict[str, dict[str, Any]]:
        """The failed step of each database that has one."""
        return {
            name: next(step for step in steps if step["ok"] is False)
            for name, steps in self._doctor().items()
            if any(step["ok"] is False for step in steps)
        }

    def untold(self) -> dict[str, list[str]]:
        """Databases whose endpoint AWS does not confirm, and the actions that the notes name. No login is broken."""
        notes: dict[str, list[str]] = {}
        for name, steps in self._doctor().items():
            by_name = {step["step"]: step for step in steps}
            assert by_name["issue"]["ok"]
            metadata = by_name.get("metadata")
            assert (metadata is not None) == (name in ("opensearch", "docdb"))
            if metadata and metadata["ok"] is None:
                assert {each["attach_to"] for each in metadata["statements"]} == {ROLE}
                notes[name] = [each["statement"]["Action"] for each in metadata["statements"]]
        return notes

    def _put(self, statements: list[dict[str, Any]]) -> None:
        self.accounts.put_role_policy(ROLE, PRINTED, policy(*statements))

    def _doctor(self) -> dict[str, list[dict[str, Any]]]:
        """The steps of each database."""
        files = (
            *("--broker", f"localhost:{self.bridge.ports['broker']}", "--ca", self.bridge.file("mesh-ca.crt")),
            *("--cert", self.bridge.file("operator.crt"), "--key", self.bridge.file("operator.key")),
        )
        answer = run(
            *(sys.executable, "-m", "broker.ctl", "doctor", "--all", "--workload", APP_WORKLOAD, "-o", "json"), *files
        )
        assert EXTERNAL_ID not in answer.stdout
        return {each["database"]: each["steps"] for each in json.loads(answer.stdout)}

    def _printed(self, *arguments: str) -> str:
        command = ("iam", "print", "--config", self.bridge.file("broker.yaml"), *arguments)
        answer = run(sys.executable, "-m", "broker.ctl", *command)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


Wards = Callable[[str], Ward]


@pytest.fixture(scope="module")
def wards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wards]:
    """One for each world, made when first asked for."""
    made: dict[str, Ward] = {}

    def ward(world: str) -> Ward:
        if world not in made:
            made[world] = stack.enter_context(opened(request.getfixturevalue(world), tmp_path_factory.mktemp(world)))
        return made[world]

    with ExitStack() as stack:
        yield ward


@contextmanager
def opened(world: World, directory: Path) -> Iterator[Ward]:
    """A broker with one database of each product, whichever account has it in the sandbox."""
    first = {database.product: database.endpoint for database in reversed(world.databases)}
    products = {first[product]: product for product in (product for _, product in STOPS.values()) if product in first}

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
        document["discovery"] = {"fetch_metadata": True}

    bridge = Bridge(world, directory, change)
    made = Ward(world, bridge)
    bridge.broker.start()
    try:
        yield made
    finally:
        bridge.down()


@pytest.mark.parametrize("world", [HTTP, NOSQL])
def test_the_printed_policies_are_all_that_leads_to_the_user_roles(wards: Wards, world: str) -> None:
    ward = wards(world)
    tried = {*(sid for sid, (where, _) in STOPS.items() if where == world), TAGS["Sid"]}
    tried |= {sid for sid, (where, *_) in UNTOLD.items() if where == world}
    assert {each["Sid"] for each in ward.permissions if "Tagging" not in each["Sid"]} == tried
    assert ward.broken() == {}
    assert ward.untold() == {}


@pytest.mark.parametrize("sid", STOPS)
def test_without_a_statement_exactly_its_logins_stop_and_doctor_names_it(wards: Wards, sid: str) -> None:
    world, stopped = STOPS[sid]
    ward = wards(world)
    with ward.without(sid):
        broken = ward.broken()
    ((name, found),) = broken.items()
    assert name == stopped
    assert (found["step"], found["reason"]) == ("role 2", "ASSUME_ROLE_DENIED")
    (own,) = [each for each in found["statements"] if not each["trust"]]
    assert own["attach_to"] == ROLE
    assert own["statement"]["Resource"] == user_role(name)
    assert "sts:AssumeRole" in own["statement"]["Action"]


@pytest.mark.parametrize("sid", UNTOLD)
def test_without_its_statement_exactly_one_endpoint_goes_unchecked_and_doctor_names_it(wards: Wards, sid: str) -> None:
    world, name, action = UNTOLD[sid]
    ward = wards(world)
    with ward.without(sid):
        assert ward.untold() == {name: [action]}


def test_a_user_role_that_does_not_let_itself_be_tagged_stops_tagged_sessions_and_the_cause_is_certain(
    wards: Wards,
) -> None:
    ward = wards(HTTP)
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
