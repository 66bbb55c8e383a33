"""Clients that break HTTP: each hears a 4xx and loses its connection, or is answered; nobody else notices anything.

What reaches a server is looked at on the other side: it is always one request, and it is the one that was signed.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.sandbox.bridge import Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import World
from tests.e2e.arrangement import GRACE_SECONDS
from tests.e2e.clients import PATIENCE_SECONDS
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.http_clients import USER, authorization
from tests.support import hostile_http as hostile
from tests.support.hostile_postgres import MARK, HostileServer
from tests.support.raw_http import CutShort, HttpClient

HOST: Final = "search-echo-abcdefghijklmnopqrstuvwxyz.us-west-1.es.amazonaws.com"
TWICE: Final = "search-twice-abcdefghijklmnopqrstuvwxyz.us-west-1.es.amazonaws.com"
EARLY: Final = "search-early-abcdefghijklmnopqrstuvwxyz.us-west-1.es.amazonaws.com"
HOSTS: Final = {"echo": HOST, "twice": TWICE, "early": EARLY}
SIGNED: Final = f"Authorization: {authorization()}\r\n".encode()
HEAD: Final = b"Host: echo\r\n" + SIGNED
RSS_GROWTH_BYTES: Final = 40 * 1024 * 1024
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: echo\r\n\r\n"


@pytest.fixture(scope="module")
def servers(http_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, HostileServer]]:
    """A good server that answers each request with the request, and two bad ones."""
    directory = tmp_path_factory.mktemp("http-servers")
    authority = CertificateAuthority.load(Path(http_world.ca_cert_file), Path(http_world.ca_key_file))
    running = {}
    for name, behaviour in (
        ("echo", hostile.echoes),
        ("twice", hostile.answers_twice),
        ("early", hostile.answers_early),
    ):
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        authority.issue(certificate, key, dns_names=[HOSTS[name]])
        running[name] = HostileServer(behaviour, hostile.server_context(certificate, key))
    yield running
    for server in running.values():
        server.stop()


@pytest.fixture(scope="module")
def hostile_bridge(
    http_world: World, servers: dict[str, HostileServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bridge]:
    """In front of them."""
    ports = {name: free_port() for name in HOSTS}

    def change_broker(document: dict[str, Any]) -> None:
        databases = document["db_service"]["databases"]
        like = next(entry for entry in databases if entry["name"] == "search")
        databases += [{**like, "name": name, "uri": f"{host}:443"} for name, host in HOSTS.items()]

    def change_proxy(document: dict[str, Any]) -> None:
        like = next(row for row in document["listeners"] if row["name"] == "search")
        for name, host in HOSTS.items():
            more = {"name": name, "database": name, "address": f"127.0.0.1:{ports[name]}"}
            limits = {"http": {"head_seconds": 2.0, "stall_seconds": 2.0}}
            document["listeners"].append({**like, **more, **limits, "db_user": USER})
            document["dial"][f"{host}:443"] = f"127.0.0.1:{servers[name].port}"

    place = tmp_path_factory.mktemp("http-hostile") / "bridge"
    with Bridge(http_world, place, change_broker, change_proxy, ports=ports) as bridge:
        yield bridge
    assert_kept_secrets(bridge, Leaks(http_world))


@pytest.fixture
def port(hostile_bridge: Bridge) -> int:
    """Of the echo."""
    return hostile_bridge.ports["echo"]


@pytest.fixture(scope="module")
def canary(hostile_bridge: Bridge) -> Iterator[HttpClient]:
    """A connection that is there before and after; the proxy's memory is compared at its end."""
    with HttpClient(hostile_bridge.ports["echo"]) as client:
        assert client.say(b"GET /canary HTTP/1.1\r\n" + HEAD + b"\r\n").status == 200
        before = hostile_bridge.proxy.resident_bytes()
        yield client
        assert hostile_bridge.proxy.resident_bytes() - before < RSS_GROWTH_BYTES


def post(*lines: bytes, body: bytes = b"", target: bytes = b"/index/_doc/1") -> bytes:
    """A POST with these header lines beside Host and Authorization."""
    return b"POST " + target + b" HTTP/1.1\r\n" + HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


REFUSED: Final[dict[str, bytes]] = {
    "a length and chunks": post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunks and a length": post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"0\r\n\r\n" + SMUGGLED),
    "two lengths": post(b"Content-Length: 2", b"Content-Length: 40", body=b"{}" + SMUGGLED),
    "two lengths in one line": post(b"Content-Length: 2, 40", body=b"{}" + SMUGGLED),
    "the same length twice": post(b"Content-Length: 2", b"Content-Length: 2", body=b"{}"),
    "a signed length": post(b"Content-Length: +2", body=b"{}"),
    "a negative length": post(b"Content-Length: -1"),
    "a length in hex": post(b"Content-Length: 0x2", body=b"{}"),
    "a length beyond counting": post(b"Content-Length: 99999999999999999999"),
    "an empty length": post(b"Content-Length:", body=b"{}"),
    "a coding nobody knows": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "a coding that hides chunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked with a tab before it": post(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n"),
    "a blank before the colon": post(b"Content-Length : 2", body=b"{}"),
    "a folded header": post(b"X-Long: a", b" Content-Length: 2", body=b"{}"),
    "a header that begins folded": b"GET / HTTP/1.1\r\n Host: echo\r\n" + HEAD + b"\r\n",
    "bare line ends": b"GET / HTTP/1.1\nHost: echo\n\n",
    "one bare line end": b"GET / HTTP/1.1\r\nHost: echo\nX: y\r\n\r\n",
    "a bare CR": post(b"X-Cr: a\rContent-Length: 2", body=b"{}"),
    "a NUL": post(b"X-Nul: a\0b"),
    "a header without a name": post(b": nothing"),
    "a header without a colon": post(b"nothing"),
    "a header's name with a blank": post(b"X Y: z"),
    "a header's name with a line end": post(b"X\r\nY: z"),
    "two Host headers": b"GET / HTTP/1.1\r\nHost: echo\r\nHost: search\r\n" + SIGNED + b"\r\n",
    "no Host header": b"GET / HTTP/1.1\r\n" + SIGNED + b"\r\n",
    "a target of another host": b"GET http://elsewhere.example/ HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a target of this host in full": b"GET http://echo/ HTTP/1.1\r\n" + HEAD + b"\r\n",
    "CONNECT": b"CONNECT elsewhere.example:443 HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a target without a path": b"GET index HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a target with a blank": b"GET /a b HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a target with a tab": b"GET /a\tb HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a target with a NUL": b"GET /a\0b HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\n" + HEAD + b"\r\n",
    "dot segments": b"GET /index/../_cluster/settings HTTP/1.1\r\n" + HEAD + b"\r\n",
    "dot segments in escapes": b"GET /index/%2e%2e/_cluster/settings HTTP/1.1\r\n" + HEAD + b"\r\n",
    "half an escape": b"GET /a%2 HTTP/1.1\r\n" + HEAD + b"\r\n",
    "another version": b"GET / HTTP/2.0\r\n" + HEAD + b"\r\n",
    "no version": b"GET /\r\n\r\n",
    "HTTP/2 from the start": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a method with a NUL": b"G\0T / HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a websocket": b"GET / HTTP/1.1\r\n" + HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a huge header": b"GET / HTTP/1.1\r\n" + HEAD + b"X-Fill: " + b"x" * 100_000 + b"\r\n\r\n",
    "very many headers": b"GET / HTTP/1.1\r\n" + HEAD + b"X: y\r\n" * 2000 + b"\r\n",
    "a huge target": b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a chunk of letters": post(b"Transfer-Encoding: chunked", body=b"zz\r\n"),
    "a negative chunk": post(b"Transfer-Encoding: chunked", body=b"-1\r\n"),
    "a chunk beyond counting": post(b"Transfer-Encoding: chunked", body=b"f" * 17 + b"\r\n"),
    "a chunk with a bare line end": post(b"Transfer-Encoding: chunked", body=b"2\n{}\n0\n\n"),
    "a chunk that is longer than it says": post(b"Transfer-Encoding: chunked", body=b"2\r\n{}}\r\n0\r\n\r\n"),
    "a chunk's endless extension": post(b"Transfer-Encoding: chunked", body=b"2;" + b"x" * 5000 + b"\r\n{}\r\n"),
    "endless trailers": post(b"Transfer-Encoding: chunked", body=b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
    "an expectation nobody meets": post(b"Content-Length: 2", b"Expect: the unexpected", body=b"{}"),
    "garbage": b"\xff\x00" * 2000 + b"\r\n\r\n",
    "PostgreSQL": b"\x00\x00\x00\x08\x04\xd2\x16\x2f" + b"\r\n\r\n",
}


WELL_FRAMED: Final = frozenset({"CONNECT", "dot segments in escapes", "a websocket"})
"""Refused for what they ask: the connection may go on."""


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_nothing_of_it_reaches_a_server(
    port: int, servers: dict[str, HostileServer], canary: HttpClient, name: str
) -> None:
    heard = len(servers["echo"].heard)
    with HttpClient(port) as client:
        client.send(REFUSED[name])
        if name in WELL_FRAMED:
            client.half_close()
        said = client.read_to_end()
    status = re.match(rb"HTTP/1\.1 (4\d\d|501|505) ", said)
    assert status is not None, said[:300]
    assert len(re.findall(rb"HTTP/1\.[01] \d\d\d ", said)) == 1, "one answer, and the connection is closed"
    assert MARK.encode() not in said
    reached = bytes(servers["echo"].heard[heard:])
    assert b"smuggled" not in reached
    assert reached.count(b" HTTP/1.1\r\n") == 0, reached
    assert canary.say(b"GET /canary HTTP/1.1\r\n" + HEAD + b"\r\n").status == 200


TAKEN: Final[dict[str, tuple[bytes, bytes]]] = {
    "an empty chunked body": (post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), b""),
    "chunks of every size": (
        post(b"Transfer-Encoding: chunked", body=b"1\r\n{\r\nA\r\n          \r\n1;ext=1\r\n}\r\n0\r\nX: y\r\n\r\n"),
        b"{          }",
    ),
    "an empty line before the request": (b"\r\n" + post(b"Content-Length: 2", body=b"{}"), b"{}"),
    "HTTP/1.0": (b"GET /old HTTP/1.0\r\n" + HEAD + b"\r\n", b""),
    "hop-by-hop headers": (
        post(
            b"Connection: keep-alive, X-Secret", b"X-Secret: x", b"Keep-Alive: 5", b"TE: trailers", b"Content-Length: 0"
        ),
        b"",
    ),
    "what a client must not decide": (
        post(
            b"X-Amz-Security-Token: forged",
            b"X-Amz-Date: 20260115T120000Z",
            b"X-Amz-Content-Sha256: UNSIGNED-PAYLOAD",
            b"X-Forwarded-For: 10.0.0.1",
            b"Forwarded: for=10.0.0.1",
            b"Proxy-Authorization: Basic Zm9yZ2VkOg==",
            b"Cookie: forged=1",
            b"Content-Length: 0",
            target=b"/?X-Amz-Signature=forged&X-Amz-Credential=forged&pretty",
        ),
        b"",
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_reaches_the_server_as_one_request_and_clean(port: int, name: str) -> None:
    sent, body = TAKEN[name]
    with HttpClient(port) as client:
        answer = client.say(sent)
    assert answer.status == 200
    head, _, received = answer.body.partition(b"\r\n\r\n")
    assert received == body
    lines = head.decode().split("\r\n")
    names = [line.partition(":")[0].lower() for line in lines[1:]]
    assert len(names) == len(set(names)), "each header once"
    assert f"host: {HOST}" in [line.lower() for line in lines]
    forbidden = {"connection", "keep-alive", "te", "transfer-encoding", "x-secret", "cookie", "proxy-authorization"}
    assert not forbidden & set(names), names
    assert not [line for line in lines if "forged" in line or "10.0.0.1" in line]
    assert "Credential=ASIA" in head.decode()


def test_pipelined_requests_are_answered_in_their_order(port: int) -> None:
    requests = [b"GET /number-%d HTTP/1.1\r\n" % n + HEAD + b"\r\n" for n in range(20)]
    with HttpClient(port) as client:
        client.send(b"".join(requests))
        for number in range(20):
            assert client.answer().body.startswith(b"GET /number-%d HTTP/1.1" % number)


def test_a_second_answer_is_nobodys(hostile_bridge: Bridge) -> None:
    for _ in range(5):
        with HttpClient(hostile_bridge.ports["twice"]) as client:
            for _ in range(2):
                try:
                    answer = client.say(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
                except (CutShort, EOFError):
                    break
                assert MARK.encode() not in answer.body


def test_an_answer_before_the_body_is_the_clients(hostile_bridge: Bridge) -> None:
    body = b"x" * 3_000_000
    with HttpClient(hostile_bridge.ports["early"]) as client:
        answer = client.say(post(b"Content-Length: %d" % len(body), body=body))
    assert (answer.status, answer.json()["error"]["type"]) == (413, "early")


def test_a_client_that_dawdles_is_sent_away(port: int, canary: HttpClient) -> None:
    for slow in (b"GET / HT", b"GET / HTTP/1.1\r\nHost: echo\r\nX-", post(b"Content-Length: 100", body=b"{")):
        with HttpClient(port, seconds=2 + GRACE_SECONDS) as client:
            said = client.send(slow).read_to_end()
        assert said == b"" or said.startswith(b"HTTP/1.1 408 "), said
    assert canary.say(b"GET /canary HTTP/1.1\r\n" + HEAD + b"\r\n").status == 200


def test_a_thousand_clients_that_hang_up_leave_nothing_behind(hostile_bridge: Bridge, port: int) -> None:
    files = hostile_bridge.proxy.open_files()
    for number in range(1000):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(post(b"Content-Length: 1000", body=b"{")[: 20 + number % 300])
    with HttpClient(port) as client:
        assert client.say(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n").status == 200
    deadline = time.monotonic() + PATIENCE_SECONDS
    while hostile_bridge.proxy.open_files() - files > 20:  # what it keeps for those who come next
        assert time.monotonic() < deadline, "connections were left open"
        time.sleep(0.05)


def test_the_proxy_crashed_in_none_of_these(hostile_bridge: Bridge) -> None:
    assert "crashed" not in hostile_bridge.proxy.log()
    assert "Traceback" not in hostile_bridge.proxy.log()
