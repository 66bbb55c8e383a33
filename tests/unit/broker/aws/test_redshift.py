"""Redshift's APIs through the SDK, against a stub that checks signatures itself."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.audit import CallCounters
from broker.aws.clients import SkewMeter
from broker.aws.redshift import BotoRedshift
from broker.errors import BrokerError
from broker.model import AccountSession
from broker.policies.statements import Place
from broker.sessions.errors import SessionGone
from tests.support.clock import FakeClock
from tests.support.redshift_api import Fault, RedshiftApi, running
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

PLACE = Place(partition="aws", region="eu-central-1", account_id="222222222222")
ARN = "arn:aws:sts::222222222222:assumed-role/analyst/w1"
SECRETS = ("the-secret", "the-token", "made/")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def api(clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RedshiftApi]:
    with running(clock.now) as api:
        api.add("ASIAONE", "the-secret", "the-token", "analyst")
        for name in ("REDSHIFT", "REDSHIFT_SERVERLESS"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", api.url)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("no_proxy", "*")
        yield api


@pytest.fixture
def counters() -> CallCounters:
    return CallCounters()


@pytest.fixture
async def redshift(api: RedshiftApi, clock: FakeClock, counters: CallCounters) -> AsyncIterator[BotoRedshift]:
    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    redshift = BotoRedshift(clock=clock, counters=counters, skew=SkewMeter(), sleep=sleep)
    yield redshift
    redshift.close()


@pytest.fixture
def session(clock: FakeClock) -> AccountSession:
    return AccountSession(
        access_key_id="ASIAONE",
        secret_key=Secret("the-secret"),
        session_token=Secret("the-token"),
        arn=ARN,
        account_id="222222222222",
        issued_at=clock.now(),
        expires_at=clock.now() + timedelta(hours=1),
    )


async def as_user(
    redshift: BotoRedshift, session: AccountSession, *, cluster: str = "wh", groups: tuple[str, ...] = ()
) -> str:
    login = await redshift.user_login(session, PLACE, cluster=cluster, db_user="app", db_name="dev", db_groups=groups)
    return login.user


async def refused(redshift: BotoRedshift, session: AccountSession, cluster: str = "wh") -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await as_user(redshift, session, cluster=cluster)
    assert not [secret for secret in SECRETS if secret in caught.value.message + str(caught.value.metadata)]
    return caught.value


async def test_a_database_user_is_never_made(
    api: RedshiftApi, redshift: BotoRedshift, session: AccountSession, clock: FakeClock
) -> None:
    login = await redshift.user_login(
        session, PLACE, cluster="wh", db_user="app", db_name="dev", db_groups=("etl", "readers")
    )
    assert login.user == "IAM:app"
    assert login.password == Secret("made/1<&>+=é")
    assert login.expires_at == clock.now().replace(microsecond=0) + timedelta(seconds=900)
    assert login.expires_at.utcoffset() == timedelta(0)
    [seen] = api.seen
    assert (seen.operation, seen.region, seen.role) == ("GetClusterCredentials", "eu-central-1", "analyst")
    assert seen.params == {
        "ClusterIdentifier": "wh",
        "DbUser": "app",
        "DbName": "dev",
        "AutoCreate": "false",
        "DurationSeconds": "900",
        "DbGroups.DbGroup.1": "etl",
        "DbGroups.DbGroup.2": "readers",
    }


async def test_what_is_not_named_is_not_sent(api: RedshiftApi, redshift: BotoRedshift, session: AccountSession) -> None:
    await redshift.user_login(session, PLACE, cluster="wh", db_user="app", db_name="", db_groups=())
    await redshift.role_login(session, PLACE, cluster="wh", db_name="")
    await redshift.workgroup_login(session, PLACE, workgroup="wg-1", db_name="")
    for seen in api.seen:
        assert not {"DbName", "dbName", "DbGroups.DbGroup.1"} & set(seen.params)


async def test_a_role_logs_in_as_itself(api: RedshiftApi, redshift: BotoRedshift, session: AccountSession) -> None:
    login = await redshift.role_login(session, PLACE, cluster="wh", db_name="dev")
    assert login.user == "IAMR:analyst"
    assert api.seen[0].operation == "GetClusterCredentialsWithIAM"
    assert api.seen[0].params == {"ClusterIdentifier": "wh", "DbName": "dev", "DurationSeconds": "900"}


async def test_a_workgroup_speaks_json(
    api: RedshiftApi, redshift: BotoRedshift, session: AccountSession, clock: FakeClock
) -> None:
    login = await redshift.workgroup_login(session, PLACE, workgroup="wg-1", db_name="dev")
    assert (login.user, login.password) == ("IAMR:analyst", Secret("made/1<&>+=é"))
    assert login.expires_at == clock.now().replace(microsecond=0) + timedelta(seconds=900)
    assert api.seen[0].params == {"workgroupName": "wg-1", "dbName": "dev", "durationSeconds": 900}


async def test_two_sessions_at_once_sign_for_themselves(
    api: RedshiftApi, redshift: BotoRedshift, session: AccountSession
) -> None:
    api.add("ASIATWO", "second", "token-2", "other")
    other = AccountSession(
        access_key_id="ASIATWO",
        secret_key=Secret("second"),
        session_token=Secret("token-2"),
        arn=ARN.replace("analyst", "other"),
        account_id="222222222222",
        issued_at=session.issued_at,
        expires_at=None,
    )
    logins = await asyncio.gather(
        *(redshift.role_login(who, PLACE, cluster="wh", db_name="dev") for who in (session, other) * 20)
    )
    assert [login.user for login in logins] == ["IAMR:analyst", "IAMR:other"] * 20


async def test_denied_names_the_statement_that_is_missing(
    api: RedshiftApi, redshift: BotoRedshift, session: AccountSession
) -> None:
    api.denied_roles.add("analyst")
    error = await refused(redshift, session)
    assert error.reason is Reason.CREDENTIAL_DENIED
    assert ARN in error.message
    statement = (
        '{"Effect":"Allow","Action":"redshift:GetClusterCredentials","Resource":'
        '["arn:aws:redshift:eu-central-1:222222222222:dbuser:wh/app",'
        '"arn:aws:redshift:eu-central-1:222222222222:dbname:wh/dev"]}'
    )
    assert statement in error.message
    with pytest.raises(BrokerError) as caught:
        await as_user(redshift, session, groups=("etl",))
    assert '"redshift:JoinGroup"' in caught.value.message
    assert "arn:aws:redshift:eu-central-1:222222222222:dbgroup:wh/etl" in caught.value.message
    with pytest.raises(BrokerError) as caught:
        await redshift.role_login(session, PLACE, cluster="wh", db_name="dev")
    assert "redshift:GetClusterCredentialsWithIAM" in caught.value.message
    with pytest.raises(BrokerError) as caught:
        await redshift.workgroup_login(session, PLACE, workgroup="wg-1", db_name="dev")
    assert caught.value.reason is Reason.CREDENTIAL_DENIED
    assert '"redshift-serverless:GetCredentials"' in caught.value.message
    assert "arn:aws:redshift-serverless:eu-central-1:222222222222:workgroup/" in caught.value.message
    assert api.seen == [], "and a denial is not tried again"


async def test_a_cluster_or_workgroup_that_is_not_there(
    api: RedshiftApi, redshift: BotoRedshift, session: AccountSession
) -> None:
    error = await refused(redshift, session, cluster="other")
    assert error.reason is Reason.CREDENTIAL_INVALID
    assert "cluster other in eu-central-1 (ClusterNotFound: Cluster other not found.)" in error.message
    with pytest.raises(BrokerError) as caught:
        await redshift.workgroup_login(session, PLACE, workgroup="wg-2", db_name="dev")
    assert caught.value.reason is Reason.CREDENTIAL_INVALID
    assert "ResourceNotFoundException" in caught.value.message
    with pytest.raises(BrokerError) as caught:
        await redshift.workgroup_login(session, PLACE, workgroup="W", db_name="dev")
    assert caught.value.reason is Reason.CREDENTIAL_INVALID, "what the SDK does not send"
    assert len(api.seen) == 2


async def test_keys_that_redshift_does_not_know_are_for_the_sessions_to_mend(
    api: RedshiftApi, redshift: BotoRedshift, session: AccountSession
) -> None:
    api.keys.clear()
    error = await refused(redshift, session)
    assert isinstance(error, SessionGone)
    assert error.reason is Reason.CREDENTIAL_DENIED
    assert ARN in error.message


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(400, "Throttling", "Rate exceeded"), Reason.AWS_THROTTLED),
        (Fault(400, "ThrottlingException"), Reason.AWS_THROTTLED),
        (Fault(503, "ServiceUnavailable"), Reason.AWS_UNAVAILABLE),
        (Fault(500, "Whatever"), Reason.AWS_UNAVAILABLE),
        (Fault(200, "", body=b"<html>not what was asked for"), Reason.AWS_UNAVAILABLE),
        (Fault(502, "", body=b"<html>Bad Gateway"), Reason.AWS_UNAVAILABLE),
    ],
)
async def test_what_passes_is_tried_again_and_then_said(
    api: RedshiftApi,
    redshift: BotoRedshift,
    session: AccountSession,
    counters: CallCounters,
    fault: Fault,
    reason: Reason,
) -> None:
    api.faults = [fault]
    assert await as_user(redshift, session) == "IAM:app"
    assert counters.calls == {"redshift:GetClusterCredentials": 2}
    api.faults = [fault] * 3
    error = await refused(redshift, session)
    assert error.reason is reason
    assert "STS" not in error.message
    assert (counters.retries, counters.calls["redshift:GetClusterCredentials"]) == (3, 5)


async def test_serverless_errors_are_judged_by_code(
    api: RedshiftApi, redshift: BotoRedshift, session: AccountSession
) -> None:
    api.faults = [Fault(400, "InternalServerException")] * 3
    with pytest.raises(BrokerError) as caught:
        await redshift.workgroup_login(session, PLACE, workgroup="wg-1", db_name="dev")
    assert caught.value.reason is Reason.AWS_UNAVAILABLE
    assert "Redshift Serverless in eu-central-1" in caught.value.message


async def test_an_answer_without_a_password_is_no_password(
    api: RedshiftApi, redshift: BotoRedshift, session: AccountSession
) -> None:
    inner = b"<GetClusterCredentialsResult><DbUser>IAM:app</DbUser></GetClusterCredentialsResult>"
    body = b"<GetClusterCredentialsResponse>" + inner + b"</GetClusterCredentialsResponse>"
    api.faults = [Fault(200, "", body=body)]
    assert (await refused(redshift, session)).reason is Reason.AWS_UNAVAILABLE


async def test_nobody_there(redshift: BotoRedshift, session: AccountSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT", "http://127.0.0.1:9")
    error = await refused(redshift, session)
    assert error.reason is Reason.AWS_UNAVAILABLE
    assert "Redshift in eu-central-1 at http://127.0.0.1:9" in error.message


async def test_a_wrong_clock_is_corrected_by_the_answer(
    api: RedshiftApi, redshift: BotoRedshift, session: AccountSession, clock: FakeClock
) -> None:
    api.now = lambda: clock.now() + timedelta(hours=1)
    assert await as_user(redshift, session) == "IAM:app"
    assert len(api.seen) == 1


async def test_threads_of_its_own(redshift: BotoRedshift, session: AccountSession) -> None:
    await as_user(redshift, session)
    names = {thread.name.rpartition("_")[0] for thread in threading.enumerate()}
    assert "redshift" in names
    assert "sts" not in names


async def test_passwords_do_not_reach_the_log(
    redshift: BotoRedshift, session: AccountSession, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await as_user(redshift, session)
        await redshift.workgroup_login(session, PLACE, workgroup="wg-1", db_name="dev")
    assert not [secret for secret in SECRETS if secret in caplog.text]
