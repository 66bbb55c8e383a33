from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from broker.audit import Audit, Counters
from broker.errors import BrokerError
from broker.issuers import close_issuers
from broker.model import Attribution
from tests.support.clock import FakeClock
from tests.unit.broker.grants.bridges import Bridge, build, refused
from tests.unit.broker.issuers.databases import database, request
from tests.unit.broker.sessions.fakes import ROLE, SECOND_ROLE, Role, throttled
from tollbridge.model import Product, Protocol
from tollbridge.reasons import Reason


async def test_an_allowed_request_gets_a_grant_and_a_line(bridge: Bridge) -> None:
    grant = await bridge.grants.issue(request())
    now = bridge.clock.now()
    assert grant.token.user == "app"
    assert grant.token.password.reveal().startswith("orders.abc.us-west-1.rds.amazonaws.com:5432/?Action=connect")
    assert grant.expires_at == now + timedelta(seconds=900)
    assert grant.usable_until == now + timedelta(seconds=840)
    assert now + timedelta(seconds=45) <= grant.recheck_after <= now + timedelta(seconds=60)
    assert grant.policy_version == "v7"
    assert bridge.audit == [
        {
            "event": "decision",
            "time": "2030-01-01T00:00:00.000Z",
            "decision_id": grant.decision_id,
            "caller": "spiffe://example.org/proxy",
            "workload": "spiffe://example.org/ns/shop/sa/api",
            "database": "orders",
            "db_user": "app",
            "db_name": "orders",
            "allowed": True,
            "rule": "shop",
            "policy_version": "v7",
            "role_chain": [ROLE],
            "access_key_id": "ASIA0000000000000002",
            "credential_id": grant.credential_id,
            "expires_at": "2030-01-01T00:15:00.000Z",
        }
    ]


async def test_no_line_holds_a_secret(bridge: Bridge) -> None:
    grant = await bridge.grants.issue(request())
    bridge.sts.roles[ROLE].external_id = "changed"
    await refused(bridge, rejected="f" * 16, db_user="root")
    text = "".join(bridge.lines)
    secrets = ("ext-1", "secret-", "session-token-", "X-Amz-Signature", grant.token.password.reveal())
    assert not [secret for secret in secrets if secret in text]


async def test_one_thousand_logins_of_fifty_workloads_make_one_assume_role(bridge: Bridge) -> None:
    requests = [request(workload=f"spiffe://example.org/w{number % 50}") for number in range(1000)]
    grants = await asyncio.gather(*(bridge.grants.issue(asked) for asked in requests))
    assert len(bridge.sts.assumed) == 1
    assert len({grant.credential_id for grant in grants}) == 1
    assert len({grant.decision_id for grant in grants}) == 1000
    assert len(bridge.lines) == 1000
    assert bridge.counters.issued == 1000
    assert bridge.counters.token_misses == 1


async def test_one_thousand_logins_with_a_denied_role_make_one_assume_role(bridge: Bridge) -> None:
    del bridge.sts.roles[ROLE]
    outcomes = await asyncio.gather(*(bridge.grants.issue(request()) for _ in range(1000)), return_exceptions=True)
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, BrokerError)} == {Reason.ASSUME_ROLE_DENIED}
    assert len(bridge.sts.assumed) == 1
    assert bridge.counters.denied == {Reason.ASSUME_ROLE_DENIED: 1000}
    assert bridge.audit[0]["role_chain"] == [ROLE]


async def test_attribution_gives_each_workload_its_session(bridge: Bridge) -> None:
    bridge.registry.by_name["orders"] = database(attribution=Attribution.WORKLOAD, external_id="ext-1")
    requests = [request(workload=f"spiffe://example.org/w{number % 5}") for number in range(100)]
    grants = await asyncio.gather(*(bridge.grants.issue(asked) for asked in requests))
    assert len({grant.credential_id for grant in grants}) == 5
    assert {hop.session_name for _, hop in bridge.sts.assumed} == {f"example.org,w{n}" for n in range(5)}
    assert len(bridge.sts.assumed) == 5


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"name": "nothing"}, Reason.DATABASE_UNKNOWN),
        ({"db_user": "root"}, Reason.DENIED_BY_RULE),
        ({"db_user": ""}, Reason.INVALID_REQUEST),
        ({"workload": ""}, Reason.INVALID_REQUEST),
        ({"db_user": "a\nb"}, Reason.INVALID_REQUEST),
        ({"db_user": "a\x00"}, Reason.INVALID_REQUEST),
        ({"db_user": "a\u202eb"}, Reason.INVALID_REQUEST),
        ({"db_user": "a\ud800"}, Reason.INVALID_REQUEST),
        ({"db_name": "\x1b[2J"}, Reason.INVALID_REQUEST),
        ({"db_user": "x" * 1025}, Reason.INVALID_REQUEST),
        ({"name": "x" * 256}, Reason.INVALID_REQUEST),
        ({"db_name": "x" * 256}, Reason.INVALID_REQUEST),
        ({"workload": "x" * 2049}, Reason.INVALID_REQUEST),
        ({"db_name": "x" * 64}, Reason.INVALID_REQUEST),  # PostgreSQL would enter "x" * 63
        ({"db_name": "é" * 32}, Reason.INVALID_REQUEST),
        ({"db_user": "x" * 64}, Reason.INVALID_REQUEST),
        ({"rejected": "x" * 65}, Reason.INVALID_REQUEST),
    ],
)
async def test_refusals_have_a_reason_a_line_and_cost_no_call(
    bridge: Bridge, asked: dict[str, str], reason: Reason
) -> None:
    error = await refused(bridge, **asked)
    assert error.reason is reason
    [line] = bridge.audit
    assert line["allowed"] is False
    assert line["reason"] == reason.value
    assert line["message"] == error.message
    assert "\n" not in bridge.lines[0]
    assert len(bridge.lines[0]) < 10_000
    assert bridge.sts.assumed == []


async def test_the_longest_names_are_fine(bridge: Bridge) -> None:
    grant = await bridge.grants.issue(request(db_user="u" * 63, db_name="é" * 31))
    assert grant.token.user == "u" * 63


async def test_names_in_any_script_are_fine(bridge: Bridge) -> None:
    grant = await bridge.grants.issue(request(db_user="søren", db_name="données"))
    assert "DBUser=s%C3%B8ren" in grant.token.password.reveal()


async def test_a_session_of_another_account_is_refused_with_the_fix(bridge: Bridge) -> None:
    bridge.registry.by_name["orders"] = database(account_id="333333333333", external_id="ext-1")
    error = await refused(bridge)
    assert error.reason is Reason.ACCOUNT_MISMATCH
    assert "assume_role_arn" in error.message
    assert "333333333333" in error.message


async def test_the_brokers_own_account_needs_no_role(bridge: Bridge) -> None:
    bridge.registry.by_name["orders"] = database(role_arn="", account_id="111111111111")
    grant = await bridge.grants.issue(request())
    assert bridge.sts.assumed == []
    assert "ASIA0000000000000001" in grant.token.password.reveal()
    bridge.registry.by_name["orders"] = database(role_arn="", account_id="222222222222")
    error = await refused(bridge)
    assert error.reason is Reason.ACCOUNT_MISMATCH
    assert "Set assume_role_arn" in error.message
    bridge.registry.by_name["orders"] = database(role_arn="", account_id="111111111111", partition="aws-cn")
    assert (await refused(bridge)).reason is Reason.PARTITION_MISMATCH


async def test_a_role_made_again_is_healed_by_one_rejected_login(bridge: Bridge) -> None:
    dead = await bridge.grants.issue(request())
    bridge.sts.recreate(ROLE)
    again = await asyncio.gather(*(bridge.grants.issue(request(rejected=dead.credential_id)) for _ in range(100)))
    assert dead.credential_id not in {grant.credential_id for grant in again}
    assert len({grant.credential_id for grant in again}) == 1
    assert len(bridge.sts.checked) == 1
    assert len(bridge.sts.assumed) == 2


async def test_a_refusal_by_a_database_while_the_session_lives_is_explained(bridge: Bridge) -> None:
    grant = await bridge.grants.issue(request())
    for _ in range(20):
        error = await refused(bridge, rejected=grant.credential_id)
        assert error.reason is Reason.DATABASE_REFUSED
    assert "rds_iam" in error.message
    assert "rds-db:connect" in error.message
    assert len(bridge.sts.checked) == 1
    assert bridge.audit[-1]["rejected_credential_id"] == grant.credential_id


async def test_a_credential_that_expired_meanwhile_is_just_replaced(bridge: Bridge) -> None:
    grant = await bridge.grants.issue(request())
    bridge.clock.advance(901)
    again = await bridge.grants.issue(request(rejected=grant.credential_id))
    assert again.credential_id != grant.credential_id


async def test_a_credential_of_another_replica_is_replaced_by_a_new_one(bridge: Bridge) -> None:
    mine = await bridge.grants.issue(request())
    bridge.clock.advance(5)
    again = await bridge.grants.issue(request(rejected="0123456789abcdef"))
    assert again.credential_id != mine.credential_id
    assert len(bridge.sts.checked) == 1
    bridge.clock.advance(31)
    bridge.sts.recreate(ROLE)
    await bridge.grants.issue(request(rejected="0123456789abcdef"))
    assert len(bridge.sts.assumed) == 2


async def test_the_credential_of_another_database_proves_nothing(bridge: Bridge) -> None:
    other = Role()
    bridge.sts.roles["arn:aws:iam::222222222222:role/other"] = other
    bridge.registry.by_name["other"] = database(name="other", role_arn="arn:aws:iam::222222222222:role/other")
    foreign = await bridge.grants.issue(request(name="other"))
    grant = await bridge.grants.issue(request(rejected=foreign.credential_id))
    assert grant.credential_id


async def test_aws_that_does_not_answer_about_a_session_is_said_so(bridge: Bridge) -> None:
    grant = await bridge.grants.issue(request())
    bridge.sts.check_faults = [throttled()]
    assert (await refused(bridge, rejected=grant.credential_id)).reason is Reason.AWS_THROTTLED


async def test_aws_that_does_not_answer_proves_nothing_against_our_own_session(bridge: Bridge) -> None:
    await bridge.grants.issue(request())
    bridge.sts.check_faults = [throttled()]
    assert (await bridge.grants.issue(request(rejected="0123456789abcdef"))).credential_id


async def test_a_session_near_its_end_is_renewed_before_a_token_is_signed(bridge: Bridge) -> None:
    await bridge.grants.issue(request())
    bridge.clock.advance(2750)
    grant = await bridge.grants.issue(request())
    assert grant.expires_at - bridge.clock.now() == timedelta(seconds=900)
    assert len(bridge.sts.assumed) == 2


async def test_a_session_that_cannot_be_renewed_gives_a_shorter_token(bridge: Bridge) -> None:
    await bridge.grants.issue(request())
    bridge.clock.advance(3400)
    bridge.sts.faults = [throttled()]
    grant = await bridge.grants.issue(request())
    now = bridge.clock.now()
    assert grant.expires_at == now + timedelta(seconds=200)
    assert grant.usable_until == now + timedelta(seconds=140)
    assert grant.recheck_after <= grant.usable_until


async def test_all_times_are_on_the_clock_of_aws(bridge: Bridge) -> None:
    bridge.sts.skew_seconds = 400.0
    grant = await bridge.grants.issue(request())
    assert grant.issued_at == bridge.clock.now() + timedelta(seconds=400)
    assert "X-Amz-Date=20300101T000640Z" in grant.token.password.reveal()


async def test_a_bug_is_audited_without_its_text(bridge: Bridge) -> None:
    bridge.sts.faults = [ValueError("holds who knows what")]
    with pytest.raises(ValueError, match="who knows"):
        await bridge.grants.issue(request())
    assert bridge.audit[0]["reason"] == "INTERNAL"
    assert bridge.audit[0]["message"] == "ValueError"


async def test_no_line_no_credential() -> None:
    bridge = build(FakeClock(), database())

    def full(line: str) -> None:
        raise OSError("disk full")

    bridge.grants._audit = Audit(sink=full, counters=Counters())
    with pytest.raises(OSError, match="disk full"):
        await bridge.grants.issue(request())
    await bridge.pool.close()


async def test_a_request_that_ends_before_its_answer_has_its_line(bridge: Bridge) -> None:
    """The caller left, or STS took longer than a call may: who asked for what is to be seen all the same."""
    bridge.sts.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(bridge.grants.issue(request()))
        while not bridge.sts.assumed:  # noqa: ASYNC110 - the loop's own turns are what is waited for
            await asyncio.sleep(0)
        asking.cancel()
    bridge.sts.gate.set()
    (line,) = bridge.audit
    assert (line["allowed"], line["reason"], line["rule"]) == (False, "BROKER_UNAVAILABLE", "shop")
    assert (line["workload"], line["db_user"], line["role_chain"]) == (request().workload, "app", [ROLE])
    assert "before there was an answer" in line["message"]


async def test_a_credential_that_is_nearly_over_is_asked_about_again_before_it_is() -> None:
    """The session that signed it is at its end, and STS gives no other at the moment."""
    clock = FakeClock()
    bridge = build(clock, database(), max_life_seconds=900)
    await bridge.grants.issue(request())
    clock.advance(850)
    bridge.sts.faults = [throttled()]
    grant = await bridge.grants.issue(request(db_user="another"))
    now = clock.now()
    assert now < grant.expires_at <= now + timedelta(seconds=50)
    assert grant.recheck_after == grant.usable_until == now
    await close_issuers(bridge.issuers)
    await bridge.pool.close()


async def test_a_refused_credential_of_another_role_proves_nothing_and_the_right_session_is_looked_at() -> None:
    """Whatever a caller names as refused."""
    bridge = build(FakeClock(), database(), database(name="users", role_arn=SECOND_ROLE))
    bridge.sts.roles[SECOND_ROLE] = Role()
    before = await bridge.grants.issue(request())
    other = await bridge.grants.issue(request(name="users"))
    bridge.sts.recreate(ROLE)
    after = await bridge.grants.issue(request(rejected=other.credential_id))
    assert after.credential_id != before.credential_id
    assert bridge.audit[-1]["access_key_id"] != bridge.audit[0]["access_key_id"]
    assert (await bridge.grants.issue(request(name="users"))).credential_id == other.credential_id
    await close_issuers(bridge.issuers)
    await bridge.pool.close()


async def test_without_an_account_users_are_roles_of_the_brokers_own_and_no_other_is_even_asked_for() -> None:
    """Else whoever may log in there could name a role of any account that trusts the broker."""
    tables = database(product=Product.DYNAMODB, protocol=Protocol.DYNAMODB, role_arn="", account_id="")
    bridge = build(FakeClock(), tables)
    own = "arn:aws:iam::111111111111:role/reader"
    bridge.sts.roles[own] = Role()
    error = await refused(bridge, db_user=ROLE)
    assert (error.reason, bridge.sts.assumed) == (Reason.ACCOUNT_MISMATCH, [])
    assert (await bridge.grants.issue(request(db_user=own))).decision_id
    assert [hop.role_arn for _, hop in bridge.sts.assumed] == [own]
    await close_issuers(bridge.issuers)
    await bridge.pool.close()


async def test_what_a_refused_request_held_is_bounded_in_its_line(bridge: Bridge) -> None:
    await refused(bridge, db_user="x" * 60_000)
    assert bridge.audit[0]["db_user"] == "x" * 2048 + "...(60000 characters)"
    assert len(bridge.lines[0]) < 4096


async def test_credentials_that_were_handed_out_are_remembered_up_to_a_number(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workload may log in as any number of users."""
    monkeypatch.setattr("broker.grants._REMEMBERED_CREDENTIALS", 3)
    grants = [await bridge.grants.issue(request(db_user=f"user-{number}")) for number in range(10)]
    assert list(bridge.grants._signed) == [grant.credential_id for grant in grants[-3:]]
