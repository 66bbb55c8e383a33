"""Clients of Redis that nobody here wrote, through the proxy to Valkey that checks tokens itself."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from deploy.sandbox import MissingEngine, Sandbox
from deploy.sandbox.bridge import Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.world import World
from tests.e2e.clients import PATIENCE_SECONDS, SIDES, audit_line, run
from tests.e2e.conftest import Leaks, assert_kept_secrets, missing
from tests.e2e.test_readme import example

LOGIN_SECONDS: Final = 5.0
"""Life of a login at the door `brief`: renewed after 3.75 to 4.5 s, ended at 4.9."""
VALUE_MEGABYTES: Final = 500
sides = pytest.mark.parametrize("side", SIDES)


def more_doors(document: dict[str, Any]) -> None:
    """One whose logins are short, one routed by login name."""
    cache = next(listener for listener in document["listeners"] if listener["name"] == "cache")
    document["listeners"] += [
        {**cache, "name": "brief", "address": "127.0.0.1:0", "limits": {"login_seconds": LOGIN_SECONDS}},
        {**cache, "name": "names", "address": "127.0.0.1:0", "route": "login_name"},
    ]
    for listener in document["listeners"][-2:]:
        listener["address"] = f"127.0.0.1:{PORTS[listener['name']]}"
    for key in ("database", "db_user"):
        del document["listeners"][-1][key]


PORTS: Final = {"brief": 0, "names": 0}


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Valkey three times: ElastiCache, serverless, MemoryDB."""
    sandbox = Sandbox(tmp_path_factory.mktemp("caches"), engine_names={"postgres", "valkey"})
    try:
        world = sandbox.up()
    except MissingEngine as error:
        missing(str(error))
    try:
        yield world
    finally:
        sandbox.down()


@pytest.fixture(scope="module")
def cache_bridge(caches: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Broker and proxy before them."""
    PORTS.update({name: free_port() for name in PORTS})
    with Bridge(caches, tmp_path_factory.mktemp("bridge") / "bridge", change_proxy=more_doors) as bridge:
        bridge.ports.update(PORTS)
        yield bridge
    assert_kept_secrets(bridge, Leaks(caches))


def client(bridge: Bridge, side: str = "plain", *, door: str = "cache", **more: Any) -> redis.Redis:
    """redis-py as it comes: RESP3, retries, its own handshake."""
    tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": bridge.file("mesh-ca.crt")} if side == "tls" else {}
    host = "localhost" if side == "tls" else "127.0.0.1"
    return redis.Redis(host=host, port=bridge.ports[door], **tls, **more)


def cli(bridge: Bridge, side: str, *words: str, stdin: str = "", door: str = "cache") -> str:
    """redis-cli's output."""
    tls = ["--tls", "--cacert", bridge.file("mesh-ca.crt"), "--sni", "localhost"] if side == "tls" else []
    done = run("redis-cli", "-h", "127.0.0.1", "-p", str(bridge.ports[door]), *tls, *words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def peak_kilobytes(bridge: Bridge) -> int:
    """Of the proxy's memory, so far."""
    assert bridge.proxy.process is not None
    status = Path(f"/proc/{bridge.proxy.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])


def logins_seen(world: World) -> int:
    """AUTHs that the server has heard, from its own statistics."""
    command = ["redis-cli", *world.database("cache").superuser_dsn.split(), "info", "commandstats"]
    stats = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout
    line = next((line for line in stats.splitlines() if line.startswith("cmdstat_auth:")), "calls=0,")
    return int(line.split("calls=")[1].split(",")[0])


def test_the_readmes_examples_get_in(cache_bridge: Bridge) -> None:
    port = str(cache_bridge.ports["cache"])
    line, code = example("redis"), example("redis-py")
    assert "6379" in line
    assert "6379" in code
    first = run("bash", "-c", line.replace("6379", port))
    second = run(sys.executable, "-c", code.replace("6379", port))
    assert int(second.stdout) == int(first.stdout) + 1, first.stderr + second.stderr
    assert cli(cache_bridge, "plain", "DEL", "visits") == "1"


@sides
@pytest.mark.parametrize("door", ["cache", "serverless-cache", "memory"])
def test_redis_cli_is_in_without_a_password(cache_bridge: Bridge, side: str, door: str) -> None:
    assert cli(cache_bridge, side, "ACL", "WHOAMI", door=door) == "app"


@sides
def test_redis_cli_resets_and_goes_on(cache_bridge: Bridge, side: str) -> None:
    said = cli(cache_bridge, side, stdin="SET r 1\nRESET\nGET r\nHELLO 3\nGET r\nAUTH app x\nAUTH other x\nGET r\n")
    assert said.splitlines()[:3] == ["OK", "RESET", "1"]
    assert said.splitlines()[-3].startswith("WRONGPASS") or "WRONGPASS" in said
    assert said.endswith("1")


@sides
def test_redis_py_does_everything_it_does(cache_bridge: Bridge, side: str) -> None:
    with client(cache_bridge, side, decode_responses=True) as r:
        assert r.set("k", "v")
        assert r.get("k") == "v"
        assert r.connection_pool.get_connection().get_protocol() in (3, "3")
        with r.pipeline() as transaction:
            assert transaction.incr("n").incr("n").delete("n").execute() == [1, 2, 1]
        with r.pipeline(transaction=False) as pipeline:
            for number in range(1000):
                pipeline.echo(str(number))
            assert pipeline.execute() == [str(number) for number in range(1000)]
        r.delete("q")
        timer = threading.Timer(0.2, lambda: client(cache_bridge).rpush("q", "late"))
        timer.start()
        assert r.blpop(["q"], timeout=PATIENCE_SECONDS) is not None
        timer.join()


@sides
def test_a_pipeline_of_a_thousand_takes_one_round_trip_or_so(cache_bridge: Bridge, side: str) -> None:
    """Much less than a thousand times the time of one."""
    with client(cache_bridge, side) as r:
        r.ping()
        started = time.monotonic()
        for _ in range(100):
            r.ping()
        one = (time.monotonic() - started) / 100
        with r.pipeline(transaction=False) as pipeline:
            took = []
            for _ in range(5):  # the machine may do something else in the midst of one
                for _ in range(1000):
                    pipeline.ping()
                started = time.monotonic()
                pipeline.execute()
                took.append(time.monotonic() - started)
            assert min(took) < 300 * one


@pytest.mark.parametrize("protocol", [2, 3])
def test_subscribers_hear(cache_bridge: Bridge, protocol: int) -> None:
    with client(cache_bridge, protocol=protocol) as r, r.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("news")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while client(cache_bridge).publish("news", "hello") == 0:  # the server has not heard of the subscriber
            assert time.monotonic() < deadline
        while (message := subscriber.get_message(timeout=1)) is None:
            assert time.monotonic() < deadline
        assert message["data"] == b"hello"


def test_a_login_name_says_user_and_database(cache_bridge: Bridge) -> None:
    with client(cache_bridge, door="names", username="readonly@memory", password="whatever") as r:
        assert r.get("nothing") is None
        with pytest.raises(redis.exceptions.NoPermissionError, match="User readonly has no permissions"):
            r.set("k", "v")
    with client(cache_bridge, door="names") as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()


def test_a_denied_client_that_retries_costs_the_broker_one_question(cache_bridge: Bridge) -> None:
    """redis-py's retries end in the proxy's memory of the refusal; the reason is in the error."""
    before = len(cache_bridge.audit("broker"))
    for _ in range(11):
        with client(cache_bridge, username="root", password="x") as r, pytest.raises(redis.ResponseError) as refused:
            r.ping()
        assert "not as 'root'" in str(refused.value)
        assert "DB_USER_NOT_ALLOWED" in str(refused.value)
    audit_line(cache_bridge, "broker", after=before, db_user="root", allowed=False)
    asked = [line for line in cache_bridge.audit("broker")[before:] if line.get("db_user") == "root"]
    assert len(asked) <= 2


def test_what_is_refused_says_so(cache_bridge: Bridge) -> None:
    with client(cache_bridge) as r:
        for words in (["MONITOR"], ["CLIENT", "REPLY", "OFF"], ["CLIENT", "REPLY", "SKIP"], ["PSYNC", "?", "-1"]):
            with pytest.raises(redis.ResponseError, match="tollbridge refuses this"):
                r.execute_command(*words)
        assert r.ping()


def test_a_value_of_500_mb_streams_by(cache_bridge: Bridge) -> None:
    """Both ways, and the proxy's memory does not notice."""
    chunk = b"v" * 2**20
    with socket.create_connection(("127.0.0.1", cache_bridge.ports["cache"]), timeout=60) as sock:
        sock.sendall(b"PING\r\n")
        assert sock.recv(100) == b"+PONG\r\n"
        before = peak_kilobytes(cache_bridge)
        sock.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % (VALUE_MEGABYTES * 2**20))
        for _ in range(VALUE_MEGABYTES):
            sock.sendall(chunk)
        sock.sendall(b"\r\n")
        assert sock.recv(100) == b"+OK\r\n"
        sock.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n*2\r\n$3\r\nDEL\r\n$3\r\nbig\r\n")
        wanted = len(b"$%d\r\n" % (VALUE_MEGABYTES * 2**20)) + VALUE_MEGABYTES * 2**20 + 2 + len(b":1\r\n")
        while wanted:
            wanted -= len(sock.recv(2**20))
        assert peak_kilobytes(cache_bridge) - before < 20_000


def test_sessions_renew_their_logins_unseen(cache_bridge: Bridge, caches: World) -> None:
    """Under redis-benchmark, with subscribers of RESP3, transactions and blocking pops that end in time."""
    before = logins_seen(caches)
    audited = len(cache_bridge.audit("proxy"))
    port = str(cache_bridge.ports["brief"])
    command = ["redis-benchmark", "-p", port, "-t", "get,set", "-P", "16", "-c", "4", "-n", "100000000", "-q"]
    started = time.monotonic()
    load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with (
            client(cache_bridge, door="brief", retry=None) as r,
            r.pubsub(ignore_subscribe_messages=True) as subscriber,
        ):
            subscriber.subscribe("still")
            subscriber.get_message(timeout=1)
            connection = r.connection_pool.get_connection()
            number = 0
            while time.monotonic() - started < 3 * LOGIN_SECONDS:
                number += 1
                connection.send_command("MULTI")
                connection.send_command("ECHO", str(number))
                connection.send_command("EXEC")
                assert [connection.read_response() for _ in range(3)][2] == [str(number).encode()]
                connection.send_command("BLPOP", "nothing", "0.2")
                assert connection.read_response() is None
            client(cache_bridge).publish("still", "here")
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (message := subscriber.get_message(timeout=1)) is None:
                assert time.monotonic() < deadline
            assert message["data"] == b"here"
        assert load.poll() is None, "redis-benchmark lost a connection"
    finally:
        load.kill()
        output = load.communicate()[0]
    assert b"rror" not in output, output[-300:]
    assert logins_seen(caches) - before >= 6 * 2 + 1
    ended = [line for line in cache_bridge.audit("proxy")[audited:] if line.get("reason") == "SESSION_TOO_LONG"]
    assert ended == []


def test_what_passes_no_safe_point_is_cut_and_counted(cache_bridge: Bridge) -> None:
    """A RESP2 subscriber, a BLPOP without end, an open MULTI: ended just before the server would, with the reason."""
    audited = len(cache_bridge.audit("proxy"))
    with contextlib.ExitStack() as stack:
        socks = []
        for said in (b"SUBSCRIBE c\r\n", b"BLPOP never 0\r\n", b"MULTI\r\n"):
            sock = stack.enter_context(
                socket.create_connection(("127.0.0.1", cache_bridge.ports["brief"]), timeout=3 * LOGIN_SECONDS)
            )
            sock.sendall(said)
            socks.append(sock)
        for sock in socks:
            heard = b""
            while data := sock.recv(4096):
                heard += data
            assert heard.rpartition(b"-ERR tollbridge: ")[2].startswith(b"the login was at its limit of 5 s"), heard
            assert b"unknown command" not in heard
            assert b"WRONGPASS" not in heard
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        ended = [line for line in cache_bridge.audit("proxy")[audited:] if line.get("reason") == "SESSION_TOO_LONG"]
        if len(ended) == len(socks):
            break
        assert time.monotonic() < deadline, ended
        time.sleep(0.05)
    metrics = cache_bridge.proxy.admin("/metrics")[1]
    assert f'tollbridge_proxy_sessions_ended_total{{why="SESSION_TOO_LONG"}} {len(socks)}.0' in metrics


def test_redis_benchmark_runs(cache_bridge: Bridge) -> None:
    for depth in ("1", "16"):
        port = str(cache_bridge.ports["cache"])
        done = run("redis-benchmark", "-p", port, "-t", "get,set,incr,lpush,mset", "-P", depth, "-n", "4000", "-q")
        assert done.returncode == 0, done.stderr
        assert "rror" not in done.stdout + done.stderr
