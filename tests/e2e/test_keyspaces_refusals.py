"""Logins to Keyspaces that end in a refusal: CQL's codes, words that name the fix, audit lines, nothing leaked; and
servers that lie about the cluster once they have let somebody in.

As test_refusals.py for PostgreSQL: every row logs in over a raw socket, and after each another session still answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, allow, policy, trust_policy
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.clients import audit_line
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.table import TEST_ROLES, Kind, Row, Table
from tests.support import cql
from tests.support import hostile_cql as hostile
from tests.support.hostile_postgres import MARK
from tests.support.raw_cql import CqlClient, attempt, query

DATABASE: Final = topology.KEYSPACES
USER: Final = "role/DatabaseUserRole"
RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024
BAD_CREDENTIALS, SERVER, PROTOCOL, BUSY = "0100", "0000", "000A", "1001"

PEER: Final = cql.rows(cql.metadata("peers", cql.PEER_COLUMNS), cql.PEER_ROW)
BARE_ROWS: Final = b"\0\0\0\2\0\0\0\4\0\0\0\4\0\0\0\1" + b"".join(cql.long(cell) for cell in cql.PEER_ROW)
LIES: Final[dict[bytes, bytes]] = {
    b"honest": cql.answer(cql.RESULT, PEER),
    b"in-peers-v2": cql.answer(cql.RESULT, cql.rows(cql.metadata("peers_v2", cql.PEER_COLUMNS), cql.PEER_ROW)),
    b"column-by-column": cql.answer(
        cql.RESULT, cql.rows(cql.metadata("peers", cql.PEER_COLUMNS, one_table=False), cql.PEER_ROW)
    ),
    b"with-more-pages": cql.answer(
        cql.RESULT, cql.rows(cql.metadata("peers", cql.PEER_COLUMNS, paging=b"p" * 40), cql.PEER_ROW)
    ),
    b"behind-a-trace": cql.answer(cql.RESULT, b"t" * 16 + PEER, flags=2),
    b"behind-a-warning": cql.answer(cql.RESULT, b"\0\1" + cql.text("beware") + PEER, flags=8),
    b"behind-a-payload": cql.answer(cql.RESULT, b"\0\1" + cql.text("key") + cql.long(b"v") + PEER, flags=4),
    b"in-two-thousand": cql.answer(
        cql.RESULT, cql.rows(cql.metadata("peers", cql.PEER_COLUMNS), *[cql.PEER_ROW] * 2_000)
    ),
    b"cut-short": cql.answer(cql.RESULT, PEER[:-20]),
    b"after-news": cql.answer(cql.RESULT, PEER)
    + cql.answer(
        cql.EVENT, cql.text("TOPOLOGY_CHANGE") + cql.text("NEW_NODE") + b"\4\x0a\0\0\4\0\0\x23\xb6", stream=-1
    ),
}
"""Rows about neighbours, in every form: a client sees none of them."""
BROKEN: Final[dict[bytes, bytes]] = {
    b"of-two-billion": cql.answer(cql.RESULT, PEER[:4] + b"\0\0\0\1\x7f\xff\xff\xff" + PEER[12:]),
    b"of-minus-one": cql.answer(cql.RESULT, PEER[:4] + b"\0\0\0\1\xff\xff\xff\xff" + PEER[12:]),
    b"of-a-type-within-types": cql.answer(
        cql.RESULT, cql.rows(cql.metadata("peers", [("peer", b"\0\x20" * 5_000 + cql.INT)]), [b""])
    ),
    b"oversized": b"\x84\0\0\0\x08\x7f\xff\xff\xff" + PEER,
    b"negative": b"\x84\0\0\0\x08\xff\xff\xff\xff" + PEER,
    b"in-version-5": b"\x85" + cql.answer(cql.RESULT, PEER)[1:],
}
"""Frames that are none: the session ends, or goes on without them."""
SECRET_ADDRESS: Final = b"\x0a\0\0\4"

KIND: Final = Kind(
    database=DATABASE,
    suffix="keyspaces.example.com",
    plain=hostile.PLAIN,
    verified={**hostile.UNASKED, **hostile.SHOWN, "liar": hostile.lies({**LIES, **BROKEN})},
    aws=MappingProxyType({"region": topology.REGION}),
    permissions=policy(allow(["sts:AssumeRole", "sts:TagSession"], topology.DATABASE_USER_ROLE_ARN)),
)


def denied(name: str, user: str, reason: str, *says: str, **more: Any) -> Row:
    """The broker's rules say no."""
    return Row(name=name, user=user, code=BAD_CREDENTIALS, says=says, reason=reason, decided=True, **more)


def mistake(name: str) -> Row:
    """STS says no, for one of its reasons, and does not say which."""
    return denied(name, f"{USER}@{name}", "ASSUME_ROLE_DENIED", "sts:AssumeRole", "external ID", "trust policy")


def upstream(name: str, reason: str, *says: str, code: str = SERVER, **more: Any) -> Row:
    """What answers at the endpoint is not what it should be. Where no deadline is due, there is time for a grant."""
    door = "brief" if "HANDSHAKE_TIMEOUT" in (reason, more.get("or_reason")) else "names"
    return Row(name=name, user=f"{USER}@{name}", code=code, says=says, reason=reason, door=door, **more)


def broken(name: str, *says: str) -> Row:
    """The server breaks the protocol."""
    return upstream(name, "UPSTREAM_PROTOCOL", *says)


RULES: Final = (
    denied("a workload that no rule allows", f"{USER}@keyspaces", "DATABASE_NOT_ALLOWED", "experiment", "rule",
           door="stranger"),
    denied("a workload the proxy may not speak for", f"{USER}@keyspaces", "PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD",
           "elsewhere.example", "proxies:", door="foreign"),
    denied("a database that no rule allows", f"{USER}@closed", "DATABASE_NOT_ALLOWED", "closed", "rule"),
    denied("a database outside the proxy's row", f"{USER}@production", "PROXY_MAY_NOT_SERVE_DATABASE", "production",
           "proxies:"),
    denied("a role that no rule allows", "role/NobodysRole@keyspaces", "DB_USER_NOT_ALLOWED", "NobodysRole",
           "db_users"),
    denied("a deny rule, although another allows", f"{USER}@vault", "DENIED_BY_RULE", "nobody-in-sealed"),
    denied("a database nobody has heard of", f"{USER}@keyspases", "DATABASE_UNKNOWN", "keyspases"),
    Row(name="a database of another protocol", user=f"{USER}@documents", code=BAD_CREDENTIALS, says=("mongodb",),
        reason="INVALID_REQUEST"),
    Row(name="a login name without a database", user=USER, code=BAD_CREDENTIALS, says=("db_user@database",),
        reason="DATABASE_UNKNOWN"),
    Row(name="no user", user="@keyspaces", code=BAD_CREDENTIALS, says=("no user",), reason="INVALID_REQUEST"),
    Row(name="plaintext where TLS is required", user=f"{USER}@keyspaces", code=PROTOCOL, says=("TLS",),
        reason="CLIENT_TLS_REQUIRED", door="sealed"),
)  # fmt: skip

MISTAKES: Final = tuple(
    map(mistake, ("wrong-external-id", "no-external-id", "no-trust", "unlisted-role", "no-connect"))
)

UPSTREAM: Final = (
    upstream("plain-port", "UPSTREAM_TLS_REFUSED", "TLS"),
    upstream("speaks-first", "UPSTREAM_PROTOCOL", "TLS", or_reason="UPSTREAM_TLS_REFUSED"),
    upstream("garbage-at-once", "UPSTREAM_PROTOCOL", "TLS", or_reason="UPSTREAM_TLS_REFUSED"),
    upstream("garbage-for-tls", "UPSTREAM_TLS_REFUSED", "TLS"),
    upstream("closes-at-once", "UPSTREAM_CLOSED", "closed the connection", code=BUSY),
    upstream("closes-in-tls", "UPSTREAM_CLOSED", "closed the connection", code=BUSY),
    upstream("says-nothing", "HANDSHAKE_TIMEOUT", "within 2 s", code=BUSY),
    upstream("wrong-name", "UPSTREAM_TLS_UNVERIFIED", "another.keyspaces", "expected wrong-name"),
    upstream("foreign-ca", "UPSTREAM_TLS_UNVERIFIED", "certificate"),
    upstream("expired-certificate", "UPSTREAM_TLS_UNVERIFIED", "has expired"),
    upstream("down", "UPSTREAM_UNREACHABLE", "refused the connection", code=BUSY),
    *map(broken, ("garbage-in-tls", "version-5", "a-request", "negative-length", "oversized-frame", "another-stream")),
    *map(broken, ("compressed", "no-nonce", "null-nonce", "short-nonce", "nonce-with-a-line-end")),
    broken("nonce-of-other-bytes"),
    upstream("is-busy", "DATABASE_REFUSED", "too many connections", code=BUSY),
    upstream("knows-passwords-alone", "DATABASE_REFUSED", "SigV4", code=BAD_CREDENTIALS),
    upstream("endless-events", "UPSTREAM_PROTOCOL", or_reason="HANDSHAKE_TIMEOUT"),
    upstream("half-closes", "UPSTREAM_CLOSED", "closed the connection", code=BUSY),
    upstream("resets", "UPSTREAM_CLOSED", "closed the connection", code=BUSY),
    upstream("drips", "HANDSHAKE_TIMEOUT", "within 2 s", code=BUSY),
    upstream("rejects", "DATABASE_REFUSED", "region", code=BAD_CREDENTIALS),
    upstream("injects-lines", "DATABASE_REFUSED", "first", code=BUSY),
    upstream("quotes-the-proof", "DATABASE_REFUSED", "Likely causes", code=BAD_CREDENTIALS),
    *map(broken, ("asks-again", "says-ready", "answers-another")),
    upstream("closes-after-the-proof", "UPSTREAM_CLOSED", "closed the connection", code=BUSY),
)

TABLE: Final = (*RULES, *MISTAKES, *UPSTREAM)


@pytest.fixture(scope="module")
def table(nosql_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """A bridge with every broken database."""
    accounts = Accounts(nosql_world.aws_endpoint)
    table = Table(nosql_world, tmp_path_factory.mktemp("cql-refusals"), KIND)
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
def canary(table: Table) -> Iterator[CqlClient]:
    """A session that is there before and after; the proxy's memory is compared at its end."""
    with CqlClient(table.port("plain")) as client:
        assert client.enter(USER).opcode == cql.AUTH_SUCCESS
        before = table.bridge.proxy.resident_bytes()
        yield client
        assert table.bridge.proxy.resident_bytes() - before < RSS_GROWTH_BYTES


def assert_alive(canary: CqlClient) -> None:
    """The other session answers."""
    answer = canary.request(query("SELECT customer FROM shop.orders WHERE id = 1", stream=21))
    assert (answer.opcode, answer.stream) == (cql.RESULT, 21)
    assert b"Ada" in answer.body


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_the_refusal_is_native_names_the_fix_and_harms_nobody(table: Table, canary: CqlClient, row: Row) -> None:
    leaks = Leaks(table.world)
    written = len(table.bridge.audit("proxy"))
    with CqlClient(table.port(row.door)) as client:
        answer = client.enter(row.user)
        code, refusal = answer.error
        assert client.read_to_end() == b""
    assert (answer.version, answer.flags, f"{code:04X}") == (0x84, 0, row.code), refusal
    assert answer.stream == (7 if row.door == "sealed" else 9), "the answer to what was asked last"
    for word in row.says:
        assert word in refusal, f"{word!r} is not in {refusal!r}"
    assert leaks.found_in(refusal) == []
    assert "signature=" not in refusal
    assert "access_key=" not in refusal
    line = audit_line(table.bridge, "proxy", after=written, event="session.refused", listener=table.listener(row.door))
    assert line["reason"] in (row.reason, row.or_reason or row.reason)
    assert leaks.found_in(str(line)) == []
    if row.decided:
        decision = audit_line(table.bridge, "broker", decision_id=line["decision_id"])
        assert (decision["allowed"], decision["reason"]) == (False, row.reason)
        assert leaks.found_in(str(decision)) == []
        assert line["decision_id"] in refusal
    assert_alive(canary)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(TABLE) >= 30


def door_of(name: str) -> str:
    """Of the row about a server."""
    return next(row.door for row in UPSTREAM if row.name == name)


@pytest.mark.parametrize("name", sorted({**hostile.PLAIN, **hostile.UNASKED}))
def test_a_server_that_asks_for_no_proof_is_shown_none(table: Table, name: str) -> None:
    """Nor the role's name; and what such a server says before it has proved its own reaches no client."""
    refusal = attempt(table.port(door_of(name)), f"{USER}@{name}")
    assert refusal is not None
    server = table.servers[name]
    assert server.connections > 0
    for word in (b"signature=", b"session_token=", b"access_key=", b"DatabaseUserRole"):
        assert word not in server.heard
    assert MARK not in refusal[1]


def test_the_search_above_would_have_found_it(table: Table) -> None:
    attempt(table.port("names"), f"{USER}@says-ready")
    assert b"signature=" in table.servers["says-ready"].heard


def test_a_rejected_proof_is_followed_by_one_fresh_one_and_no_more(table: Table) -> None:
    before = table.servers["rejects"].connections
    attempt(table.port("names"), f"{USER}@rejects")
    assert table.servers["rejects"].connections - before <= 2


@pytest.mark.parametrize("name", LIES, ids=lambda name: name.decode())
def test_neighbours_in_whatever_form_are_none(table: Table, canary: CqlClient, name: bytes) -> None:
    with CqlClient(table.port("names")) as client:
        assert client.enter(f"{USER}@liar").opcode == cql.AUTH_SUCCESS
        answer = client.request(query(f"SELECT * FROM system.peers -- {name.decode()}", stream=5))
        assert (answer.opcode, answer.stream) == (cql.RESULT, 5)
        assert answer.body.endswith(b"\0\0\0\0"), "a count of no rows"
        after = client.request(query("SELECT anything", stream=6))
        assert (after.opcode, after.stream, after.body) == (cql.RESULT, 6, b"\0\0\0\1")
        assert SECRET_ADDRESS not in answer.body
    assert_alive(canary)


@pytest.mark.parametrize("name", BROKEN, ids=lambda name: name.decode())
def test_rows_that_make_no_sense_end_a_session_and_harm_no_other(table: Table, canary: CqlClient, name: bytes) -> None:
    with CqlClient(table.port("names")) as client:
        assert client.enter(f"{USER}@liar").opcode == cql.AUTH_SUCCESS
        said = client.send(query(f"SELECT * FROM system.peers -- {name.decode()}", stream=5)).read_to_end()
    assert SECRET_ADDRESS not in said
    assert b"tollbridge" in said
    assert_alive(canary)


def test_nothing_is_left_of_all_these_connections(table: Table) -> None:
    table.assert_empty("brief")
    table.assert_empty("names")


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
        assert attempt(table.port("names"), f"{USER}@throttled") is None

    def test_lasting_throttling_is_said_to_be_throttling(self, table: Table, steering: Control) -> None:
        steering.inject_fault("throttle", role_arn=KIND.role("failing"))
        refusal = attempt(table.port("names"), f"{USER}@failing", seconds=20)
        assert refusal is not None
        assert (refusal[0], "AWS_THROTTLED" in refusal[1]) == (0x1001, True)

    def test_a_hanging_sts_ends_in_the_deadline_and_only_for_its_own_role(
        self, table: Table, steering: Control
    ) -> None:
        steering.inject_fault("hang", role_arn=KIND.role("hanging"))
        refusal = attempt(table.port("brief"), f"{USER}@hanging")
        assert refusal is not None
        assert "HANDSHAKE_TIMEOUT" in refusal[1]
        assert attempt(table.port("names"), f"{USER}@keyspaces") is None

    def test_a_session_that_aws_ended_is_replaced_within_one_login(self, table: Table, steering: Control) -> None:
        assert attempt(table.port("names"), f"{USER}@expired") is None
        assert steering.expire_session(role_arn=topology.DATABASE_USER_ROLE_ARN) > 0
        assert steering.expire_session(role_arn=KIND.role("expired")) > 0
        assert attempt(table.port("names"), f"{USER}@expired") is None

    def test_a_deleted_role_is_a_refusal_that_lists_the_causes(self, table: Table) -> None:
        Accounts(table.world.aws_endpoint).delete_role(KIND.role("deleted"))
        refusal = attempt(table.port("names"), f"{USER}@deleted")
        assert refusal is not None
        assert (refusal[0], "ASSUME_ROLE_DENIED" in refusal[1]) == (0x100, True)


def test_the_broker_down_is_said_and_a_session_goes_on(table: Table, canary: CqlClient) -> None:
    with table.broker_away():
        refusal = attempt(table.port("names"), f"role/ReaderRole@{DATABASE.name}", seconds=20)
        assert_alive(canary)
    assert refusal is not None
    assert (refusal[0], "BROKER_UNAVAILABLE" in refusal[1]) == (0x1001, True)
