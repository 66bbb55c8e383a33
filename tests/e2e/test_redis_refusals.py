"""Redis logins that end in a refusal: the error's first word, the words that name the fix, audit lines, nothing leaked.

As test_refusals.py for PostgreSQL: every row logs in over a raw socket, and after each another session still answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, Policy, allow, policy
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.clients import audit_line
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.table import Kind, Row, Table
from tests.support import hostile_redis as hostile
from tests.support.hostile_postgres import MARK
from tests.support.raw_redis import RedisClient, attempt, command

DATABASE: Final = topology.CACHE


def may_connect(*users: str) -> Policy:
    """elasticache:Connect to the cache as some users."""
    prefix = f"arn:aws:elasticache:{topology.REGION}:{DATABASE.account_id}"
    names = [f"{prefix}:user:{user}" for user in users]
    return policy(allow("elasticache:Connect", [f"{prefix}:replicationgroup:{DATABASE.resource_id}", *names]))


KIND: Final = Kind(
    database=DATABASE,
    suffix="abcdef.ng.0001.usw1.cache.amazonaws.com",
    plain=hostile.PLAIN,
    verified=hostile.VERIFIED,
    permissions=may_connect("app", "readonly"),
)
LINE_BYTES: Final = 1_000
RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024


def denied(name: str, user: str, reason: str, *says: str, **more: Any) -> Row:
    """The broker's rules say no."""
    return Row(name=name, user=user, code=more.pop("code", "NOPERM"), says=says, reason=reason, decided=True, **more)


def mistake(name: str) -> Row:
    """STS says no, for one of its reasons, and does not say which."""
    return denied(
        name, f"app@{name}", "ASSUME_ROLE_DENIED", "sts:AssumeRole", "external ID", "trust policy", DATABASE.account_id
    )


def upstream(name: str, reason: str, *says: str, code: str = "ERR") -> Row:
    """What answers at the endpoint is not what it should be. Where no deadline is due, there is time for a grant."""
    door = "brief" if reason == "HANDSHAKE_TIMEOUT" else "names"
    return Row(name=name, user=f"app@{name}", code=code, says=says, reason=reason, door=door)


def broken(name: str, *says: str) -> Row:
    """The server breaks the protocol."""
    return upstream(name, "UPSTREAM_PROTOCOL", *says)


def speaks_first(name: str) -> Row:
    """The server says something before TLS."""
    return Row(
        name=name,
        user=f"app@{name}",
        code="ERR",
        says=("TLS",),
        reason="UPSTREAM_PROTOCOL",
        or_reason="UPSTREAM_TLS_REFUSED",
    )


RULES: Final = (
    denied("a workload that no rule allows", "app@cache", "DATABASE_NOT_ALLOWED", "experiment", "rule",
           door="stranger"),
    denied("a workload the proxy may not speak for", "app@cache", "PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD",
           "elsewhere.example", "proxies:", door="foreign"),
    denied("a database that no rule allows", "app@closed", "DATABASE_NOT_ALLOWED", "closed", "rule"),
    denied("a database outside the proxy's row", "app@production", "PROXY_MAY_NOT_SERVE_DATABASE", "production",
           "proxies:"),
    denied("a database user that no rule allows", "admin@cache", "DB_USER_NOT_ALLOWED", "admin", "db_users"),
    denied("a deny rule, although another allows", "app@vault", "DENIED_BY_RULE", "nobody-in-sealed"),
    denied("a database nobody has heard of", "app@cashe", "DATABASE_UNKNOWN", "cashe", code="ERR"),
    Row(name="a database of another protocol", user="app@rds-postgres", code="ERR", says=("postgres",),
        reason="INVALID_REQUEST"),
    Row(name="a login name without a database", user="app", code="ERR", says=("db_user@database",),
        reason="DATABASE_UNKNOWN"),
    Row(name="no user", user="@cache", code="ERR", says=("no user",), reason="INVALID_REQUEST"),
    Row(name="plaintext where TLS is required", user="app@cache", code="ERR", says=("rediss://",),
        reason="CLIENT_TLS_REQUIRED", door="sealed"),
    Row(name="a name with line ends and escapes", user="app@ca\r\n+OK\r\nche\x1b[2J", code="ERR", says=(),
        reason="INVALID_REQUEST"),
)  # fmt: skip

MISTAKES: Final = (
    *map(mistake, ("wrong-external-id", "no-external-id", "no-trust", "unlisted-role")),
    denied("no-connect", "app@no-connect", "DATABASE_REFUSED", "elasticache:Connect", code="WRONGPASS"),
)

UPSTREAM: Final = (
    upstream("plain-port", "UPSTREAM_TLS_REFUSED", "TLS"),
    speaks_first("asks-at-once"),
    speaks_first("garbage-at-once"),
    upstream("garbage-for-tls", "UPSTREAM_TLS_REFUSED", "TLS"),
    upstream("welcomes-instead-of-tls", "UPSTREAM_TLS_REFUSED", "TLS"),
    upstream("closes-at-once", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("closes-in-tls", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("says-nothing", "HANDSHAKE_TIMEOUT", "within 2 s"),
    upstream("wrong-name", "UPSTREAM_TLS_UNVERIFIED", "another.abcdef", "expected wrong-name"),
    upstream("foreign-ca", "UPSTREAM_TLS_UNVERIFIED", "certificate"),
    upstream("expired-certificate", "UPSTREAM_TLS_UNVERIFIED", "has expired"),
    broken("garbage-in-tls", "begins no reply"),
    broken("oversized-value", "too large"),
    broken("negative-length"),
    broken("huge-number", "no number"),
    broken("huge-array", "too large"),
    broken("huge-map", "too large"),
    broken("says-pong", "neither +OK nor an error"),
    broken("bare-line-end", "CRLF"),
    upstream("nothing-and-close", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("rejects", "DATABASE_REFUSED", "elasticache:Connect", code="WRONGPASS"),
    upstream("is-full", "DATABASE_REFUSED", "max number of clients reached"),
    upstream("is-loading", "DATABASE_REFUSED", "loading the dataset", code="LOADING"),
    upstream("injects-lines", "DATABASE_REFUSED", "first second"),
    broken("endless-line", "65536 bytes"),
    broken("endless-nesting"),
    broken("endless-pushes"),
    upstream("half-closes", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("resets", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("drips", "HANDSHAKE_TIMEOUT", "within 2 s"),
    upstream("down", "UPSTREAM_UNREACHABLE", "refused the connection"),
)

TABLE: Final = (*RULES, *MISTAKES, *UPSTREAM)


@pytest.fixture(scope="module")
def table(whole_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """A bridge with every broken database."""
    table = Table(whole_world, tmp_path_factory.mktemp("redis-refusals"), KIND)
    try:
        table.bridge.up()
        yield table
    finally:
        table.stop()
    assert_kept_secrets(table.bridge, Leaks(whole_world))


@pytest.fixture(scope="module")
def steering(whole_world: World) -> Control:
    """The levers of this sandbox."""
    return Control(whole_world.aws_endpoint)


@pytest.fixture(scope="module")
def canary(table: Table) -> Iterator[RedisClient]:
    """A session that is there before and after; the proxy's memory is compared at its end."""
    with RedisClient(table.port("plain")) as client:
        assert client.say("PING") == b"+PONG"
        before = table.bridge.proxy.resident_bytes()
        yield client
        assert table.bridge.proxy.resident_bytes() - before < RSS_GROWTH_BYTES


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_the_refusal_is_native_names_the_fix_and_harms_nobody(table: Table, canary: RedisClient, row: Row) -> None:
    leaks = Leaks(table.world)
    written = len(table.bridge.audit("proxy"))
    with RedisClient(table.port(row.door)) as client:
        answer = client.send(command("AUTH", row.user, "any password")).read_to_end()
    assert answer.endswith(b"\r\n")
    line = answer[:-2].decode()
    assert not set(line) & set("\r\n\0\x1b"), "one reply, and nothing that ends or colours a line"
    assert len(answer) <= LINE_BYTES
    first, _, refusal = line.partition(" ")
    assert first == f"-{row.code}", line
    for word in row.says:
        assert word in refusal, f"{word!r} is not in {refusal!r}"
    assert leaks.found_in(refusal) == []
    line_of = audit_line(
        table.bridge, "proxy", after=written, event="session.refused", listener=table.listener(row.door)
    )
    assert line_of["reason"] in (row.reason, row.or_reason or row.reason)
    assert leaks.found_in(str(line_of)) == []
    if row.decided:
        decision = audit_line(table.bridge, "broker", decision_id=line_of["decision_id"])
        assert (decision["allowed"], decision["reason"]) == (False, row.reason)
        assert leaks.found_in(str(decision)) == []
        assert line_of["decision_id"] in refusal
    assert canary.say("ECHO", "still here") == b"still here"


@pytest.mark.parametrize("login", [command("AUTH", "app@cache", "x"), command("HELLO", "2", "AUTH", "app@cache", "x")])
def test_what_comes_in_one_piece_with_the_login_is_guarded_as_well(table: Table, login: bytes) -> None:
    """Refusals in their turn, a reset with its new login, and nothing of how it is done."""
    behind = command("AUTH", "other", "x") + command("MONITOR") + command("RESET") + command("ACL", "WHOAMI")
    with RedisClient(table.port("names"), seconds=5) as client:
        answer = client.send(login + behind + command("QUIT")).read_to_end()
    refused, _, rest = answer.partition(b"-WRONGPASS")[2].partition(b"-ERR tollbridge refuses this: MONITOR")
    assert b"tollbridge:" not in refused + rest
    assert rest.endswith(b"+RESET\r\n$3\r\napp\r\n+OK\r\n")


def test_the_table_is_as_long_as_promised() -> None:
    assert len(TABLE) >= 30


def door_of(name: str) -> str:
    """Of the row about a server."""
    return next(row.door for row in UPSTREAM if row.name == name)


@pytest.mark.parametrize("name", sorted(hostile.PLAIN))
def test_no_server_that_proved_nothing_was_shown_a_credential(table: Table, name: str) -> None:
    """Nor the user's name; and what such a server says reaches no client."""
    refusal = attempt(table.port(door_of(name)), f"app@{name}")
    assert refusal is not None
    server = table.servers[name]
    assert server.connections > 0
    assert b"X-Amz" not in server.heard
    assert b"AUTH" not in server.heard
    assert b"app" not in server.heard
    assert MARK not in refusal


def test_the_search_above_would_have_found_it(table: Table) -> None:
    attempt(table.port("names"), "app@says-pong")
    assert b"X-Amz" in table.servers["says-pong"].heard


def test_a_rejected_login_is_tried_with_one_fresh_credential_and_no_more(table: Table) -> None:
    before = table.servers["rejects"].connections
    attempt(table.port("names"), "app@rejects")
    assert 1 <= table.servers["rejects"].connections - before <= 2


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

    def test_throttling_is_retried_and_the_login_succeeds(self, table: Table, steering: Control) -> None:
        steering.inject_fault("throttle", count=1, role_arn=table.kind.role("throttled"))
        assert attempt(table.port("names"), "app@throttled") is None

    def test_lasting_throttling_is_said_to_be_throttling(self, table: Table, steering: Control) -> None:
        steering.inject_fault("throttle", role_arn=table.kind.role("failing"))
        refusal = attempt(table.port("names"), "app@failing", seconds=20)
        assert refusal is not None
        assert refusal.startswith("ERR tollbridge: ")
        assert "AWS_THROTTLED" in refusal

    def test_a_hanging_sts_ends_in_the_deadline_and_only_for_its_own_role(
        self, table: Table, steering: Control
    ) -> None:
        steering.inject_fault("hang", role_arn=table.kind.role("hanging"))
        refusal = attempt(table.port("brief"), "app@hanging")
        assert refusal is not None
        assert "HANDSHAKE_TIMEOUT" in refusal
        assert attempt(table.port("names"), "app@cache") is None

    def test_a_session_that_aws_ended_is_replaced_within_one_login(self, table: Table, steering: Control) -> None:
        assert attempt(table.port("names"), "app@expired") is None
        assert steering.expire_session(role_arn=table.kind.role("expired")) > 0
        assert attempt(table.port("names"), "app@expired") is None

    def test_a_role_deleted_and_made_again_is_entered_anew(self, table: Table) -> None:
        assert attempt(table.port("names"), "app@recreated") is None
        Accounts(table.world.aws_endpoint).recreate_role(table.kind.role("recreated"))
        assert attempt(table.port("names"), "app@recreated") is None

    def test_a_deleted_role_is_a_refusal_that_lists_the_causes(self, table: Table) -> None:
        assert attempt(table.port("names"), "app@deleted") is None
        Accounts(table.world.aws_endpoint).delete_role(table.kind.role("deleted"))
        refusal = attempt(table.port("names"), "app@deleted")
        assert refusal is not None
        assert refusal.startswith("NOPERM")
        assert "role" in refusal

    def test_a_policy_that_was_narrowed_is_named_although_the_session_lives(self, table: Table) -> None:
        assert attempt(table.port("names"), "app@narrowed") is None
        accounts = Accounts(table.world.aws_endpoint)
        accounts.put_role_policy(table.kind.role("narrowed"), "connect", may_connect("readonly"))
        refusal = attempt(table.port("names"), "app@narrowed")
        assert refusal is not None
        assert refusal.startswith("WRONGPASS")
        assert "elasticache:Connect" in refusal
        assert attempt(table.port("names"), "readonly@narrowed") is None


def test_the_broker_down_is_said_and_a_session_goes_on(table: Table, canary: RedisClient) -> None:
    with table.broker_away():
        refusal = attempt(table.port("names"), "readonly@expired", seconds=20)
        assert canary.say("ECHO", "still here") == b"still here"
    assert refusal is not None
    assert refusal.startswith("ERR")
    assert "BROKER_UNAVAILABLE" in refusal
