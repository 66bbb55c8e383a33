"""Logins that end in a refusal: the native error, the words that name the fix, the audit lines, nothing leaked.

Every row logs in over a raw socket, so that the error is seen as it is on the wire. After each, another session that
was there before still answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import pytest

from deploy.sandbox.accounts import Accounts, rds_policy
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.control import Control
from deploy.sandbox.topology import RDS_POSTGRES
from deploy.sandbox.world import World
from tests.e2e.arrangement import PLAIN_SERVERS, Arrangement, role
from tests.e2e.clients import Clients, audit_line
from tests.e2e.conftest import Leaks
from tests.support.hostile_postgres import MARK
from tests.support.raw_postgres import NativeError, attempt

DENIED, UNREACHABLE, PROTOCOL, NOT_NOW = "28000", "08001", "08P01", "57P03"
RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024
"""What all of this file may add to the proxy's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One refusal. `says`: words of the error, all of which must be there."""

    name: str
    user: str
    sqlstate: str
    says: tuple[str, ...]
    door: str = "names"
    database: str = "app"
    reason: str = ""
    """In the proxy's audit line, and where `decided` in the broker's."""
    decided: bool = False
    """The broker refused, and writes a line about it."""
    startup: dict[str, str] = field(default_factory=dict)


def denied(name: str, user: str, reason: str, *says: str, **more: Any) -> Row:
    """The broker's rules say no."""
    return Row(
        name=name, user=user, sqlstate=more.pop("sqlstate", DENIED), says=says, reason=reason, decided=True, **more
    )


def mistake(name: str) -> Row:
    """STS says no, for one of its reasons, and does not say which."""
    return denied(
        name,
        f"app@{name}",
        "ASSUME_ROLE_DENIED",
        "sts:AssumeRole",
        "external ID",
        "trust policy",
        RDS_POSTGRES.account_id,
    )


def upstream(name: str, sqlstate: str, reason: str, *says: str) -> Row:
    """What answers at the endpoint is not what it should be. Where no deadline is due, there is time for a grant."""
    door = "brief" if reason == "HANDSHAKE_TIMEOUT" else "names"
    return Row(name=name, user=f"app@{name}", sqlstate=sqlstate, says=says, reason=reason, door=door)


RULES: Final = (
    denied("a workload that no rule allows", "app@rds-postgres", "DATABASE_NOT_ALLOWED", "rds-postgres", "experiment",
           "rule", door="stranger"),
    denied("a workload the proxy may not speak for", "app@rds-postgres", "PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD",
           "elsewhere.example", "proxies:", door="foreign"),
    denied("a database that no rule allows", "app@closed", "DATABASE_NOT_ALLOWED", "closed", "rule"),
    denied("a database outside the proxy's row", "app@production", "PROXY_MAY_NOT_SERVE_DATABASE", "production",
           "proxies:"),
    denied("a database user that no rule allows", "admin@rds-postgres", "DB_USER_NOT_ALLOWED", "admin", "db_users"),
    denied("a logical database that no rule allows", "app@rds-postgres", "DB_NAME_NOT_ALLOWED", "template1", "db_names",
           database="template1"),
    denied("a deny rule, although another allows", "app@vault", "DENIED_BY_RULE", "nobody-in-sealed"),
    denied("a database nobody has heard of", "app@rds-postgers", "DATABASE_UNKNOWN", "rds-postgers", sqlstate="3D000"),
    Row(name="a login name without a database", user="app", sqlstate="3D000", says=("db_user@database",),
        reason="DATABASE_UNKNOWN"),
    Row(name="no user", user="@rds-postgres", sqlstate="22023", says=("no user",), reason="INVALID_REQUEST"),
)  # fmt: skip

MISTAKES: Final = (
    *map(mistake, ("wrong-external-id", "no-external-id", "no-trust", "unlisted-role", "no-such-role")),
    Row(
        name="no-connect",
        user="app@no-connect",
        sqlstate=DENIED,
        says=("rds-db:connect", "GRANT rds_iam", "no-connect-role"),
        reason="DATABASE_REFUSED",
        decided=True,
    ),
)

CLIENT: Final = (
    Row(name="replication", user="app", door="plain", sqlstate="0A000", says=("replication",), reason="FEATURE_REFUSED",
        startup={"replication": "true"}),
    Row(name="logical replication", user="app", door="plain", sqlstate="0A000", says=("replication", "IAM"),
        reason="FEATURE_REFUSED", startup={"replication": "database"}),
    Row(name="plaintext where TLS is required", user="app@rds-postgres", door="mtls", sqlstate=DENIED,
        says=("sslmode=verify-full",), reason="CLIENT_TLS_REQUIRED"),
    Row(name="a database the server does not have", user="app", door="plain", database="postgres2", sqlstate=DENIED,
        says=("db_names",), reason="DB_NAME_NOT_ALLOWED", decided=True),
    Row(name="options the server does not take", user="app", door="plain", sqlstate="42704",
        says=("no_such_setting",), reason="DATABASE_REFUSED", startup={"options": "-c no_such_setting=1"}),
)  # fmt: skip

UPSTREAM: Final = (
    upstream("declines-tls", UNREACHABLE, "UPSTREAM_TLS_REFUSED", "TLS", "ssl = on"),
    upstream("errs-before-tls", UNREACHABLE, "UPSTREAM_TLS_REFUSED", "TLS"),
    upstream("smuggles-before-tls", PROTOCOL, "UPSTREAM_PROTOCOL", "before TLS"),
    upstream("speaks-first", PROTOCOL, "UPSTREAM_PROTOCOL", "before TLS"),
    upstream("garbage-at-once", UNREACHABLE, "UPSTREAM_TLS_REFUSED", "PostgreSQL server"),
    upstream("garbage-for-tls", UNREACHABLE, "UPSTREAM_TLS_REFUSED", "TLS"),
    upstream("closes-at-once", "08006", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("closes-in-tls", "08006", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("says-nothing", "57014", "HANDSHAKE_TIMEOUT", "within 2 s"),
    upstream("wrong-name", UNREACHABLE, "UPSTREAM_TLS_UNVERIFIED", "another.abcdef012345", "expected wrong-name"),
    upstream("foreign-ca", UNREACHABLE, "UPSTREAM_TLS_UNVERIFIED", "aws-rds"),
    upstream("expired-certificate", UNREACHABLE, "UPSTREAM_TLS_UNVERIFIED", "has expired"),
    upstream("garbage-in-tls", PROTOCOL, "UPSTREAM_PROTOCOL", "where PostgreSQL sends none"),
    upstream("oversized-message", PROTOCOL, "UPSTREAM_PROTOCOL", "the limit here is"),
    upstream("negative-length", PROTOCOL, "UPSTREAM_PROTOCOL", "the limit here is"),
    upstream("asks-for-gssapi", DENIED, "DATABASE_REFUSED", "GSSAPI", "rds_iam"),
    upstream("asks-twice", PROTOCOL, "UPSTREAM_PROTOCOL", "second proof"),
    upstream("closes-after-password", "08006", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("half-closes", "08006", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("resets", "08006", "UPSTREAM_CLOSED", "closed the connection"),
    upstream("endless-greeting", PROTOCOL, "UPSTREAM_PROTOCOL", "greeting is over"),
    upstream("drips", "57014", "HANDSHAKE_TIMEOUT", "within 2 s"),
    upstream("is-full", "53300", "DATABASE_REFUSED", "sorry, too many clients already"),
    upstream("is-starting", NOT_NOW, "DATABASE_REFUSED", "the database system is starting up"),
    upstream("down", UNREACHABLE, "UPSTREAM_UNREACHABLE", "refused the connection", "nothing listens there"),
)

TABLE: Final = (*RULES, *MISTAKES, *CLIENT, *UPSTREAM)


@pytest.fixture(scope="module")
def canary(clients: Clients) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A session that is there before and after; the proxy's memory is compared at its end."""
    with psycopg.connect(clients.dsn("tls"), autocommit=True) as connection:
        before = clients.bridge.proxy.resident_bytes()
        yield connection
        assert clients.bridge.proxy.resident_bytes() - before < RSS_GROWTH_BYTES


def refusal_of(bridge: Bridge, row: Row) -> NativeError:
    refusal = attempt(bridge.ports[row.door], user=row.user, database=row.database, more=row.startup)
    assert refusal is not None, "it was let in"
    return refusal


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_the_refusal_is_native_names_the_fix_and_harms_nobody(
    bridge: Bridge, canary: psycopg.Connection[tuple[Any, ...]], leaks: Leaks, row: Row
) -> None:
    written = len(bridge.audit("proxy"))
    refusal = refusal_of(bridge, row)
    assert (refusal.severity, refusal.sqlstate) == ("FATAL", row.sqlstate), refusal
    for word in row.says:
        assert word in refusal.text, f"{word!r} is not in {refusal.text!r}"
    assert leaks.found_in(refusal.text) == []
    line = audit_line(bridge, "proxy", after=written, event="session.refused", listener=row.door)
    assert line["reason"] == row.reason
    assert leaks.found_in(str(line)) == []
    if row.decided:
        decision = audit_line(bridge, "broker", decision_id=line["decision_id"])
        assert (decision["allowed"], decision["reason"]) == (False, row.reason)
        assert leaks.found_in(str(decision)) == []
        assert line["decision_id"] in refusal.detail
    assert canary.execute("select 1").fetchone() == (1,)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(TABLE) >= 30


def door_of(name: str) -> str:
    """Of the row about a server."""
    return next(row.door for row in UPSTREAM if row.name == name)


def test_no_server_that_proved_nothing_was_shown_a_credential(bridge: Bridge, arrangement: Arrangement) -> None:
    """Nor does what it said before TLS reach a client."""
    for name in PLAIN_SERVERS:
        refusal = attempt(bridge.ports[door_of(name)], user=f"app@{name}")
        assert refusal is not None
        server = arrangement.servers[name]
        assert server.connections > 0
        assert b"X-Amz" not in server.heard
        assert b"app" not in server.heard
        assert MARK not in refusal.text


def test_the_proxy_crashed_in_none_of_these(bridge: Bridge) -> None:
    assert "crashed" not in bridge.proxy.log()
    assert "Traceback" not in bridge.proxy.log()
    assert "Traceback" not in bridge.broker.log()


class TestAwsInTrouble:
    """One role each, so that no trouble reaches another test."""

    @pytest.fixture(autouse=True)
    def faultless(self, control: Control) -> Iterator[None]:
        yield
        control.clear_faults()

    def test_throttling_is_retried_and_the_login_succeeds(self, bridge: Bridge, control: Control) -> None:
        control.inject_fault("throttle", count=1, role_arn=role("throttled"))
        assert attempt(bridge.ports["names"], user="app@throttled") is None

    def test_lasting_throttling_is_said_to_be_throttling(self, bridge: Bridge, control: Control) -> None:
        control.inject_fault("throttle", role_arn=role("failing"))
        refusal = attempt(bridge.ports["names"], user="app@failing", seconds=20)
        assert refusal is not None
        assert refusal.sqlstate == NOT_NOW
        assert "limit" in refusal.text

    def test_a_slow_sts_only_makes_the_first_login_slow(self, bridge: Bridge, control: Control) -> None:
        control.inject_fault("delay", delay_seconds=1.0, role_arn=role("slow"))
        assert attempt(bridge.ports["names"], user="app@slow") is None
        asked = control.counters().assume_role[role("slow")]
        assert attempt(bridge.ports["names"], user="app@slow") is None
        assert control.counters().assume_role[role("slow")] == asked, "nobody waits for it again"

    def test_a_hanging_sts_ends_in_the_deadline_and_only_for_its_own_role(
        self, bridge: Bridge, control: Control
    ) -> None:
        control.inject_fault("hang", role_arn=role("hanging"))
        refusal = attempt(bridge.ports["brief"], user="app@hanging")
        assert refusal is not None
        assert refusal.sqlstate == "57014"
        assert attempt(bridge.ports["names"], user="app@rds-postgres") is None

    def test_a_session_that_aws_ended_is_replaced_within_one_login(self, bridge: Bridge, control: Control) -> None:
        """The proxy's grant and the broker's session are both dead: refused upstream, asked again, let in."""
        assert attempt(bridge.ports["names"], user="app@expired") is None
        assert control.expire_session(role_arn=role("expired")) > 0
        assert attempt(bridge.ports["names"], user="app@expired") is None

    def test_a_role_deleted_and_made_again_is_entered_anew(self, bridge: Bridge, world: World) -> None:
        assert attempt(bridge.ports["names"], user="app@recreated") is None
        Accounts(world.aws_endpoint).recreate_role(role("recreated"))
        assert attempt(bridge.ports["names"], user="app@recreated") is None

    def test_a_deleted_role_is_a_refusal_that_lists_the_causes(self, bridge: Bridge, world: World) -> None:
        assert attempt(bridge.ports["names"], user="app@deleted") is None
        Accounts(world.aws_endpoint).delete_role(role("deleted"))
        refusal = attempt(bridge.ports["names"], user="app@deleted")
        assert refusal is not None
        assert refusal.sqlstate == DENIED
        assert "role" in refusal.text

    def test_a_policy_that_was_narrowed_is_named_although_the_session_lives(self, bridge: Bridge, world: World) -> None:
        assert attempt(bridge.ports["names"], user="app@narrowed") is None
        accounts = Accounts(world.aws_endpoint)
        accounts.put_role_policy(role("narrowed"), "connect", rds_policy(RDS_POSTGRES, ["readonly"]))
        refusal = attempt(bridge.ports["names"], user="app@narrowed")
        assert refusal is not None
        assert refusal.sqlstate == DENIED
        assert "rds-db:connect" in refusal.text
        assert attempt(bridge.ports["names"], user="readonly@narrowed") is None


def test_a_full_role_is_the_servers_own_refusal(bridge: Bridge, superuser: psycopg.Connection[tuple[Any, ...]]) -> None:
    superuser.execute("alter role readonly connection limit 0")
    try:
        refusal = attempt(bridge.ports["plain"], user="readonly")
    finally:
        superuser.execute("alter role readonly connection limit -1")
    assert refusal is not None
    assert (refusal.sqlstate, refusal.message) == ("53300", 'too many connections for role "readonly"')
