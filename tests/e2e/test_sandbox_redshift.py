"""What the sandbox's Redshift issues, lets in and refuses: without a proxy or broker, asked by botocore."""

from __future__ import annotations

import boto3
import psycopg
import pytest

from deploy.sandbox import topology
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.roles import Role, refused


@pytest.fixture(scope="module")
def example(whole_world: World) -> Role:
    """The role that may."""
    return Role.assume(whole_world, topology.EXAMPLE_ROLE_ARN)


@pytest.fixture(scope="module")
def powerless(whole_world: World) -> Role:
    """A role that the broker may assume, and no more."""
    return Role.assume(whole_world, topology.NO_CONNECT_ROLE_ARN)


@pytest.fixture(scope="module")
def database_user(whole_world: World, example: Role) -> Role:
    """A role that is a user of Redshift."""
    return Role.assume(whole_world, topology.DATABASE_USER_ROLE_ARN, via=example)


def warehouse(world: World, name: str, user: str, password: str, sslmode: str = "verify-full") -> tuple[str, str]:
    """current_user and session_user."""
    database = world.database(name)
    with psycopg.connect(
        host=database.host,
        hostaddr="127.0.0.1",
        port=database.local_port,
        user=user,
        password=password,
        dbname="app",
        sslmode=sslmode,
        sslrootcert=world.ca_cert_file,
    ) as connection:
        row = connection.execute("select current_user, session_user").fetchone()
        assert row is not None
        return row[0], row[1]


def test_redshift_lets_the_user_in_that_it_issued_and_nobody_else(whole_world: World, example: Role) -> None:
    issued = example.client("redshift").get_cluster_credentials(DbUser="app", DbName="app", ClusterIdentifier="wh")
    assert issued["DbUser"] == "IAM:app"
    enter = (whole_world, topology.REDSHIFT.name)
    assert warehouse(*enter, "IAM:app", issued["DbPassword"]) == ("app", "IAM:app")
    for user, password, sslmode in (
        ("app", issued["DbPassword"], "verify-full"),
        ("IAM:app", "wrong", "verify-full"),
        ("IAM:app", issued["DbPassword"], "disable"),
    ):
        with pytest.raises(psycopg.OperationalError):
            warehouse(*enter, user, password, sslmode)


def test_redshift_ends_a_user_when_its_time_is_up(whole_world: World, example: Role) -> None:
    issued = example.client("redshift").get_cluster_credentials(DbUser="readonly", ClusterIdentifier="wh")
    enter = (whole_world, topology.REDSHIFT.name, issued["DbUser"], issued["DbPassword"])
    assert warehouse(*enter) == ("readonly", "IAM:readonly")
    Control(whole_world.aws_endpoint).expire_database_users()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse(*enter)


def test_redshift_issues_a_user_that_does_not_exist_and_refuses_its_login(whole_world: World, example: Role) -> None:
    issued = example.client("redshift").get_cluster_credentials(DbUser="missing", ClusterIdentifier="wh")
    with pytest.raises(psycopg.OperationalError):
        warehouse(whole_world, topology.REDSHIFT.name, issued["DbUser"], issued["DbPassword"])


def test_redshift_makes_a_role_its_own_user(whole_world: World, database_user: Role) -> None:
    issued = database_user.client("redshift").get_cluster_credentials_with_iam(ClusterIdentifier="wh", DbName="app")
    user = "IAMR:DatabaseUserRole"
    assert warehouse(whole_world, topology.REDSHIFT.name, issued["DbUser"], issued["DbPassword"]) == (user, user)
    serverless = database_user.client("redshift-serverless").get_credentials(workgroupName="default", dbName="app")
    enter = (whole_world, topology.REDSHIFT_SERVERLESS.name, serverless["dbUser"], serverless["dbPassword"])
    assert warehouse(*enter) == (user, user)


def test_redshift_refuses_what_no_policy_allows(
    whole_world: World, example: Role, powerless: Role, database_user: Role
) -> None:
    helpless = Role.assume(whole_world, topology.POWERLESS_USER_ROLE_ARN, via=example)
    ask, told = example.client("redshift").get_cluster_credentials, []
    cluster = {"ClusterIdentifier": "wh"}
    told += [refused(lambda: powerless.client("redshift").get_cluster_credentials(DbUser="app", **cluster))]
    told += [refused(lambda: ask(DbUser="stranger", **cluster))]
    told += [refused(lambda: ask(DbUser="app", DbName="other", **cluster))]
    told += [refused(lambda: ask(DbUser="app", DbGroups=["others"], **cluster))]
    told += [refused(lambda: ask(DbUser="app", AutoCreate=True, **cluster))]
    told += [refused(lambda: helpless.client("redshift").get_cluster_credentials_with_iam(**cluster))]
    told += [refused(lambda: database_user.client("redshift").get_cluster_credentials(DbUser="app", **cluster))]
    assert set(told) == {"AccessDenied"}
    assert ask(DbUser="app", DbGroups=["analysts"], **cluster)["DbUser"] == "IAM:app"
    serverless = helpless.client("redshift-serverless")
    assert refused(lambda: serverless.get_credentials(workgroupName="default")) == "AccessDeniedException"


def test_redshift_refuses_what_is_no_call_of_its(example: Role, database_user: Role) -> None:
    provisioned, serverless = example.client("redshift"), database_user.client("redshift-serverless")
    short = {"DbUser": "app", "ClusterIdentifier": "wh", "DurationSeconds": 899}
    assert refused(lambda: provisioned.get_cluster_credentials(**short)) == "InvalidParameterValue"
    assert refused(lambda: provisioned.get_cluster_credentials(DbUser="IAM:app", ClusterIdentifier="wh")) == (
        "InvalidParameterValue"
    )
    missing = {"ClusterIdentifier": "none"}
    assert refused(lambda: database_user.client("redshift").get_cluster_credentials_with_iam(**missing)) == (
        "ClusterNotFound"
    )
    assert refused(lambda: serverless.get_credentials(workgroupName="none")) == "ResourceNotFoundException"
    assert refused(lambda: serverless.get_credentials(workgroupName="default", durationSeconds=3601)) == (
        "ValidationException"
    )


@pytest.mark.parametrize(("part", "code"), [("secret_key", "SignatureDoesNotMatch"), ("token", "InvalidClientTokenId")])
def test_redshift_refuses_a_call_that_is_not_signed_by_a_live_session(
    whole_world: World, example: Role, part: str, code: str
) -> None:
    keys = example.session.get_credentials().get_frozen_credentials()._asdict() | {part: "wrong"}
    forged = boto3.session.Session(keys["access_key"], keys["secret_key"], keys["token"], whole_world.region)
    client = Role(whole_world, forged).client("redshift")
    assert refused(lambda: client.get_cluster_credentials(DbUser="app", ClusterIdentifier="wh")) == code
