"""SignChallenge decides like IssueCredential, writes its line, and signs for nobody it would not let in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.errors import BrokerError
from broker.issuers import close_issuers
from tests.support.clock import FakeClock
from tests.unit.broker.grants.bridges import Bridge, build
from tests.unit.broker.issuers.databases import database, request
from tests.unit.broker.sessions.fakes import ROLE, Role
from tollbridge.model import Challenge, Product, Protocol, StsChallenge
from tollbridge.reasons import Reason

READER = "arn:aws:iam::222222222222:role/reader"
ASKED = StsChallenge(nonce=bytes(64), host="sts.us-west-1.amazonaws.com")
DOCDB = database(product=Product.DOCDB, protocol=Protocol.MONGODB, role_arn=ROLE)


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    bridge = build(FakeClock(), DOCDB, database(name="pg"))
    bridge.sts.roles[READER] = Role()
    yield bridge
    await close_issuers(bridge.issuers)
    await bridge.pool.close()


async def refused(bridge: Bridge, challenge: StsChallenge = ASKED, **asked: str) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await bridge.grants.sign_challenge(request(**{"db_user": "reader", **asked}), challenge)
    return caught.value


async def test_the_grant_says_where_and_the_proof_says_who(bridge: Bridge) -> None:
    grant = await bridge.grants.issue(request(db_user="reader"))
    assert grant.credential == Challenge(host="sts.us-west-1.amazonaws.com")
    decision_id, proof = await bridge.grants.sign_challenge(request(db_user="reader"), ASKED)
    signer = bridge.audit[-1]["access_key_id"]
    assert f"Credential={signer}/20300101/us-west-1/sts/aws4_request" in proof.authorization.reveal()
    assert [hop.role_arn for _, hop in bridge.sts.assumed] == [ROLE, READER], "one chain for both"
    assert bridge.audit[-1]["decision_id"] == decision_id != grant.decision_id
    assert bridge.audit[-1]["credential_id"] == grant.credential_id


async def test_no_line_shows_what_was_signed(bridge: Bridge) -> None:
    _, proof = await bridge.grants.sign_challenge(request(db_user="reader"), ASKED)
    written = "".join(bridge.lines) + repr(proof)
    for secret in (proof.authorization.reveal()[-64:], proof.session_token.reveal()):
        assert secret not in written


async def test_who_may_not_enter_gets_no_proof(bridge: Bridge) -> None:
    assert (await refused(bridge, db_user="root")).reason is Reason.DENIED_BY_RULE
    assert bridge.audit[-1]["allowed"] is False
    assert not bridge.sts.assumed


async def test_a_foreign_host_gets_no_proof_and_the_refusal_is_audited(bridge: Bridge) -> None:
    error = await refused(bridge, StsChallenge(nonce=bytes(64), host="sts.evil.example"))
    assert error.reason is Reason.INVALID_REQUEST
    assert bridge.audit[-1]["allowed"] is False


async def test_a_database_that_logs_in_with_a_password_asks_nothing(bridge: Bridge) -> None:
    error = await refused(bridge, name="pg", db_user="app")
    assert "IssueCredential" in error.message
    assert not bridge.sts.assumed


async def test_a_user_that_is_no_role_is_refused_before_sts(bridge: Bridge) -> None:
    assert (await refused(bridge, db_user="no such/role")).reason is Reason.INVALID_REQUEST
    assert not bridge.sts.assumed


async def test_a_dead_session_is_replaced_after_one_refused_login(bridge: Bridge) -> None:
    first = await bridge.grants.issue(request(db_user="reader"))
    bridge.sts.recreate(READER)
    again = await bridge.grants.issue(request(db_user="reader", rejected=first.credential_id))
    assert again.credential_id != first.credential_id
    await bridge.grants.sign_challenge(request(db_user="reader"), ASKED)
    assert bridge.audit[-1]["credential_id"] == again.credential_id


async def test_a_living_session_that_is_refused_is_explained(bridge: Bridge) -> None:
    first = await bridge.grants.issue(request(db_user="reader"))
    with pytest.raises(BrokerError, match=r"\$external") as caught:
        await bridge.grants.issue(request(db_user="reader", rejected=first.credential_id))
    assert caught.value.reason is Reason.DATABASE_REFUSED
