"""HTTP requests that end in a refusal: the service's own error, words that name the fix, audit lines, nothing leaked.

As test_refusals.py for PostgreSQL: every row is one request over a raw socket, and after each another connection still
answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, allow, policy, trust_policy
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.clients import audit_line
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.http_clients import USER, authorization
from tests.e2e.table import LABELS, MISTAKES, TEST_ROLES, Kind, Table
from tests.support import hostile_http as hostile
from tests.support.hostile_postgres import MARK
from tests.support.raw_http import Answer, CutShort, HttpClient

DATABASE: Final = topology.OPENSEARCH
SERVERS: Final = {**hostile.PLAIN, **hostile.BROKEN, **hostile.CUT_SHORT}
NAMES: Final = (DATABASE.name, "tables", *MISTAKES, *TEST_ROLES, *LABELS, *SERVERS, "down", "nowhere")
MAY_CHAIN: Final = policy(allow(["sts:AssumeRole", "sts:TagSession"], topology.DATABASE_USER_ROLE_ARN))
RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024

KIND: Final = Kind(
    database=DATABASE,
    suffix="us-west-1.es.amazonaws.com",
    mark="-abcdefghijklmnopqrstuvwxyz",
    plain=hostile.PLAIN,
    verified={**hostile.BROKEN, **hostile.CUT_SHORT},
    permissions=MAY_CHAIN,
    listener=MappingProxyType(
        {"route": None, "http": {"hosts": {name: name for name in NAMES}, "answer_seconds": 2.0, "head_seconds": 2.0}}
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One refusal."""

    name: str
    host: str
    status: int
    kind: str
    """As OpenSearch names it."""
    says: tuple[str, ...]
    reason: str
    user: str = USER
    door: str = "names"
    decided: bool = False
    """The broker refused, and writes a line about it."""


def request(host: str, user: str = USER, path: str = "/") -> bytes:
    """A GET as a client sends it."""
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: {authorization('es', user)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def denied(name: str, host: str, reason: str, *says: str, status: int = 403, **more: Any) -> Row:
    """The broker's rules say no."""
    kind = more.pop("kind", "security_exception")
    return Row(name=name, host=host, status=status, kind=kind, says=says, reason=reason, decided=True, **more)


def mistake(name: str) -> Row:
    """STS says no, for one of its reasons, and does not say which."""
    says = ("sts:AssumeRole", "external ID", "trust policy", DATABASE.account_id)
    return denied(name, name, "ASSUME_ROLE_DENIED", *says)


def upstream(name: str, reason: str, *says: str, status: int, kind: str = "") -> Row:
    """What answers at the endpoint is not what it should be."""
    return Row(name=name, host=name, status=status, kind=kind, says=says, reason=reason, door="brief")


def broken(name: str, *says: str) -> Row:
    """The server breaks the protocol."""
    return upstream(name, "UPSTREAM_PROTOCOL", *says, status=502)


RULES: Final = (
    denied("a workload that no rule allows", "search", "DATABASE_NOT_ALLOWED", "experiment", "rule", door="stranger"),
    denied("a workload the proxy may not speak for", "search", "PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD",
           "elsewhere.example", "proxies row", door="foreign"),
    denied("a database that no rule allows", "closed", "DATABASE_NOT_ALLOWED", "closed", "rule"),
    denied("a database outside the proxy's row", "production", "PROXY_MAY_NOT_SERVE_DATABASE", "production",
           "proxies row"),
    denied("a database user that no rule allows", "search", "DB_USER_NOT_ALLOWED", "role/NobodysRole", "db_users",
           user="role/NobodysRole"),
    denied("a deny rule, although another allows", "vault", "DENIED_BY_RULE", "nobody-in-sealed"),
    denied("a database nobody has heard of", "nowhere", "DATABASE_UNKNOWN", "nowhere", status=404, kind=""),
    Row(name="a host that leads nowhere", host="elsewhere.example", status=404, kind="",
        says=("elsewhere.example",), reason="DATABASE_UNKNOWN"),
    Row(name="a database of another protocol", host="tables", status=400, kind="", says=("dynamodb",),
        reason="INVALID_REQUEST"),
    Row(name="plaintext where TLS is required", host="search", status=403, kind="", says=("https",),
        reason="CLIENT_TLS_REQUIRED", door="sealed"),
)  # fmt: skip

CHAINS: Final = tuple(map(mistake, ("wrong-external-id", "no-external-id", "no-trust", "unlisted-role", "no-connect")))

UPSTREAM: Final = (
    upstream("plain-port", "UPSTREAM_TLS_REFUSED", "TLS", status=403),
    upstream("garbage-for-tls", "UPSTREAM_TLS_REFUSED", "TLS", status=403),
    upstream("closes-at-once", "UPSTREAM_CLOSED", "closed the connection", status=502),
    upstream("closes-in-tls", "UPSTREAM_CLOSED", "closed the connection", status=502),
    upstream("wrong-name", "UPSTREAM_TLS_UNVERIFIED", "another", "expected wrong-name", status=403),
    upstream("foreign-ca", "UPSTREAM_TLS_UNVERIFIED", "certificate", status=403),
    upstream("expired-certificate", "UPSTREAM_TLS_UNVERIFIED", "has expired", status=403),
    *(broken(name) for name in hostile.BROKEN if name not in ("closes-in-head", "nothing-and-close", "speaks-first")),
    upstream("closes-in-head", "UPSTREAM_CLOSED", "closed", status=502),
    upstream("nothing-and-close", "UPSTREAM_CLOSED", "closed", status=502),
    upstream("down", "UPSTREAM_UNREACHABLE", "refused the connection", status=503),
)

TABLE: Final = (*RULES, *CHAINS, *UPSTREAM)


@pytest.fixture(scope="module")
def table(http_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """A bridge with every broken database."""
    accounts = Accounts(http_world.aws_endpoint)
    table = Table(http_world, tmp_path_factory.mktemp("http-refusals"), KIND)
    trusted = (topology.EXAMPLE_ROLE_ARN, *(KIND.role(name) for name in TEST_ROLES))
    accounts.set_trust_policy(topology.DATABASE_USER_ROLE_ARN, trust_policy(*trusted))
    try:
        table.bridge.up()
        yield table
    finally:
        table.stop()
    assert_kept_secrets(table.bridge, Leaks(http_world))


@pytest.fixture(scope="module")
def steering(http_world: World) -> Iterator[Control]:
    """The levers of this sandbox."""
    control = Control(http_world.aws_endpoint)
    yield control
    control.clear_faults()


@pytest.fixture(scope="module")
def canary(table: Table) -> Iterator[HttpClient]:
    """A connection that is there before and after; the proxy's memory is compared at its end."""
    with HttpClient(table.port("plain")) as client:
        assert client.say(request("search")).status == 200
        before = table.bridge.proxy.resident_bytes()
        yield client
        assert table.bridge.proxy.resident_bytes() - before < RSS_GROWTH_BYTES


def attempt(table: Table, host: str, *, door: str = "names", user: str = USER, seconds: float = 15.0) -> Answer:
    """One request."""
    with HttpClient(table.port(door), seconds=seconds) as client:
        return client.say(request(host, user))


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_the_refusal_is_native_names_the_fix_and_harms_nobody(table: Table, canary: HttpClient, row: Row) -> None:
    leaks = Leaks(table.world)
    answer = attempt(table, row.host, door=row.door, user=row.user)
    assert answer.status == row.status, answer
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert answer.json()["status"] == row.status
    assert row.kind in error["type"], error
    for word in (*row.says, row.reason):
        assert word in error["reason"], f"{word!r} is not in {error['reason']!r}"
    assert MARK not in str(answer), "what a broken server says reaches no client"
    assert leaks.found_in(str(answer)) == []
    if row.decided:
        decision = audit_line(table.bridge, "broker", allowed=False, reason=row.reason)
        assert leaks.found_in(str(decision)) == []
    assert canary.say(request("search")).status == 200


def test_the_table_is_as_long_as_promised() -> None:
    assert len(TABLE) >= 40


@pytest.mark.parametrize("name", sorted(hostile.CUT_SHORT))
def test_an_answer_that_breaks_is_never_taken_for_a_whole_one(table: Table, canary: HttpClient, name: str) -> None:
    try:
        answer = attempt(table, name, door="brief")
    except CutShort:
        pass  # the client knows
    else:
        assert answer.status >= 500, answer
    assert canary.say(request("search")).status == 200


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_configured(table: Table) -> None:
    answer = attempt(table, "says-nothing", door="brief", seconds=30)
    assert answer.status in (503, 504)


@pytest.mark.parametrize("name", sorted(hostile.PLAIN))
def test_no_server_that_proved_nothing_was_shown_a_signature(table: Table, name: str) -> None:
    attempt(table, name, door="brief", seconds=30)
    server = table.servers[name]
    assert server.connections > 0
    for secret in (b"AWS4", b"X-Amz", b"x-amz", b"GET"):
        assert secret not in server.heard


def test_the_search_above_would_have_found_it(table: Table) -> None:
    attempt(table, "another-protocol", door="brief")
    assert b"AWS4-HMAC-SHA256 Credential=ASIA" in table.servers["another-protocol"].heard


def test_the_proxy_crashed_in_none_of_these(table: Table) -> None:
    assert "crashed" not in table.bridge.proxy.log()
    assert "Traceback" not in table.bridge.proxy.log()
    assert "Traceback" not in table.bridge.broker.log()


class TestAwsInTrouble:
    """One role each, so that no trouble reaches another test."""

    @pytest.fixture(autouse=True)
    def faultless(self, steering: Control) -> Iterator[None]:
        yield
        steering.clear_faults()

    def test_throttling_is_retried_and_the_request_succeeds(self, table: Table, steering: Control) -> None:
        steering.inject_fault("throttle", count=1, role_arn=KIND.role("throttled"))
        assert attempt(table, "throttled").status == 200

    def test_lasting_throttling_is_said_to_be_throttling(self, table: Table, steering: Control) -> None:
        steering.inject_fault("throttle", role_arn=KIND.role("failing"))
        answer = attempt(table, "failing", seconds=30)
        assert answer.status in (429, 503)
        assert "AWS_THROTTLED" in answer.json()["error"]["reason"]

    def test_a_session_that_aws_ended_is_replaced_within_one_request(self, table: Table, steering: Control) -> None:
        assert attempt(table, "expired").status == 200
        assert steering.expire_session(role_arn=KIND.role("expired")) > 0
        assert steering.expire_session(role_arn=topology.DATABASE_USER_ROLE_ARN) > 0
        assert attempt(table, "expired").status == 200

    def test_a_role_deleted_and_made_again_is_entered_anew(self, table: Table) -> None:
        assert attempt(table, "search").status == 200
        Accounts(table.world.aws_endpoint).recreate_role(topology.DATABASE_USER_ROLE_ARN)
        assert attempt(table, "search").status == 200

    def test_what_a_policy_no_longer_allows_the_service_itself_refuses(self, table: Table) -> None:
        answer = attempt(table, "search", user="role/PowerlessUserRole")
        assert answer.status == 403
        assert "es:ESHttpGet" in answer.body.decode()


def test_the_broker_down_is_said_and_those_who_have_grants_go_on(table: Table, canary: HttpClient) -> None:
    assert canary.say(request("search")).status == 200
    with table.broker_away():
        answer = attempt(table, "search", user="role/ReaderRole", seconds=30)
        assert canary.say(request("search")).status == 200
    assert answer.status == 503
    assert "BROKER_UNAVAILABLE" in answer.json()["error"]["reason"]
