"""The bridge most tests share: one door for every way in, and a database for everything that can be wrong."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, broker_trust_policy, rds_policy
from deploy.sandbox.bridge import APP_WORKLOAD, TRUST_DOMAIN, Bridge
from deploy.sandbox.commands import free_port
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import World
from tests.support import hostile_postgres as hostile
from tests.support.hostile_postgres import Behaviour, HostileServer
from tests.support.sockets import unheard

HANDSHAKE_SECONDS: Final = 2.0
"""Deadline of the doors called brief, where no login is due: on a busy machine that alone may take longer."""
GRACE_SECONDS: Final = 10.0
"""What may come on top of a deadline before the test says that it was not kept: a machine may be very busy."""
NARROW_CONNECTIONS: Final = 3
STRANGER: Final = f"{TRUST_DOMAIN}/ns/lab/sa/experiment"
"""A workload the proxy may speak for, and no rule allows."""
FOREIGN: Final = "spiffe://elsewhere.example/ns/shop/sa/checkout"
"""A workload the proxy may not speak for."""
SNI_NAMES: Final = {"rds-postgres.proxy.test": "rds-postgres", "analytics.proxy.test": "analytics"}

EXAMPLE: Final = {"assume_role_arn": topology.EXAMPLE_ROLE_ARN, "external_id": topology.EXAMPLE_EXTERNAL_ID}


def role(name: str) -> str:
    """A role of the example account that only one test uses."""
    return topology.TEST_ROLES_ARN.replace("test-*", f"test-table-{name}")


TEST_ROLES: Final = ("throttled", "failing", "slow", "hanging", "expired", "recreated", "deleted", "narrowed")
"""Roles of their own, each with a database of the same name that works until its test breaks it."""

MISTAKES: Final[dict[str, dict[str, str]]] = {
    "wrong-external-id": {**EXAMPLE, "external_id": "not-the-agreed-one"},
    "no-external-id": {"assume_role_arn": topology.EXAMPLE_ROLE_ARN},
    "no-trust": {**EXAMPLE, "assume_role_arn": topology.NO_TRUST_ROLE_ARN},
    "unlisted-role": {**EXAMPLE, "assume_role_arn": topology.UNLISTED_ROLE_ARN},
    "no-such-role": {**EXAMPLE, "assume_role_arn": role("never-made")},
    "no-connect": {**EXAMPLE, "assume_role_arn": topology.NO_CONNECT_ROLE_ARN},
}
"""An operator's mistakes: the `aws` blocks of databases that are otherwise rds-postgres."""

LABELS: Final[dict[str, dict[str, str]]] = {
    "vault": {"env": "dev", "sealed": "yes"},
    "production": {"env": "prod"},
    "closed": {"env": "lab"},
}
"""Databases with labels of their own: a deny rule, outside the proxy's row, no rule at all."""

PLAIN_SERVERS: Final[dict[str, Behaviour]] = {
    "declines-tls": hostile.declines_tls,
    "errs-before-tls": hostile.errs_before_tls,
    "smuggles-before-tls": hostile.smuggles_before_tls,
    "speaks-first": hostile.speaks_first,
    "garbage-at-once": hostile.garbage_at_once,
    "garbage-for-tls": hostile.garbage_for_tls,
    "closes-at-once": hostile.closes_at_once,
    "closes-in-tls": hostile.closes_in_tls,
    "says-nothing": hostile.says_nothing,
    "wrong-name": hostile.only_tls,
    "foreign-ca": hostile.only_tls,
    "expired-certificate": hostile.only_tls,
}
"""Servers that never get far enough to be shown a credential."""

VERIFIED_SERVERS: Final[dict[str, Behaviour]] = {
    "garbage-in-tls": hostile.garbage_in_tls,
    "oversized-message": hostile.oversized_message,
    "negative-length": hostile.negative_length,
    "asks-for-gssapi": hostile.asks_for_gssapi,
    "asks-twice": hostile.asks_twice,
    "closes-after-password": hostile.closes_after_password,
    "endless-greeting": hostile.endless_greeting,
    "half-closes": hostile.half_closes,
    "resets": hostile.resets,
    "drips": hostile.drips,
    "is-full": hostile.is_full,
    "is-starting": hostile.is_starting,
}
"""Servers whose certificate is right."""


def host_of(name: str) -> str:
    """The endpoint AWS would show for a hostile server."""
    return f"{name}.abcdef012345.us-west-1.rds.amazonaws.com"


@dataclass(slots=True)
class Arrangement:
    """Configuration, servers and certificates around one bridge."""

    world: World
    directory: Path
    servers: dict[str, HostileServer] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    down: socket.socket = field(default_factory=unheard, repr=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        for name in ("names", "brief", "narrow", "sni", "plain", "stranger", "foreign"):
            self.ports[name] = free_port()
        self._make_roles()
        for name, behaviour in {**PLAIN_SERVERS, **VERIFIED_SERVERS}.items():
            self.servers[name] = HostileServer(behaviour, self._server_context(name))

    @property
    def socket_directory(self) -> Path:
        """Where libpq looks for the unix socket of "port" 5432."""
        return self.directory

    @property
    def socket_file(self) -> Path:
        """The unix socket."""
        return self.socket_directory / ".s.PGSQL.5432"

    def bridge(self) -> Bridge:
        """The bridge, not started."""
        bridge = Bridge(self.world, self.directory / "bridge", self.change_broker, self.change_proxy, ports=self.ports)
        authority = bridge.authority
        authority.issue(
            Path(bridge.file("sni.crt")),
            Path(bridge.file("sni.key")),
            spiffe_ids=[f"{TRUST_DOMAIN}/ns/tollbridge/sa/proxy"],
            dns_names=[*SNI_NAMES, "nowhere.proxy.test"],
        )
        bridge.issue("stranger", STRANGER)
        bridge.issue("foreigner", FOREIGN)
        for name, identities in (("two-uris", [APP_WORKLOAD, STRANGER]), ("no-uri", [])):
            authority.issue(
                Path(bridge.file(f"{name}.crt")),
                Path(bridge.file(f"{name}.key")),
                spiffe_ids=identities,
                dns_names=["checkout.shop.test"],
                common_name=APP_WORKLOAD[:60],
            )
        impostor = CertificateAuthority.create("somebody else's CA")
        impostor.issue(Path(bridge.file("impostor.crt")), Path(bridge.file("impostor.key")), spiffe_ids=[APP_WORKLOAD])
        authority.issue(
            Path(bridge.file("late.crt")),
            Path(bridge.file("late.key")),
            spiffe_ids=[APP_WORKLOAD],
            lifetime=timedelta(hours=-1),
        )
        return bridge

    def stop(self) -> None:
        """The servers; the bridge is its owner's."""
        self.down.close()
        for server in self.servers.values():
            server.stop()

    def change_broker(self, document: dict[str, Any]) -> None:
        """More databases, a rule that denies, rows and rules narrower than everything."""
        databases = document["db_service"]["databases"]
        example = next(entry for entry in databases if entry["name"] == "rds-postgres")
        for name, aws in MISTAKES.items():
            databases.append({**example, "name": name, "aws": dict(aws)})
        for name in TEST_ROLES:
            databases.append({**example, "name": name, "aws": {**EXAMPLE, "assume_role_arn": role(name)}})
        for name, labels in LABELS.items():
            databases.append({**example, "name": name, "static_labels": labels})
        for name in (*self.servers, "down"):
            databases.append({**example, "name": name, "uri": f"{host_of(name)}:5432"})
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
        row["db_labels"] = {"env": ["dev", "lab"]}

    def change_proxy(self, document: dict[str, Any]) -> None:
        """More doors, and where the hostile servers really are."""
        proxy_tls = document["listeners"][0]["tls"]
        sni_tls = {
            "cert_file": proxy_tls["cert_file"].replace("proxy.crt", "sni.crt"),
            "key_file": proxy_tls["key_file"].replace("proxy.key", "sni.key"),
        }

        def door(name: str, workload: str = APP_WORKLOAD, **more: Any) -> dict[str, Any]:
            address = f"127.0.0.1:{self.ports[name]}" if name in self.ports else f"unix:{self.socket_file}"
            return {"name": name, "protocol": "postgres", "address": address, "workload": workload, **more}

        by_name = {"route": "login_name"}
        fixed = {"database": "rds-postgres"}
        document["listeners"] += [
            door("names", tls=proxy_tls, **by_name),
            door("brief", tls=proxy_tls, limits={"handshake_seconds": HANDSHAKE_SECONDS}, **by_name),
            door("narrow", limits={"max_connections": NARROW_CONNECTIONS}, **fixed),
            door("sni", tls=sni_tls, sni=SNI_NAMES),
            door("plain", **fixed),
            door("stranger", STRANGER, **by_name),
            door("foreign", FOREIGN, **by_name),
            door("unix", db_user="app", **fixed),
        ]
        for name, server in self.servers.items():
            document["dial"][host_of(name)] = f"127.0.0.1:{server.port}"
        document["dial"][host_of("down")] = f"127.0.0.1:{self.down.getsockname()[1]}"

    def _make_roles(self) -> None:
        accounts = Accounts(self.world.aws_endpoint)
        for name in TEST_ROLES:
            accounts.create_role(
                role(name),
                trust=broker_trust_policy(topology.EXAMPLE_EXTERNAL_ID),
                permissions=rds_policy(topology.RDS_POSTGRES),
            )

    def _server_context(self, name: str) -> ssl.SSLContext:
        authority = CertificateAuthority.load(Path(self.world.ca_cert_file), Path(self.world.ca_key_file))
        if name == "foreign-ca":
            authority = CertificateAuthority.create()
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        authority.issue(
            certificate,
            key,
            dns_names=[host_of("another" if name == "wrong-name" else name)],
            lifetime=timedelta(hours=-1) if name == "expired-certificate" else timedelta(days=1),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context
