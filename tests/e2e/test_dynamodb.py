"""boto3 to DynamoDB and its Streams in another account, through a proxy that holds no secret key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.clients import PROGRAM_SECONDS, audit_line
from tests.e2e.http_clients import USER, dummy_session
from tests.e2e.roles import refused

WIDE: Final = "é" * 105_000
"""210 kB in DynamoDB, 630 kB as boto3 writes it: 25 of them are the largest request that is legal, but for a little."""


@pytest.fixture(scope="module")
def steering(http_world: World) -> Control:
    """AWS's counters."""
    return Control(http_world.aws_endpoint)


def dynamodb(bridge: Bridge, user: str = USER, *, database: str = "tables", service: str = "dynamodb") -> Any:
    """boto3's client with keys that mean nothing."""
    return dummy_session(user).client(
        service,
        endpoint_url=f"http://127.0.0.1:{bridge.ports[database]}",
        region_name=topology.REGION,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def table(http_bridge: Bridge) -> Iterator[str]:
    """A table of its own for a test, with a stream."""
    client, name = dynamodb(http_bridge), f"test-{uuid4()}"
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "owner", "KeyType": "HASH"}, {"AttributeName": "id", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "owner", "AttributeType": "S"},
            {"AttributeName": "id", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    yield name
    client.delete_table(TableName=name)


def key(number: int, owner: str = "alice") -> dict[str, Any]:
    """Of an item."""
    return {"owner": {"S": owner}, "id": {"N": str(number)}}


def test_the_endpoints_variable_is_all_a_user_types(http_bridge: Bridge) -> None:
    program = "import boto3; print(boto3.client('dynamodb').scan(TableName='orders')['Count'])"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{http_bridge.ports['tables']}",
        "AWS_DEFAULT_REGION": topology.REGION,
        "AWS_ACCESS_KEY_ID": USER,
        "AWS_SECRET_ACCESS_KEY": "anything",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )
    assert done.stdout.strip() == "3", done.stderr[-2000:]


@pytest.mark.parametrize("key_id", ["AKIAIOSFODNN7EXAMPLE", "dummy", "local"])
def test_where_the_listener_has_a_user_keys_that_mean_nothing_will_do(http_bridge: Bridge, key_id: str) -> None:
    rows = dynamodb(http_bridge, key_id, database="analytics-tables").scan(TableName="orders")["Items"]
    assert {row["of"]["S"] for row in rows} == {topology.ANALYTICS_ACCOUNT}


def test_items_are_made_read_changed_and_removed(http_bridge: Bridge, table: str, steering: Control) -> None:
    client = dynamodb(http_bridge)
    steering.reset_counters()
    item = {**key(1), "note": {"S": 'a "quoted" näme'}, "blob": {"B": bytes(range(256))}}
    client.put_item(TableName=table, Item=item)
    assert client.get_item(TableName=table, Key=key(1), ConsistentRead=True)["Item"] == item
    changed = client.update_item(
        TableName=table,
        Key=key(1),
        UpdateExpression="SET seen = if_not_exists(seen, :none) + :one",
        ExpressionAttributeValues={":none": {"N": "0"}, ":one": {"N": "1"}},
        ReturnValues="UPDATED_NEW",
    )
    assert changed["Attributes"] == {"seen": {"N": "1"}}
    client.delete_item(TableName=table, Key=key(1))
    assert "Item" not in client.get_item(TableName=table, Key=key(1))
    calls = steering.counters().calls
    # A checksum that did not fit would have made botocore ask again.
    assert {name: calls.get(f"dynamodb:{name}") for name in ("PutItem", "GetItem", "UpdateItem", "DeleteItem")} == {
        "PutItem": 1,
        "GetItem": 2,
        "UpdateItem": 1,
        "DeleteItem": 1,
    }


def test_the_services_own_errors_arrive_as_they_are(http_bridge: Bridge, table: str) -> None:
    client = dynamodb(http_bridge)
    client.put_item(TableName=table, Item=key(1))
    with pytest.raises(client.exceptions.ConditionalCheckFailedException):
        client.put_item(TableName=table, Item=key(1), ConditionExpression="attribute_not_exists(id)")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_item(TableName="no-such-table", Key=key(1))


def test_the_largest_batch_that_is_legal_passes(http_bridge: Bridge, table: str) -> None:
    client = dynamodb(http_bridge)
    puts = [{"PutRequest": {"Item": {**key(number), "wide": {"S": WIDE}}}} for number in range(25)]
    assert 15_500_000 < len(json.dumps({"RequestItems": {table: puts}})) < 16 * 1024 * 1024
    left = client.batch_write_item(RequestItems={table: puts})["UnprocessedItems"]
    assert not left
    found = client.batch_get_item(RequestItems={table: {"Keys": [key(number) for number in range(25)]}})
    assert sum(len(item["wide"]["S"]) for item in found["Responses"][table]) == 25 * len(WIDE)


def test_a_request_larger_than_any_legal_one_is_refused_in_dynamodbs_words(http_bridge: Bridge, table: str) -> None:
    client = dynamodb(http_bridge)
    puts = [{"PutRequest": {"Item": {**key(number), "wide": {"S": WIDE * 2}}}} for number in range(25)]
    with pytest.raises(ClientError) as caught:
        client.batch_write_item(RequestItems={table: puts})
    assert caught.value.response["Error"]["Code"] == "RequestEntityTooLarge"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_transactions_are_all_or_nothing(http_bridge: Bridge, table: str) -> None:
    client = dynamodb(http_bridge)
    client.put_item(TableName=table, Item=key(1))
    puts = [
        {"Put": {"TableName": table, "Item": key(2)}},
        {"Put": {"TableName": table, "Item": key(1), "ConditionExpression": "attribute_not_exists(id)"}},
    ]
    with pytest.raises(client.exceptions.TransactionCanceledException) as caught:
        client.transact_write_items(TransactItems=puts)
    assert [reason["Code"] for reason in caught.value.response["CancellationReasons"]] == [
        "None",
        "ConditionalCheckFailed",
    ]
    client.transact_write_items(TransactItems=puts[:1])
    got = client.transact_get_items(TransactItems=[{"Get": {"TableName": table, "Key": key(n)}} for n in (1, 2)])
    assert [answer["Item"] for answer in got["Responses"]] == [key(1), key(2)]


def test_queries_and_scans_come_in_pages(http_bridge: Bridge, table: str) -> None:
    client = dynamodb(http_bridge)
    puts = [{"PutRequest": {"Item": {**key(number), "fill": {"S": "x" * 100_000}}}} for number in range(25)]
    client.batch_write_item(RequestItems={table: puts})
    pages = list(
        client.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression="#o = :o",
            ExpressionAttributeNames={"#o": "owner"},
            ExpressionAttributeValues={":o": {"S": "alice"}},
            PaginationConfig={"PageSize": 10},
        )
    )
    assert [page["Count"] for page in pages][:2] == [10, 10]
    assert [int(item["id"]["N"]) for page in pages for item in page["Items"]] == list(range(25))
    scanned = client.get_paginator("scan").paginate(TableName=table, PaginationConfig={"PageSize": 7})
    assert sum(page["Count"] for page in scanned) == 25


def test_partiql(http_bridge: Bridge, table: str) -> None:
    client = dynamodb(http_bridge)
    client.execute_statement(
        Statement=f"INSERT INTO \"{table}\" VALUE {{'owner': ?, 'id': ?, 'note': ?}}",
        Parameters=[{"S": "o'hara"}, {"N": "7"}, {"S": "x"}],
    )
    found = client.execute_statement(
        Statement=f'SELECT note FROM "{table}" WHERE "owner" = ? AND id = ?', Parameters=[{"S": "o'hara"}, {"N": "7"}]
    )
    assert found["Items"] == [{"note": {"S": "x"}}]
    both = client.batch_execute_statement(
        Statements=[
            {"Statement": f'SELECT id FROM "{table}" WHERE "owner" = ? AND id = ?', "Parameters": parameters}
            for parameters in ([{"S": "o'hara"}, {"N": "7"}], [{"S": "nobody"}, {"N": "1"}])
        ]
    )
    assert [answer.get("Item") for answer in both["Responses"]] == [{"id": {"N": "7"}}, None]


def test_streams_are_read_through_the_same_door(http_bridge: Bridge, table: str) -> None:
    client, streams = dynamodb(http_bridge), dynamodb(http_bridge, service="dynamodbstreams")
    client.put_item(TableName=table, Item=key(1))
    client.delete_item(TableName=table, Key=key(1))
    (stream,) = streams.list_streams(TableName=table)["Streams"]
    shards = streams.describe_stream(StreamArn=stream["StreamArn"])["StreamDescription"]["Shards"]
    seen = []
    for shard in shards:
        iterator = streams.get_shard_iterator(
            StreamArn=stream["StreamArn"], ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        seen += [record["eventName"] for record in streams.get_records(ShardIterator=iterator)["Records"]]
    assert seen == ["INSERT", "REMOVE"]


def test_one_endpoint_of_two_accounts_shows_each_its_own(http_bridge: Bridge) -> None:
    for database, account in (("tables", topology.EXAMPLE_ACCOUNT), ("analytics-tables", topology.ANALYTICS_ACCOUNT)):
        rows = dynamodb(http_bridge, database=database).scan(TableName="orders")["Items"]
        assert {row["of"]["S"] for row in rows} == {account}


def test_users_are_roles_and_may_what_their_policies_say(http_bridge: Bridge) -> None:
    reader = dynamodb(http_bridge, "role/ReaderRole")
    assert reader.get_item(TableName="orders", Key={"id": {"S": "1"}})["Item"]["state"] == {"S": "pending"}
    with pytest.raises(ClientError, match=r"ReaderRole.* is not authorized to perform: dynamodb:PutItem"):
        reader.put_item(TableName="orders", Item={"id": {"S": "9"}})


def test_a_user_that_no_rule_allows_hears_of_it_in_dynamodbs_words(http_bridge: Bridge) -> None:
    client = dynamodb(http_bridge, "role/NobodysRole")
    assert refused(lambda: client.scan(TableName="orders")) == "AccessDeniedException"
    with pytest.raises(ClientError, match="role/NobodysRole"):
        client.scan(TableName="orders")


def test_a_whole_arn_names_the_same_user(http_bridge: Bridge) -> None:
    client = dynamodb(http_bridge, topology.DATABASE_USER_ROLE_ARN)
    assert client.scan(TableName="orders")["Count"] == 3


def test_the_brokers_audit_names_the_chain(http_bridge: Bridge) -> None:
    dynamodb(http_bridge).scan(TableName="orders")
    line = audit_line(http_bridge, "broker", database="tables", db_user=USER, allowed=True)
    assert line["role_chain"] == [topology.EXAMPLE_ROLE_ARN, topology.DATABASE_USER_ROLE_ARN]


@pytest.mark.parametrize("clients", [20])
def test_many_clients_at_once_assume_each_role_once(http_bridge: Bridge, steering: Control, clients: int) -> None:
    steering.reset_counters()
    made = [dynamodb(http_bridge) for _ in range(clients)]
    assert {client.scan(TableName="orders")["Count"] for client in made} == {3}
    assert steering.counters().calls["dynamodb:Scan"] == clients
    assert steering.counters().assume_role.get(topology.DATABASE_USER_ROLE_ARN, 0) <= 1


def test_a_session_of_boto3_is_no_way_in(http_bridge: Bridge) -> None:
    """What a client signs itself never reaches AWS: neither its key nor its token."""
    session = boto3.session.Session(USER, "anything", "IQoJb3JpZ2luX2VjE-of-the-client", region_name=topology.REGION)
    client = session.client("dynamodb", endpoint_url=f"http://127.0.0.1:{http_bridge.ports['tables']}")
    assert client.scan(TableName="orders")["Count"] == 3
