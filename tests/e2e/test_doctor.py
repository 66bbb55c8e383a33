"""The policies that `iam print` prints are enough, each statement is needed, and doctor names the one that is missing.

A role of this test's own gets the printed permission and trust policies. Then one statement at a time is taken away:
exactly the logins that it enables stop, at the step where AWS asks for it.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import ASSUME_POLICY, Accounts, allow, policy, trust_policy
from deploy.sandbox.bridge import APP_WORKLOAD, Bridge
from deploy.sandbox.world import World
from tests.e2e.clients import run

ROLE: Final = topology.TEST_ROLES_ARN.replace("test-*", "test-doctor")
USER_ROLE: Final = topology.TEST_ROLES_ARN.replace("test-*", "test-doctor-user")
EXTERNAL_ID: Final = "doctors-external-id"
PRINTED: Final = "printed"
"""Name of the role's one policy."""
TAGS: Final = "Tags"
"""Of the statement that discovery needs beside those of the cross-account page, for tags that are kept apart."""

SOURCES: Final = {
    "rds": topology.RDS_POSTGRES,
    "tagged": topology.RDS_POSTGRES,
    "pool": topology.RDS_PROXY,
    "dsql": topology.DSQL,
    "owned": topology.DSQL,
    "cache": topology.CACHE,
    "serverless": topology.SERVERLESS_CACHE,
    "memory": topology.MEMORYDB,
    "warehouse": topology.REDSHIFT,
    "grouped": topology.REDSHIFT,
    "workgroup": topology.REDSHIFT_SERVERLESS,
}
"""Databases of the bridge, and those of the sandbox that they are."""

KINDS: Final = {
    "cache": "cache",
    "serverless": "cache",
    "memory": "cache",
    "workgroup": "roles",
    "pool": "reading",
    "grouped": "reading",
    "owned": "owned",
}
"""Labels that rules select by; they differ in their users. The statements of RDS and of its proxies allow one action,
and are told apart by the users they are narrowed to; a user of Redshift has one password at a time in the sandbox."""

STOPS: Final = {
    "RDSConnect": ({"rds", "tagged"}, "login", "rds-db:connect"),
    "RDSProxyConnect": ({"pool"}, "login", "rds-db:connect"),
    "DSQLConnect": ({"dsql"}, "login", "dsql:DbConnect"),
    "DSQLConnectAsAdmin": ({"owned"}, "login", "dsql:DbConnectAdmin"),
    "ElastiCacheConnect": ({"cache"}, "login", "elasticache:Connect"),
    "ElastiCacheServerlessConnect": ({"serverless"}, "login", "elasticache:Connect"),
    "MemoryDBConnect": ({"memory"}, "login", "memorydb:Connect"),
    "RedshiftConnectAsDBUser": ({"warehouse", "grouped"}, "issue", "redshift:GetClusterCredentials"),
    "RedshiftJoinGroups": ({"grouped"}, "issue", "redshift:JoinGroup"),
    "RedshiftServerlessConnectAsIAMRole": ({"workgroup"}, "role 2", "sts:AssumeRole"),
}
"""What stops without each statement, at which step, and the action that doctor must name."""
GROUPED: Final = {"redshift:GetClusterCredentials", "redshift:JoinGroup"}
"""One call that needs both: AWS does not say which it misses."""

UNTOLD: Final = {
    ("RDSFetchMetadata",): ("metadata", dict.fromkeys(("rds", "tagged"), "rds:DescribeDBInstances")),
    ("RDSProxyFetchMetadata",): ("metadata", {"pool": "rds:DescribeDBProxies"}),
    ("ElastiCacheFetchMetadata",): ("metadata", {"cache": "elasticache:DescribeReplicationGroups"}),
    ("ElastiCacheServerlessFetchMetadata",): ("metadata", {"serverless": "elasticache:DescribeServerlessCaches"}),
    ("MemoryDBFetchMetadata",): ("metadata", {"memory": "memorydb:DescribeClusters"}),
    ("RedshiftFetchMetadata",): ("metadata", dict.fromkeys(("warehouse", "grouped"), "redshift:DescribeClusters")),
    ("RedshiftServerlessFetchMetadata",): ("metadata", {"workgroup": "redshift-serverless:GetWorkgroup"}),
    # The two allow one action, and either will do.
    ("ElastiCacheDescribeUsers", "ElastiCacheServerlessDescribeUsers"): (
        "user",
        dict.fromkeys(("cache", "serverless"), "elasticache:DescribeUsers"),
    ),
    ("MemoryDBDescribeUsers",): ("user", {"memory": "memorydb:DescribeUsers"}),
    (TAGS,): (
        "metadata",
        {
            "pool": "rds:ListTagsForResource",
            "cache": "elasticache:ListTagsForResource",
            "serverless": "elasticache:ListTagsForResource",
            "memory": "memorydb:ListTags",
            "workgroup": "redshift-serverless:ListTagsForResource",
        },
    ),
}
"""What AWS tells no longer without statements: the step whose note says so, and the action it names by database."""


@dataclass(slots=True)
class Clinic:
    """A bridge whose databases all go through one role."""

    bridge: Bridge
    accounts: Accounts
    permissions: list[dict[str, Any]]
    trust: dict[str, Any]

    def tollbridge(self, *arguments: str) -> Any:
        """The command line as the operator."""
        files = [
            *("--broker", f"localhost:{self.bridge.ports['broker']}"),
            *("--cert", self.bridge.file("operator.crt"), "--key", self.bridge.file("operator.key")),
            *("--ca", self.bridge.file("mesh-ca.crt")),
        ]
        return run(sys.executable, "-m", "broker.ctl", *arguments, *files)

    def doctor(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """What is broken: the failed step of each such database."""
        words = ("doctor", *(arguments or ("--all",)), "--workload", APP_WORKLOAD, "-o", "json")
        answer = self.tollbridge(*words, "--proxy-config", self.bridge.file("proxy.yaml"))
        found = json.loads(answer.stdout)
        patients = found if isinstance(found, list) else [found]
        broken = {
            each["database"]: next(step for step in each["steps"] if step["ok"] is False)
            for each in patients
            if not each["ok"]
        }
        assert answer.returncode == (1 if broken else 0), answer.stderr
        assert EXTERNAL_ID not in answer.stdout
        return broken

    def untold(self) -> dict[tuple[str, str], list[str]]:
        """(database, step) of each note on what AWS does not tell -> the actions it names. Credentials are issued."""
        answer = self.tollbridge("doctor", "--all", "--workload", APP_WORKLOAD, "-o", "json")
        assert answer.returncode == 0, answer.stdout
        assert EXTERNAL_ID not in answer.stdout
        notes: dict[tuple[str, str], list[str]] = {}
        for each in json.loads(answer.stdout):
            steps = {step["step"]: step for step in each["steps"]}
            assert steps["issue"]["ok"]
            assert ("metadata" in steps) == (SOURCES[each["database"]] is not topology.DSQL)
            for step in (steps[name] for name in ("metadata", "user") if name in steps):
                if step["ok"] is None:
                    assert {named["attach_to"] for named in step["statements"]} == {ROLE}
                    actions = [named["statement"]["Action"] for named in step["statements"]]
                    notes[each["database"], step["step"]] = actions
        return notes

    @contextmanager
    def without(self, *sids: str) -> Iterator[None]:
        """The role's policy without some statements."""
        kept = [each for each in self.permissions if each["Sid"] not in sids]
        assert len(kept) == len(self.permissions) - len(sids), sids
        self.accounts.put_role_policy(ROLE, PRINTED, policy(*kept))
        try:
            yield
        finally:
            self.accounts.put_role_policy(ROLE, PRINTED, policy(*self.permissions))

    @contextmanager
    def trusting(self, trust: dict[str, Any]) -> Iterator[None]:
        """The role with another trust policy."""
        self.accounts.set_trust_policy(ROLE, trust)
        try:
            yield
        finally:
            self.accounts.set_trust_policy(ROLE, self.trust)


def change(world: World) -> Any:
    """The broker's configuration: databases through this test's role, and rules for them."""

    def edit(document: dict[str, Any]) -> None:
        usual = {each["uri"]: each for each in document["db_service"]["databases"]}
        document["db_service"]["databases"] = [
            {
                **copy.deepcopy(usual[world.database(spec.name).endpoint]),
                "name": name,
                "static_labels": {"env": "dev", "kind": KINDS.get(name, "postgres")},
                "aws": {
                    "assume_role_arn": ROLE,
                    "external_id": EXTERNAL_ID,
                    **({"session_tags": {"team": "shop"}} if name == "tagged" else {}),
                    **({"redshift": {"db_groups": ["analysts"]}} if name == "grouped" else {}),
                },
            }
            for name, spec in SOURCES.items()
        ]
        document["discovery"] = {"fetch_metadata": True}
        shop = {"workloads": [APP_WORKLOAD]}
        document["access"]["rules"] = [
            {"name": "databases", **shop, "db_labels": {"kind": "postgres"}, "db_users": "app", "db_names": "app"},
            {"name": "readers", **shop, "db_labels": {"kind": "reading"}, "db_users": "readonly", "db_names": "app"},
            {"name": "owners", **shop, "db_labels": {"kind": "owned"}, "db_users": "admin", "db_names": "app"},
            {"name": "caches", **shop, "db_labels": {"kind": "cache"}, "db_users": "app"},
            {"name": "roles", **shop, "db_labels": {"kind": "roles"}, "db_users": USER_ROLE, "db_names": "app"},
        ]

    return edit


def printed(bridge: Bridge, *arguments: str) -> dict[str, Any]:
    """One policy, by the command line from the broker's own configuration."""
    command = ("iam", "print", "--config", bridge.file("broker.yaml"), *arguments)
    answer = run(sys.executable, "-m", "broker.ctl", *command)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


@pytest.fixture(scope="module")
def clinic(whole_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    directory: Path = tmp_path_factory.mktemp("doctor")
    accounts = Accounts(whole_world.aws_endpoint)
    bridge = Bridge(whole_world, directory, change(whole_world))
    principal = ("--principal", topology.BROKER_USER_ARN, "--external-id", EXTERNAL_ID)
    permissions = printed(bridge, "--for", "role", "--role", ROLE)["Statement"]
    for_tags = sorted(set(UNTOLD[TAGS,][1].values()))
    permissions.append({"Sid": TAGS, **allow(for_tags, "*")})
    listed = json.loads(
        run(
            *(sys.executable, "-m", "broker.ctl", "iam", "print", "--config", bridge.file("broker.yaml")),
            *("--for", "trust", *principal),
        ).stdout
    )
    trusts = {each["attach_to"]: each["policy"] for each in listed}
    accounts.create_role(ROLE, trust=trusts[ROLE])
    accounts.put_role_policy(ROLE, PRINTED, policy(*permissions))
    accounts.create_role(
        USER_ROLE, trust=trusts[USER_ROLE], permissions=policy(allow("redshift-serverless:GetCredentials", "*"))
    )
    with bridge:
        yield Clinic(bridge, accounts, permissions, trusts[ROLE])


def test_the_printed_policies_are_all_that_logins_need(clinic: Clinic) -> None:
    assert clinic.doctor() == {}
    assert clinic.untold() == {}


@pytest.mark.slow
@pytest.mark.parametrize("sid", STOPS)
def test_without_a_statement_exactly_its_logins_stop_and_doctor_names_it(clinic: Clinic, sid: str) -> None:
    stopped, step, action = STOPS[sid]
    with clinic.without(sid):
        broken = clinic.doctor()
    assert set(broken) == stopped
    for name, found in broken.items():
        assert found["step"] == step
        named = [each for each in found["statements"] if each["attach_to"] == ROLE and not each["trust"]]
        assert {each["statement"]["Action"] for each in named} == (GROUPED if name == "grouped" else {action})
        assert found["causes"] or action in found["detail"]  # DSQL's refusal has one cause


def test_statements_that_are_not_for_logins_stop_none(clinic: Clinic) -> None:
    others = [each["Sid"] for each in clinic.permissions if each["Sid"] not in STOPS]
    assert "RDSAutoEnableIAMAuth" in others
    with clinic.without(*others):
        assert clinic.doctor() == {}


@pytest.mark.parametrize("sids", UNTOLD, ids="-".join)
def test_without_a_statement_for_metadata_exactly_that_is_not_told_and_doctor_names_it(
    clinic: Clinic, sids: tuple[str, ...]
) -> None:
    step, named = UNTOLD[sids]
    with clinic.without(*sids):
        assert clinic.untold() == {(database, step): [action] for database, action in named.items()}


def test_every_statement_is_tried_here(clinic: Clinic) -> None:
    """But for what discovery changes, which test_discovery.py tries."""
    tried = {*STOPS, *(sid for sids in UNTOLD for sid in sids), "RDSAutoEnableIAMAuth"}
    assert {each["Sid"] for each in clinic.permissions} == tried


def test_a_trust_policy_that_trusts_somebody_else_stops_all(clinic: Clinic) -> None:
    stranger = trust_policy(topology.BROKER_ROLE_ARN, external_id=EXTERNAL_ID)
    with clinic.trusting(stranger):
        broken = clinic.doctor()
    assert set(broken) == set(SOURCES)
    for found in broken.values():
        assert (found["step"], found["reason"]) == ("role 1", "ASSUME_ROLE_DENIED")
        trusts = [each for each in found["statements"] if each["trust"]]
        assert {each["attach_to"] for each in trusts} == {ROLE}
        assert all(each["statement"]["Principal"] == {"AWS": topology.BROKER_USER_ARN} for each in trusts)


def test_another_external_id_stops_all_and_is_among_the_causes(clinic: Clinic) -> None:
    other = trust_policy(topology.BROKER_USER_ARN, external_id="somebody-elses")
    with clinic.trusting(other):
        broken = clinic.doctor()
    assert set(broken) == set(SOURCES)
    assert all(any("external_id" in cause for cause in found["causes"]) for found in broken.values())


def test_without_tag_session_only_tagged_sessions_stop_and_the_cause_is_certain(clinic: Clinic) -> None:
    untagged = trust_policy(topology.BROKER_USER_ARN, external_id=EXTERNAL_ID, tag_session=False)
    with clinic.trusting(untagged):
        broken = clinic.doctor()
    assert set(broken) == {"tagged"}
    (cause,) = broken["tagged"]["causes"]
    assert "sts:TagSession" in cause
    assert {each["statement"]["Action"] for each in broken["tagged"]["statements"]} == {"sts:TagSession"}


def test_without_its_own_assume_role_statement_the_broker_gets_nowhere(clinic: Clinic) -> None:
    iam = clinic.accounts.iam(topology.BROKER_ACCOUNT)
    whole = iam.get_user_policy(UserName=topology.BROKER_USER, PolicyName=ASSUME_POLICY)["PolicyDocument"]
    others = [arn for arn in topology.ASSUMABLE_ROLE_ARNS if arn != topology.TEST_ROLES_ARN]

    def put(document: dict[str, Any]) -> None:
        text = json.dumps(document)
        iam.put_user_policy(UserName=topology.BROKER_USER, PolicyName=ASSUME_POLICY, PolicyDocument=text)

    put(policy(allow(["sts:AssumeRole", "sts:TagSession"], others)))
    try:
        broken = clinic.doctor()
    finally:
        put(whole)
    assert set(broken) == set(SOURCES)
    for found in broken.values():
        own = [each for each in found["statements"] if not each["trust"]]
        assert [each["attach_to"] for each in own] == [topology.BROKER_USER_ARN]
        assert own[0]["statement"]["Resource"] == ROLE


def test_for_people_the_statement_stands_below_its_step(clinic: Clinic) -> None:
    with clinic.without("RDSConnect"):
        answer = clinic.tollbridge(
            *("doctor", "rds", "--workload", APP_WORKLOAD, "--proxy-config", clinic.bridge.file("proxy.yaml"))
        )
    assert answer.returncode == 1
    lines = answer.stdout.splitlines()
    at = next(index for index, line in enumerate(lines) if "FAILED" in line and "login" in line)
    rest = "\n".join(lines[at:])
    assert "likely causes:" in rest
    assert f"a policy of {ROLE} must have:" in rest
    assert '"Action":"rds-db:connect"' in rest


def test_a_proxy_that_is_not_there_is_said_and_not_taken_for_a_broken_database(clinic: Clinic) -> None:
    answer = clinic.tollbridge("doctor", "rds", "--workload", APP_WORKLOAD)
    assert answer.returncode == 0
    assert "not tried" in answer.stdout
    lost = clinic.tollbridge("doctor", "rds", "--workload", APP_WORKLOAD, "--proxy-command", "/nonexistent/proxy")
    assert lost.returncode == 1
    assert "/nonexistent/proxy cannot be run" in lost.stdout


def test_a_user_with_a_password_is_told_before_any_login_is_tried(clinic: Clinic) -> None:
    """Only AWS knows it: the cache would say no more than that it refuses."""
    answer = clinic.tollbridge("doctor", "cache", "--db-user", "passworduser")
    assert answer.returncode == 1
    line = next(line for line in answer.stdout.splitlines() if "FAILED" in line)
    assert "user" in line.split()
    assert "not with IAM" in line
    missing = clinic.tollbridge("doctor", "memory", "--db-user", "nobody")
    assert "knows no user 'nobody'" in missing.stdout


def test_without_describe_users_doctor_says_what_it_could_not_find_out(clinic: Clinic) -> None:
    with clinic.without("ElastiCacheDescribeUsers", "ElastiCacheServerlessDescribeUsers"):
        answer = clinic.tollbridge("doctor", "cache")
    assert answer.returncode == 0
    line = next(line for line in answer.stdout.splitlines() if line.split()[:2] == ["note", "user"])
    assert "could not be found out" in line
    assert '"Action":"elasticache:DescribeUsers"' in answer.stdout
