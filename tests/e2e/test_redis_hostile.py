"""Redis clients that break the protocol, stall or vanish: a native error or a clean end in time, nobody else harmed."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.bridge import PROXY_ID
from deploy.sandbox.world import World
from tests.e2e.arrangement import GRACE_SECONDS, HANDSHAKE_SECONDS, NARROW_CONNECTIONS
from tests.e2e.clients import PATIENCE_SECONDS, audit_line
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.table import Kind, Table, leaving
from tests.support.hostile_postgres import says_nothing
from tests.support.noise import noise
from tests.support.raw_redis import RedisClient, attempt, command

KIND: Final = Kind(
    database=topology.CACHE,
    suffix="abcdef.ng.0001.usw1.cache.amazonaws.com",
    plain={"says-nothing": says_nothing},
    verified={},
)
RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024
LOGIN: Final = command("AUTH", "app@cache", "any password")
MONITOR: Final = command("MONITOR")


@pytest.fixture(scope="module")
def table(whole_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """A bridge of this file."""
    table = Table(whole_world, tmp_path_factory.mktemp("redis-hostile"), KIND)
    try:
        table.bridge.up()
        yield table
    finally:
        table.stop()
    assert "crashed" not in table.bridge.proxy.log()
    assert_kept_secrets(table.bridge, Leaks(whole_world))


@pytest.fixture(scope="module", autouse=True)
def canary(table: Table) -> Iterator[RedisClient]:
    """A session that is there all the time; the proxy's memory and open files are compared at its end."""
    with RedisClient(table.port("plain")) as client:
        assert client.say("PING") == b"+PONG"
        memory, files = table.bridge.proxy.resident_bytes(), table.bridge.proxy.open_files()
        yield client
        assert table.bridge.proxy.resident_bytes() - memory < RSS_GROWTH_BYTES
        deadline = time.monotonic() + PATIENCE_SECONDS
        while table.bridge.proxy.open_files() > files:
            assert time.monotonic() < deadline, "connections were left open"
            time.sleep(0.05)


@pytest.fixture(autouse=True)
def others_unharmed(canary: RedisClient) -> Iterator[None]:
    """The canary answers after each test."""
    yield
    assert canary.say("ECHO", "still here") == b"still here"


@pytest.fixture
def session(table: Table) -> Iterator[RedisClient]:
    """Logged in by its first command."""
    with RedisClient(table.port("plain")) as client:
        assert client.say("ACL", "WHOAMI") == b"app"
        yield client


@dataclass(frozen=True, slots=True)
class Opening:
    """A connection's first bytes, and what they are told."""

    name: str
    data: bytes
    says: str = ""


OPENINGS: Final = (
    Opening("a billion arguments", b"*1000000000\r\n$4\r\nPING\r\n", "1000000000 arguments"),
    Opening("more arguments than numbers reach", b"*99999999999999999999\r\n", "no number"),
    Opening("an argument of two terabytes", b"*1\r\n$2199023255552\r\n", "argument of 2199023255552 bytes"),
    Opening("an AUTH of a gigabyte", b"*3\r\n$4\r\nAUTH\r\n$1073741824\r\n", "65536 bytes"),
    Opening("a negative length", b"*1\r\n$-5\r\n", "-5 bytes"),
    Opening("a length with a plus", b"*1\r\n$+4\r\nPING\r\n", "no number"),
    Opening("a length with a zero in front", b"*01\r\n$4\r\nPING\r\n", "no number"),
    Opening("an argument that is none", b"*2\r\n$4\r\nAUTH\r\n+app\r\n", "no bulk string"),
    Opening("an argument longer than its length", b"*2\r\n$4\r\nAUTHORITY\r\n", "does not end where its length says"),
    Opening("an inline command without an end", b"A" * 70_000, "65536"),
    Opening("unbalanced quotes", b'AUTH "app\r\n', "quotes"),
    Opening("an inline NUL", b"AUTH app\0 x\r\n", "NUL"),
    Opening("an endless length", b"*" + b"1" * 64, "characters"),
    Opening("33 commands and no login", b"PING\r\n" * 33, "none of them AUTH"),
    Opening("a user that is no text", command("AUTH", b"\xff\xfe@cache", "x"), "UTF-8"),
)


@pytest.mark.parametrize("opening", OPENINGS, ids=[opening.name for opening in OPENINGS])
def test_a_broken_opening_is_answered_in_the_protocols_words(table: Table, opening: Opening) -> None:
    written = len(table.bridge.audit("proxy"))
    with RedisClient(table.port("brief"), seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
        answer = client.send(opening.data).read_to_end().decode()
    last = answer.removesuffix("\r\n").split("\r\n")[-1]
    assert last.startswith("-ERR tollbridge: ")
    assert opening.says in last
    line = audit_line(table.bridge, "proxy", after=written, event="session.refused", listener="t-brief")
    assert line["reason"] == "CLIENT_PROTOCOL"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (command("GET", "x"), b"-NOAUTH"),
        (b"GET / HTTP/1.1\r\n", b"-NOAUTH"),
        (command("HELLO", "4"), b"-NOPROTO"),
        (command("HELLO", "3"), b"-NOAUTH HELLO"),
        (command("HELLO", "3", "AUTH", "app@cache"), b"-ERR"),
        (command("AUTH"), b"-ERR wrong number"),
        (command("AUTH", "password"), b"-WRONGPASS"),
        (command("MONITOR"), b"-NOAUTH"),
        (command("CLIENT", "REPLY", "OFF"), b"-NOAUTH"),
        (b"*0\r\n" + command("PING"), b"-NOAUTH"),
    ],
)
def test_before_a_login_nothing_reaches_a_database(table: Table, said: bytes, answer: bytes) -> None:
    """And the door stays open for an AUTH."""
    with RedisClient(table.port("names")) as client:
        assert client.send(said).line().startswith(answer)
        assert client.say("AUTH", "app@cache", "x") == b"+OK"


def test_plaintext_behind_a_client_hello_is_no_login(table: Table) -> None:
    with RedisClient(table.port("brief"), seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
        answer = client.send(b"\x16\x03\x01\x00\x05hello" + LOGIN + command("PING")).read_to_end()
    assert b"+OK" not in answer
    assert b"+PONG" not in answer


def test_every_prefix_of_a_login_is_closed(table: Table) -> None:
    """Half-closed at each offset."""

    def cut(length: int) -> bytes:
        with RedisClient(table.port("brief"), seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
            return client.send(LOGIN[:length]).half_close().read_to_end()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(cut, range(len(LOGIN))))
    assert not [answer for answer in answers if b"+OK" in answer]


def test_garbage_is_closed_within_the_deadline(table: Table) -> None:
    def shout(number: int) -> None:
        with RedisClient(table.port("brief"), seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
            client.send(noise(2000, number)).read_to_end()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(shout, range(64)))


def test_a_slow_client_is_told_off_at_the_deadline(table: Table) -> None:
    started = time.monotonic()
    with RedisClient(table.port("brief")) as client:
        client.drip(LOGIN, every=0.5)
        answer = client.read_to_end()
    assert time.monotonic() - started < HANDSHAKE_SECONDS + GRACE_SECONDS
    assert b"HANDSHAKE_TIMEOUT" in answer


def test_two_hundred_slow_lorises_do_not_keep_others_out(table: Table) -> None:
    assert attempt(table.port("names"), "app@cache") is None  # the proxy has the grant from now on
    lorises = [RedisClient(table.port("brief")).send(LOGIN[:9]) for _ in range(200)]
    try:
        assert attempt(table.port("brief"), "app@cache") is None
        for loris in lorises:
            assert b"HANDSHAKE_TIMEOUT" in loris.read_to_end()
    finally:
        for loris in lorises:
            loris.socket.close()


def test_a_client_that_lost_its_power_in_the_login_is_forgotten(table: Table) -> None:
    for _ in range(5):
        client = RedisClient(table.port("brief")).send(LOGIN[:20])
        if not client.vanish():
            client.socket.close()
            pytest.skip("the kernel does not let us vanish (TCP_REPAIR needs CAP_NET_ADMIN)")
    table.assert_empty("brief", seconds=HANDSHAKE_SECONDS + GRACE_SECONDS)


def test_a_client_that_floods_during_its_login_is_not_buffered_for(table: Table) -> None:
    before = table.bridge.proxy.resident_bytes()
    with RedisClient(table.port("brief")) as client:
        client.send(command("AUTH", "app@says-nothing", "x")).socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                client.send(bytes(65536))
        assert table.bridge.proxy.resident_bytes() - before < 10 * 1024 * 1024


# In a session


REFUSED: Final = (
    command("MONITOR"),
    command("mOnItOr"),
    b"MONITOR\r\n",
    b'"MONI\\x54OR"\r\n',
    b"   monitor   \n",
    command("MONITOR", "please"),
    command("CLIENT", "REPLY", "OFF"),
    command("client", "reply", "skip"),
    b"CLIENT REPLY OFF\r\n",
    command("SYNC"),
    command("PSYNC", "?", "-1"),
    command("REPLCONF", "listening-port", "1"),
)


@pytest.mark.parametrize("said", REFUSED)
@pytest.mark.parametrize("pieces", ["whole", "byte by byte", "in a pipeline"])
def test_no_way_of_writing_it_gets_past(session: RedisClient, said: bytes, pieces: str) -> None:
    """One error in its turn, and the session goes on."""
    behind = command("ECHO", "behind")
    if pieces == "byte by byte":
        for byte in said:
            session.send(bytes((byte,)))
        session.send(behind)
    elif pieces == "whole":
        session.send(said).send(behind)
    else:
        session.send(command("ECHO", "before") + said + behind)
        assert session.read(len(b"$6\r\nbefore\r\n")) == b"$6\r\nbefore\r\n"
    assert session.line().startswith(b"-ERR tollbridge refuses this: ")
    assert session.read(len(b"$6\r\nbehind\r\n")) == b"$6\r\nbehind\r\n"
    assert session.say("ACL", "WHOAMI") == b"app"


def test_a_refused_command_spoils_its_transaction(session: RedisClient) -> None:
    """As a command that the server itself refuses does."""
    assert session.say("MULTI") == b"+OK"
    assert session.say("SET", "of-a-transaction", "1") == b"+QUEUED"
    assert session.send(MONITOR).line().startswith(b"-ERR tollbridge refuses this")
    assert session.say("EXEC").startswith(b"-EXECABORT")


@pytest.mark.parametrize("value", [MONITOR, command("AUTH", "x", "y"), b"\r\nMONITOR\r\n", MONITOR * 100])
def test_a_value_that_looks_like_it_is_a_value(session: RedisClient, value: bytes) -> None:
    assert session.say("SET", "looks-like-it", value) == b"+OK"
    assert session.say("GET", "looks-like-it") == value


@pytest.mark.parametrize(
    "said",
    [
        command("AUTH", "readonly", "x"),
        command("AUTH", "passworduser", "its password"),
        command("AUTH", "default", ""),
        command("HELLO", "3", "AUTH", "readonly", "x"),
        b"AUTH readonly x\r\n",
        command("auth", "APP", "x"),
    ],
)
def test_nobody_becomes_another_user_later(table: Table, session: RedisClient, said: bytes) -> None:
    assert session.send(said).line().startswith(b"-WRONGPASS")
    assert session.say("ACL", "WHOAMI") == b"app"


def test_the_same_user_again_is_ok_and_goes_nowhere(session: RedisClient) -> None:
    assert session.say("AUTH", "app", "another password") == b"+OK"
    assert session.say("AUTH", "yet another") == b"+OK"
    assert session.say("ACL", "WHOAMI") == b"app"


def test_a_reset_leaves_the_user(session: RedisClient) -> None:
    for _ in range(3):
        session.send(command("SUBSCRIBE", "x") + command("RESET") + command("ACL", "WHOAMI"))
        assert b"+RESET\r\n$3\r\napp\r\n" in _until(session, b"app\r\n")


def test_resets_as_fast_as_they_can_be_written(session: RedisClient) -> None:
    session.send(command("RESET") * 50 + command("ACL", "WHOAMI"))
    assert _until(session, b"app\r\n") == b"+RESET\r\n" * 50 + b"$3\r\napp\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"*1\r\n$4\r\nPINGxx",
        b"*1\n$7\nMONITOR\n",
        b"*1\r\n$-1\r\n",
        b"*2147483648\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*1\r\n+MONITOR\r\n",
        b"*3\r\n$4\r\nAUTH\r\n$100000\r\n",
        b"\0\r\n",
        b"x" * 70_000,
        b'MONI"TOR\r\n',
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_two_readers_would_read_in_two_ways_ends_the_session(
    table: Table, session: RedisClient, said: bytes
) -> None:
    written = len(table.bridge.audit("proxy"))
    answer = session.send(said + MONITOR).read_to_end()
    assert b"+OK" not in answer
    end = audit_line(table.bridge, "proxy", after=written, event="session.end")
    assert end["reason"] == "CLIENT_PROTOCOL"


def test_a_huge_count_is_counted_and_not_kept(table: Table, session: RedisClient) -> None:
    """Two billion arguments are announced, and 32 MB of them sent."""
    before = table.bridge.proxy.resident_bytes()
    session.send(b"*2147483647\r\n$4\r\nPING\r\n" + b"$1024\r\n" + bytes(1024) + b"\r\n")
    for _ in range(32):
        session.send((b"$1014\r\n" + bytes(1014) + b"\r\n") * 1024)
    assert table.bridge.proxy.resident_bytes() - before < 10 * 1024 * 1024


def test_a_client_that_never_reads_is_not_buffered_for(table: Table, session: RedisClient) -> None:
    value = b"x" * 1024 * 1024
    assert session.say("SET", "large", value) == b"+OK"
    before = table.bridge.proxy.resident_bytes()
    session.send(command("GET", "large") * 100)
    time.sleep(1.0)
    assert table.bridge.proxy.resident_bytes() - before < 10 * 1024 * 1024


def test_a_thousand_refused_commands_are_answered_one_by_one_in_bounded_memory(
    table: Table, session: RedisClient
) -> None:
    before = table.bridge.proxy.resident_bytes()
    session.send(MONITOR * 1000 + command("ECHO", "the end"))
    answer = _until(session, b"the end\r\n")
    assert answer.count(b"-ERR tollbridge refuses this") == 1000
    assert table.bridge.proxy.resident_bytes() - before < 10 * 1024 * 1024


# Too many, and the end


def test_too_many_connections_is_said_and_ends_when_one_leaves(table: Table) -> None:
    port = table.port("narrow")
    held = []
    try:
        for _ in range(NARROW_CONNECTIONS):
            held.append(RedisClient(port))
            assert held[-1].say("AUTH", "app@cache", "x") == b"+OK"
        with RedisClient(port) as client:
            refusal = client.read_to_end()
        assert refusal.startswith(b"-ERR tollbridge: ")
        assert b"max_connections" in refusal
        held.pop().socket.close()
        table.assert_empty("narrow", but=NARROW_CONNECTIONS - 1)
        assert attempt(port, "app@cache") is None
    finally:
        for client in held:
            client.socket.close()


def test_a_flood_of_connections_is_turned_away_and_the_door_opens_again(table: Table) -> None:
    flood = [RedisClient(table.port("narrow")) for _ in range(300)]
    for client in flood:
        client.socket.close()
    table.assert_empty("narrow")
    assert attempt(table.port("narrow"), "app@cache") is None


def test_a_drained_proxy_says_goodbye_in_the_protocols_words(table: Table) -> None:
    proxy = table.bridge.add_proxy("leaving", PROXY_ID, leaving(topology.CACHE, db_user="app"))
    proxy.start()
    with RedisClient(table.bridge.ports["leaving_app"]) as client:
        assert client.say("PING") == b"+PONG"
        proxy.send(signal.SIGTERM)
        goodbye = client.read_to_end()
    proxy.stop()
    assert goodbye.startswith(b"-ERR tollbridge: ")
    assert b"DRAINING" in goodbye


def _until(client: RedisClient, end: bytes) -> bytes:
    """Everything up to some bytes."""
    data = b""
    while not data.endswith(end):
        more = client.socket.recv(65536)
        assert more, data[-200:]
        data += more
    return data
