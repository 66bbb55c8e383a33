"""Clients that break the protocol, stall or vanish: a native error or a clean end in time, and nobody else harmed."""

from __future__ import annotations

import contextlib
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from deploy.sandbox.bridge import Bridge
from tests.e2e.arrangement import GRACE_SECONDS, HANDSHAKE_SECONDS, NARROW_CONNECTIONS, Arrangement
from tests.e2e.clients import PATIENCE_SECONDS, Clients, assert_cancelled, audit_line
from tests.support.noise import noise
from tests.support.raw_postgres import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    RawClient,
    attempt,
    cancel_request,
    query,
    startup,
    startup_of,
)

RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024
LOGIN: Final = startup(user="app@rds-postgres", database="app", application_name="cut short")


@pytest.fixture(scope="module", autouse=True)
def canary(clients: Clients) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A session that is there all the time; the proxy's memory and open files are compared at its end."""
    with psycopg.connect(clients.dsn("plain"), autocommit=True) as connection:
        memory, files = clients.bridge.proxy.resident_bytes(), clients.bridge.proxy.open_files()
        yield connection
        assert clients.bridge.proxy.resident_bytes() - memory < RSS_GROWTH_BYTES
        deadline = time.monotonic() + PATIENCE_SECONDS
        while clients.bridge.proxy.open_files() > files:
            assert time.monotonic() < deadline, "connections were left open"
            time.sleep(0.05)
        assert "crashed" not in clients.bridge.proxy.log()


@pytest.fixture(autouse=True)
def others_unharmed(canary: psycopg.Connection[tuple[Any, ...]]) -> Iterator[None]:
    """The canary answers after each test."""
    yield
    assert canary.execute("select 1").fetchone() == (1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """First bytes of a connection, and what they are answered with."""

    name: str
    data: bytes
    sqlstate: str = "08P01"
    says: str = ""


OPENINGS: Final = (
    Opening(name="an HTTP request", data=b"GET / HTTP/1.1\r\nHost: db\r\n\r\n", says="startup packet of"),
    Opening(name="a startup packet of 10,001 bytes", data=struct.pack("!II", 10_001, 0x30000), says="10001"),
    Opening(name="a startup packet of two gigabytes", data=struct.pack("!iI", 0x7FFFFFFF, 0x30000)),
    Opening(name="a startup packet of negative length", data=struct.pack("!iI", -5, 0x30000)),
    Opening(name="a startup packet without a body", data=struct.pack("!I", 4)),
    Opening(name="zeros", data=bytes(64)),
    Opening(name="protocol 2.0", data=startup_of((("user", "app"),), version=0x20000), sqlstate="0A000", says="2.0"),
    Opening(name="an unknown request code", data=struct.pack("!II", 8, 1234 << 16 | 5699), says="unknown"),
    Opening(name="a startup packet without an end", data=struct.pack("!II", 13, 0x30000) + b"user\0"),
    Opening(name="a parameter without a value", data=struct.pack("!II", 12, 0x30000) + b"user"),
    Opening(name="bytes behind the last parameter", data=struct.pack("!II", 13, 0x30000) + b"\0more"),
    Opening(name="two users", data=startup_of((("user", "app"), ("user", "admin"))), says="2 times"),
    Opening(name="a user that is no text", data=struct.pack("!II", 17, 0x30000) + b"user\0\xff\xfe\0\0", says="UTF-8"),
    Opening(name="plaintext behind SSLRequest", data=SSL_REQUEST + LOGIN, says="CVE-2021-23214"),
    Opening(name="plaintext behind GSSENCRequest", data=GSSENC_REQUEST + LOGIN, says="CVE-2021-23214"),
)


@pytest.mark.parametrize("opening", OPENINGS, ids=[opening.name for opening in OPENINGS])
def test_a_broken_opening_is_answered_in_the_protocols_words(bridge: Bridge, opening: Opening) -> None:
    written = len(bridge.audit("proxy"))
    with RawClient(bridge.ports["brief"], seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
        refusal = client.send(opening.data).error()
    assert refusal is not None
    assert (refusal.severity, refusal.sqlstate) == ("FATAL", opening.sqlstate)
    assert opening.says in refusal.text
    line = audit_line(bridge, "proxy", after=written, event="session.refused", listener="brief")
    assert line["reason"] in ("CLIENT_PROTOCOL", "FEATURE_REFUSED")


def test_the_same_encryption_asked_for_twice(bridge: Bridge) -> None:
    with RawClient(bridge.ports["narrow"]) as client:
        assert client.send(SSL_REQUEST).read(1) == b"N"
        refusal = client.send(SSL_REQUEST).error()
    assert refusal is not None
    assert (refusal.sqlstate, "asked twice" in refusal.text) == ("08P01", True)


def test_plaintext_after_the_yes_to_tls_is_no_login(bridge: Bridge) -> None:
    """CVE-2021-23214 with the plaintext a moment later."""
    with RawClient(bridge.ports["brief"], seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
        assert client.send(SSL_REQUEST).read(1) == b"S"
        answer = client.send(LOGIN).read_to_end()
    assert b"R\0\0\0\x08\0\0\0\0" not in answer


def test_direct_tls_without_alpn_is_refused_inside_tls(bridge: Bridge) -> None:
    context = ssl.create_default_context(cafile=bridge.file("mesh-ca.crt"))
    with RawClient(bridge.ports["brief"]) as client:
        refusal = client.start_tls(context, ask=False).send(LOGIN).error()
    assert refusal is not None
    assert (refusal.sqlstate, "ALPN" in refusal.text) == ("08P01", True)


def test_encryption_asked_for_inside_tls_is_refused(bridge: Bridge) -> None:
    context = ssl.create_default_context(cafile=bridge.file("mesh-ca.crt"))
    with RawClient(bridge.ports["brief"]) as client:
        refusal = client.start_tls(context).send(SSL_REQUEST).error()
    assert refusal is not None
    assert (refusal.sqlstate, "inside TLS" in refusal.text) == ("08P01", True)


@pytest.mark.parametrize("kind", ["random", "after a ClientHello's first byte"])
def test_garbage_is_closed_within_the_deadline(bridge: Bridge, kind: str) -> None:
    start = b"\x16\x03\x01" if kind != "random" else b""

    def shout(number: int) -> None:
        with RawClient(bridge.ports["brief"], seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
            client.send(start + noise(2000, number)).read_to_end()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(shout, range(20)))


def test_garbage_at_the_broker_writes_no_line_of_its_log(bridge: Bridge) -> None:
    """Nobody without a certificate fills a disk; and gRPC's own lines would be no JSON."""
    before = bridge.broker.log()
    for _ in range(20):
        with RawClient(bridge.ports["broker"]) as client:
            client.send(b"\x16\x03\x01\x01\x00" + b"?" * 256).read_to_end()
    written = bridge.broker.log()[len(before) :].splitlines()
    assert [line for line in written if not line.startswith("{") or "andshake" in line] == []


@pytest.mark.parametrize("ending", ["close", "half-close", "reset"])
def test_a_login_cut_at_every_offset_leaves_nothing_behind(bridge: Bridge, ending: str) -> None:
    def cut_at(offset: int) -> None:
        with RawClient(bridge.ports["names"]) as client:
            client.send(LOGIN[:offset])
            if ending == "half-close":
                answer = client.half_close().read_to_end()
                assert answer == b"" or answer[:1] == b"E"
            elif ending == "reset":
                client.reset()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(cut_at, range(len(LOGIN))))
    assert_no_connections(bridge, "names")


def test_a_slow_loris_is_cut_off_at_the_deadline(bridge: Bridge) -> None:
    """A byte every half second: each in time, the login is not."""
    started = time.monotonic()
    with RawClient(bridge.ports["brief"]) as client:
        client.drip(LOGIN, every=0.5)
        refusal = client.error()
    assert time.monotonic() - started < HANDSHAKE_SECONDS + GRACE_SECONDS
    assert refusal is not None
    assert refusal.sqlstate == "57014"


def test_two_hundred_slow_lorises_do_not_keep_others_out(bridge: Bridge) -> None:
    assert attempt(bridge.ports["names"], user="app@rds-postgres") is None  # the proxy has the grant from now on
    lorises = [RawClient(bridge.ports["brief"]).send(LOGIN[:9]) for _ in range(200)]
    try:
        assert attempt(bridge.ports["brief"], user="app@rds-postgres") is None
        for loris in lorises:
            refusal = loris.error()
            assert refusal is not None
            assert refusal.sqlstate == "57014"
    finally:
        for loris in lorises:
            loris.socket.close()


@pytest.mark.parametrize("first", [b"", SSL_REQUEST], ids=["at once", "after SSLRequest"])
def test_silence_is_closed_at_the_deadline(bridge: Bridge, first: bytes) -> None:
    started = time.monotonic()
    with RawClient(bridge.ports["brief"], seconds=HANDSHAKE_SECONDS + GRACE_SECONDS) as client:
        client.send(first).read_to_end()
    assert time.monotonic() - started > HANDSHAKE_SECONDS - 0.5


def test_a_client_that_lost_its_power_in_the_login_is_forgotten(bridge: Bridge) -> None:
    for _ in range(5):
        client = RawClient(bridge.ports["brief"]).send(LOGIN[:20])
        if not client.vanish():
            client.socket.close()
            pytest.skip("the kernel does not let us vanish (TCP_REPAIR needs CAP_NET_ADMIN)")
    assert_no_connections(bridge, "brief", seconds=HANDSHAKE_SECONDS + GRACE_SECONDS)


def test_a_client_that_half_closes_still_gets_its_answer(bridge: Bridge) -> None:
    with RawClient(bridge.ports["plain"]) as client:
        assert client.log_in(user="app", database="app") is None
        client.send(query("select pg_sleep(0.3), 'after the half-close'")).half_close()
        assert b"after the half-close" in client.read_to_end()


def test_a_client_that_never_reads_is_not_buffered_for(bridge: Bridge) -> None:
    """200 MB wait at the server, not in the proxy."""
    before = bridge.proxy.resident_bytes()
    with RawClient(bridge.ports["plain"]) as client:
        assert client.log_in(user="app", database="app") is None
        client.send(query("copy (select repeat('x', 1000) from generate_series(1, 200000)) to stdout"))
        time.sleep(1.0)
        assert bridge.proxy.resident_bytes() - before < 10 * 1024 * 1024


def test_a_client_that_floods_during_its_login_is_not_buffered_for(bridge: Bridge, arrangement: Arrangement) -> None:
    """The login waits for a database that says nothing; meanwhile the client pushes whatever the sockets take."""
    before = bridge.proxy.resident_bytes()
    with RawClient(bridge.ports["brief"]) as client:
        client.send(startup(user="app@says-nothing", database="app")).socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                client.send(bytes(65536))
        assert bridge.proxy.resident_bytes() - before < 10 * 1024 * 1024


def test_too_many_connections_is_said_natively_and_ends_when_one_leaves(bridge: Bridge) -> None:
    port = bridge.ports["narrow"]
    held = []
    try:
        for _ in range(NARROW_CONNECTIONS):
            held.append(RawClient(port))
            assert held[-1].log_in(user="app", database="app") is None
        refusal = attempt(port, user="app")
        assert refusal is not None
        assert refusal.sqlstate == "53300"
        assert "max_connections" in refusal.text
        held.pop().socket.close()
        assert_no_connections(bridge, "narrow", but=NARROW_CONNECTIONS - 1)
        assert attempt(port, user="app") is None
    finally:
        for client in held:
            client.socket.close()


def test_a_flood_of_connections_is_turned_away_and_the_door_opens_again(bridge: Bridge) -> None:
    port = bridge.ports["narrow"]
    flood = [RawClient(port) for _ in range(300)]
    for client in flood:
        client.socket.close()
    assert_no_connections(bridge, "narrow")
    assert attempt(port, user="app") is None


class TestCancel:
    def test_a_wrong_key_cancels_nobody_and_gets_no_answer(self, bridge: Bridge, clients: Clients) -> None:
        with psycopg.connect(clients.dsn("plain")) as connection:
            pid = connection.info.backend_pid
            running = threading.Thread(target=connection.execute, args=("select pg_sleep(1)",))
            running.start()
            for key in (bytes(4), b"\xff" * 4, bytes(32)):
                with RawClient(bridge.ports["plain"]) as client:
                    assert client.send(cancel_request(pid, key)).read_to_end() == b""
            running.join()
            assert connection.execute("select 'not cancelled'").fetchone() == ("not cancelled",)

    @pytest.mark.parametrize("size", [0, 3, 257, 9000])
    def test_a_key_of_impossible_size_is_closed(self, bridge: Bridge, size: int) -> None:
        with RawClient(bridge.ports["plain"]) as client:
            client.send(cancel_request(1, bytes(size))).read_to_end()

    def test_where_nothing_says_which_database_an_unknown_key_ends_silently(self, bridge: Bridge) -> None:
        with RawClient(bridge.ports["names"]) as client:
            assert client.send(cancel_request(1, bytes(4))).read_to_end() == b""

    def test_plaintext_cancels_pass_where_tls_is_required(self, clients: Clients) -> None:
        """Older libpq has no other way: PQcancel never uses TLS."""
        with psycopg.connect(clients.mtls(), autocommit=True) as connection:
            assert_cancelled(connection, connection.cancel)


def assert_no_connections(bridge: Bridge, door: str, *, but: int = 0, seconds: float = PATIENCE_SECONDS) -> None:
    """Only `but` connections of a door are left, as the kernel counts the proxy's sockets."""
    port = bridge.ports[door]
    deadline = time.monotonic() + seconds
    while (count := established(port)) > but:
        assert time.monotonic() < deadline, f"{count} connections are left"
        time.sleep(0.02)


def established(port: int) -> int:
    """Connections that a server socket of this machine still has open, half-closed ones included."""
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, state, inode = fields[1], fields[3], fields[9]
        count += int(here.split(":")[1], 16) == port and state != "0A" and inode != "0"
    return count
