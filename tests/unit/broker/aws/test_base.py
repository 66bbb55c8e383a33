"""Each source of base credentials issues one token."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from broker.access.model import Decision, Policy
from broker.app import sts_region
from broker.audit import Audit, Counters
from broker.aws.base import profile_region
from broker.aws.sts import BotoSts
from broker.errors import BrokerError
from broker.grants import Grants
from broker.sessions.pool import Pool
from broker.settings import Settings
from tests.support.clock import FakeClock
from tests.unit.broker.aws.stub import BASE_ARN, BROKER_USER, EXTERNAL_ID, ROLE, Aws
from tests.unit.broker.grants.bridges import Registered
from tests.unit.broker.issuers.databases import database, request
from tests.unit.broker.issuers.fakes import issuers
from tests.unit.broker.sessions.fakes import half
from tollbridge.reasons import Reason

Environment = dict[str, str]


def environment(aws: Aws, tmp_path: Path) -> Environment:
    return {"AWS_ACCESS_KEY_ID": "AKIABASE", "AWS_SECRET_ACCESS_KEY": "base-secret"}


def shared_files(aws: Aws, tmp_path: Path) -> Environment:
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = other\n"
        "[bridge]\naws_access_key_id = AKIABASE\naws_secret_access_key = base-secret\n"
    )
    return {"AWS_SHARED_CREDENTIALS_FILE": str(path), "AWS_PROFILE": "bridge"}


def web_identity(aws: Aws, tmp_path: Path) -> Environment:
    path = tmp_path / "token"
    path.write_text("a-token")
    return {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(path),
        "AWS_ROLE_ARN": "arn:aws:iam::111111111111:role/broker",
        "AWS_ROLE_SESSION_NAME": "i-1",
    }


def container(aws: Aws, tmp_path: Path) -> Environment:
    path = tmp_path / "authorization"
    path.write_text("container-token")
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{aws.url}/container",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(path),
    }


def imds(aws: Aws, tmp_path: Path) -> Environment:
    return {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{aws.url}/"}


@pytest.mark.parametrize(
    ("source", "name", "arn", "ends"),
    [
        (environment, "env", BROKER_USER, False),
        (shared_files, "shared-credentials-file", BROKER_USER, False),
        (web_identity, "assume-role-with-web-identity", BASE_ARN, True),
        (container, "container-role", BASE_ARN, True),
        (imds, "iam-role", BASE_ARN, True),
    ],
)
async def test_every_source_issues_a_token(
    aws: Aws,
    sts: BotoSts,
    clock: FakeClock,
    counters: Counters,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: object,
    name: str,
    arn: str,
    ends: bool,
) -> None:
    assert callable(source)
    for variable, value in source(aws, tmp_path).items():
        monkeypatch.setenv(variable, value)

    def allow(policy: Policy, **_: object) -> Decision:
        return Decision(allowed=True, rule="r")

    pool = Pool(sts=sts, clock=clock, jitter=half, counters=counters)
    lines: list[str] = []
    grants = Grants(
        registry=Registered({"orders": database(external_id=EXTERNAL_ID)}),
        policy=lambda: Policy(version="1"),
        evaluate=allow,
        pool=pool,
        issuers=issuers(clock, counters, now=pool.now),
        audit=Audit(sink=lines.append, counters=counters),
        jitter=half,
        sts_region="eu-central-1",
    )
    base = await pool.base_session()
    assert (base.arn, base.account_id) == (arn, "111111111111")
    assert (base.expires_at is not None) is ends
    assert sts.base_source == name
    grant = await grants.issue(request())
    assert aws.calls[-1]["Action"] == "AssumeRole"
    assert aws.calls[-1]["RoleArn"] == ROLE
    query = dict(parse_qsl(urlsplit("https://" + grant.token.password.reveal()).query))
    made = query["X-Amz-Credential"].split("/")[0]
    assert aws.keys[made].arn == "arn:aws:sts::222222222222:assumed-role/access/tollbridge"
    assert query["X-Amz-Security-Token"] == aws.keys[made].token
    await pool.close()


async def refused(sts: BotoSts) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await sts.base_session()
    assert caught.value.reason is Reason.BASE_CREDENTIALS_MISSING
    return caught.value


async def test_no_source_at_all_is_said_with_what_to_do(sts: BotoSts) -> None:
    assert "instance profile" in (await refused(sts)).message


async def test_a_profile_that_is_not_there(sts: BotoSts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    assert "nowhere" in (await refused(sts)).message


async def test_half_a_key(sts: BotoSts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
    assert "PartialCredentials" in (await refused(sts)).message


async def test_a_token_file_that_is_not_there(
    aws: Aws, sts: BotoSts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in web_identity(aws, tmp_path).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "token").unlink()
    assert "No such file" in (await refused(sts)).message
    (tmp_path / "token").write_text("a-wrong-token")
    error = await refused(sts)
    assert "InvalidIdentityToken" in error.message
    assert "a-wrong-token" not in error.message


async def test_a_container_that_refuses(
    aws: Aws, sts: BotoSts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in container(aws, tmp_path).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "authorization").write_text("wrong")
    await refused(sts)


async def test_keys_that_expired_before_they_were_read(
    sts: BotoSts, user_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z")
    await refused(sts)


async def test_keys_that_aws_does_not_know(sts: BotoSts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFORGOTTEN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-mine")
    error = await refused(sts)
    assert "...TTEN" in error.message
    assert "InvalidClientTokenId" in error.message
    assert "a-secret-of-mine" not in error.message


async def test_a_secret_of_another_key(sts: BotoSts, user_keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "SignatureDoesNotMatch" in (await refused(sts)).message


async def test_rotated_files_are_seen_at_the_next_reading(
    aws: Aws, sts: BotoSts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in shared_files(aws, tmp_path).items():
        monkeypatch.setenv(name, value)
    assert (await sts.base_session()).access_key_id == "AKIABASE"
    key_id, keys = aws.new_keys(BROKER_USER)
    keys.token = ""
    (tmp_path / "credentials").write_text(
        f"[bridge]\naws_access_key_id = {key_id}\naws_secret_access_key = {keys.secret}\n"
    )
    assert (await sts.base_session()).access_key_id == key_id


def process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str) -> None:
    path = tmp_path / "config"
    path.write_text(f"[default]\ncredential_process = {command}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))


async def test_a_process_that_says_what_the_sdk_does_not_expect(
    sts: BotoSts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    process(monkeypatch, tmp_path, "echo []")
    assert "no usable AWS credentials" in (await refused(sts)).message


async def test_a_process_that_does_not_answer_holds_up_one_thread_and_nobody_for_ever(
    sts: BotoSts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    process(monkeypatch, tmp_path, f"sh -c 'echo >> {started}; sleep 1'")
    monkeypatch.setattr("broker.aws.sts.BASE_SECONDS", 0.3)
    for _ in range(2):
        assert "credential_process" in (await refused(sts)).message
    assert started.read_text() == "\n"


@pytest.mark.usefixtures("aws")
def test_a_region_that_stands_only_in_the_profile_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config"
    path.write_text("[profile bridge]\nregion = ap-south-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    assert profile_region() == ""
    monkeypatch.setenv("AWS_PROFILE", "bridge")
    assert profile_region() == "ap-south-1"
    assert sts_region(Settings()) == "ap-south-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert sts_region(Settings()) == "eu-west-1"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert profile_region() == "", "reading the keys will say what is wrong with it"
