"""OpenSearch: the real server, from Maven Central, behind the door that checks signatures (``aws.search``) and TLS.

One server stands behind the domain and the serverless collection: what tells them apart is how a request must be
signed, and that a collection knows nothing of a cluster.
"""

import json
import os
import signal
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from deploy.sandbox import commands, front, maven, processes, topology
from deploy.sandbox.errors import did_not_start
from deploy.sandbox.ground import Ground
from deploy.sandbox.world import Database

SERVER = maven.Artifact(
    group="org.opensearch.distribution.integ-test-zip",
    name="opensearch",
    version="2.19.1",
    packaging="zip",
    sha256="af7152d8b7f6f1cee09d47276b32b70479fe6dd8cdbb61213f84eb7f8098b261",
)
HEAP = "768m"

_SETTINGS = """\
cluster.name: sandbox
node.name: sandbox
path.data: {directory}/data
path.logs: {directory}/logs
http.host: 127.0.0.1
http.port: {port}
transport.host: 127.0.0.1
transport.port: {transport_port}
discovery.type: single-node
node.store.allow_mmap: false
cluster.routing.allocation.disk.threshold_enabled: false
bootstrap.system_call_filter: false
"""
_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
# What its own start script gives the JVM, less what only long-lived servers need.
_JVM = (
    *(f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"),
    *("-Djava.security.manager=allow", "-Djava.locale.providers=SPI,COMPAT", "-Dfile.encoding=UTF-8"),
    *("-Dio.netty.noUnsafe=true", "-Dio.netty.noKeySetOptimization=true", "-Dio.netty.allocator.numDirectArenas=0"),
    *("-Dio.netty.recycler.maxCapacityPerThread=0", "-Dlog4j.shutdownHookEnabled=false", "-Dlog4j2.disable.jmx=true"),
    *("-Dopensearch.distribution.type=zip", "-Dopensearch.bundled_jdk=false"),
)


def check() -> None:
    """Raises MissingEngine."""
    front.check()
    maven.check()


def fetch(progress: Callable[[str], None]) -> list[Path]:
    """The server, once. Raises MissingEngine."""
    return maven.fetch([SERVER], progress)


def launch(ground: Ground, specs: tuple[topology.DatabaseSpec, ...]) -> list[Database]:
    """One server, and a port with TLS for each name."""
    directory = ground.make_directory("opensearch")
    port = _start(directory, ground)
    for spec in specs:
        port_file(ground.runtime, spec).write_text(str(port))
    doors = [front.Door(name=spec.name, dns_names=(spec.host,), behind=f"unix@{ground.http_socket}") for spec in specs]
    ports = front.start("opensearch", doors, ground)
    return [
        Database.of(spec, local_port=tls_port, superuser_dsn=f"http://127.0.0.1:{port}")
        for spec, tls_port in zip(specs, ports, strict=True)
    ]


def port_file(runtime: Path, spec: topology.DatabaseSpec) -> Path:
    """Where the door reads which port the server took."""
    return runtime / f"{spec.name}.port"


def _start(directory: Path, ground: Ground) -> int:
    """Its port on loopback, plain and open: only the sandbox knows it."""
    home = _installed(ground)
    port, log_file = commands.free_port(), ground.logs / "opensearch.log"
    settings = directory / "config"
    settings.mkdir()
    (settings / "opensearch.yml").write_text(
        _SETTINGS.format(directory=directory, port=port, transport_port=commands.free_port())
    )
    (settings / "log4j2.properties").write_text(_LOGGING)
    (settings / "jvm.options").touch()
    commands.give(directory, ground.quarters.uid, ground.quarters.gid)
    process = processes.start(
        "opensearch",
        (
            *ground.quarters.run_as,
            *(str(maven.java()), *_JVM, f"-Djava.io.tmpdir={directory}"),
            *(f"-Dopensearch.path.home={home}", f"-Dopensearch.path.conf={settings}"),
            *("-cp", f"{home}/lib/*", "org.opensearch.bootstrap.OpenSearch"),
        ),
        log_file=log_file,
        environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": str(directory)},
        stop_signal=signal.SIGKILL,  # nothing here is worth a clean shutdown
    )
    ground.ledger.add_process(process)
    deadline = time.monotonic() + processes.START_SECONDS
    while process.alive() and time.monotonic() < deadline:
        if _healthy(port):
            return port
        time.sleep(10 * processes.POLL_SECONDS)
    raise did_not_start("OpenSearch", log_file)


def _installed(ground: Ground) -> Path:
    """Unpacked where the servers' user can read it: a checkout may lie in somebody's private home."""
    (archive,) = fetch(lambda _line: None)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(ground.runtime)
    home = ground.runtime / f"opensearch-{SERVER.version}"
    commands.run("chmod", "-R", "a+rX", home)
    return home


def _healthy(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/_cluster/health", timeout=5) as answer:
            return json.load(answer)["status"] in ("green", "yellow")
    except (OSError, ValueError, urllib.error.HTTPError):
        return False
