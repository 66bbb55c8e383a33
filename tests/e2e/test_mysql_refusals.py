"""MySQL logins that end in a refusal: the error number, the words that name the fix, the audit lines, nothing leaked.

As test_refusals.py for PostgreSQL: every row logs in over a raw socket, and after each another session still answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, rds_policy
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.clients import audit_line
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.table import Kind, Row, Table
from tests.support import hostile_mysql_logins as hostile
from tests.support import mysql_bytes as my
from tests.support.hostile_postgres import MARK
from tests.support.raw_mysql import MysqlClient, NativeError, attempt

DATABASE: Final = topology.RDS_MARIADB
KIND: Final = Kind(
    database=DATABASE,
    suffix="abcdef012345.us-west-1.rds.amazonaws.com",
    plain=hostile.PLAIN,
    verified={**hostile.NO_TOKEN, **hostile.SHOWN},
    permissions=rds_policy(DATABASE),
    listener={"mysql": {"server_version": "8.0.36"}},
)
DENIED, UNREACHABLE, INTERRUPTED, NOT_NOW, FULL = "1045 28000", "1429 HY000", "1159 08S01", "1053 08S01", "1040 08004"
UNSUPPORTED: Final = "1235 42000"
MESSAGE_BYTES: Final = 511
"""What clients keep of a message."""
RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024


def denied(name: str, user: str, reason: str, *says: str, **more: Any) -> Row:
    """The broker's rules say no."""
    return Row(name=name, user=user, code=more.pop("code", DENIED), says=says, reason=reason, decided=True, **more)


def mistake(name: str) -> Row:
    """STS says no, for one of its reasons, and does not say which."""
    return denied(name, f"app@{name}", "ASSUME_ROLE_DENIED", "sts:AssumeRole", DATABASE.account_id)


def upstream(name: str, code: str, reason: str, *says: str) -> Row:
    """What answers at the endpoint is not what it should be. Where no deadline is due, there is time for a grant."""
    door = "brief" if reason == "HANDSHAKE_TIMEOUT" else "names"
    return Row(name=name, user=f"app@{name}", code=code, says=says, reason=reason, door=door)


def broken(name: str, *says: str) -> Row:
    """The server breaks the protocol."""
    return upstream(name, UNREACHABLE, "UPSTREAM_PROTOCOL", *says)


RULES: Final = (
    denied("a workload that no rule allows", f"app@{DATABASE.name}", "DATABASE_NOT_ALLOWED", "experiment", "rule",
           door="stranger"),
    denied("a workload the proxy may not speak for", f"app@{DATABASE.name}", "PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD",
           "elsewhere.example", door="foreign"),
    denied("a database that no rule allows", "app@closed", "DATABASE_NOT_ALLOWED", "closed", "rule"),
    denied("a database outside the proxy's row", "app@production", "PROXY_MAY_NOT_SERVE_DATABASE", "production"),
    denied("a database user that no rule allows", f"admin@{DATABASE.name}", "DB_USER_NOT_ALLOWED", "admin"),
    denied("a deny rule, although another allows", "app@vault", "DENIED_BY_RULE", "nobody-in-sealed"),
    denied("a database nobody has heard of", "app@rds-mariadbee", "DATABASE_UNKNOWN", "rds-mariadbee",
           code="1049 42000"),
    Row(name="a database of another protocol", user="app@rds-postgres", code="1210 HY000", says=("postgres",),
        reason="INVALID_REQUEST"),
    Row(name="a login name without a database", user="app", code="1049 42000", says=("db_user@database",),
        reason="DATABASE_UNKNOWN"),
    Row(name="no user", user=f"@{DATABASE.name}", code="1210 HY000", says=("no user",), reason="INVALID_REQUEST"),
    Row(name="plaintext where TLS is required", user=f"app@{DATABASE.name}", code="3159 HY000",
        says=("--ssl-mode=VERIFY_IDENTITY",), reason="CLIENT_TLS_REQUIRED", door="sealed"),
)  # fmt: skip

MISTAKES: Final = (
    *map(mistake, ("wrong-external-id", "no-external-id", "no-trust", "unlisted-role")),
    denied("no-connect", "app@no-connect", "DATABASE_REFUSED", "rds-db:connect"),
)

UPSTREAM: Final = (
    upstream("no-tls", UNREACHABLE, "UPSTREAM_TLS_REFUSED", "does not offer TLS"),
    broken("asks-behind-greeting", "before TLS"),
    broken("asks-first", "greets with protocol 254"),
    upstream("asks-instead-of-tls", UNREACHABLE, "UPSTREAM_TLS_REFUSED", "TLS"),
    upstream("welcomes-instead-of-tls", UNREACHABLE, "UPSTREAM_TLS_REFUSED", "TLS"),
    upstream("errs-instead-of-tls", UNREACHABLE, "UPSTREAM_TLS_REFUSED", "TLS"),
    upstream("garbage-for-tls", UNREACHABLE, "UPSTREAM_TLS_REFUSED", "TLS"),
    broken("garbage-at-once", "where MySQL has 1 to 1024"),
    broken("old-protocol", "greets with protocol 9"),
    broken("empty-greeting", "packet of 0 bytes"),
    broken("greeting-out-of-turn", "packet 1 and packet 0 was due"),
    broken("long-version", "version is over 128 bytes"),
    upstream("truncated-greeting", INTERRUPTED, "UPSTREAM_CLOSED", "closed the connection"),
    broken("short-greeting", "upstream"),
    upstream("dripping-greeting", INTERRUPTED, "HANDSHAKE_TIMEOUT", "within 2 s"),
    broken("endless-greeting", "16777215 bytes"),
    broken("errs-at-once", "greeted with error 1045"),
    upstream("is-full", FULL, "TOO_MANY_CONNECTIONS", "no connection left (1040)"),
    upstream("blocks-us", DENIED, "DATABASE_REFUSED", "FLUSH HOSTS"),
    upstream("is-stopping", INTERRUPTED, "UPSTREAM_CLOSED", "shutting down"),
    upstream("closes-at-once", INTERRUPTED, "UPSTREAM_CLOSED", "closed the connection"),
    upstream("closes-in-tls", INTERRUPTED, "UPSTREAM_CLOSED", "closed the connection"),
    upstream("says-nothing", INTERRUPTED, "HANDSHAKE_TIMEOUT", "within 2 s"),
    upstream("wrong-name", UNREACHABLE, "UPSTREAM_TLS_UNVERIFIED", "another.abcdef012345", "expected wrong-name"),
    upstream("foreign-ca", UNREACHABLE, "UPSTREAM_TLS_UNVERIFIED", "aws-rds"),
    upstream("expired-certificate", UNREACHABLE, "UPSTREAM_TLS_UNVERIFIED", "has expired"),
    upstream("unknown-plugin", DENIED, "DATABASE_REFUSED", "dialog_of_ours", "AWSAuthenticationPlugin"),
    upstream("old-password", DENIED, "DATABASE_REFUSED", "mysql_old_password"),
    upstream("asks-for-gssapi", DENIED, "DATABASE_REFUSED", "auth_gssapi_client"),
    upstream("asks-for-native", DENIED, "DATABASE_REFUSED", "mysql_native_password"),
    upstream("wants-full-auth", DENIED, "DATABASE_REFUSED", "caching_sha2_password"),
    upstream("unnamed-plugin", DENIED, "DATABASE_REFUSED", "mysql_clear_password"),
    broken("unended-plugin", "upstream"),
    broken("out-of-turn", "packet 9 and packet 3 was due"),
    broken("empty-answer", "packet of 0 bytes"),
    upstream("full-in-tls", FULL, "DATABASE_REFUSED", "Too many connections"),
    upstream("denies-unasked", DENIED, "DATABASE_REFUSED", "without asking for the token"),
    broken("garbage-in-tls", "16777215 bytes"),
    broken("oversized-in-tls", "16777215 bytes"),
    upstream("injects-lines", "1044 42000", "DATABASE_REFUSED", "first", "second"),
    upstream("half-closes", INTERRUPTED, "UPSTREAM_CLOSED", "closed the connection"),
    upstream("resets", INTERRUPTED, "UPSTREAM_CLOSED", "closed the connection"),
    broken("asks-twice", "second proof"),
    broken("asks-for-a-file", "0xfb in the middle of the login"),
    broken("keeps-on-hinting", "does not come to the end of the login"),
    upstream("closes-after-password", INTERRUPTED, "UPSTREAM_CLOSED", "closed the connection"),
    upstream("drips", INTERRUPTED, "HANDSHAKE_TIMEOUT", "within 2 s"),
    upstream("down", UNREACHABLE, "UPSTREAM_UNREACHABLE", "refused the connection"),
)

TABLE: Final = (*RULES, *MISTAKES, *UPSTREAM)


@pytest.fixture(scope="module")
def table(whole_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """A bridge with every broken database."""
    table = Table(whole_world, tmp_path_factory.mktemp("mysql-refusals"), KIND)
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
def canary(table: Table) -> Iterator[MysqlClient]:
    """A session that is there before and after; the proxy's memory is compared at its end."""
    with MysqlClient(table.port("plain")) as client:
        assert client.enter("app") is None
        before = table.bridge.proxy.resident_bytes()
        yield client
        assert table.bridge.proxy.resident_bytes() - before < RSS_GROWTH_BYTES


def refusal_of(table: Table, row: Row) -> NativeError:
    refusal = attempt(table.port(row.door), row.user)
    assert refusal is not None, "it was let in"
    return refusal


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_the_refusal_is_native_names_the_fix_and_harms_nobody(table: Table, canary: MysqlClient, row: Row) -> None:
    leaks = Leaks(table.world)
    written = len(table.bridge.audit("proxy"))
    refusal = refusal_of(table, row)
    assert refusal.code == row.code, refusal
    for word in row.says:
        assert word in refusal.text, f"{word!r} is not in {refusal.text!r}"
    assert len(refusal.text.encode()) <= MESSAGE_BYTES
    assert refusal.sequence == 2, "a client takes another number for a lost connection"
    assert leaks.found_in(refusal.text) == []
    line = audit_line(table.bridge, "proxy", after=written, event="session.refused", listener=table.listener(row.door))
    assert line["reason"] == row.reason
    assert leaks.found_in(str(line)) == []
    if row.decided:
        decision = audit_line(table.bridge, "broker", decision_id=line["decision_id"])
        assert (decision["allowed"], decision["reason"]) == (False, row.reason)
        assert leaks.found_in(str(decision)) == []
        assert line["decision_id"] in refusal.text
    assert b"42" in canary.run("select 42")


def test_the_table_is_as_long_as_promised() -> None:
    assert len(TABLE) >= 30


def door_of(name: str) -> str:
    """Of the row about a server."""
    return next(row.door for row in UPSTREAM if row.name == name)


@pytest.mark.parametrize("name", [*hostile.PLAIN, *hostile.NO_TOKEN])
def test_no_server_that_did_not_ask_rightly_was_shown_a_credential(table: Table, name: str) -> None:
    """Nor, before verified TLS, the user's name; and what such a server says reaches no client."""
    refusal = attempt(table.port(door_of(name)), f"app@{name}")
    assert refusal is not None
    server = table.servers[name]
    assert server.connections > 0
    assert b"X-Amz" not in server.heard
    assert b"DBUser" not in server.heard
    if name in hostile.PLAIN:
        assert b"app" not in server.heard
        assert MARK not in refusal.text


@pytest.mark.parametrize("name", sorted(hostile.SHOWN))
def test_the_search_above_would_have_found_it(table: Table, name: str) -> None:
    attempt(table.port(door_of(name)), f"app@{name}")
    assert b"X-Amz" in table.servers[name].heard


def test_the_servers_line_ends_do_not_reach_a_log_as_lines(table: Table) -> None:
    written = len(table.bridge.audit("proxy"))
    attempt(table.port("names"), "app@injects-lines")
    line = audit_line(table.bridge, "proxy", after=written, event="session.refused")
    assert "second" in str(line)
    logged = table.bridge.proxy.log().splitlines()
    assert not [text for text in logged if text.startswith("second")]


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
        steering.inject_fault("throttle", count=1, role_arn=KIND.role("throttled"))
        assert attempt(table.port("names"), "app@throttled") is None

    def test_lasting_throttling_is_said_to_be_throttling(self, table: Table, steering: Control) -> None:
        steering.inject_fault("throttle", role_arn=KIND.role("failing"))
        refusal = attempt(table.port("names"), "app@failing", seconds=20)
        assert refusal is not None
        assert refusal.code == FULL
        assert "AWS_THROTTLED" in refusal.text

    def test_a_hanging_sts_ends_in_the_deadline_and_only_for_its_own_role(
        self, table: Table, steering: Control
    ) -> None:
        steering.inject_fault("hang", role_arn=KIND.role("hanging"))
        refusal = attempt(table.port("brief"), "app@hanging")
        assert refusal is not None
        assert refusal.code == INTERRUPTED
        assert attempt(table.port("names"), f"app@{DATABASE.name}") is None

    def test_a_session_that_aws_ended_is_replaced_within_one_login(self, table: Table, steering: Control) -> None:
        assert attempt(table.port("names"), "app@expired") is None
        assert steering.expire_session(role_arn=KIND.role("expired")) > 0
        assert attempt(table.port("names"), "app@expired") is None

    def test_a_role_deleted_and_made_again_is_entered_anew(self, table: Table) -> None:
        assert attempt(table.port("names"), "app@recreated") is None
        Accounts(table.world.aws_endpoint).recreate_role(KIND.role("recreated"))
        assert attempt(table.port("names"), "app@recreated") is None

    def test_a_deleted_role_is_a_refusal_that_lists_the_causes(self, table: Table) -> None:
        assert attempt(table.port("names"), "app@deleted") is None
        Accounts(table.world.aws_endpoint).delete_role(KIND.role("deleted"))
        refusal = attempt(table.port("names"), "app@deleted")
        assert refusal is not None
        assert refusal.code == DENIED
        assert "role" in refusal.text

    def test_a_policy_that_was_narrowed_is_named_although_the_session_lives(self, table: Table) -> None:
        assert attempt(table.port("names"), "app@narrowed") is None
        accounts = Accounts(table.world.aws_endpoint)
        accounts.put_role_policy(KIND.role("narrowed"), "connect", rds_policy(DATABASE, ["readonly"]))
        refusal = attempt(table.port("names"), "app@narrowed")
        assert refusal is not None
        assert refusal.code == DENIED
        assert "rds-db:connect" in refusal.text
        assert attempt(table.port("names"), "readonly@narrowed") is None


@pytest.mark.parametrize("flags", [my.COMPRESS, my.ZSTD, my.COMPRESS | my.ZSTD])
def test_compression_that_was_not_offered_is_refused(table: Table, flags: int) -> None:
    refusal = attempt(table.port("names"), f"app@{DATABASE.name}", flags=my.CLIENT | flags)
    assert refusal is not None
    assert refusal.code == UNSUPPORTED
    assert "compression is not spoken here" in refusal.text


def test_the_broker_down_is_said_and_a_session_goes_on(table: Table, canary: MysqlClient) -> None:
    with table.broker_away():
        refusal = attempt(table.port("names"), "readonly@expired", seconds=20)
        assert b"43" in canary.run("select 43")
    assert refusal is not None
    assert refusal.code == NOT_NOW
    assert "BROKER_UNAVAILABLE" in refusal.text
