"""Redis clients that share a connection: they see what they see without sharing, and the server sees one login.

What `test_redis_clients` claims of a door whose clients have a connection each is claimed here of one that multiplexes.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pytest
import redis

from deploy.sandbox.bridge import Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.world import World
from proxy.engines.redis.shareable import KNOWN, SHAREABLE
from tests.e2e.clients import PATIENCE_SECONDS, audit_line, run
from tests.e2e.conftest import Leaks, assert_kept_secrets
from tests.e2e.test_redis_clients import (
    PORTS,
    caches,
    client,
    more_doors,
    peak_kilobytes,
    test_a_denied_client_that_retries_costs_the_broker_one_question,
    test_a_login_name_says_user_and_database,
    test_a_pipeline_of_a_thousand_takes_one_round_trip_or_so,
    test_a_value_of_500_mb_streams_by,
    test_redis_benchmark_runs,
    test_redis_cli_is_in_without_a_password,
    test_redis_cli_resets_and_goes_on,
    test_redis_py_does_everything_it_does,
    test_subscribers_hear,
    test_what_is_refused_says_so,
    test_what_passes_no_safe_point_is_cut_and_counted,
)
from tests.e2e.test_redis_node import test_ioredis_and_node_redis

__all__ = [  # the fixture, and what holds here as well
    "caches",
    "test_a_denied_client_that_retries_costs_the_broker_one_question",
    "test_a_login_name_says_user_and_database",
    "test_a_pipeline_of_a_thousand_takes_one_round_trip_or_so",
    "test_a_value_of_500_mb_streams_by",
    "test_ioredis_and_node_redis",
    "test_redis_benchmark_runs",
    "test_redis_cli_is_in_without_a_password",
    "test_redis_cli_resets_and_goes_on",
    "test_redis_py_does_everything_it_does",
    "test_subscribers_hear",
    "test_what_is_refused_says_so",
    "test_what_passes_no_safe_point_is_cut_and_counted",
]

CLIENTS: Final = 50
STOPPED_SECONDS: Final = 20.0
"""For how long one who does not read may hold up others: 5 s, and what a busy machine adds."""


SHARED: Final = "tollbridge_proxy_multiplexed_connections"


def multiplexing(document: dict[str, Any]) -> None:
    """Every Redis door shares."""
    more_doors(document)
    for listener in document["listeners"]:
        if listener["protocol"] == "redis":
            listener["redis"] = {"multiplex": True}


@pytest.fixture(scope="module")
def cache_bridge(caches: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Broker and proxy before the caches."""
    PORTS.update({name: free_port() for name in PORTS})
    with Bridge(caches, tmp_path_factory.mktemp("bridge") / "bridge", change_proxy=multiplexing) as bridge:
        bridge.ports.update(PORTS)
        yield bridge
    assert_kept_secrets(bridge, Leaks(caches))


def server_side(world: World, *words: str, database: str = "cache") -> str:
    """What the server says to its own superuser."""
    command = ["redis-cli", *world.database(database).superuser_dsn.split(), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout


def connections(world: World, *, database: str = "cache") -> list[str]:
    """Ids of the connections that the application's user has at the server."""
    rows = server_side(world, "client", "list", database=database).splitlines()
    fields = [dict(field.partition("=")[::2] for field in row.split()) for row in rows]
    return [row["id"] for row in fields if row.get("user") == "app"]


def logins(world: World) -> int:
    """HELLOs that the server has heard: how a shared connection logs in, and its superuser does not."""
    stats = server_side(world, "info", "commandstats")
    line = next((line for line in stats.splitlines() if line.startswith("cmdstat_hello:")), "calls=0,")
    return int(line.split("calls=")[1].split(",")[0])


def until(true: Any, what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def metric(bridge: Bridge, name: str) -> float:
    """One number of the proxy's page."""
    lines = bridge.proxy.admin("/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def gone(bridge: Bridge, left: float) -> bool:
    """Whether the proxy has that many shared connections left, or fewer."""
    return metric(bridge, SHARED) <= left


@pytest.mark.parametrize("protocol", [2, 3])
def test_fifty_clients_are_one_connection_and_hear_their_own_answers(
    cache_bridge: Bridge, caches: World, protocol: int
) -> None:
    before, known = len(connections(caches)), logins(caches)
    wrong: list[object] = []

    def talk(number: int) -> None:
        with client(cache_bridge, protocol=protocol, decode_responses=True) as r:
            together.wait(PATIENCE_SECONDS)
            for turn in range(40):
                key, value = f"mine:{number}", f"{number}:{turn}:" + "v" * (number * turn % 700)
                with r.pipeline(transaction=False) as pipeline:
                    pipeline.set(key, value).get(key).hset(f"h:{number}", "f", value).hgetall(f"h:{number}").echo(value)
                    heard = pipeline.execute()
                if heard[1] != value or heard[3] != {"f": value} or heard[4] != value:
                    wrong.append(heard)
            most.append(len(connections(caches)))
            together.wait(PATIENCE_SECONDS)

    most: list[int] = []
    together = threading.Barrier(CLIENTS)
    threads = [threading.Thread(target=talk, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    assert len(most) == CLIENTS
    assert max(most) <= before + 1
    assert logins(caches) <= known + 1


def test_clients_that_come_and_go_cost_the_server_no_login(cache_bridge: Bridge, caches: World) -> None:
    with client(cache_bridge) as r:
        r.ping()
    known = logins(caches)
    for number in range(100):
        with client(cache_bridge) as r:
            assert r.incr("visits") == number + 1
    assert logins(caches) == known
    assert server_side(caches, "del", "visits").strip() == "1"


def test_what_needs_a_connection_of_its_own_gets_one_and_says_why(cache_bridge: Bridge, caches: World) -> None:
    """A transaction, a subscription and a blocking command do not meet those of others."""
    audited = len(cache_bridge.audit("proxy"))
    with client(cache_bridge, decode_responses=True) as one, client(cache_bridge, decode_responses=True) as other:
        mine, theirs = one.connection_pool.get_connection(), other.connection_pool.get_connection()
        for connection in (mine, theirs):
            connection.send_command("SET", "shared", "0")
            assert connection.read_response() == "OK"
        shared = set(connections(caches))
        mine.send_command("MULTI")
        assert mine.read_response() == "OK"
        mine.send_command("INCR", "shared")
        assert mine.read_response() == "QUEUED"
        theirs.send_command("GET", "shared")
        assert theirs.read_response() == "0"
        assert len(set(connections(caches)) - shared) == 1
        mine.send_command("EXEC")
        assert mine.read_response() == [1]
        mine.disconnect()
        theirs.disconnect()
    notes = {"multiplexed": "yes", "pinned": "multi"}
    assert audit_line(cache_bridge, "proxy", after=audited, event="session.end", notes=notes)["ended_by"] == "client"
    assert metric(cache_bridge, "tollbridge_proxy_multiplexed_pins_total") >= 1


def test_the_server_itself_says_that_what_shares_neither_waits_nor_concerns_a_connection(caches: World) -> None:
    """By the flags of its commands; and a command that it has and our lists have not is found here."""
    flags = {row[0].encode(): set(row[2]) for row in json.loads(server_side(caches, "--json", "command"))}
    assert not flags.keys() - KNOWN
    shared = flags.keys() & SHAREABLE
    assert len(shared) > 180
    scripts = {name for name in shared if name.startswith((b"eval", b"fcall"))}
    for name in shared:
        assert not flags[name] & {"blocking", "admin", "no_auth", "no_multi", "asking"}, name
        assert "noscript" not in flags[name] or name in scripts, name
        assert "pubsub" not in flags[name] or name in {b"publish", b"spublish"}, name


def test_a_blocking_pop_of_one_lets_all_others_go_on(cache_bridge: Bridge) -> None:
    with client(cache_bridge) as waiting, client(cache_bridge) as r:
        waiting.ping()
        heard: list[object] = []
        thread = threading.Thread(target=lambda: heard.append(waiting.blpop(["later"], timeout=PATIENCE_SECONDS)))
        thread.start()
        for _ in range(50):
            assert r.ping()
        assert not heard
        r.rpush("later", "now")
        thread.join()
    assert heard


def test_a_connection_that_the_server_ends_is_replaced_for_those_who_wait_for_nothing(
    cache_bridge: Bridge, caches: World
) -> None:
    with client(cache_bridge, retry=None) as r:
        connection = r.connection_pool.get_connection()
        for turn in range(3):
            connection.send_command("ECHO", str(turn))
            assert connection.read_response() == str(turn).encode()
            held, killed = metric(cache_bridge, SHARED), connections(caches)
            for number in killed:
                server_side(caches, "client", "kill", "id", number)
            until(partial(gone, cache_bridge, held - len(killed)), "the proxy has not heard of it")
        connection.send_command("ECHO", "end")
        assert connection.read_response() == b"end"


def test_a_client_whose_answer_is_lost_hears_so(cache_bridge: Bridge, caches: World) -> None:
    """It cannot be known whether the command was carried out: nothing is sent again."""
    with client(cache_bridge, retry=None) as r, client(cache_bridge) as other:
        r.ping()
        other.ping()
        server_side(caches, "client", "pause", "60000", "write")
        try:
            connection = r.connection_pool.get_connection()
            connection.send_command("SET", "unsure", "1")
            until(lambda: "cmd=set" in server_side(caches, "client", "list"), "the server has not heard it")
            for number in connections(caches):
                server_side(caches, "client", "kill", "id", number)
            with pytest.raises((redis.ConnectionError, redis.ResponseError)):
                connection.read_response()
        finally:
            server_side(caches, "client", "unpause")
        assert other.ping()


def test_a_client_that_does_not_read_stops_others_for_seconds_at_most(cache_bridge: Bridge) -> None:
    audited = len(cache_bridge.audit("proxy"))
    with client(cache_bridge, protocol=2) as r:  # on the connection that the other will ask over
        r.set("large", b"v" * 2**20)
        before = cache_bridge.proxy.resident_bytes()
        with socket.create_connection(("127.0.0.1", cache_bridge.ports["cache"]), timeout=30) as deaf:
            deaf.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * 1000)
            started = time.monotonic()
            for _ in range(20):
                assert r.ping()
            assert time.monotonic() - started < STOPPED_SECONDS
            assert cache_bridge.proxy.resident_bytes() - before < 40_000 * 1024
            line = audit_line(cache_bridge, "proxy", after=audited, event="session.end", ended_by="proxy")
        assert line["reason"] == "CLIENT_PROTOCOL"
        r.delete("large")


def test_a_large_answer_streams_by_while_others_wait_for_it(cache_bridge: Bridge) -> None:
    """200 MB and more over the shared connection, in order, kept nowhere."""
    size = 200 * 2**20
    with client(cache_bridge) as r, client(cache_bridge) as other:
        r.setrange("huge", size - 1, "x")
        before = peak_kilobytes(cache_bridge)
        heard: list[object] = []
        thread = threading.Thread(target=lambda: heard.append(other.get("huge")))
        thread.start()
        for _ in range(20):
            assert r.ping()
        thread.join()
        assert heard == [b"\0" * (size - 1) + b"x"]
        assert peak_kilobytes(cache_bridge) - before < 20_000
        r.delete("huge")


def test_logins_renew_by_moving_to_a_fresh_connection(cache_bridge: Bridge, caches: World) -> None:
    """Under redis-benchmark, with logins of five seconds: no client notices."""
    before = logins(caches)
    port = str(cache_bridge.ports["brief"])
    command = ["redis-benchmark", "-p", port, "-t", "get,set", "-P", "16", "-c", "8", "-n", "100000000", "-q"]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        started = time.monotonic()
        with client(cache_bridge, door="brief", retry=None) as r:
            connection = r.connection_pool.get_connection()
            number = 0
            while time.monotonic() - started < 15:
                number += 1
                connection.send_command("ECHO", str(number))
                assert connection.read_response() == str(number).encode()
        assert load.poll() is None, "redis-benchmark lost a connection"
    finally:
        load.kill()
        output = load.communicate()[0]
    assert b"rror" not in output, output[-300:]
    made = logins(caches) - before
    assert 3 <= made <= 12


def test_a_proxy_that_stops_leaves_no_connection_behind(cache_bridge: Bridge, caches: World) -> None:
    with client(cache_bridge) as r:
        r.ping()
    assert connections(caches), "kept for the next client"
    started = time.monotonic()
    assert cache_bridge.proxy.stop() == 0
    try:
        assert time.monotonic() - started < 15, "connections that nobody uses are not waited for"
        until(lambda: not connections(caches), "the server still has a connection")
    finally:
        cache_bridge.proxy.start()
    assert run("redis-cli", "-p", str(cache_bridge.ports["cache"]), "ping").stdout.strip() == "PONG"
