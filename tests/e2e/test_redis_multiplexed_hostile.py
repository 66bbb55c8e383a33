"""Hostile clients, refusals and broken servers at doors that multiplex: what holds without sharing holds with it.

One table for both: every Redis door shares its connections, and every claim of `test_redis_hostile` and
`test_redis_refusals` is claimed again. What differs is written here anew, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from deploy.sandbox.accounts import Accounts
from deploy.sandbox.world import World
from tests.e2e import test_redis_refusals as refusals
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.table import Row, Table
from tests.e2e.test_redis_hostile import (
    others_unharmed,
    session,
    test_a_broken_opening_is_answered_in_the_protocols_words,
    test_a_client_that_floods_during_its_login_is_not_buffered_for,
    test_a_client_that_lost_its_power_in_the_login_is_forgotten,
    test_a_client_that_never_reads_is_not_buffered_for,
    test_a_flood_of_connections_is_turned_away_and_the_door_opens_again,
    test_a_huge_count_is_counted_and_not_kept,
    test_a_refused_command_spoils_its_transaction,
    test_a_reset_leaves_the_user,
    test_a_slow_client_is_told_off_at_the_deadline,
    test_a_thousand_refused_commands_are_answered_one_by_one_in_bounded_memory,
    test_a_value_that_looks_like_it_is_a_value,
    test_before_a_login_nothing_reaches_a_database,
    test_every_prefix_of_a_login_is_closed,
    test_garbage_is_closed_within_the_deadline,
    test_no_way_of_writing_it_gets_past,
    test_nobody_becomes_another_user_later,
    test_plaintext_behind_a_client_hello_is_no_login,
    test_resets_as_fast_as_they_can_be_written,
    test_the_same_user_again_is_ok_and_goes_nowhere,
    test_too_many_connections_is_said_and_ends_when_one_leaves,
    test_two_hundred_slow_lorises_do_not_keep_others_out,
    test_what_two_readers_would_read_in_two_ways_ends_the_session,
)
from tests.e2e.test_redis_refusals import (
    KIND,
    may_connect,
    steering,
    test_a_rejected_login_is_tried_with_one_fresh_credential_and_no_more,
    test_no_server_that_proved_nothing_was_shown_a_credential,
    test_the_broker_down_is_said_and_a_session_goes_on,
    test_the_proxy_crashed_in_none_of_these,
    test_the_search_above_would_have_found_it,
    test_what_comes_in_one_piece_with_the_login_is_guarded_as_well,
)
from tests.support import hostile_redis
from tests.support.hostile_postgres import Behaviour, Peer
from tests.support.raw_redis import RedisClient, attempt

__all__ = [
    "others_unharmed",
    "session",
    "steering",
    "test_a_broken_opening_is_answered_in_the_protocols_words",
    "test_a_client_that_floods_during_its_login_is_not_buffered_for",
    "test_a_client_that_lost_its_power_in_the_login_is_forgotten",
    "test_a_client_that_never_reads_is_not_buffered_for",
    "test_a_flood_of_connections_is_turned_away_and_the_door_opens_again",
    "test_a_huge_count_is_counted_and_not_kept",
    "test_a_refused_command_spoils_its_transaction",
    "test_a_rejected_login_is_tried_with_one_fresh_credential_and_no_more",
    "test_a_reset_leaves_the_user",
    "test_a_slow_client_is_told_off_at_the_deadline",
    "test_a_thousand_refused_commands_are_answered_one_by_one_in_bounded_memory",
    "test_a_value_that_looks_like_it_is_a_value",
    "test_before_a_login_nothing_reaches_a_database",
    "test_every_prefix_of_a_login_is_closed",
    "test_garbage_is_closed_within_the_deadline",
    "test_no_server_that_proved_nothing_was_shown_a_credential",
    "test_no_way_of_writing_it_gets_past",
    "test_nobody_becomes_another_user_later",
    "test_plaintext_behind_a_client_hello_is_no_login",
    "test_resets_as_fast_as_they_can_be_written",
    "test_the_broker_down_is_said_and_a_session_goes_on",
    "test_the_proxy_crashed_in_none_of_these",
    "test_the_same_user_again_is_ok_and_goes_nowhere",
    "test_the_search_above_would_have_found_it",
    "test_too_many_connections_is_said_and_ends_when_one_leaves",
    "test_two_hundred_slow_lorises_do_not_keep_others_out",
    "test_what_comes_in_one_piece_with_the_login_is_guarded_as_well",
    "test_what_two_readers_would_read_in_two_ways_ends_the_session",
]

RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024


ROWS: Final = [
    replace(row, says=("answered HELLO with neither",)) if row.name == "says-pong" else row for row in refusals.TABLE
]
GREETING: Final = b"*2\r\n$5\r\nproto\r\n:2\r\n"


GREETING_3: Final = b"%1\r\n$5\r\nproto\r\n:3\r\n"


def says_once_asked(data: bytes, *, leaves: bool = False, greeting: bytes = GREETING) -> Behaviour:
    """A login that goes well, and then this for an answer."""

    def behave(peer: Peer) -> None:
        hostile_redis.take_auth(peer)
        peer.send(greeting)
        peer.receive(len(b"*1\r\n$4\r\nPING\r\n"))
        peer.send(data)
        if not leaves:
            peer.linger()

    return behave


LATER: Final[dict[str, Behaviour]] = {
    "says-garbage-later": says_once_asked(b"\xff" * 4096),
    "pushes-later": says_once_asked(b">2\r\n+invalidate\r\n_\r\n"),
    "pushes-in-resp3": says_once_asked(b">2\r\n+for\r\n+nobody\r\n" * 9 + b"+PONG\r\n>1\r\n", greeting=GREETING_3),
    "pushes-inside": says_once_asked(b"*2\r\n>1\r\n+x\r\n:1\r\n", greeting=GREETING_3),
    "pushes-without-end": says_once_asked(b">1\r\n+secret\r\n" * 9_999, greeting=GREETING_3),
    "counts-wrong-later": says_once_asked(b"$1x\r\n"),
    "leaves-later": says_once_asked(b"", leaves=True),
    "cuts-a-value": says_once_asked(b"$100\r\nabc\r\n", leaves=True),
    "cuts-a-list": says_once_asked(b"*2147483647\r\n+OK\r\n", leaves=True),
    "answers-twice": says_once_asked(b"+PONG\r\n$6\r\nsecret\r\n"),
}
"""Servers that let a shared login in, and go wrong with the first command."""


SHARING_KIND: Final = replace(KIND, verified={**KIND.verified, **LATER}, series="-sharing")


class SharingTable(Table):
    """Every Redis door of it shares."""

    def _change_proxy(self, document: dict[str, Any]) -> None:
        Table._change_proxy(self, document)
        for listener in document["listeners"]:
            if listener["protocol"] == "redis":
                listener["redis"] = {"multiplex": True}


@pytest.fixture(scope="module")
def table(whole_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """A bridge of this file, with every broken database."""
    table = SharingTable(whole_world, tmp_path_factory.mktemp("redis-sharing-hostile"), SHARING_KIND)
    try:
        table.bridge.up()
        yield table
    finally:
        table.stop()
    assert "crashed" not in table.bridge.proxy.log()
    assert_kept_secrets(table.bridge, Leaks(whole_world))


@pytest.fixture(scope="module", autouse=True)
def canary(table: Table) -> Iterator[RedisClient]:
    """A session that is there all the time, on a shared connection; the proxy's memory is compared at its end.

    Open files are not, as where nothing is shared: connections are kept for the next client for a minute.
    """
    with RedisClient(table.port("plain")) as client:
        assert client.say("PING") == b"+PONG"
        before = table.bridge.proxy.resident_bytes()
        yield client
        assert table.bridge.proxy.resident_bytes() - before < RSS_GROWTH_BYTES


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_refusal_is_native_names_the_fix_and_harms_nobody(table: Table, canary: RedisClient, row: Row) -> None:
    """The table of `test_redis_refusals`; a shared login is a HELLO, whatever its client has said."""
    refusals.test_the_refusal_is_native_names_the_fix_and_harms_nobody(table, canary, row)


class TestAwsInTrouble(refusals.TestAwsInTrouble):
    """What AWS says of a role is heard when a connection is made: a client for whom there is one joins it, as long as
    the broker permits. `max_session_seconds` bounds how old it may be. Who needs another connection hears it at once.
    """

    def test_a_deleted_role_is_a_refusal_that_lists_the_causes(self, table: Table) -> None:
        assert attempt(table.port("names"), "app@deleted") is None
        Accounts(table.world.aws_endpoint).delete_role(table.kind.role("deleted"))
        assert attempt(table.port("names"), "app@deleted") is None
        refusal = in_resp3(table, "app@deleted")
        assert refusal.startswith(b"-NOPERM")
        assert b"role" in refusal

    def test_a_policy_that_was_narrowed_is_named_although_the_session_lives(self, table: Table) -> None:
        assert attempt(table.port("names"), "app@narrowed") is None
        accounts = Accounts(table.world.aws_endpoint)
        accounts.put_role_policy(table.kind.role("narrowed"), "connect", may_connect("readonly"))
        assert attempt(table.port("names"), "app@narrowed") is None
        refusal = in_resp3(table, "app@narrowed")
        assert refusal.startswith(b"-WRONGPASS")
        assert b"elasticache:Connect" in refusal
        assert attempt(table.port("names"), "readonly@narrowed") is None


def in_resp3(table: Table, user: str) -> bytes:
    """What a client hears whose connection is another than that of RESP2's."""
    with RedisClient(table.port("names")) as client:
        return client.say("HELLO", "3", "AUTH", user, "x")


@pytest.mark.parametrize("name", ["says-garbage-later", "pushes-later", "counts-wrong-later", "leaves-later"])
def test_an_answer_that_is_none_is_said_to_be_so(table: Table, name: str) -> None:
    """And reaches nobody."""
    with RedisClient(table.port("names")) as client:
        assert client.say("AUTH", f"app@{name}", "x") == b"+OK"
        said = client.send(b"*1\r\n$4\r\nPING\r\n").read_to_end()
    assert said.startswith(b"-ERR tollbridge: ")
    assert said.count(b"\r\n") == 1
    assert (b"UPSTREAM_CLOSED" if name == "leaves-later" else b"UPSTREAM_PROTOCOL") in said


def test_a_message_that_answers_nothing_is_heard_by_nobody(table: Table) -> None:
    """In RESP3 it may come between answers, and the connection goes on."""
    with RedisClient(table.port("brief"), seconds=5) as client:
        assert client.say("HELLO", "3", "AUTH", "app@pushes-in-resp3", "x").startswith(b"%1")
        assert client.read(len(GREETING_3) - 4) == GREETING_3[4:]
        assert client.say("PING") == b"+PONG"


@pytest.mark.parametrize("name", ["pushes-inside", "pushes-without-end"])
def test_a_message_inside_an_answer_or_without_end_is_heard_by_nobody_either(table: Table, name: str) -> None:
    """And ends the connection."""
    with RedisClient(table.port("brief"), seconds=5) as client:
        assert client.say("HELLO", "3", "AUTH", f"app@{name}", "x").startswith(b"%1")
        said = client.send(b"*1\r\n$4\r\nPING\r\n").read_to_end()
    assert said.startswith(GREETING_3[4:] + b"-ERR tollbridge: ")
    assert b"UPSTREAM_PROTOCOL" in said
    assert said.count(b"\r\n") == GREETING_3.count(b"\r\n")


@pytest.mark.parametrize(
    ("name", "heard"), [("cuts-a-value", b"$100\r\nabc\r\n"), ("cuts-a-list", b"*2147483647\r\n+OK\r\n")]
)
def test_an_answer_that_is_cut_gets_no_goodbye_for_its_rest(table: Table, name: str, heard: bytes) -> None:
    """It would be taken for a part of the value."""
    with RedisClient(table.port("names")) as client:
        assert client.say("AUTH", f"app@{name}", "x") == b"+OK"
        said = client.send(b"*1\r\n$4\r\nPING\r\n").read_to_end()
    assert heard.startswith(said)


def test_an_answer_that_nobody_asked_for_is_heard_by_nobody(table: Table) -> None:
    """Two clients of one connection; each asks in turn, and the second answer to the first is not the other's."""
    with (
        RedisClient(table.port("names")) as one,
        RedisClient(table.port("names")) as other,
    ):
        for client in (one, other):
            assert client.say("AUTH", "app@answers-twice", "x") == b"+OK"
        for client in (one, other, one, other):
            assert client.say("PING") == b"+PONG"
        assert table.servers["answers-twice"].connections >= 4


def pins(table: Table) -> dict[str, float]:
    """Clients that were given a connection of their own, by why."""
    rows = [row for row in table.bridge.proxy.admin("/metrics")[1].splitlines() if "_multiplexed_pins_total{" in row]
    return {row.partition('why="')[2].partition('"')[0]: float(row.rpartition(" ")[2]) for row in rows}


def test_what_a_health_check_says_needs_no_connection_of_its_own(table: Table) -> None:
    """Inline commands are sent as arrays, and SELECT of the database that all are in changes nothing; of another it
    does."""
    with RedisClient(table.port("plain")) as client:
        before = pins(table)
        for said, heard in (
            (b"PING\r\n", b"+PONG"),
            (b"set inline 'a b'\r\n", b"+OK"),
            (b"strlen inline\r\n", b":3"),
            (b"select 0\r\n", b"+OK"),
            (b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", b"+OK"),
            (b"\r\ndel inline\r\n", b":1"),
            (b"get \r\n", b"-ERR wrong number of arguments for 'get' command"),
        ):
            assert client.send(said).line() == heard
        assert pins(table) == before
        assert client.say("SELECT", "1") == b"+OK"
        assert pins(table) == before | {"select": before.get("select", 0) + 1}


def test_wait_says_nothing_of_what_was_written_over_a_shared_connection(table: Table) -> None:
    """Also behind a transaction, on a connection of its own. Who has shared none may wait."""
    for first, heard in (("PING", b"-ERR tollbridge refuses this: WAIT"), ("MULTI", b":0")):
        with RedisClient(table.port("plain")) as client:
            client.say(first)
            client.say("MULTI" if first == "PING" else "PING")
            assert client.say("EXEC").startswith(b"*")
            if first == "MULTI":
                assert client.line() == b"+PONG"
            assert client.say("WAIT", "0", "0").startswith(heard)
