"""A diagnosis makes every call anew, names the failing step, its causes and the statement to add, and keeps nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from broker.access.model import Policy, Rule
from broker.aws.errors import AwsFault, Call, Kind, assume_role_refusal, login_refusal
from broker.diagnose import AT_ONCE, AwsFinding, CheckMetadata, CheckUser, Diagnoser, no_metadata_check, no_user_check
from broker.errors import BrokerError
from broker.model import AccountSession, Attribution, ChainKey, Hop, RegisteredDatabase
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.databases import database, request
from tests.unit.broker.issuers.fakes import FakeRedshift, issuers
from tests.unit.broker.sessions.fakes import BROKER_ARN, ROLE, FakeSts, Role
from tollbridge.model import Product
from tollbridge.reasons import Reason
from tollbridge.reports import DiagnosisStep, Outcome

OPERATOR = "spiffe://example.org/ops"
WORKLOAD = "spiffe://example.org/ns/shop/sa/api"
POLICY = Policy(
    version="p1",
    rules=(
        Rule(name="shop", workloads=(WORKLOAD,), db_labels={"*": ("*",)}, db_users=("app*", "app"), db_names=("*",)),
    ),
)
PRINCIPAL = "arn:aws:iam::111111111111:role/broker"


@dataclass
class RealRefusals(FakeSts):
    """Refuses as AWS does, in our own words for it."""

    no_tags: set[str] = field(default_factory=set)
    """Roles that lack sts:TagSession."""

    async def assume_role(self, parent: AccountSession, hop: Hop, region: str) -> AccountSession:
        call = Call(operation="sts:AssumeRole", signer=parent, region=region, skew_seconds=0)
        denied = assume_role_refusal(AwsFault(Kind.DENIED, "AccessDenied"), call, hop)
        if hop.tags and hop.role_arn in self.no_tags:
            raise denied
        try:
            return await super().assume_role(parent, hop, region)
        except BrokerError as error:
            if error.reason is Reason.ASSUME_ROLE_DENIED:
                raise denied from error
            raise


class Bench:
    """A diagnoser over fakes."""

    def __init__(
        self, check_user: CheckUser = no_user_check, check_metadata: CheckMetadata = no_metadata_check
    ) -> None:
        self.clock = FakeClock()
        self.sts = RealRefusals(self.clock, roles={ROLE: Role(external_id="agreed")})
        self.redshift = FakeRedshift(self.clock)
        self.diagnoser = Diagnoser(
            policy=lambda: POLICY,
            sts=self.sts,
            issuers=issuers(self.clock, redshift=self.redshift),
            sts_region="us-west-1",
            monotonic=self.clock.monotonic,
            check_user=check_user,
            check_metadata=check_metadata,
        )

    async def run(
        self, entry: RegisteredDatabase, *, db_user: str = "", workload: str = "", db_name: str = ""
    ) -> list[DiagnosisStep]:
        """The steps that ended."""
        found = self.diagnoser.diagnose(entry, db_user=db_user, db_name=db_name, workload=workload, caller=OPERATOR)
        return [step async for step in found if step.outcome is not Outcome.BEGUN]


def outcomes(steps: list[DiagnosisStep]) -> list[tuple[str, str]]:
    """Step and outcome."""
    return [(each.step, each.outcome.value) for each in steps]


def statements(step: DiagnosisStep) -> list[tuple[str, bool, dict[str, object]]]:
    """Where each belongs, and what it says."""
    return [(each.attach_to, each.trust, json.loads(each.statement)) for each in step.statements]


async def test_a_way_that_works_is_walked_to_the_credential() -> None:
    bench = Bench()
    steps = await bench.run(database(external_id="agreed"), workload=WORKLOAD)
    assert outcomes(steps) == [(name, "ok") for name in ("database", "access", "base", "role 1", "issue")]
    assert statements(steps[-1]) == [
        (
            "arn:aws:iam::222222222222:role/access",
            False,
            {
                "Effect": "Allow",
                "Action": "rds-db:connect",
                "Resource": "arn:aws:rds-db:us-west-1:222222222222:dbuser:db-ABC/app",
            },
        )
    ]


async def test_each_step_is_told_as_it_begins() -> None:
    found = Bench().diagnoser.diagnose(
        database(external_id="agreed"), db_user="", db_name="", workload="", caller=OPERATOR
    )
    begun = [step.step async for step in found if step.outcome is Outcome.BEGUN]
    assert begun == ["base", "role 1", "issue"]


async def test_nothing_cached_is_used_and_nothing_is_kept() -> None:
    """What was taken away since the last time is missed at once."""
    bench = Bench()
    entry = database(external_id="agreed")
    assert outcomes(await bench.run(entry))[-1] == ("issue", "ok")
    bench.sts.roles.clear()
    assert outcomes(await bench.run(entry))[-1] == ("role 1", "failed")
    assert bench.sts.base_reads == 2


async def test_in_the_brokers_own_account_no_other_credential_is_dropped() -> None:
    """Its keys sign for everybody there, and AWS counts logins with new tokens."""
    bench = Bench()
    base = await bench.sts.base_session()

    async def same() -> AccountSession:
        return base

    bench.sts.base_session = same  # type: ignore[method-assign]
    hosts = {name: f"{name}.x.us-west-1.rds.amazonaws.com" for name in ("orders", "users")}
    entries = [database(name=name, host=host, role_arn="", account_id="") for name, host in hosts.items()]
    issuer, key = bench.diagnoser._issuers[Product.RDS], ChainKey(partition="aws", sts_region="us-west-1")
    before = [await issuer.issue(each, request(name=each.name), key, base) for each in entries]
    bench.clock.advance(5)
    assert (await bench.run(entries[0], db_user="app"))[-1].outcome is Outcome.OK
    after = [await issuer.issue(each, request(name=each.name), key, base) for each in entries]
    assert after[0].issued_at > before[0].issued_at
    assert after[1] is before[1]


async def test_a_denied_role_names_both_policies_and_never_the_external_id() -> None:
    steps = await Bench().run(database(external_id="another-one"))
    failed = steps[-1]
    assert (failed.step, failed.reason) == ("role 1", Reason.ASSUME_ROLE_DENIED)
    assert len(failed.causes) == 5
    assert "external_id" in failed.causes[2]
    own, trust = statements(failed)
    assert own == (PRINCIPAL, False, {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE})
    assert trust[:2] == (ROLE, True)
    assert trust[2]["Principal"] == {"AWS": PRINCIPAL}
    assert trust[2]["Condition"] == {"StringEquals": {"sts:ExternalId": "<external_id>"}}
    assert "another-one" not in repr(steps)


async def test_missing_tag_session_is_told_apart_from_a_missing_assume_role() -> None:
    bench = Bench()
    bench.sts.no_tags = {ROLE}
    steps = await bench.run(database(external_id="agreed", attribution=Attribution.WORKLOAD), workload=WORKLOAD)
    failed = steps[-1]
    assert failed.step == "role 1"
    assert len(failed.causes) == 1
    assert "sts:TagSession" in failed.causes[0]
    assert "attribution: workload" in failed.causes[0]
    assert all(said["Action"] == "sts:TagSession" for _, _, said in statements(failed))


async def test_a_denied_role_with_tags_that_fails_without_them_too_claims_no_cause() -> None:
    steps = await Bench().run(database(external_id="wrong", attribution=Attribution.WORKLOAD), workload=WORKLOAD)
    assert len(steps[-1].causes) == 5


async def test_no_identity_of_its_own_ends_the_walk_at_the_base() -> None:
    bench = Bench()
    bench.sts.base_dead = True
    steps = await bench.run(database())
    assert outcomes(steps)[-1] == ("base", "failed")
    assert steps[-1].reason is Reason.BASE_CREDENTIALS_MISSING


async def test_a_workload_that_no_rule_lets_in_is_told_and_the_rest_is_tried_all_the_same() -> None:
    steps = await Bench().run(database(external_id="agreed"), workload="spiffe://elsewhere/x")
    assert outcomes(steps)[1] == ("access", "failed")
    assert outcomes(steps)[-1] == ("issue", "ok")


async def test_the_user_is_one_that_a_rule_names_in_full() -> None:
    steps = await Bench().run(database(external_id="agreed"))
    assert "Token for app," in steps[-1].detail


async def test_without_a_rule_the_user_must_be_given() -> None:
    bench = Bench()
    bench.diagnoser = Diagnoser(
        policy=lambda: Policy(version="p2"),
        sts=bench.sts,
        issuers=issuers(bench.clock),
        sts_region="us-west-1",
        monotonic=bench.clock.monotonic,
    )
    steps = await bench.run(database(external_id="agreed"))
    assert "--db-user" in steps[-1].detail
    assert bench.sts.assumed == []


async def test_what_aws_refuses_to_make_names_the_statement_of_the_role() -> None:
    bench = Bench()
    entry = database(external_id="agreed", product=Product.REDSHIFT, ids={"redshift.cluster_id": "wh"})
    call = Call(
        operation="redshift:GetClusterCredentials",
        signer=await bench.sts.base_session(),
        region="us-west-1",
        skew_seconds=0,
    )
    fault = AwsFault(Kind.DENIED, "AccessDenied")
    bench.redshift.faults.append(login_refusal(fault, call, "cluster wh", "a statement"))
    failed = (await bench.run(entry, db_name="dev"))[-1]
    assert (failed.step, failed.reason) == ("issue", Reason.CREDENTIAL_DENIED)
    ((owner, trust, said),) = statements(failed)
    assert (owner, trust) == ("arn:aws:iam::222222222222:role/access", False)
    assert said["Action"] == "redshift:GetClusterCredentials"


async def test_a_session_in_another_account_is_a_failure() -> None:
    failed = (await Bench().run(database(external_id="agreed", account_id="333333333333")))[-1]
    assert (failed.step, failed.reason) == ("role 1", Reason.ACCOUNT_MISMATCH)


async def test_a_role_in_another_partition_is_not_even_asked_for() -> None:
    bench = Bench()
    failed = (await bench.run(database(role_arn="arn:aws-cn:iam::222222222222:role/access", partition="aws-cn")))[-1]
    assert failed.reason is Reason.PARTITION_MISMATCH
    assert bench.sts.assumed == []


@pytest.mark.parametrize(
    ("finding", "outcome"),
    [
        (AwsFinding(ok=True, detail="app logs in with IAM"), "ok"),
        (AwsFinding(ok=False, detail="app has a password of its own"), "failed"),
        (AwsFinding(ok=None, detail="elasticache:DescribeUsers is not allowed"), "warning"),
    ],
)
async def test_whether_a_cache_user_is_an_iam_user_is_a_step(finding: AwsFinding, outcome: str) -> None:
    async def check(_database: RegisteredDatabase, _user: str, _session: AccountSession) -> AwsFinding:
        return finding

    entry = database(
        external_id="agreed", product=Product.ELASTICACHE, ids={"elasticache.replication_group_id": "my-rg"}
    )
    steps = await Bench(check).run(entry)
    assert ("user", outcome) in outcomes(steps)
    assert outcomes(steps)[-1] == ("issue", "ok")


@pytest.mark.parametrize(
    ("finding", "outcome"),
    [
        (AwsFinding(ok=True, detail="AWS names this endpoint"), "ok"),
        (AwsFinding(ok=None, detail="rds:DescribeDBInstances is not allowed"), "warning"),
    ],
)
async def test_what_aws_tells_of_the_database_is_a_step_and_stops_nothing(finding: AwsFinding, outcome: str) -> None:
    asked: list[str] = []

    async def check(_database: RegisteredDatabase, own_arn: str) -> AwsFinding | None:
        asked.append(own_arn)
        return finding

    steps = await Bench(check_metadata=check).run(database(external_id="agreed"))
    assert outcomes(steps)[-2:] == [("metadata", outcome), ("issue", "ok")]
    assert asked == [BROKER_ARN]


async def test_the_broker_is_named_by_its_role() -> None:
    """A session's ARN is no principal of a policy."""
    steps = await Bench().run(database(external_id="wrong"))
    assert BROKER_ARN in steps[1].detail
    assert steps[-1].statements[0].attach_to == PRINCIPAL


async def test_few_diagnoses_run_together() -> None:
    """Each makes calls of its own, past all caches, and an operator may ask for any number."""
    bench = Bench()
    bench.sts.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE + 3):
            group.create_task(bench.run(database(external_id="agreed")))
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(bench.sts.assumed) == AT_ONCE
        bench.sts.gate.set()
    assert len(bench.sts.assumed) == AT_ONCE + 3
