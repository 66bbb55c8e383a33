"""Logins to DocumentDB that end in a refusal: MongoDB's codes, words that name the fix, audit lines, nothing leaked.

As test_refusals.py for PostgreSQL: every row says hello over a raw socket, and after each another session answers.
A MongoDB client names no database before it is let in, so each has a listener of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, allow, policy, trust_policy
from deploy.sandbox.bridge import APP_WORKLOAD
from deploy.sandbox.commands import free_port
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.arrangement import FOREIGN, HANDSHAKE_SECONDS, STRANGER
from tests.e2e.clients import audit_line
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.table import LABELS, MISTAKES, TEST_ROLES, Kind, Row, Table
from tests.support import hostile_mongo as hostile
from tests.support import mongo
from tests.support.hostile_postgres import MARK
from tests.support.raw_mongo import MongoClient, attempt

DATABASE: Final = topology.DOCUMENTDB
USER: Final = "role/DatabaseUserRole"
RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024
UNAUTHORIZED, FAILED, PROTOCOL, BUSY, AWAY, BAD = "13", "18", "17", "262", "6", "2"

KIND: Final = Kind(
    database=DATABASE,
    suffix="cluster-abcdef012345.us-west-1.docdb.amazonaws.com",
    plain=hostile.PLAIN,
    verified={**hostile.UNASKED, **hostile.SHOWN},
    permissions=policy(allow(["sts:AssumeRole", "sts:TagSession"], topology.DATABASE_USER_ROLE_ARN)),
)

DOORS: Final[dict[str, dict[str, Any]]] = {
    "stranger": {"workload": STRANGER},
    "foreign": {"workload": FOREIGN},
    "nobodys-role": {"db_user": "role/NobodysRole"},
    "another-protocol": {"database": "keyspaces"},
    "unknown": {"database": "dokuments"},
    "sealed": {"sealed": True},
}
"""Doors that lead to the database itself, but for what is said here."""
OWN: Final = (*MISTAKES, *LABELS, *TEST_ROLES, *hostile.PLAIN, *hostile.UNASKED, *hostile.SHOWN, "down")
"""Databases with a door of the same name."""


class Doors(Table):
    """A door for everything that is wrong."""

    def door(self, name: str) -> int:
        """Its port."""
        return self.bridge.ports[DATABASE.name if name == "plain" else f"m-{name}"]

    def _change_proxy(self, document: dict[str, Any]) -> None:
        super()._change_proxy(document)
        own = next(listener for listener in document["listeners"] if listener["name"] == DATABASE.name)
        document["listeners"] = [row for row in document["listeners"] if not row["name"].startswith("t-")]
        slow = {row.name for row in UPSTREAM if row.reason == "HANDSHAKE_TIMEOUT"}
        for name in (*DOORS, *OWN):
            changes = {"database": name} if name in OWN else dict(DOORS[name])
            tls = {**own["tls"], "required": True} if changes.pop("sealed", False) else own["tls"]
            port = self.ports.setdefault(f"m-{name}", free_port())
            brief = {"limits": {"handshake_seconds": HANDSHAKE_SECONDS}} if name in slow else {}
            door = {**own, "name": f"m-{name}", "address": f"127.0.0.1:{port}", "workload": APP_WORKLOAD, "tls": tls}
            document["listeners"].append({**door, "db_user": USER, **brief, **changes})


def denied(name: str, reason: str, *says: str, door: str, code: str = UNAUTHORIZED) -> Row:
    """The broker's rules say no."""
    return Row(name=name, user=USER, code=code, says=says, reason=reason, door=door, decided=True)


def upstream(name: str, reason: str, *says: str, code: str = PROTOCOL, or_reason: str = "") -> Row:
    """What answers at the endpoint is not what it should be."""
    return Row(name=name, user=USER, code=code, says=says, reason=reason, door=name, or_reason=or_reason)


def broken(name: str, *says: str) -> Row:
    """The server breaks the protocol."""
    return upstream(name, "UPSTREAM_PROTOCOL", *says)


RULES: Final = (
    denied("a workload that no rule allows", "DATABASE_NOT_ALLOWED", "experiment", "rule", door="stranger"),
    denied("a workload the proxy may not speak for", "PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD", "elsewhere.example",
           "proxies:", door="foreign"),
    denied("a database that no rule allows", "DATABASE_NOT_ALLOWED", "closed", "rule", door="closed"),
    denied("a database outside the proxy's row", "PROXY_MAY_NOT_SERVE_DATABASE", "production", "proxies:",
           door="production"),
    denied("a role that no rule allows", "DB_USER_NOT_ALLOWED", "NobodysRole", "db_users", door="nobodys-role"),
    denied("a deny rule, although another allows", "DENIED_BY_RULE", "nobody-in-sealed", door="vault"),
    denied("a database nobody has heard of", "DATABASE_UNKNOWN", "dokuments", door="unknown", code=BAD),
    Row(name="a database of another protocol", user=USER, code=BAD, says=("cassandra",), reason="INVALID_REQUEST",
        door="another-protocol"),
    Row(name="plaintext where TLS is required", user=USER, code=PROTOCOL, says=("tls=true",),
        reason="CLIENT_TLS_REQUIRED", door="sealed"),
)  # fmt: skip

ASSUMING: Final = tuple(
    denied(name, "ASSUME_ROLE_DENIED", "sts:AssumeRole", "external ID", "trust policy", door=name) for name in MISTAKES
)

UPSTREAM: Final = (
    upstream("plain-port", "UPSTREAM_TLS_REFUSED", "TLS", code=AWAY),
    upstream("garbage-for-tls", "UPSTREAM_TLS_REFUSED", "TLS", code=AWAY),
    upstream("closes-at-once", "UPSTREAM_CLOSED", "closed the connection", code=AWAY),
    upstream("closes-in-tls", "UPSTREAM_CLOSED", "closed the connection", code=AWAY),
    upstream("says-nothing", "HANDSHAKE_TIMEOUT", "within 2 s", code=BUSY),
    upstream("wrong-name", "UPSTREAM_TLS_UNVERIFIED", "another.cluster", "expected wrong-name", code=AWAY),
    upstream("foreign-ca", "UPSTREAM_TLS_UNVERIFIED", "certificate", code=AWAY),
    upstream("expired-certificate", "UPSTREAM_TLS_UNVERIFIED", "has expired", code=AWAY),
    upstream("down", "UPSTREAM_UNREACHABLE", "refused the connection", code=AWAY),
    *map(broken, ("garbage-in-tls", "another-question", "negative-length", "oversized-message", "compressed")),
    *map(broken, ("limits-of-text", "another-nonce", "a-short-nonce", "a-long-nonce", "no-payload")),
    *map(broken, ("payload-of-text", "done-at-once", "no-host", "a-long-host")),
    upstream("not-ok", "DATABASE_REFUSED", "shutting down", code=FAILED),
    upstream("without-ok", "DATABASE_REFUSED", code=FAILED),
    upstream("knows-no-aws", "DATABASE_REFUSED", "Unsupported mechanism", code=FAILED),
    upstream("half-closes", "UPSTREAM_CLOSED", "closed the connection", code=AWAY),
    upstream("resets", "UPSTREAM_CLOSED", "closed the connection", code=AWAY),
    upstream("drips", "HANDSHAKE_TIMEOUT", "within 2 s", code=BUSY),
    upstream("rejects", "DATABASE_REFUSED", code=FAILED),
    upstream("injects-lines", "DATABASE_REFUSED", "first", code=FAILED),
    upstream("quotes-the-proof", "DATABASE_REFUSED", code=FAILED),
    upstream("rejects-and-quotes", "DATABASE_REFUSED", code=FAILED),
    broken("never-done"),
    broken("answers-another"),
    upstream("closes-after-the-proof", "UPSTREAM_CLOSED", "closed the connection", code=AWAY),
)
FOREIGN_STS: Final = tuple(name for name in hostile.FOREIGN_HOSTS if name not in ("no-host", "a-long-host"))

TABLE: Final = (*RULES, *ASSUMING, *UPSTREAM)


@pytest.fixture(scope="module")
def table(nosql_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """A bridge with every broken database."""
    accounts = Accounts(nosql_world.aws_endpoint)
    table = Doors(nosql_world, tmp_path_factory.mktemp("mongo-refusals"), KIND)
    trusted = (topology.EXAMPLE_ROLE_ARN, *(KIND.role(name) for name in TEST_ROLES))
    accounts.set_trust_policy(topology.DATABASE_USER_ROLE_ARN, trust_policy(*trusted))
    try:
        table.bridge.up()
        yield table
    finally:
        table.stop()
        accounts.set_trust_policy(topology.DATABASE_USER_ROLE_ARN, trust_policy(topology.EXAMPLE_ROLE_ARN))
    assert_kept_secrets(table.bridge, Leaks(nosql_world))


@pytest.fixture(scope="module")
def steering(nosql_world: World) -> Control:
    """The levers of this sandbox."""
    return Control(nosql_world.aws_endpoint)


@pytest.fixture(scope="module")
def canary(table: Doors) -> Iterator[MongoClient]:
    """A session that is there before and after; the proxy's memory is compared at its end."""
    with MongoClient(table.door("plain")) as client:
        assert client.request("hello")["setName"] == "rs0"
        before = table.bridge.proxy.resident_bytes()
        yield client
        assert table.bridge.proxy.resident_bytes() - before < RSS_GROWTH_BYTES


def assert_alive(canary: MongoClient) -> None:
    """The other session answers."""
    assert canary.request("count", 21, "app", count="orders")["ok"] == 1.0


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_the_refusal_is_native_names_the_fix_and_harms_nobody(table: Doors, canary: MongoClient, row: Row) -> None:
    leaks = Leaks(table.world)
    written = len(table.bridge.audit("proxy"))
    with MongoClient(table.door(row.door)) as client:
        answer = client.request("hello")
        assert client.read_to_end() == b""
    refusal = answer["errmsg"]
    assert (answer["ok"], str(answer["code"])) == (0.0, row.code), refusal
    assert answer["codeName"]
    for word in row.says:
        assert word in refusal, f"{word!r} is not in {refusal!r}"
    assert leaks.found_in(refusal) == []
    assert "Signature=" not in refusal
    line = audit_line(table.bridge, "proxy", after=written, event="session.refused", listener=f"m-{row.door}")
    assert line["reason"] in (row.reason, row.or_reason or row.reason)
    assert leaks.found_in(str(line)) == []
    assert "Signature=" not in str(line)
    if row.decided:
        decision = audit_line(table.bridge, "broker", decision_id=line["decision_id"])
        assert (decision["allowed"], decision["reason"]) == (False, row.reason)
        assert leaks.found_in(str(decision)) == []
        assert line["decision_id"] in refusal
    assert_alive(canary)


@pytest.mark.parametrize("name", FOREIGN_STS)
def test_a_server_that_names_a_foreign_sts_gets_nothing(table: Doors, canary: MongoClient, name: str) -> None:
    """The broker signs for the STS of the database's region alone, and says so in a line of its own."""
    refusal = attempt(table.door(name))
    assert refusal is not None
    server = table.servers[name]
    assert b"saslStart" in server.heard
    for word in (b"AWS4-HMAC-SHA256", b"saslContinue", b"IQoJb3JpZ2luX2Vj"):
        assert word not in server.heard
    assert_alive(canary)


def test_an_old_client_is_refused_in_its_own_form(table: Doors) -> None:
    with MongoClient(table.door("closed")) as client:
        client.send(mongo.op_query({"isMaster": 1}, 33))
        answer = client.whole()
    assert (mongo.response_to(answer), mongo.read(answer)["code"]) == (33, 13)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(TABLE) + len(FOREIGN_STS) >= 30


@pytest.mark.parametrize("name", sorted({**hostile.PLAIN, **hostile.UNASKED}.keys() - set(FOREIGN_STS)))
def test_a_server_that_asks_for_no_proof_is_shown_none(table: Doors, name: str) -> None:
    """And what such a server says before it has proved its own name reaches no client."""
    refusal = attempt(table.door(name))
    assert refusal is not None
    server = table.servers[name]
    assert server.connections > 0
    for word in (b"AWS4-HMAC-SHA256", b"saslContinue", b"IQoJb3JpZ2luX2Vj", b"DatabaseUserRole"):
        assert word not in server.heard
    assert MARK not in refusal[1]


def test_the_search_above_would_have_found_it(table: Doors) -> None:
    attempt(table.door("never-done"))
    assert b"AWS4-HMAC-SHA256" in table.servers["never-done"].heard


def test_a_rejected_proof_is_followed_by_one_fresh_one_and_no_more(table: Doors) -> None:
    before = table.servers["rejects"].connections
    attempt(table.door("rejects"))
    assert table.servers["rejects"].connections - before <= 2


def test_the_proxy_crashed_in_none_of_these(table: Doors) -> None:
    assert "crashed" not in table.bridge.proxy.log()
    assert "Traceback" not in table.bridge.proxy.log()
    assert "Traceback" not in table.bridge.broker.log()


class TestAwsInTrouble:
    """One role each, so that no trouble reaches another test."""

    @pytest.fixture(autouse=True)
    def faultless(self, steering: Control) -> Iterator[None]:
        yield
        steering.clear_faults()

    def test_throttling_is_retried_and_the_login_succeeds(self, table: Doors, steering: Control) -> None:
        steering.inject_fault("throttle", count=1, role_arn=KIND.role("throttled"))
        assert attempt(table.door("throttled")) is None

    def test_lasting_throttling_is_said_to_be_throttling(self, table: Doors, steering: Control) -> None:
        steering.inject_fault("throttle", role_arn=KIND.role("failing"))
        refusal = attempt(table.door("failing"), seconds=20)
        assert refusal is not None
        assert (str(refusal[0]), "AWS_THROTTLED" in refusal[1]) == (BUSY, True)

    def test_a_session_that_aws_ended_is_replaced_within_one_login(self, table: Doors, steering: Control) -> None:
        assert attempt(table.door("expired")) is None
        assert steering.expire_session(role_arn=topology.DATABASE_USER_ROLE_ARN) > 0
        assert steering.expire_session(role_arn=KIND.role("expired")) > 0
        assert attempt(table.door("expired")) is None

    def test_a_deleted_role_is_a_refusal_that_lists_the_causes(self, table: Doors) -> None:
        Accounts(table.world.aws_endpoint).delete_role(KIND.role("deleted"))
        refusal = attempt(table.door("deleted"))
        assert refusal is not None
        assert (str(refusal[0]), "ASSUME_ROLE_DENIED" in refusal[1]) == (UNAUTHORIZED, True)


def test_the_broker_down_is_said_and_a_session_goes_on(table: Doors, canary: MongoClient) -> None:
    """No login without the broker: it signs each. And no database that the session has not been let into before."""
    assert_alive(canary)
    with table.broker_away():
        refusal = attempt(table.door("plain"), seconds=20)
        assert_alive(canary)
    assert refusal is not None
    assert (str(refusal[0]), "BROKER_UNAVAILABLE" in refusal[1]) == (AWAY, True)
