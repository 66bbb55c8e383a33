"""A bridge around one engine for its refusals: a door for every way in, and a database for everything that is wrong.

As `tests.e2e.arrangement` is for PostgreSQL, for any protocol that the sandbox has a database of.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, Policy, broker_trust_policy
from deploy.sandbox.bridge import APP_WORKLOAD, TRUST_DOMAIN, Bridge, Change
from deploy.sandbox.commands import free_port
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import World
from tests.e2e.arrangement import FOREIGN, HANDSHAKE_SECONDS, NARROW_CONNECTIONS, STRANGER
from tests.e2e.clients import PATIENCE_SECONDS
from tests.support.hostile_postgres import Behaviour, HostileServer
from tests.support.sockets import unheard

DOORS: Final = ("names", "brief", "narrow", "stranger", "foreign", "sealed")
LABELS: Final[dict[str, dict[str, str]]] = {
    "vault": {"env": "staging", "sealed": "yes"},
    "production": {"env": "prod"},
    "closed": {"env": "lab"},
}
EXAMPLE: Final = {"assume_role_arn": topology.EXAMPLE_ROLE_ARN, "external_id": topology.EXAMPLE_EXTERNAL_ID}
MISTAKES: Final[dict[str, dict[str, str]]] = {
    "wrong-external-id": {**EXAMPLE, "external_id": "not-the-agreed-one"},
    "no-external-id": {"assume_role_arn": topology.EXAMPLE_ROLE_ARN},
    "no-trust": {**EXAMPLE, "assume_role_arn": topology.NO_TRUST_ROLE_ARN},
    "unlisted-role": {**EXAMPLE, "assume_role_arn": topology.UNLISTED_ROLE_ARN},
    "no-connect": {**EXAMPLE, "assume_role_arn": topology.NO_CONNECT_ROLE_ARN},
}
TEST_ROLES: Final = ("throttled", "failing", "hanging", "expired", "recreated", "deleted", "narrowed")


def established(port: int) -> int:
    """Connections that a server socket of this machine still has open."""
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, state, inode = fields[1], fields[3], fields[9]
        count += int(here.split(":")[1], 16) == port and state != "0A" and inode != "0"
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is different from engine to engine."""

    database: topology.DatabaseSpec
    suffix: str
    """Of the hosts where hostile servers are said to be."""
    plain: Mapping[str, Behaviour]
    """Servers that never get far enough to be shown a credential."""
    verified: Mapping[str, Behaviour]
    """Servers whose certificate is right."""
    permissions: Policy | None = None
    """Of roles that may enter `database`, one for each of TEST_ROLES; None: none are needed."""
    listener: Mapping[str, Any] = field(default_factory=dict)
    """What every listener needs."""
    aws: Mapping[str, str] = field(default_factory=dict)
    """What the hosts do not say of themselves."""
    mark: str = ""
    """Between a hostile server's name and the suffix, where AWS's names have one."""
    series: str = ""
    """Keeps the roles of two tables about one protocol apart."""

    def host_of(self, name: str) -> str:
        """The endpoint AWS would show for a hostile server."""
        return f"{name}{self.mark}.{self.suffix}"

    def role(self, name: str) -> str:
        """A role of the example account that only one test uses."""
        return topology.TEST_ROLES_ARN.replace("test-*", f"test-{self.database.protocol}{self.series}-{name}")


@dataclass(slots=True)
class Table:
    """Broker, proxy, and servers that are not what they say."""

    world: World
    directory: Path
    kind: Kind
    servers: dict[str, HostileServer] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    bridge: Bridge = field(init=False)
    down: socket.socket = field(default_factory=unheard, repr=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ports = {f"t-{name}": free_port() for name in DOORS}
        if self.kind.permissions is not None:
            self._make_roles(self.kind.permissions)
        for name, behaviour in {**self.kind.plain, **self.kind.verified}.items():
            self.servers[name] = HostileServer(behaviour, self._server_context(name))
        place = self.directory / "bridge"
        self.bridge = Bridge(self.world, place, self._change_broker, self._change_proxy, ports=self.ports)

    def stop(self) -> None:
        """All of it."""
        self.bridge.down()
        self.down.close()
        for server in self.servers.values():
            server.stop()

    def port(self, door: str) -> int:
        """One of DOORS, or "plain": the listener of the database itself."""
        return self.bridge.ports[self.kind.database.name if door == "plain" else f"t-{door}"]

    def listener(self, door: str) -> str:
        """What audit lines call a door."""
        return self.kind.database.name if door == "plain" else f"t-{door}"

    def established(self, door: str) -> int:
        """Connections of a door that the kernel counts as the proxy's, half-closed ones included."""
        return established(self.port(door))

    def assert_empty(self, door: str, *, but: int = 0, seconds: float = PATIENCE_SECONDS) -> None:
        """Only `but` connections of a door are left in time."""
        deadline = time.monotonic() + seconds
        while (count := self.established(door)) > but:
            assert time.monotonic() < deadline, f"{count} connections are left"
            time.sleep(0.02)

    @contextlib.contextmanager
    def broker_away(self) -> Iterator[None]:
        """While the block lasts; behind it the proxy has found it again, whatever test comes next."""
        self.bridge.broker.stop()
        try:
            yield
        finally:
            self._wait_for_watch("0.0")  # or the broker that is back could be taken for the one that is gone
            self.bridge.broker.start()
            self._wait_for_watch("1.0")

    def _wait_for_watch(self, state: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while f"tollbridge_proxy_watch_up {state}" not in self.bridge.proxy.admin("/metrics")[1]:
            assert time.monotonic() < deadline, f"the proxy's watch of its broker does not come to be {state}"
            time.sleep(0.05)

    def _change_broker(self, document: dict[str, Any]) -> None:
        databases = document["db_service"]["databases"]
        example = next(entry for entry in databases if entry["name"] == self.kind.database.name)
        for name, aws in MISTAKES.items():
            databases.append({**example, "name": name, "aws": dict(aws)})
        for name in TEST_ROLES:
            databases.append({**example, "name": name, "aws": {**EXAMPLE, "assume_role_arn": self.kind.role(name)}})
        for name, labels in LABELS.items():
            databases.append({**example, "name": name, "static_labels": labels})
        for name in (*self.servers, "down"):
            uri = f"{self.kind.host_of(name)}:{self.kind.database.port}"
            aws = {**example["aws"], **self.kind.aws}
            databases.append({**example, "name": name, "uri": uri, "aws": aws})
        document["access"]["rules"].append(
            {
                "name": "nobody-in-sealed",
                "workloads": ["*"],
                "db_labels": {"sealed": ["yes"]},
                "db_users": ["*"],
                "deny": True,
            }
        )
        row = document["proxies"][0]
        row["workloads"] = [f"{TRUST_DOMAIN}/ns/shop/*", f"{TRUST_DOMAIN}/ns/lab/*"]
        row["db_labels"] = {"env": ["dev", "staging", "documents", "lab"]}

    def _change_proxy(self, document: dict[str, Any]) -> None:
        tls = document["listeners"][0]["tls"]
        brief = {"handshake_seconds": HANDSHAKE_SECONDS}

        def door(name: str, workload: str = APP_WORKLOAD, **more: Any) -> dict[str, Any]:
            address = f"127.0.0.1:{self.ports[f't-{name}']}"
            common = {"name": f"t-{name}", "protocol": self.kind.database.protocol, "address": address}
            return {**common, "workload": workload, "route": "login_name", **self.kind.listener, **more}

        document["listeners"] += [
            door("names", tls=tls),
            door("brief", tls=tls, limits=brief),
            door("narrow", limits={"max_connections": NARROW_CONNECTIONS}),
            door("stranger", STRANGER),
            door("foreign", FOREIGN),
            door("sealed", tls={**tls, "required": True}),
        ]
        for name, server in self.servers.items():
            document["dial"][self.kind.host_of(name)] = f"127.0.0.1:{server.port}"
        document["dial"][self.kind.host_of("down")] = f"127.0.0.1:{self.down.getsockname()[1]}"

    def _make_roles(self, permissions: Policy) -> None:
        accounts = Accounts(self.world.aws_endpoint)
        for name in TEST_ROLES:
            trust = broker_trust_policy(topology.EXAMPLE_EXTERNAL_ID)
            accounts.create_role(self.kind.role(name), trust=trust, permissions=permissions)

    def _server_context(self, name: str) -> ssl.SSLContext:
        authority = CertificateAuthority.load(Path(self.world.ca_cert_file), Path(self.world.ca_key_file))
        if name == "foreign-ca":
            authority = CertificateAuthority.create()
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        authority.issue(
            certificate,
            key,
            dns_names=[self.kind.host_of("another" if name == "wrong-name" else name)],
            lifetime=timedelta(hours=-1) if name == "expired-certificate" else timedelta(days=1),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


def leaving(database: topology.DatabaseSpec, **more: Any) -> Change:
    """A proxy whose loopback door leads to one database, and which does not wait long for its sessions to end."""

    def change(document: dict[str, Any]) -> None:
        where = {"protocol": database.protocol, "database": database.name}
        document["listeners"] = [{**document["listeners"][0], **where, **more}]
        document["drain"] = {"seconds": 0.5}

    return change


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One refusal."""

    name: str
    user: str
    code: str
    """As the protocol writes it: an ER number with its SQLSTATE, or the first word of a RESP error."""
    says: tuple[str, ...]
    """Words of the error, all of which must be there."""
    reason: str
    """In the proxy's audit line, and where `decided` in the broker's."""
    or_reason: str = ""
    """Another that is as right: a server that speaks first may be heard before or behind our ClientHello."""
    door: str = "names"
    decided: bool = False
    """The broker refused, and writes a line about it."""
