"""MySQL clients that break the protocol, stall or vanish: a native error or a clean end in time, nobody else harmed."""

from __future__ import annotations

import contextlib
import signal
import ssl
import struct
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
from tests.support import mysql_bytes as my
from tests.support.hostile_postgres import says_nothing
from tests.support.noise import noise
from tests.support.raw_mysql import MysqlClient, attempt, first_error

DATABASE: Final = topology.RDS_MARIADB.name
KIND: Final = Kind(
    database=topology.RDS_MARIADB,
    suffix="abcdef012345.us-west-1.rds.amazonaws.com",
    plain={"says-nothing": says_nothing},
    verified={},
    listener={"mysql": {"server_version": "8.0.36"}},
)
RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024
LOGIN: Final = my.packet(my.response(f"app@{DATABASE}", schema="app", attributes=b"\x02os\x05Linux"), 1)
CHANGE_USER: Final = b"\x11readonly\0\0app\0\x2d\0mysql_native_password\0"


@pytest.fixture(scope="module")
def table(whole_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """A bridge of this file."""
    table = Table(whole_world, tmp_path_factory.mktemp("mysql-hostile"), KIND)
    try:
        table.bridge.up()
        yield table
    finally:
        table.stop()
    assert "crashed" not in table.bridge.proxy.log()
    assert_kept_secrets(table.bridge, Leaks(whole_world))


@pytest.fixture(scope="module", autouse=True)
def canary(table: Table) -> Iterator[MysqlClient]:
    """A session that is there all the time; the proxy's memory and open files are compared at its end."""
    with MysqlClient(table.port("plain")) as client:
        assert client.enter("app") is None
        memory, files = table.bridge.proxy.resident_bytes(), table.bridge.proxy.open_files()
        yield client
        assert table.bridge.proxy.resident_bytes() - memory < RSS_GROWTH_BYTES
        deadline = time.monotonic() + PATIENCE_SECONDS
        while table.bridge.proxy.open_files() > files:
            assert time.monotonic() < deadline, "connections were left open"
            time.sleep(0.05)


@pytest.fixture(autouse=True)
def others_unharmed(canary: MysqlClient) -> Iterator[None]:
    """The canary answers after each test."""
    yield
    assert b"42" in canary.run("select 42")


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client answers to the greeting with, and what it is told."""

    name: str
    data: bytes
    number: int = 1043
    says: str = ""


def response(**changes: object) -> bytes:
    """A HandshakeResponse41 with something wrong in it."""
    return my.packet(my.response(f"app@{DATABASE}", **changes), 1)  # type: ignore[arg-type]


HEAD: Final = struct.pack("<IIB", my.CLIENT, 1 << 24, 45) + bytes(23)
OPENINGS: Final = (
    Opening("an HTTP request", b"GET / HTTP/1.1\r\nHost: db\r\n\r\n", says="where MySQL has 1 to"),
    Opening("a packet of 16 MiB", b"\xff\xff\xff\x01" + bytes(64), says="16777215 bytes"),
    Opening("a packet one over the limit", struct.pack("<I", 32 * 1024 + 1)[:3] + b"\x01", says="32769 bytes"),
    Opening("an empty packet", my.packet(b"", 1), says="0 bytes"),
    Opening("zeros", bytes(64)),
    Opening("a packet out of turn", my.packet(my.response("app"), 0), says="packet 1 was due"),
    Opening("a packet far out of turn", my.packet(my.response("app"), 200), says="packet 1 was due"),
    Opening("one byte", my.packet(b"\x01", 1), number=1235, says="protocol 4.1"),
    Opening("protocol 3.20", my.packet(struct.pack("<H", 5) + bytes(3) + b"app\0", 1), number=1235, says="4.1"),
    Opening("32 bytes without TLS", my.packet(HEAD, 1), says="names no user"),
    Opening("a user without an end", my.packet(HEAD + b"app", 1)),
    Opening("a user that is no text", my.packet(HEAD + b"\xff\xfe\0\0", 1), says="UTF-8"),
    Opening("a proof longer than its packet", my.packet(HEAD + b"app\0\xfa", 1)),
    Opening("a proof of 2^63 bytes", my.packet(HEAD + b"app\0\xfe" + b"\xff" * 8, 1)),
    Opening("a length that is no length", my.packet(HEAD + b"app\0\xff", 1)),
    Opening("attributes that overlap", response(attributes=b"\x02os\xfc\xff\xff")),
    Opening("an attribute without a value", response(attributes=b"\x02os")),
    Opening("compression", response(flags=my.CLIENT | my.COMPRESS), number=1235, says="compression"),
    Opening("zstd", response(flags=my.CLIENT | my.ZSTD), number=1235, says="compression"),
)


@pytest.mark.parametrize("opening", OPENINGS, ids=[opening.name for opening in OPENINGS])
def test_a_broken_opening_is_answered_in_the_protocols_words(table: Table, opening: Opening) -> None:
    written = len(table.bridge.audit("proxy"))
    with MysqlClient(table.port("brief"), seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
        client.packet()
        refusal = client.send(opening.data).mysql_error()
    assert refusal is not None
    assert refusal.number == opening.number, refusal
    assert opening.says in refusal.text
    assert refusal.text.startswith("tollbridge: ")
    line = audit_line(table.bridge, "proxy", after=written, event="session.refused", listener="t-brief")
    assert line["reason"] in ("CLIENT_PROTOCOL", "FEATURE_REFUSED")


def test_tls_where_there_is_none_is_refused_in_plain_words(table: Table) -> None:
    with MysqlClient(table.port("narrow")) as client:
        client.packet()
        refusal = client.send(my.packet(my.ssl_request(), 1)).mysql_error()
    assert refusal is not None
    assert (refusal.number, "--skip-ssl" in refusal.text) == (1235, True)


def test_plaintext_behind_ssl_request_is_no_login(table: Table) -> None:
    """It goes into the TLS engine, where it is no ClientHello."""
    with MysqlClient(table.port("brief"), seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
        client.packet()
        second = my.packet(my.response(f"app@{DATABASE}"), 2)
        answer = client.send(my.packet(my.ssl_request(), 1) + second).read_to_end()
    assert my.OK not in answer


def test_plaintext_before_tls_is_not_kept_for_after_it(table: Table) -> None:
    """A whole login smuggled behind SSLRequest, and the handshake behind that."""
    context = ssl.create_default_context(cafile=table.bridge.file("mesh-ca.crt"))
    with MysqlClient(table.port("brief"), seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
        client.packet()
        client.send(my.packet(my.ssl_request(), 1) + my.packet(my.response(f"app@{DATABASE}"), 2))
        with pytest.raises((ssl.SSLError, OSError)):
            client.start_tls(context, ask=False)


def test_tls_asked_for_inside_tls_is_refused(table: Table) -> None:
    context = ssl.create_default_context(cafile=table.bridge.file("mesh-ca.crt"))
    with MysqlClient(table.port("brief")) as client:
        client.packet()
        client.send(my.packet(my.ssl_request(), 1)).start_tls(context, ask=False)
        refusal = client.send(my.packet(my.ssl_request(), 2)).mysql_error()
    assert refusal is not None
    assert (refusal.number, "names no user" in refusal.text) == (1043, True)


def test_a_proof_too_long_to_be_one_is_refused(table: Table) -> None:
    """Where the client was asked to switch methods."""
    with MysqlClient(table.port("brief")) as client:
        client.packet()
        client.send(response(plugin="dialog"))
        assert client.packet()[1][:1] == b"\xfe"
        refusal = client.send(my.packet(b"x" * 65, 3)).mysql_error()
    assert refusal is not None
    assert (refusal.number, "65 bytes" in refusal.text) == (1043, True)


def test_line_ends_in_a_user_are_no_lines_in_a_log(table: Table) -> None:
    user = 'app\r\n{"event":"session.start"}\x1b[2J@' + DATABASE
    refusal = attempt(table.port("names"), user)
    assert refusal is not None
    for file in ("proxy.log", "proxy-audit.jsonl", "broker-audit.jsonl", "broker.log"):
        with open(table.bridge.file(file)) as lines:
            text = lines.read()
        assert '\n{"event":"session.start"}' not in text
        assert "\x1b" not in text


def test_every_prefix_of_a_login_is_closed(table: Table) -> None:
    """Half-closed at each offset."""

    def cut(length: int) -> bytes:
        with MysqlClient(table.port("brief"), seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
            client.packet()
            return client.send(LOGIN[:length]).half_close().read_to_end()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(cut, range(len(LOGIN))))
    assert not [answer for answer in answers if my.OK in answer]


def test_garbage_is_closed_within_the_deadline(table: Table) -> None:
    def shout(number: int) -> None:
        with MysqlClient(table.port("brief"), seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
            client.send(noise(2000, number)).read_to_end()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(shout, range(64)))


def test_a_slow_client_is_told_off_at_the_deadline(table: Table) -> None:
    started = time.monotonic()
    with MysqlClient(table.port("brief")) as client:
        client.packet()
        client.drip(LOGIN, every=0.5)
        refusal = client.mysql_error()
    assert time.monotonic() - started < HANDSHAKE_SECONDS + GRACE_SECONDS
    assert refusal is not None
    assert "HANDSHAKE_TIMEOUT" in refusal.text


def test_two_hundred_slow_lorises_do_not_keep_others_out(table: Table) -> None:
    assert attempt(table.port("names"), f"app@{DATABASE}") is None  # the proxy has the grant from now on
    lorises = [MysqlClient(table.port("brief")).send(LOGIN[:9]) for _ in range(200)]
    try:
        assert attempt(table.port("brief"), f"app@{DATABASE}") is None
        for loris in lorises:
            refusal = first_error(loris.read_to_end())
            assert refusal is not None
            assert "HANDSHAKE_TIMEOUT" in refusal.text
    finally:
        for loris in lorises:
            loris.socket.close()


def test_a_client_that_lost_its_power_in_the_login_is_forgotten(table: Table) -> None:
    for _ in range(5):
        client = MysqlClient(table.port("brief")).send(LOGIN[:20])
        if not client.vanish():
            client.socket.close()
            pytest.skip("the kernel does not let us vanish (TCP_REPAIR needs CAP_NET_ADMIN)")
    table.assert_empty("brief", seconds=HANDSHAKE_SECONDS + GRACE_SECONDS)


def test_a_client_that_never_reads_is_not_buffered_for(table: Table) -> None:
    """200 MB wait at the server, not in the proxy."""
    before = table.bridge.proxy.resident_bytes()
    with MysqlClient(table.port("plain")) as client:
        assert client.enter("app", schema="app") is None
        client.send(my.packet(b"\x03select repeat('x', 1000) from readings a join readings b limit 200000", 0))
        time.sleep(1.0)
        assert table.bridge.proxy.resident_bytes() - before < 10 * 1024 * 1024


def test_a_client_that_floods_during_its_login_is_not_buffered_for(table: Table) -> None:
    before = table.bridge.proxy.resident_bytes()
    with MysqlClient(table.port("brief")) as client:
        client.packet()
        client.send(my.packet(my.response("app@says-nothing"), 1)).socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                client.send(bytes(65536))
        assert table.bridge.proxy.resident_bytes() - before < 10 * 1024 * 1024


# In a session


BIG: Final = my.packet(b"\x03" + b" " * 0xFFFFFE, 0) + my.packet(b"select 1", 1)
"""A statement of 16 MiB in two packets, the second of which is no command."""


@pytest.mark.parametrize(
    "pieces",
    [
        [my.packet(CHANGE_USER, 0)],
        [bytes((byte,)) for byte in my.packet(CHANGE_USER, 0)],
        [my.packet(b"\x0e", 0) + my.packet(CHANGE_USER, 0)],
        [my.packet(b"\x0e", 0) + my.packet(CHANGE_USER, 0)[:4], my.packet(CHANGE_USER, 0)[4:]],
        [my.packet(CHANGE_USER, 7)],
        [BIG + my.packet(CHANGE_USER, 0)],
        [b"\0\0\0\0" + my.packet(CHANGE_USER, 0)],
    ],
    ids=["alone", "byte by byte", "behind a ping", "header first", "numbered 7", "behind 16 MiB", "behind nothing"],
)
def test_no_way_of_writing_it_changes_the_user(table: Table, pieces: list[bytes]) -> None:
    with MysqlClient(table.port("plain")) as client:
        assert client.enter("app") is None
        written = len(table.bridge.audit("proxy"))
        for piece in pieces:
            client.send(piece)
        answer = client.read_to_end()
    end = audit_line(table.bridge, "proxy", after=written, event="session.end")
    assert (end["reason"], end["db_user"]) == ("FEATURE_REFUSED", "app")
    # Numbered otherwise it is no command but a part of a file, which nobody may send here either.
    refused = b"LOCAL INFILE" if pieces[0][3:4] == b"\x07" else b"COM_CHANGE_USER"
    assert refused + b" is refused" in answer


def test_a_change_of_user_sent_before_the_login_is_over_is_refused_too(table: Table) -> None:
    with MysqlClient(table.port("names")) as client:
        client.packet()
        answer = client.send(response() + my.packet(CHANGE_USER, 0)).read_to_end()
    assert b"readonly" not in answer
    assert b"COM_CHANGE_USER is refused" in answer


def test_a_statement_that_looks_like_it_passes(table: Table) -> None:
    with MysqlClient(table.port("plain")) as client:
        assert client.enter("app") is None
        client.send(my.packet(b"\x03select '" + my.packet(CHANGE_USER, 0).replace(b"\0", b"0") + b"', 42", 0))
        assert b"42" in client.socket.recv(65536)


def test_a_server_that_wants_a_file_is_not_let(table: Table) -> None:
    """The client says it would send one; the policy of the door says no, and the server hears so."""
    with MysqlClient(table.port("plain")) as client:
        assert client.enter("app", my.CLIENT | my.LOCAL_FILES, schema="app") is None
        client.send(my.packet(b"\x03load data local infile '/etc/passwd' into table orders", 0))
        _, payload = client.packet()
        assert payload[:1] == b"\xff", "an error and no request for a file"


def test_packets_that_make_no_sense_are_the_servers_to_refuse(table: Table) -> None:
    with MysqlClient(table.port("plain")) as client:
        assert client.enter("app") is None
        client.send(my.packet(b"\xfe", 0))
        assert client.packet()[1][:1] == b"\xff"
        client.send(b"\xff\xff\xff\0" + b"\x03").half_close().read_to_end()


# Too many, and the end


def test_too_many_connections_is_1040_and_ends_when_one_leaves(table: Table) -> None:
    port = table.port("narrow")
    held = []
    try:
        for _ in range(NARROW_CONNECTIONS):
            held.append(MysqlClient(port))
            assert held[-1].enter(f"app@{DATABASE}") is None
        refusal = attempt(port, "app")
        assert refusal is not None
        assert (refusal.number, refusal.sequence) == (1040, 0)
        assert "max_connections" in refusal.text
        held.pop().socket.close()
        table.assert_empty("narrow", but=NARROW_CONNECTIONS - 1)
        assert attempt(port, f"app@{DATABASE}") is None
    finally:
        for client in held:
            client.socket.close()


def test_a_flood_of_connections_is_turned_away_and_the_door_opens_again(table: Table) -> None:
    flood = [MysqlClient(table.port("narrow")) for _ in range(300)]
    for client in flood:
        client.socket.close()
    table.assert_empty("narrow")
    assert attempt(table.port("narrow"), f"app@{DATABASE}") is None


def test_a_drained_proxy_says_goodbye_in_the_protocols_words(table: Table) -> None:
    proxy = table.bridge.add_proxy("leaving", PROXY_ID, leaving(topology.RDS_MARIADB))
    proxy.start()
    with MysqlClient(table.bridge.ports["leaving_app"]) as client:
        assert client.enter("app") is None
        proxy.send(signal.SIGTERM)
        refusal = client.mysql_error()
    proxy.stop()
    assert refusal is not None
    assert refusal.code == "1053 08S01"
    assert "DRAINING" in refusal.text
