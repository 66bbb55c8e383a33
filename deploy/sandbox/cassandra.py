"""Apache Cassandra that takes logins as Amazon Keyspaces does: one node, TLS, the SigV4 exchange.

The server is the real one, from Maven Central, on the machine's Java; what is ours is its authenticator
(``keyspaces/KeyspacesAuthenticator.java``, compiled at start by the compiler that Cassandra brings),
which has each signature judged by the sandbox's AWS. Keyspaces' own limits are not there: Cassandra speaks CQL in full,
version 5 of the protocol too, and has no limit of queries a second.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from deploy.sandbox import commands, maven, processes, topology
from deploy.sandbox.errors import did_not_start
from deploy.sandbox.ground import Ground
from deploy.sandbox.world import Database

PORT_ATTEMPTS = 5
PEERS = 9
"""Neighbours each client is told of, as on a public endpoint of Keyspaces: 127.0.0.2 and up, where nobody listens."""
PASSWORD_USER = topology.CASSANDRA_PASSWORD_USERS[0]
PASSWORD = f"sandbox-{PASSWORD_USER}-password"

_HOME = Path(__file__).with_name("keyspaces")
_JARS = _HOME / "jars.txt"
_SOURCE = _HOME / "KeyspacesAuthenticator.java"
_AUTHENTICATOR = "tollbridge.sandbox.KeyspacesAuthenticator"

_EXPORTED = {
    "java.base": ("jdk.internal.misc", "jdk.internal.ref", "sun.nio.ch", "java.lang.ref"),
    "java.management.rmi": ("com.sun.jmx.remote.internal.rmi",),
    "java.rmi": ("sun.rmi.registry", "sun.rmi.server"),
    "java.sql": ("java.sql",),
    "jdk.unsupported": ("sun.misc",),
}
_OPENED = {
    "java.base": (
        "java.io",
        "java.lang",
        "java.lang.module",
        "java.lang.reflect",
        "java.math",
        "java.net",
        "java.nio",
        "java.util",
        "java.util.concurrent",
        "java.util.concurrent.atomic",
        "jdk.internal.loader",
        "jdk.internal.math",
        "jdk.internal.module",
        "jdk.internal.ref",
        "jdk.internal.reflect",
        "jdk.internal.util.jar",
        "sun.nio.ch",
    ),
    "jdk.management": ("com.sun.management.internal",),
}
"""What Cassandra 5 reaches for inside Java 17."""

_LOGBACK = """\
<configuration>
  <appender name="log" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5level %logger{20} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="log"/></root>
</configuration>
"""


def check() -> None:
    """Raises MissingEngine."""
    maven.java()
    maven.check()


def fetch(progress: Callable[[str], None]) -> list[Path]:
    """The jars, once. Raises MissingEngine."""
    return maven.fetch(maven.listed(_JARS), progress)


def launch(ground: Ground, specs: tuple[topology.DatabaseSpec, ...]) -> list[Database]:
    """One server for each endpoint."""
    jars = fetch(lambda _line: None)
    classes = ground.make_directory("keyspaces-classes")
    _compile(jars, classes)
    return [_launch(ground, spec, jars, classes) for spec in specs]


def _compile(jars: list[Path], classes: Path) -> None:
    """With Eclipse's compiler: a machine with Java need not have javac."""
    compiler = next(jar for jar in jars if jar.name.startswith("ecj-"))
    cassandra = next(jar for jar in jars if jar.name.startswith("cassandra-all-"))
    # Whatever only Cassandra's own signatures name is not on this class path: not needed, and reported.
    commands.run(
        maven.java(), "-jar", compiler, "-17", "-nowarn", "-proceedOnError", "-cp", cassandra, "-d", classes, _SOURCE
    )


def _launch(ground: Ground, spec: topology.DatabaseSpec, jars: list[Path], classes: Path) -> Database:
    home = ground.make_directory(spec.name)
    log_file = ground.logs / f"cassandra-{spec.name}.log"
    _write_certificate(home, spec, ground)
    (home / "logback.xml").write_text(_LOGBACK)
    for _ in range(PORT_ATTEMPTS):
        port = commands.free_port()
        settings = _settings(home, port=port, storage_port=commands.free_port())
        (home / "cassandra.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        process = processes.start(
            f"cassandra {spec.name}",
            [str(maven.java()), *_java_options(home, ground, spec, port), "-cp", ":".join(map(str, (classes, *jars))),
             "org.apache.cassandra.service.CassandraDaemon"],
            log_file=log_file,
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            stop_signal=signal.SIGKILL,  # nothing here is worth a clean shutdown
        )  # fmt: skip
        ground.ledger.add_process(process)
        if _wait_until_ready(process, log_file):
            return Database.of(
                spec,
                local_port=port,
                superuser_dsn=f"127.0.0.1 {port} --ssl -u {PASSWORD_USER} -p {PASSWORD}",
            )
        # Somebody may have taken a port between our asking for it and the server's bind.
        if "already in use" not in log_file.read_text(errors="replace").lower():
            break
    raise did_not_start(f"the database server {spec.name}", log_file)


def _write_certificate(home: Path, spec: topology.DatabaseSpec, ground: Ground) -> None:
    certificate, key = home / "server.crt", home / "server.key"
    ground.authority.issue(certificate, key, dns_names=[spec.host])
    both = home / "server.pem"
    both.touch(mode=0o600)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())


def _settings(home: Path, *, port: int, storage_port: int) -> dict[str, object]:
    """Small, and nothing shared with the machine but two ports."""
    return {
        "cluster_name": "Amazon Keyspaces",
        "num_tokens": 1,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "data_file_directories": [str(home / "data")],
        "commitlog_directory": str(home / "commitlog"),
        "saved_caches_directory": str(home / "caches"),
        "hints_directory": str(home / "hints"),
        "cdc_raw_directory": str(home / "cdc"),
        "commitlog_sync": "periodic",
        "commitlog_sync_period": "10s",
        "commitlog_segment_size": "8MiB",
        "commitlog_total_space": "64MiB",
        "memtable_heap_space": "64MiB",
        "memtable_offheap_space": "16MiB",
        "key_cache_size": "4MiB",
        "file_cache_size": "16MiB",
        "concurrent_reads": 8,
        "concurrent_writes": 8,
        "concurrent_counter_writes": 2,
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": f"127.0.0.1:{storage_port}"}],
            }
        ],
        "endpoint_snitch": "SimpleSnitch",
        "listen_address": "127.0.0.1",
        "storage_port": storage_port,
        "rpc_address": "127.0.0.1",
        "start_native_transport": True,
        "native_transport_port": port,
        "native_transport_max_auth_threads": 8,
        "authenticator": _AUTHENTICATOR,
        # Asks each client what it may do; ours have the answer with them.
        "authorizer": "CassandraAuthorizer",
        "client_encryption_options": {
            "enabled": True,
            "optional": False,
            "require_client_auth": False,
            "ssl_context_factory": {"class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory"},
            "keystore": str(home / "server.pem"),
        },
    }


def _java_options(home: Path, ground: Ground, spec: topology.DatabaseSpec, port: int) -> list[str]:
    properties = {
        "cassandra.config": f"file://{home / 'cassandra.yaml'}",
        "cassandra.storagedir": str(home),
        "logback.configurationFile": str(home / "logback.xml"),
        "java.io.tmpdir": str(home),
        "jdk.attach.allowAttachSelf": "true",
        # Or it closes its log when it has started.
        "cassandra-foreground": "yes",
        # One node waits for no other.
        "cassandra.ring_delay_ms": "1",
        "cassandra.skip_wait_for_gossip_to_settle": "0",
        "cassandra.superuser_setup_delay_ms": "0",
        # Nothing here outlives the process: no fsync for system tables.
        "cassandra.unsafesystem": "true",
        "sandbox.socket": str(ground.verify_socket),
        "sandbox.service": ground.service(spec),
        "sandbox.user": PASSWORD_USER,
        "sandbox.password": PASSWORD,
        "sandbox.peers": str(PEERS),
        "sandbox.port": str(port),
        "sandbox.seed": str(_HOME / "seed.cql"),
    }
    return [
        "-Xms128m",
        "-Xmx512m",
        "-XX:MaxDirectMemorySize=128m",
        "-XX:+UseSerialGC",
        # Half the time to start, on a machine with two cores.
        "-XX:TieredStopAtLevel=1",
        *(f"--add-exports={module}/{name}=ALL-UNNAMED" for module, names in _EXPORTED.items() for name in names),
        *(f"--add-opens={module}/{name}=ALL-UNNAMED" for module, names in _OPENED.items() for name in names),
        *(f"-D{name}={value}" for name, value in properties.items()),
    ]


def _wait_until_ready(process: processes.StartedProcess, log_file: Path) -> bool:
    deadline = time.monotonic() + processes.START_SECONDS
    while process.alive() and time.monotonic() < deadline:
        if "Startup complete" in log_file.read_text(errors="replace"):
            return True
        time.sleep(processes.POLL_SECONDS * 10)
    return False
