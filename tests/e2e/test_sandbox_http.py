"""What the sandbox's DynamoDB and OpenSearch let in and what they refuse, signed by botocore: no proxy, no broker.

What is claimed of tollbridge stands on this: a door that said yes to everything would prove nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.http_clients import ask, on_this_machine
from tests.e2e.roles import Role, refused

JSON: Final = {"Content-Type": "application/json"}
AMZ_JSON: Final = {"Content-Type": "application/x-amz-json-1.0"}
EMPTY: Final = {"X-Amz-Content-SHA256": sha256(b"").hexdigest()}


@pytest.fixture(autouse=True)
def names(http_world: World) -> Iterator[None]:
    """AWS's names lead here."""
    with on_this_machine(http_world):
        yield


@pytest.fixture(scope="module")
def example(http_world: World) -> Role:
    """The account's role."""
    return Role.assume(http_world, topology.EXAMPLE_ROLE_ARN)


@pytest.fixture(scope="module")
def user(http_world: World, example: Role) -> Role:
    """A database user that may do everything."""
    return Role.assume(http_world, topology.DATABASE_USER_ROLE_ARN, via=example)


@pytest.fixture(scope="module")
def reader(http_world: World, example: Role) -> Role:
    """One that may read."""
    return Role.assume(http_world, topology.READER_ROLE_ARN, via=example)


@pytest.fixture(scope="module")
def powerless(http_world: World, example: Role) -> Role:
    """One that may do nothing."""
    return Role.assume(http_world, topology.POWERLESS_USER_ROLE_ARN, via=example)


def dynamodb(world: World, role: Role, **more: Any) -> Any:
    """boto3's client, at AWS's address."""
    return role.session.client("dynamodb", verify=world.ca_cert_file, **more)


def code(answer: Any) -> str:
    """What the door says went wrong."""
    assert answer.status == 403, answer.data
    return str(answer.headers["x-amzn-errortype"])


# DynamoDB


def test_dynamodb_shows_an_account_its_own_tables(http_world: World, user: Role) -> None:
    rows = dynamodb(http_world, user).scan(TableName="orders")["Items"]
    assert {row["of"]["S"] for row in rows} == {topology.EXAMPLE_ACCOUNT}
    assert {row["state"]["S"] for row in rows} == {"pending", "paid", "shipped"}


def test_streams_and_every_other_name_of_dynamodb_lead_there(http_world: World, user: Role) -> None:
    streams = user.session.client("dynamodbstreams", verify=http_world.ca_cert_file)
    assert "streams.dynamodb" in streams.meta.endpoint_url
    assert streams.list_streams()["Streams"] is not None
    for host in topology.DYNAMODB.other_hosts:
        api, action = ("Streams", "ListStreams") if "streams" in host else ("", "ListTables")
        headers = {**AMZ_JSON, "X-Amz-Target": f"DynamoDB{api}_20120810.{action}"}
        answer = ask(
            http_world, user, f"https://{host}/", method="POST", body=b"{}", headers=headers, service="dynamodb"
        )
        assert answer.status == 200, (host, answer.data)


def test_dynamodb_refuses_what_no_policy_allows(http_world: World, reader: Role, powerless: Role) -> None:
    client = dynamodb(http_world, reader)
    assert client.get_item(TableName="orders", Key={"id": {"S": "1"}})["Item"]
    item = {"id": {"S": "9"}}
    assert refused(lambda: client.put_item(TableName="orders", Item=item)) == "AccessDeniedException"
    assert refused(lambda: dynamodb(http_world, powerless).scan(TableName="orders")) == "AccessDeniedException"


def test_dynamodb_refuses_a_signature_for_another_service_region_or_day(http_world: World, user: Role) -> None:
    elsewhere = dynamodb(http_world, user, region_name="us-east-1", endpoint_url=f"https://{topology.DYNAMODB.host}")
    assert refused(elsewhere.list_tables) == "InvalidSignatureException"
    headers = {**AMZ_JSON, "X-Amz-Target": "DynamoDB_20120810.ListTables"}
    url = f"https://{topology.DYNAMODB.host}/"
    right = ask(http_world, user, url, method="POST", body=b"{}", headers=headers, service="dynamodb")
    assert right.status == 200
    wrong = ask(http_world, user, url, method="POST", body=b"{}", headers=headers, service="es")
    assert (wrong.status, wrong.json()["__type"]) == (400, "InvalidSignatureException")
    Control(http_world.aws_endpoint).shift_clock(24 * 3600)
    try:
        assert refused(dynamodb(http_world, user).list_tables) in ("InvalidSignatureException", "RequestTimeTooSkewed")
    finally:
        Control(http_world.aws_endpoint).shift_clock(0)
    assert dynamodb(http_world, user).list_tables()


def test_dynamodbs_door_knows_no_root_keys(http_world: World, user: Role) -> None:
    client = dynamodb(
        http_world,
        user,
        aws_access_key_id=topology.EXAMPLE_ACCOUNT,
        aws_secret_access_key="root",
        aws_session_token="",
    )
    assert refused(client.list_tables) == "UnrecognizedClientException"


def test_each_endpoint_of_dynamodb_knows_its_own_api_only(http_world: World, user: Role) -> None:
    streams = f"https://streams.{topology.DYNAMODB.host}"
    assert refused(dynamodb(http_world, user, endpoint_url=streams).list_tables) == "UnknownOperationException"


# OpenSearch


def url(world: World, name: str, target: str) -> str:
    """At AWS's address."""
    return f"https://{world.database(name).host}{target}"


def test_a_domain_is_a_real_opensearch(http_world: World, user: Role) -> None:
    answer = ask(http_world, user, url(http_world, "search", "/"))
    assert (answer.status, answer.json()["version"]["distribution"]) == (200, "opensearch")
    assert "date" in answer.headers


def test_documents_go_in_and_are_found(http_world: World, user: Role) -> None:
    put = url(http_world, "search", "/sandbox-movies/_doc/1?refresh=true")
    body = json.dumps({"title": "Metropolis"}).encode()
    assert ask(http_world, user, put, method="PUT", body=body, headers=JSON).status == 201
    found = ask(http_world, user, url(http_world, "search", "/sandbox-%2A/_search?q=title%3Ametropolis"))
    assert found.json()["hits"]["total"]["value"] == 1
    # A body whose hash was announced goes through without being kept.
    announced = {**JSON, "X-Amz-Content-SHA256": sha256(body).hexdigest()}
    assert ask(http_world, user, put, method="PUT", body=body, headers=announced).status == 200


def test_a_domain_refuses_what_is_not_signed_for_it(http_world: World, user: Role) -> None:
    place = url(http_world, "search", "/sandbox-x/_doc/1")
    assert code(ask(http_world, user, place, service="aoss", headers=EMPTY)) == "InvalidSignatureException"
    unsigned = {**JSON, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    assert code(ask(http_world, user, place, method="PUT", body=b"{}", headers=unsigned)) == "InvalidSignatureException"
    other = {**JSON, "X-Amz-Content-SHA256": sha256(b"[]").hexdigest()}
    assert code(ask(http_world, user, place, method="PUT", body=b"{}", headers=other)) == "InvalidSignatureException"
    # botocore signs the query as it stands; AWS decodes and encodes it again.
    assert code(ask(http_world, user, url(http_world, "search", "/_search?q=a:b"))) == "InvalidSignatureException"
    assert ask(http_world, user, place).status == 404, "none of them left a document"


def test_a_domain_refuses_who_may_not(http_world: World, reader: Role, powerless: Role) -> None:
    place = url(http_world, "search", "/sandbox-y/_doc/1")
    assert ask(http_world, reader, place).status == 404
    assert code(ask(http_world, reader, place, method="PUT", body=b"{}", headers=JSON)) == "AccessDeniedException"
    assert code(ask(http_world, powerless, place)) == "AccessDeniedException"


def test_a_collection_wants_the_bodys_hash_or_to_be_told_there_is_none(http_world: World, user: Role) -> None:
    place = url(http_world, "serverless-search", "/_search")
    assert code(ask(http_world, user, place, service="aoss")) == "Forbidden"
    assert ask(http_world, user, place, service="aoss", headers=EMPTY).status == 200
    unsigned = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    assert ask(http_world, user, place, service="aoss", headers=unsigned).status == 200
    assert code(ask(http_world, user, place, service="es", headers=EMPTY)) == "InvalidSignatureException"
    assert ask(http_world, user, url(http_world, "serverless-search", "/"), service="aoss", headers=EMPTY).status == 404


def test_sessions_that_ended_do_not_get_in(http_world: World, example: Role) -> None:
    gone = Role.assume(http_world, topology.DATABASE_USER_ROLE_ARN, via=example)
    key = gone.session.get_credentials().access_key
    assert ask(http_world, gone, url(http_world, "search", "/")).status == 200
    Control(http_world.aws_endpoint).expire_session(access_key_id=key)
    assert code(ask(http_world, gone, url(http_world, "search", "/"))) == "ExpiredTokenException"
    assert refused(dynamodb(http_world, gone).list_tables) == "ExpiredTokenException"
    login = Control(http_world.aws_endpoint).logins()[-1]
    assert (login.database, login.ok, login.why, login.access_key_id) == ("search", False, "ExpiredTokenException", key)
