"""Ways in for HTTP clients: TLS on loopback, client certificates, routes by Host and by TLS server name."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from botocore.config import Config

from deploy.sandbox import topology
from deploy.sandbox.bridge import APP_WORKLOAD, TRUST_DOMAIN, Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.clients import audit_line
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.http_clients import USER, authorization
from tests.e2e.roles import refused
from tests.support.raw_http import HttpClient

ENDPOINTS: Final = {
    "by-fips": "dynamodb-fips.us-west-1.amazonaws.com",
    "by-both-stacks": "dynamodb.us-west-1.api.aws",
    "by-account": f"{topology.EXAMPLE_ACCOUNT}.ddb.us-west-1.amazonaws.com",
    "by-streams": "streams.dynamodb.us-west-1.amazonaws.com",
}
"""Databases registered under the other names that AWS has for the same tables."""
SNI: Final = {"tables.proxy.test": "tables", "analytics.proxy.test": "analytics-tables"}
STRANGER: Final = f"{TRUST_DOMAIN}/ns/lab/sa/experiment"


@pytest.fixture(scope="module")
def doors(http_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge whose proxy is reached in every way."""
    ports = {name: free_port() for name in ("hosts", "mutual", "sni", "narrow")}
    place = tmp_path_factory.mktemp("http-doors") / "bridge"

    def change_broker(document: dict[str, Any]) -> None:
        document["proxies"][0]["workloads"].append(f"{TRUST_DOMAIN}/ns/lab/*")
        databases = document["db_service"]["databases"]
        tables = next(row for row in databases if row["name"] == "tables")
        databases += [{**tables, "name": name, "uri": f"{host}:443"} for name, host in ENDPOINTS.items()]

    def change_proxy(document: dict[str, Any]) -> None:
        files = {"cert_file": str(place / "proxy.crt"), "key_file": str(place / "proxy.key")}
        sni = {"cert_file": str(place / "sni.crt"), "key_file": str(place / "sni.key")}
        clients = {"client_ca_file": str(place / "mesh-ca.crt")}

        def door(name: str, **more: Any) -> dict[str, Any]:
            return {"name": name, "protocol": "dynamodb", "address": f"127.0.0.1:{ports[name]}", **more}

        document["listeners"] += [
            door(
                "hosts",
                workload=APP_WORKLOAD,
                http={"hosts": {name: name for name in ("tables", "analytics-tables", *ENDPOINTS)}},
            ),
            door("mutual", tls={**files, **clients}, database="tables"),
            door("sni", tls={**sni, **clients}, sni=SNI),
            door("narrow", workload=APP_WORKLOAD, database="tables", limits={"max_connections": 2}),
        ]

    bridge = Bridge(http_world, place, change_broker, change_proxy, ports=ports)
    bridge.authority.issue(place / "sni.crt", place / "sni.key", dns_names=list(SNI))
    bridge.issue("stranger", STRANGER)
    with bridge:
        yield bridge
    assert_kept_secrets(bridge, Leaks(http_world))


def client(bridge: Bridge, url: str, *, certificate: str = "", **more: Any) -> Any:
    """boto3's, by https with the mesh's CA."""
    files = (bridge.file(f"{certificate}.crt"), bridge.file(f"{certificate}.key")) if certificate else None
    settings = Config(retries={"total_max_attempts": 1}, client_cert=files, connect_timeout=30, read_timeout=60)
    return boto3.session.Session(aws_access_key_id=USER, aws_secret_access_key="anything").client(
        "dynamodb",
        endpoint_url=url,
        region_name=topology.REGION,
        verify=bridge.file("mesh-ca.crt"),
        config=settings,
        **more,
    )


def owners(client: Any) -> set[str]:
    """Whose rows it sees."""
    return {row["of"]["S"] for row in client.scan(TableName="orders")["Items"]}


def test_tls_on_loopback_is_there_for_whoever_wants_it(doors: Bridge) -> None:
    assert owners(client(doors, f"https://localhost:{doors.ports['tables']}")) == {topology.EXAMPLE_ACCOUNT}
    assert owners(client(doors, f"http://127.0.0.1:{doors.ports['tables']}")) == {topology.EXAMPLE_ACCOUNT}


def test_a_client_certificate_says_who_is_there(doors: Bridge) -> None:
    url = f"https://localhost:{doors.ports['mutual']}"
    assert owners(client(doors, url, certificate="client")) == {topology.EXAMPLE_ACCOUNT}
    assert audit_line(doors, "broker", workload=APP_WORKLOAD, database="tables")["allowed"] is True
    assert refused(lambda: client(doors, url, certificate="stranger").scan(TableName="orders")) == (
        "AccessDeniedException"
    )


def test_without_a_certificate_nobody_gets_in(doors: Bridge) -> None:
    with HttpClient(doors.ports["mutual"]) as raw:
        raw.start_tls(ssl.create_default_context(cafile=doors.file("mesh-ca.crt")), ask=False)
        answer = raw.say(scan("x"))
    assert (answer.status, answer.json()["__type"].rpartition("#")[2]) == (403, "AccessDeniedException")
    assert "CLIENT_UNIDENTIFIED" in answer.json()["message"]
    assert b"CLIENT_TLS_REQUIRED" in plain(doors.ports["mutual"])


def plain(port: int) -> bytes:
    """All that is said to a request without TLS."""
    with HttpClient(port) as raw:
        return raw.send(
            f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization()}\r\n\r\n".encode()
        ).read_to_end()


@pytest.mark.parametrize(
    ("name", "account"),
    [("tables.proxy.test", topology.EXAMPLE_ACCOUNT), ("analytics.proxy.test", topology.ANALYTICS_ACCOUNT)],
)
def test_the_tls_server_name_leads_to_a_database(doors: Bridge, name: str, account: str) -> None:
    context = ssl.create_default_context(cafile=doors.file("mesh-ca.crt"))
    context.load_cert_chain(doors.file("client.crt"), doors.file("client.key"))
    with HttpClient(doors.ports["sni"]) as raw:
        raw.start_tls(context, name, ask=False)
        answer = raw.say(scan(name))
    assert answer.status == 200, answer
    assert {row["of"]["S"] for row in answer.json()["Items"]} == {account}


@pytest.mark.parametrize(
    ("host", "account"), [("tables", topology.EXAMPLE_ACCOUNT), ("ANALYTICS-tables:8000", topology.ANALYTICS_ACCOUNT)]
)
def test_the_host_header_leads_to_a_database(doors: Bridge, host: str, account: str) -> None:
    with HttpClient(doors.ports["hosts"]) as raw:
        answer = raw.say(scan(host))
        assert {row["of"]["S"] for row in answer.json()["Items"]} == {account}
        nowhere = raw.say(scan("nowhere"))
    assert nowhere.status == 400
    assert nowhere.json()["__type"].endswith("#ResourceNotFoundException")


@pytest.mark.parametrize("name", ENDPOINTS)
def test_tables_and_streams_are_found_by_every_name_that_aws_has_for_them(doors: Bridge, name: str) -> None:
    with HttpClient(doors.ports["hosts"]) as raw:
        tables, streams = raw.say(scan(name)), raw.say(call(name, "DynamoDBStreams_20120810.ListStreams", b"{}"))
    assert (tables.status, tables.json().get("Count")) == (200, 3), tables
    assert (streams.status, "Streams" in streams.json()) == (200, True), streams


@pytest.mark.parametrize("target", ["AmazonDAXV3.DescribeClusters", "DynamoDB_20111205.Scan", "Scan", ""])
def test_what_is_no_call_of_dynamodb_is_not_signed(doors: Bridge, target: str) -> None:
    steering = Control(doors.world.aws_endpoint)
    steering.reset_counters()
    with HttpClient(doors.ports["hosts"]) as raw:
        answer = raw.say(call("tables", target, b"{}"))
        assert raw.say(scan("tables")).status == 200
    assert answer.status == 400
    assert "tollbridge: " in answer.json()["message"]
    assert {name for name in steering.counters().calls if not name.startswith("sts:")} == {"dynamodb:Scan"}


def call(host: str, target: str, body: bytes) -> bytes:
    """A call as an SDK sends it."""
    lines = (
        "POST / HTTP/1.1",
        f"Host: {host}",
        f"Authorization: {authorization('dynamodb')}",
        "Content-Type: application/x-amz-json-1.0",
        f"X-Amz-Target: {target}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def scan(host: str) -> bytes:
    """A Scan of the table that is there."""
    return call(host, "DynamoDB_20120810.Scan", b'{"TableName":"orders"}')


def test_one_connection_too_many_hears_that_it_should_slow_down(doors: Bridge) -> None:
    with HttpClient(doors.ports["narrow"]) as first, HttpClient(doors.ports["narrow"]) as second:
        assert (first.say(scan("x")).status, second.say(scan("x")).status) == (200, 200)
        with HttpClient(doors.ports["narrow"]) as third:
            answer = third.say(scan("x"))
        assert (answer.status, answer.json()["__type"].rpartition("#")[2]) == (400, "ThrottlingException")
        assert "max_connections" in answer.json()["message"]
        assert first.say(scan("x")).status == 200


def test_a_session_that_aws_ended_is_signed_anew_within_one_call(doors: Bridge) -> None:
    steering = Control(doors.world.aws_endpoint)
    tables = client(doors, f"http://127.0.0.1:{doors.ports['tables']}")
    assert owners(tables)
    steering.reset_counters()
    assert steering.expire_session(role_arn=topology.DATABASE_USER_ROLE_ARN) > 0
    assert owners(tables)
    counted = steering.counters()
    assert (counted.calls["dynamodb:Scan"], counted.errors["dynamodb:Scan"]) == (2, 1), "once refused, once more"


def test_lasting_throttling_is_said_so_that_sdks_slow_down(doors: Bridge) -> None:
    steering = Control(doors.world.aws_endpoint)
    steering.inject_fault("throttle", role_arn=topology.POWERLESS_USER_ROLE_ARN)
    try:
        session = boto3.session.Session("role/PowerlessUserRole", "anything", region_name=topology.REGION)
        tables = session.client(
            "dynamodb",
            endpoint_url=f"http://127.0.0.1:{doors.ports['tables']}",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
        )
        assert refused(lambda: tables.scan(TableName="orders")) == "ThrottlingException"
    finally:
        steering.clear_faults()


def test_both_daemons_wrote_of_each_session(doors: Bridge) -> None:
    assert owners(client(doors, f"http://127.0.0.1:{doors.ports['tables']}"))
    started = audit_line(doors, "proxy", event="session.start", database="tables", db_user=USER)
    decision = audit_line(doors, "broker", decision_id=started["decision_id"])
    assert decision["role_chain"] == [topology.EXAMPLE_ROLE_ARN, topology.DATABASE_USER_ROLE_ARN]
    assert Path(doors.file("proxy-audit.jsonl")).read_text().count("orders") == 0, "no content, no table unless asked"
