"""Every place the broker may have its own AWS keys from: each leads to tokens that log in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, Policy, trust_policy
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.conftest import Workshop
from tests.e2e.load import decisions, enter, mtls, refusal

ISSUER: Final = "oidc.eks.us-west-1.amazonaws.com/id/TOLLBRIDGE"
SUBJECT: Final = "system:serviceaccount:tollbridge:broker"
USER: Final = topology.BROKER_USER_ARN
ROLE_SESSION: Final = f"arn:aws:sts::{topology.BROKER_ACCOUNT}:assumed-role/{topology.BROKER_ROLE}/"


def without_keys(world: World) -> dict[str, str]:
    """Where AWS is, and no credentials of any kind."""
    return {name: value for name, value in world.environment().items() if "ACCESS_KEY" not in name}


def from_environment(world: World, _directory: Path) -> dict[str, str]:
    """Keys of an IAM user in the environment."""
    return world.environment()


def profile(name: str, key_id: str, secret: str) -> str:
    """A section of a credentials file."""
    return f"[{name}]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n\n"


def profile_of_broker(name: str, world: World) -> str:
    """With the keys of the broker's user."""
    return profile(name, world.broker_access_key_id, world.broker_secret_access_key)


def from_shared_files(world: World, directory: Path) -> dict[str, str]:
    """Keys of an IAM user in ~/.aws/credentials, under a profile that is not the default one."""
    credentials = directory / "credentials"
    wrong = profile("default", "AKIAWRONGWRONGWRONG1", "wrong")
    credentials.write_text(wrong + profile_of_broker("tollbridge", world))
    return {**without_keys(world), "AWS_SHARED_CREDENTIALS_FILE": str(credentials), "AWS_PROFILE": "tollbridge"}


def from_a_profile_with_a_role(world: World, directory: Path) -> dict[str, str]:
    """A profile that assumes the broker's role with another profile's keys."""
    config = directory / "config"
    config.write_text(
        f"[profile tollbridge]\nrole_arn = {world.broker_role_arn}\nsource_profile = keys\n\n"
        + profile_of_broker("profile keys", world)
    )
    return {**without_keys(world), "AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "tollbridge"}


def from_web_identity(world: World, directory: Path) -> dict[str, str]:
    """A pod of EKS whose service account has the broker's role (IRSA)."""
    claims = {"iss": f"https://{ISSUER}", "aud": "sts.amazonaws.com", "sub": SUBJECT}
    parts = (json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    head, body = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    token = directory / "token"
    token.write_text(f"{head}.{body}.c2lnbmF0dXJl")
    return {
        **without_keys(world),
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ROLE_ARN": world.broker_role_arn,
        "AWS_ROLE_SESSION_NAME": "tollbridge-broker",
    }


def from_a_container(world: World, _directory: Path) -> dict[str, str]:
    """An ECS task role, or EKS Pod Identity."""
    return world.container_environment()


def from_an_instance(world: World, _directory: Path) -> dict[str, str]:
    """An EC2 instance profile, by IMDSv2."""
    return world.instance_environment()


SOURCES: Final = {
    from_environment: USER,
    from_shared_files: USER,
    from_a_profile_with_a_role: ROLE_SESSION,
    from_web_identity: ROLE_SESSION,
    from_a_container: ROLE_SESSION,
    from_an_instance: ROLE_SESSION,
}


@pytest.fixture
def trusting_pods(world: World) -> Iterator[None]:
    """The broker's role trusts its service account too."""
    accounts = Accounts(world.aws_endpoint)
    usual = trust_policy(topology.BROKER_USER_ARN)
    federated: Policy = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{topology.BROKER_ACCOUNT}:oidc-provider/{ISSUER}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{ISSUER}:sub": SUBJECT}},
    }
    accounts.set_trust_policy(world.broker_role_arn, {**usual, "Statement": [*usual["Statement"], federated]})
    yield
    accounts.set_trust_policy(world.broker_role_arn, usual)


def bridge_of(workshop: Workshop, environment: Mapping[str, str], *, up: bool = True) -> Bridge:
    """A bridge whose broker finds nothing of AWS but this."""
    bridge = workshop.bridge(up=False)
    clean = {name: value for name, value in bridge.broker.environment.items() if not name.startswith("AWS_")}
    bridge.broker.environment = {**clean, "HOME": str(workshop.directory), **environment}
    if up:
        bridge.up()
    return bridge


@pytest.mark.usefixtures("trusting_pods")
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
async def test_the_broker_finds_its_keys(workshop: Workshop, tmp_path: Path, source: object) -> None:
    make, identity = next((make, identity) for make, identity in SOURCES.items() if make is source)
    bridge = bridge_of(workshop, make(workshop.world, tmp_path))
    assert f"ready as {identity}" in bridge.broker.log()
    assert await enter(mtls(bridge)) == "app", "in another account, through a role"
    assert await enter(mtls(bridge, "app@local")) == "app", "in the broker's own account, signed with its own keys"
    (line,) = decisions(bridge, database="rds-postgres")
    assert line["role_chain"] == [topology.EXAMPLE_ROLE_ARN]


async def test_without_any_keys_the_broker_waits_and_says_what_to_give_it(workshop: Workshop, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    nothing = {**without_keys(workshop.world), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    bridge = bridge_of(workshop, nothing, up=False)
    bridge.broker.start(wait=False)
    bridge.proxy.start()  # it needs to know what exists, and that is known
    status, why = bridge.broker.admin("/readyz")
    assert status == 503
    assert "AWS_PROFILE" in why
    told = await refusal(mtls(bridge))
    assert "no usable AWS credentials" in told
    credentials.write_text(profile_of_broker("default", workshop.world))
    bridge.broker.wait_ready()
    assert await enter(mtls(bridge)) == "app"


async def test_keys_rotated_in_a_file_are_taken_up_by_the_login_that_finds_the_old_ones_gone(
    workshop: Workshop, tmp_path: Path
) -> None:
    world = workshop.world
    iam = Accounts(world.aws_endpoint).iam(topology.BROKER_ACCOUNT)
    old = iam.create_access_key(UserName=topology.BROKER_USER)["AccessKey"]
    credentials = tmp_path / "credentials"
    credentials.write_text(profile("default", old["AccessKeyId"], old["SecretAccessKey"]))
    bridge = bridge_of(workshop, {**without_keys(world), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)})
    await enter(mtls(bridge, "app@local"))
    await enter(mtls(bridge))
    credentials.write_text(profile_of_broker("default", world))
    iam.delete_access_key(UserName=topology.BROKER_USER, AccessKeyId=old["AccessKeyId"])
    assert await enter(mtls(bridge, "app@local")) == "app", "signed with the broker's own keys"
    assert await enter(mtls(bridge, "app@analytics")) == "app", "through a role assumed with them"
    assert await enter(mtls(bridge)) == "app", "a role that was assumed with the old ones"
    assert [line["access_key_id"] for line in decisions(bridge, database="local")] == [
        old["AccessKeyId"],
        world.broker_access_key_id,
    ]


async def test_an_instance_whose_session_ends_early_is_asked_for_another(workshop: Workshop, control: Control) -> None:
    bridge = bridge_of(workshop, workshop.world.instance_environment())
    await enter(mtls(bridge, "app@local"))
    assert control.expire_session(role_arn=topology.BROKER_ROLE_ARN) >= 1
    assert await enter(mtls(bridge, "app@analytics")) == "app", "no role had been assumed yet"
    assert await enter(mtls(bridge, "app@local")) == "app"
