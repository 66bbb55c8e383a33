"""wrk against a DynamoDB stub direct, through Envoy's aws_request_signing and through tollbridge; and large answers.

The stub is nginx with AWS's name and TLS: it answers every call at once, so that what is measured is who stands before
it. It checks no signature; that both sign is seen once, before anything is measured.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from deploy.sandbox import Sandbox, topology
from deploy.sandbox.bridge import Bridge, Change
from deploy.sandbox.commands import free_port
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import World
from tests.bench import envoy_venv
from tests.bench.contenders import Contender, program, proxy_pid, running
from tests.bench.report import Bench, Figures, Goal
from tests.bench.runner import Options, Plan, client, number, run

DATABASE, LARGE = "tables", "large-answers"
USER = "role/DatabaseUserRole"
LARGE_HOST = "search-large-abcdefghijklmnopqrstuvwxyz.us-west-1.es.amazonaws.com"
CONNECTIONS = 16
LARGE_BYTES = 100_000_000
PEER = "envoy"
CPU, P99, SECONDS, LARGE_CPU = "CPU us/request", "p99 ms", "s/100 MB", "CPU ms/100 MB"
NOTE = "plain to wrk, TLS to the stub; each of the two in between has one thread"

_REQUEST = '{"TableName":"orders","Key":{"id":{"S":"0123456789"}},"ConsistentRead":true}'
_ANSWER = (
    '{"Item":{"id":{"S":"0123456789"},"state":{"S":"paid"},"total":{"N":"4711"},"note":{"S":"a row like others"}}}'
)
_WRK = f"""\
wrk.method = "POST"
wrk.body = '{_REQUEST}'
wrk.headers["Content-Type"] = "application/x-amz-json-1.0"
wrk.headers["X-Amz-Target"] = "DynamoDB_20120810.GetItem"
wrk.headers["X-Amz-Date"] = "20260115T120000Z"
wrk.headers["Authorization"] = "AWS4-HMAC-SHA256 Credential={USER}/20260115/us-west-1/dynamodb/aws4_request, " ..
    "SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={"0" * 64}"
"""
_STUB = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {directory}/stub.crt;
    ssl_certificate_key {directory}/stub.key;
    location / {{
      default_type application/x-amz-json-1.0;
      add_header x-seen-authorization $http_authorization;
      add_header x-amzn-requestid 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEF;
      return 200 '{answer}';
    }}
    location = /large {{ root {directory}; default_type application/json; }}
  }}
}}
"""
_EXTENSIONS = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpContender(Contender):
    """Where wrk and curl get in."""

    url: str
    large_url: str
    script: str = field(repr=False)
    ca_file: str = ""


def measure(directory: Path, options: Options) -> list[Bench]:
    """Small calls over 16 connections, then one answer of 100 MB at a time."""
    script = directory / "get-item.lua"
    script.write_text(_WRK)
    large = free_port()
    with (
        Sandbox(directory / "sandbox", engine_names=("dynamodb",)) as world,
        _stub(world, directory) as port,
        Bridge(world, directory / "bridge", _with_large, _to_the_stub(port, large), ports={LARGE: large}) as bridge,
        _envoy(world, directory, port, str(script)) as envoy,
    ):
        database = world.database(DATABASE)
        ours = HttpContender(
            name="tollbridge",
            url=f"http://127.0.0.1:{bridge.ports[DATABASE]}/",
            large_url=f"http://127.0.0.1:{bridge.ports[LARGE]}/large",
            script=str(script),
            pid=proxy_pid(bridge),
        )
        straight = HttpContender(
            name="direct",
            url=f"https://127.0.0.1:{port}/",
            large_url=f"https://{database.host}:{port}/large",
            script=str(script),
            ca_file=world.ca_cert_file,
        )
        for contender in (envoy, ours):
            _check(contender)
        calls = Bench(
            f"wrk POST GetItem, {CONNECTIONS} connections",
            note=NOTE,
            goals=[Goal(PEER, CPU, 1 / 2.5), Goal(PEER, P99, 1.0)],
        )
        answers = Bench("GET of 100 MB", note=NOTE, goals=[Goal("direct", SECONDS, 1 / 0.8)])
        everybody = [straight, envoy, ours]
        plans = [
            Plan(calls, everybody, partial(requests, seconds=options.seconds)),
            Plan(answers, everybody, large_answers),
        ]
        return run(plans, options)


def requests(contender: HttpContender, *, seconds: int) -> Figures:
    """Calls for so long: how many, how late, what they cost."""
    arguments = ["-t", "1", "-c", str(CONNECTIONS), "--latency", "-s", contender.script]
    wrk = program("wrk")
    client(contender, wrk, *arguments, "-d", "1s", contender.url)  # connections, contexts, grants
    output, cpu_seconds = client(contender, wrk, *arguments, "-d", f"{seconds}s", contender.url)
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"errors through {contender.name}:\n{output}")
    count = number(r"(\d+) requests in", output)
    return {
        "requests/s": number(r"Requests/sec:\s+([\d.]+)", output),
        CPU: cpu_seconds / count * 1e6,
        P99: _milliseconds(output),
    }


def large_answers(contender: HttpContender) -> Figures:
    """One at a time, thrown away: the best of three is what it takes, the mean what it costs."""
    command = [program("curl"), "--silent", "--show-error", "--fail", "--output", "/dev/null"]
    if contender.ca_file:
        port = contender.large_url.split(":")[2].partition("/")[0]
        host = contender.large_url.split("/")[2].partition(":")[0]
        command += ["--cacert", contender.ca_file, "--resolve", f"{host}:{port}:127.0.0.1"]
    else:
        command += ["--aws-sigv4", "aws:amz:us-west-1:es", "--user", f"{USER}:any"]
    command += ["--write-out", "%{size_download}", contender.large_url]
    spent, took = [], []
    for _ in range(3):
        begun = time.perf_counter()
        output, cpu_seconds = client(contender, *command)
        took.append(time.perf_counter() - begun)
        spent.append(cpu_seconds)
        if int(output) != LARGE_BYTES:
            raise RuntimeError(f"{contender.name} answered {output} bytes")
    return {SECONDS: min(took), LARGE_CPU: sum(spent) / len(spent) * 1000}


def _milliseconds(output: str) -> float:
    """The 99th percentile; a line further up may end in 99% as well, the part of threads within one deviation."""
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0)):
        with contextlib.suppress(RuntimeError):
            return factor * number(rf"(?m)^\s+99%\s+([\d.]+){unit}$", output)
    raise RuntimeError(f"no 99th percentile in:\n{output}")


def _check(contender: HttpContender) -> None:
    """That it signs, and as nobody else: the stub takes anything. Raises RuntimeError."""
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.GetItem"}
    scope = "/20260115/us-west-1/dynamodb/aws4_request"
    dummy = f"AWS4-HMAC-SHA256 Credential={USER}{scope}, SignedHeaders=host, Signature={'0' * 64}"
    request = urllib.request.Request(  # noqa: S310 - http on loopback
        contender.url, data=_REQUEST.encode(), headers={**headers, "Authorization": dummy}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        seen = answer.headers["x-seen-authorization"] or ""
        if answer.read().decode() != _ANSWER or "Credential=ASIA" not in seen or "0" * 64 in seen:
            raise RuntimeError(f"{contender.name} does not sign: {seen[:80]}")


@contextlib.contextmanager
def _stub(world: World, directory: Path) -> Iterator[int]:
    """Its port."""
    place = directory / "stub"
    place.mkdir()
    authority = CertificateAuthority.load(Path(world.ca_cert_file), Path(world.ca_key_file))
    names = [world.database(DATABASE).host, LARGE_HOST]
    authority.issue(place / "stub.crt", place / "stub.key", dns_names=names)
    with (place / "large").open("wb") as large:
        large.write(b"0123456789" * (LARGE_BYTES // 10))
    port, settings = free_port(), place / "nginx.conf"
    settings.write_text(_STUB.format(directory=place, port=port, answer=_ANSWER))
    place.chmod(0o755)
    command = [program("nginx", "nginx-light"), "-p", str(place), "-c", str(settings), "-e", str(place / "early.log")]
    with running(command, port, directory / "nginx.log"):
        yield port
    shutil.rmtree(place, ignore_errors=True)


def _with_large(document: dict[str, Any]) -> None:
    """The broker's: one more domain, whose server is the stub."""
    databases = document["db_service"]["databases"]
    tables = next(entry for entry in databases if entry["name"] == DATABASE)
    databases.append({**tables, "name": LARGE, "protocol": "opensearch", "uri": f"{LARGE_HOST}:443"})


def _to_the_stub(port: int, large: int) -> Change:
    """The proxy's: AWS's names lead to the stub."""

    def change(document: dict[str, Any]) -> None:
        listeners = document["listeners"]
        mine = next(row for row in listeners if row["name"] == DATABASE)
        mine.pop("tls", None)
        other = {"name": LARGE, "protocol": "opensearch", "address": f"127.0.0.1:{large}", "database": LARGE}
        listeners.append({**mine, **other})
        host = topology.DYNAMODB.host
        document["dial"].update({f"{name}:443": f"127.0.0.1:{port}" for name in (host, LARGE_HOST)})

    return change


@contextlib.contextmanager
def _envoy(world: World, directory: Path, stub_port: int, script: str) -> Iterator[HttpContender]:
    """One worker; TLS with the server's name verified; keys of its own, inline."""
    port, settings = free_port(), directory / "envoy.json"
    settings.touch(mode=0o600)
    settings.write_text(json.dumps(_envoy_settings(world, port, stub_port)))
    command = [str(envoy_venv.ensure()), "-c", str(settings), "--concurrency", "1", "-l", "warn"]
    with running([*command, "--disable-hot-restart"], port, directory / "envoy.log") as pid:
        url = f"http://127.0.0.1:{port}/"
        yield HttpContender(name=PEER, url=url, large_url=f"{url}large", script=script, pid=pid)


def _envoy_settings(world: World, port: int, stub_port: int) -> dict[str, Any]:
    host = world.database(DATABASE).host
    tls = {
        "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": host,
        "common_tls_context": {
            "validation_context": {
                "trusted_ca": {"filename": world.ca_cert_file},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
            }
        },
    }
    credential = {
        "access_key_id": "ASIAIOSFODNN7EXAMPLE",
        "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "session_token": "IQoJb3JpZ2luX2VjE" + "F" * 1000,
    }
    signing = {
        "@type": f"{_EXTENSIONS}.filters.http.aws_request_signing.v3.AwsRequestSigning",
        "service_name": "dynamodb",
        "region": "us-west-1",
        "host_rewrite": host,
        "credential_provider": {"inline_credential": credential},
    }
    router = {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "stub", "timeout": "60s"}}
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.aws_request_signing", "typed_config": signing},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoint = {"endpoint": {"address": _loopback(stub_port)}}
    cluster = {
        "name": "stub",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "stub", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    listener = {"address": _loopback(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _loopback(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
