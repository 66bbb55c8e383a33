"""A line for each HTTP request, where a database wants them: what, on which table or index, how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.world import World
from tests.e2e.clients import audit_line
from tests.e2e.http_clients import USER
from tests.e2e.test_dynamodb import dynamodb
from tests.e2e.test_opensearch import search

CONTENT = "what-nobody-should-read-in-a-log"


@pytest.fixture(scope="module")
def watched(http_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Two databases want them, the others do not."""

    def change_proxy(document: Document) -> None:
        document["databases"] = {name: {"audit_requests": True} for name in ("tables", "search")}

    with Bridge(http_world, tmp_path_factory.mktemp("http-audit") / "bridge", change_proxy=change_proxy) as bridge:
        yield bridge
        text = json.dumps(bridge.audit("proxy"))
        assert CONTENT not in text
        assert "AWS4" not in text


def line(bridge: Bridge, **wanted: Any) -> Document:
    """Of one request."""
    return audit_line(bridge, "proxy", event="request", **wanted)


def test_a_request_of_dynamodb_names_operation_and_table(watched: Bridge) -> None:
    client = dynamodb(watched)
    client.put_item(TableName="orders", Item={"id": {"S": "audited"}, "note": {"S": CONTENT}})
    client.delete_item(TableName="orders", Key={"id": {"S": "audited"}})
    found = line(watched, target="DynamoDB_20120810.PutItem")
    assert (found["database"], found["db_user"], found["table"]) == ("tables", USER, "orders")
    assert (found["method"], found["status"]) == ("POST", 200)
    assert found["bytes_to_upstream"] > len(CONTENT)
    assert found["seconds"] > 0
    session = audit_line(watched, "proxy", event="session.start", decision_id=found["decision_id"])
    assert session["workload"] == found["workload"]


def test_a_request_of_opensearch_names_path_and_index(watched: Bridge) -> None:
    client = search(watched)
    client.index(index="audited", id="1", body={"note": CONTENT}, refresh=True)
    client.search(index="audited", q=CONTENT)
    client.indices.delete(index="audited")
    put = line(watched, method="PUT", database="search")
    assert (put["index"], put["status"]) == ("audited", 201)
    assert put["path"].startswith("/audited/_doc/1")


def test_what_the_service_refuses_is_there_with_its_status(watched: Bridge) -> None:
    client = dynamodb(watched)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.describe_table(TableName="no-such-table")
    assert line(watched, target="DynamoDB_20120810.DescribeTable", table="no-such-table")["status"] == 400


def test_the_others_write_none(watched: Bridge) -> None:
    dynamodb(watched, database="analytics-tables").scan(TableName="orders")
    audit_line(watched, "proxy", event="session.start", database="analytics-tables")
    assert not [row for row in watched.audit("proxy") if row["event"] == "request" and row["database"] != "tables"
                and row["database"] != "search"]  # fmt: skip
