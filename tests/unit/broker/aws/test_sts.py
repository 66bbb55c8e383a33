from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.audit import Counters
from broker.aws.sts import BotoSts
from broker.errors import BrokerError
from broker.model import AccountSession, Hop
from broker.sessions.errors import SessionGone
from tests.support.clock import FakeClock
from tests.unit.broker.aws.stub import BASE_ARN, BROKER_USER, EXTERNAL_ID, ROLE, Answer, Aws
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

HOP = Hop(role_arn=ROLE, session_name="tollbridge", duration_seconds=3600, external_id=Secret(EXTERNAL_ID))

pytestmark = pytest.mark.usefixtures("user_keys")


async def refused(sts: BotoSts, parent: AccountSession, hop: Hop = HOP) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await sts.assume_role(parent, hop, "eu-central-1")
    assert EXTERNAL_ID not in caught.value.message
    assert EXTERNAL_ID not in str(caught.value.metadata)
    return caught.value


async def test_a_role_is_assumed_with_every_input_of_the_hop(aws: Aws, sts: BotoSts) -> None:
    hop = replace(HOP, tags=(("team", "a/b"),), session_policy='{"Version":"2012-10-17"}', duration_seconds=7200)
    session = await sts.assume_role(await sts.base_session(), hop, "eu-central-1")
    assert aws.calls[-1] == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "tollbridge",
        "DurationSeconds": "7200",
        "ExternalId": EXTERNAL_ID,
        "Tags.member.1.Key": "team",
        "Tags.member.1.Value": "a/b",
        "Policy": '{"Version":"2012-10-17"}',
    }
    assert session.account_id == "222222222222"
    assert session.arn == "arn:aws:sts::222222222222:assumed-role/access/tollbridge"
    assert session.expires_at is not None
    assert session.expires_at.utcoffset() == timedelta(0)


async def test_a_second_hop_is_signed_by_the_first_and_capped_at_an_hour(aws: Aws, sts: BotoSts) -> None:
    aws.roles["arn:aws:iam::222222222222:role/next"] = ""
    first = await sts.assume_role(await sts.base_session(), HOP, "eu-central-1")
    hop = Hop(role_arn="arn:aws:iam::222222222222:role/next", session_name="w1", duration_seconds=43200)
    second = await sts.assume_role(first, hop, "eu-central-1")
    assert second.arn.endswith(":assumed-role/next/w1")
    assert aws.calls[-1]["DurationSeconds"] == "3600"
    assert "ExternalId" not in aws.calls[-1]


async def test_denied_lists_every_cause_and_claims_none(aws: Aws, sts: BotoSts) -> None:
    base = replace(await sts.base_session(), arn="arn:aws:sts::111111111111:assumed-role/broker/i-1")
    error = await refused(sts, base, replace(HOP, external_id=Secret("wrong-external-id")))
    assert error.reason is Reason.ASSUME_ROLE_DENIED
    for words in (
        "AWS does not say why",
        '{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"arn:aws:iam::222222222222:role/access"}',
        '"Principal":{"AWS":"arn:aws:iam::111111111111:role/broker"}',
        '"sts:ExternalId":"<external_id>"',
        "does not exist",
        "service control policy",
    ):
        assert words in error.message
    assert "check the role's name, the external ID and both sides' policies: (1)" in error.message[:300]
    assert "wrong-external-id" not in error.message
    assert error.metadata["role"] == ROLE
    assert "(1) the policy of arn:aws:iam::111111111111:role/broker has" in error.message
    without = await refused(sts, base, replace(HOP, external_id=Secret(""), tags=(("a", "b"),)))
    assert "none is configured" in without.message
    assert "sts:TagSession" in without.message
    assert len(aws.calls) == 3, "a denial is not tried again"


async def test_the_text_of_an_error_decides_nothing(aws: Aws, sts: BotoSts) -> None:
    base = await sts.base_session()
    aws.answers = [Answer(403, "AccessDenied", "Rate exceeded; the security token included in the request is expired")]
    assert (await refused(sts, base)).reason is Reason.ASSUME_ROLE_DENIED


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "ExpiredTokenException"])
async def test_a_session_that_is_gone(aws: Aws, sts: BotoSts, code: str) -> None:
    base = await sts.base_session()
    aws.answers = [Answer(403, code, "x")]
    assert isinstance(await refused(sts, base), SessionGone)
    aws.answers = [Answer(403, code, "x")]
    assert await sts.is_alive(base, "eu-central-1") is False
    assert await sts.is_alive(base, "") is True


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, "Throttling", "Rate exceeded"),
        Answer(503, "RequestLimitExceeded"),
        Answer(500, "InternalFailure"),
        Answer(502, "WhoKnows"),
        Answer(429, "WhoKnows"),
        Answer(200, body=b"<html>not what you think"),
    ],
)
async def test_what_passes_is_tried_again(
    aws: Aws, sts: BotoSts, counters: Counters, slept: list[float], answer: Answer
) -> None:
    base = await sts.base_session()
    aws.answers = [answer, answer]
    await sts.assume_role(base, HOP, "eu-central-1")
    assert counters.sts.calls["AssumeRole"] == 3
    assert len(slept) == 2
    assert all(0 <= seconds <= 2 for seconds in slept)


@pytest.mark.parametrize(
    "body",
    [
        b"<html></html>",
        b"<{action}Response/>",
        b"<{action}Response><{action}Result/></{action}Response>",
        b"<{action}Response><{action}Result><Arn>no</Arn><Credentials/></{action}Result></{action}Response>",
    ],
)
async def test_an_answer_that_is_not_awss_is_no_answer(aws: Aws, sts: BotoSts, body: bytes) -> None:
    """Some gateway's page, which must not end a broker at its start, nor be asked for by every login anew."""
    base = await sts.base_session()
    aws.answers = [Answer(200, body=body.replace(b"{action}", b"AssumeRole"))] * 3
    assert (await refused(sts, base)).reason is Reason.AWS_UNAVAILABLE
    aws.answers = [Answer(200, body=body.replace(b"{action}", b"GetCallerIdentity"))] * 3
    with pytest.raises(BrokerError) as caught:
        await sts.base_session()
    assert caught.value.reason is Reason.AWS_UNAVAILABLE
    aws.answers = []
    assert (await sts.base_session()).arn == base.arn


async def test_attempts_are_bounded_and_the_reason_is_told(aws: Aws, sts: BotoSts, counters: Counters) -> None:
    base = await sts.base_session()
    aws.answers = [Answer(400, "Throttling")] * 3
    assert (await refused(sts, base)).reason is Reason.AWS_THROTTLED
    aws.answers = [Answer(500, "InternalFailure")] * 3
    assert (await refused(sts, base)).reason is Reason.AWS_UNAVAILABLE
    assert counters.sts.calls["AssumeRole"] == 6


async def test_retries_have_a_budget(aws: Aws, sts: BotoSts, counters: Counters) -> None:
    base = await sts.base_session()
    aws.answers = [Answer(400, "Throttling")] * 100
    for _ in range(20):
        await refused(sts, base)
    assert counters.sts.retries <= 10 + 20
    assert counters.sts.retries_withheld > 0
    assert counters.sts.calls["AssumeRole"] < 60


async def test_nobody_listens(aws: Aws, clock: FakeClock, counters: Counters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")

    async def no_wait(seconds: float) -> None:
        pass

    sts = BotoSts(clock=clock, region="eu-central-1", counters=counters, sleep=no_wait)
    with pytest.raises(BrokerError) as caught:
        await sts.base_session()
    sts.close()
    assert caught.value.reason is Reason.AWS_UNAVAILABLE
    assert "http://127.0.0.1:1" in caught.value.message


async def test_parameters_that_make_no_sense(aws: Aws, sts: BotoSts) -> None:
    base = await sts.base_session()
    error = await refused(sts, base, replace(HOP, duration_seconds=1))
    assert error.reason is Reason.ASSUME_ROLE_INVALID
    aws.answers = [Answer(400, "ValidationError", f"Value '{EXTERNAL_ID}' at 'externalId' failed; MaxSessionDuration")]
    error = await refused(sts, base)
    assert error.reason is Reason.ASSUME_ROLE_INVALID
    assert "MaxSessionDuration" in error.message
    long = "L" * 400
    aws.answers = [Answer(400, "ValidationError", f"Value '{long}' at 'externalId' failed to satisfy constraint")]
    assert "LLLL" not in (await refused(sts, base, replace(HOP, external_id=Secret(long)))).message
    aws.answers = [Answer(403, "RegionDisabledException")]
    assert "eu-central-1" in (await refused(sts, base)).message


@pytest.mark.parametrize("ahead", [4000.0, -4000.0])
async def test_skew_is_measured_on_the_refusal_corrected_and_reported(aws: Aws, sts: BotoSts, ahead: float) -> None:
    aws.ahead_seconds = ahead
    base = await sts.base_session()
    assert abs(sts.clock_skew_seconds() - ahead) < 3
    session = await sts.assume_role(base, HOP, "eu-central-1")
    assert abs((session.issued_at - aws.now).total_seconds()) < 3
    assert len(aws.calls) == 3, "one refusal, one identity, one session"


async def test_skew_that_cannot_be_corrected_is_reported_in_seconds(aws: Aws, sts: BotoSts) -> None:
    base = await sts.base_session()
    aws.ahead_seconds = 600
    aws.answers = [Answer(403, "SignatureDoesNotMatch")] * 2
    error = await refused(sts, base)
    assert error.reason is Reason.CLOCK_SKEWED
    assert "600 s behind" in error.message or "599 s behind" in error.message


async def test_noise_is_no_skew(aws: Aws, sts: BotoSts) -> None:
    aws.ahead_seconds = 1.0
    await sts.base_session()
    assert sts.clock_skew_seconds() == 0.0


async def test_nothing_secret_reaches_a_log(aws: Aws, sts: BotoSts, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        base = await sts.base_session()
        session = await sts.assume_role(base, HOP, "eu-central-1")
        await refused(sts, base, replace(HOP, role_arn="arn:aws:iam::222222222222:role/none"))
    for secret in (session.secret_key, session.session_token, base.secret_key):
        assert secret.reveal() not in caplog.text
    assert EXTERNAL_ID not in caplog.text


def test_regional_endpoints_by_default(
    clock: FakeClock, counters: Counters, monkeypatch: pytest.MonkeyPatch, aws: Aws
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    sts = BotoSts(clock=clock, region="eu-central-1", counters=counters)
    for region, url in (
        ("eu-central-1", "https://sts.eu-central-1.amazonaws.com"),
        ("us-east-1", "https://sts.us-east-1.amazonaws.com"),
        ("cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn"),
    ):
        assert sts._clients._client("sts", region).meta.endpoint_url == url
    sts.close()


def test_the_arns_of_the_stub_are_what_aws_shows() -> None:
    assert BROKER_USER.split(":")[4] == BASE_ARN.split(":")[4]


async def test_no_more_calls_at_once_than_there_are_workers(clock: FakeClock, counters: Counters) -> None:
    sts = BotoSts(clock=clock, region="eu-central-1", counters=counters, workers=2)
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1

    await asyncio.gather(*(sts._clients.in_thread(work) for _ in range(8)))
    sts.close()
    assert most == 2
