"""redis-benchmark against Valkey direct, through Envoy's redis_proxy and tcp_proxy, nutcracker and tollbridge."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from deploy.sandbox import Sandbox
from deploy.sandbox.bridge import Bridge, Change
from deploy.sandbox.commands import free_port
from deploy.sandbox.world import World
from tests.bench import envoy_venv
from tests.bench.contenders import Contender, program, proxy_pid, running
from tests.bench.report import Bench, Figures, Goal
from tests.bench.runner import Options, Plan, client, number, run

DATABASE = "cache"
MULTIPLEXED = "cache-multiplexed"
USER = "passworduser"
CLIENTS = (8, 50)
"""As many as with the other databases, and redis-benchmark's own default, which suits whoever merges clients."""
KEYS = 1000
CPU = "CPU us/request"
PEER, OPAQUE_PEER, PLAIN_PEER = "envoy", "envoy, opaque", "nutcracker"
NOTE = (
    f"{PEER} merges all clients into one connection to the server, as tollbridge does for one workload's where its "
    f"listener says `multiplex`; {PLAIN_PEER} merges too, and it has no TLS and no user "
    f"names: it speaks plain to Valkey's unix socket, as a user without a password; {OPAQUE_PEER} is its tcp_proxy, "
    "which keeps clients apart and looks at nothing they say: they log in themselves"
)
REQUESTS_PER_SECOND = {1: 15_000, 16: 120_000}
"""By pipeline depth: redis-benchmark wants a number of requests, and this makes of it about a length."""
GOALS = {1: 1.7, 16: 0.5}
"""By pipeline depth: CPU per request against Envoy's."""

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_REDIS_PROXY = f"{_EXTENSIONS}.filters.network.redis_proxy.v3"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisContender(Contender):
    """How redis-benchmark gets there."""

    options: tuple[str, ...] = field(repr=False)


def measure(directory: Path, options: Options) -> list[Bench]:
    """GET and SET, one request per round trip and 16."""
    port = free_port()
    with (
        Sandbox(directory / "sandbox", engine_names=("valkey",)) as world,
        Bridge(world, directory / "bridge", change_proxy=_also_multiplexed(port), ports={MULTIPLEXED: port}) as bridge,
        _envoy(world, directory) as envoy,
        _opaque_envoy(world, directory) as opaque,
        _nutcracker(world, directory) as nutcracker,
    ):
        contenders = [
            _direct(world),
            nutcracker,
            envoy,
            opaque,
            _tollbridge(bridge),
            _tollbridge(bridge, tls=True),
            _tollbridge(bridge, door=MULTIPLEXED),
        ]
        for contender in contenders:
            _check(contender)
        plans = [
            Plan(
                Bench(_title(command, depth, clients), note=NOTE, goals=[Goal(PEER, CPU, goal)]),
                contenders,
                partial(requests, command=command, depth=depth, clients=clients, seconds=options.seconds),
            )
            for clients in CLIENTS
            for depth, goal in GOALS.items()
            for command in ("get", "set")
        ]
        return run(plans, options)


def _check(contender: RedisContender) -> None:
    """redis-benchmark counts errors as answers: see that there are none. Raises RuntimeError."""
    output, _ = client(contender, program("redis-cli", "redis-tools"), *contender.options, "set", "checked", "yes")
    if output.strip() != "OK":
        raise RuntimeError(f"SET through {contender.name}: {output}")


def _title(command: str, depth: int, clients: int) -> str:
    return f"redis-benchmark {command.upper()} -P {depth}, {clients} clients"


def requests(contender: RedisContender, *, command: str, depth: int, clients: int, seconds: int) -> Figures:
    """So many requests of one kind: requests per second and CPU per request, without what the logins cost."""
    count = REQUESTS_PER_SECOND[depth] * seconds
    _, logins = _benchmark(contender, command, depth=1, clients=clients, count=clients)
    output, cpu_seconds = _benchmark(contender, command, depth=depth, clients=clients, count=count)
    return {
        "requests/s": number(rf'"{command.upper()}","([\d.]+)"', output),
        CPU: max(0.0, cpu_seconds - logins) / count * 1e6,
    }


def _benchmark(contender: RedisContender, command: str, *, depth: int, clients: int, count: int) -> tuple[str, float]:
    arguments = ["-t", command, "-P", str(depth), "-n", str(count), "-c", str(clients), "-r", str(KEYS), "--csv"]
    return client(contender, program("redis-benchmark", "redis-tools"), *contender.options, *arguments)


def _direct(world: World) -> RedisContender:
    port = str(world.database(DATABASE).local_port)
    return RedisContender(name="direct", options=("-p", port, *_login(world), "--tls", "--cacert", world.ca_cert_file))


def _login(world: World) -> tuple[str, ...]:
    return ("--user", USER, "-a", world.password_users[USER])


def _also_multiplexed(port: int) -> Change:
    """One more door to the same database, whose clients share a connection."""

    def change(document: dict[str, Any]) -> None:
        listeners = document["listeners"]
        own = next(row for row in listeners if row["name"] == DATABASE)
        listeners.append({**own, "name": MULTIPLEXED, "address": f"127.0.0.1:{port}", "redis": {"multiplex": True}})

    return change


def _tollbridge(bridge: Bridge, *, door: str = DATABASE, tls: bool = False) -> RedisContender:
    options = ["-p", str(bridge.ports[door])]
    if tls:
        options += ["--tls", "--cacert", bridge.file("mesh-ca.crt")]
    name = "tollbridge" + (", TLS" if tls else "") + (", multiplexed" if door == MULTIPLEXED else "")
    return RedisContender(name=name, options=tuple(options), pid=proxy_pid(bridge))


@contextlib.contextmanager
def _envoy(world: World, directory: Path) -> Iterator[RedisContender]:
    """One worker; TLS with the server's name verified, and a login by password."""
    login = {
        "@type": f"{_REDIS_PROXY}.RedisProtocolOptions",
        "auth_username": {"inline_string": USER},
        "auth_password": {"inline_string": world.password_users[USER]},
    }
    proxy = {
        "@type": f"{_REDIS_PROXY}.RedisProxy",
        "stat_prefix": "bench",
        "settings": {"op_timeout": "5s"},
        "prefix_routes": {"catch_all_route": {"cluster": DATABASE}},
    }
    cluster = _cluster(world) | {"typed_extension_protocol_options": {"envoy.filters.network.redis_proxy": login}}
    with _running_envoy(directory / "envoy", proxy, cluster) as (pid, port):
        yield RedisContender(name=PEER, options=("-p", str(port)), pid=pid)


@contextlib.contextmanager
def _opaque_envoy(world: World, directory: Path) -> Iterator[RedisContender]:
    """The same without Redis: what it costs to keep clients apart."""
    proxy = {
        "@type": f"{_EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bench",
        "cluster": DATABASE,
    }
    with _running_envoy(directory / "envoy-opaque", proxy, _cluster(world)) as (pid, port):
        yield RedisContender(name=OPAQUE_PEER, options=("-p", str(port), *_login(world)), pid=pid)


@contextlib.contextmanager
def _running_envoy(path: Path, proxy: dict[str, Any], cluster: dict[str, Any]) -> Iterator[tuple[int, int]]:
    port, settings = free_port(), path.with_suffix(".json")
    listener = {"address": _loopback(port), "filter_chains": [{"filters": [{"name": "bench", "typed_config": proxy}]}]}
    settings.touch(mode=0o600)
    settings.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    command = [str(envoy_venv.ensure()), "-c", str(settings), "--concurrency", "1", "-l", "warn"]
    with running([*command, "--disable-hot-restart"], port, path.with_suffix(".log")) as pid:
        yield pid, port


def _cluster(world: World) -> dict[str, Any]:
    database = world.database(DATABASE)
    tls = {
        "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": database.host,
        "common_tls_context": {
            "validation_context": {
                "trusted_ca": {"filename": world.ca_cert_file},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": database.host}}],
            }
        },
    }
    endpoint = {"endpoint": {"address": _loopback(database.local_port)}}
    return {
        "name": DATABASE,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": DATABASE, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }


def _loopback(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextlib.contextmanager
def _nutcracker(world: World, directory: Path) -> Iterator[RedisContender]:
    """It can only be the default user, who is off in the sandbox until now."""
    arguments = world.database(DATABASE).superuser_dsn.split()
    allow = ["acl", "setuser", "default", "on", "nopass", "~*", "+@all"]
    subprocess.run(
        [program("redis-cli", "redis-tools"), *arguments, *allow], check=True, capture_output=True, timeout=30
    )
    server = arguments[arguments.index("-s") + 1]
    port, settings = free_port(), directory / "nutcracker.yml"
    settings.write_text(
        f"bench:\n  listen: 127.0.0.1:{port}\n  redis: true\n  preconnect: true\n  servers:\n   - {server}:1 cache\n"
    )
    command = [program("nutcracker"), "-c", str(settings), "-a", "127.0.0.1", "-s", str(free_port()), "-v", "4"]
    with running(command, port, directory / "nutcracker.log") as pid:
        yield RedisContender(name=PLAIN_PEER, options=("-p", str(port)), pid=pid)
