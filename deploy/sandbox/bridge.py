"""A broker and a proxy in front of a sandbox: real processes and certificates, configured as an operator would.

Bridge(world, directory).up()      starts both and waits until they are ready
bridge.broker / bridge.proxy       the processes: stop, kill, start again, read their logs and pages
bridge.ports                       where clients connect
bridge.audit("broker")             the audit lines so far
bridge.add_proxy(NAME, IDENTITY)   one more proxy
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from deploy.sandbox.commands import free_port
from deploy.sandbox.daemon import Daemon
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import Database, World
from proxy.engines import PROTOCOLS

TRUST_DOMAIN = "spiffe://example.org"
BROKER_ID = f"{TRUST_DOMAIN}/ns/tollbridge/sa/broker"
PROXY_ID = f"{TRUST_DOMAIN}/ns/tollbridge/sa/proxy"
OPERATOR = f"{TRUST_DOMAIN}/ns/ops/sa/operator"
"""Who may view, register and apply: the certificate operator.crt."""
APP_WORKLOAD = f"{TRUST_DOMAIN}/ns/shop/sa/checkout"
"""The workload that the loopback listener speaks for, and of the client certificate."""

OTHER_DB_USERS = ("app", "readonly", "role/DatabaseUserRole", "role/PowerlessUserRole", "role/ReaderRole")
"""Who gets into the databases that are not PostgreSQL on RDS."""

Document = dict[str, Any]
"""A configuration before it is written as YAML."""
Change = Callable[[Document], None]


def unchanged(_document: Document) -> None:
    """The change that is none."""


OTHER_LABEL = "staging"
"""``env`` of databases other than PostgreSQL on RDS: rules for them hold no db_names, which most cannot show."""
NAMED_LABEL = "documents"
"""``env`` of those whose every message shows a db_name: the rule for them holds db_names."""
MONGODB_USER = "role/DatabaseUserRole"
"""Who a MongoDB client is: it may say nothing of itself."""


def spoken(world: World) -> dict[str, str]:
    """Name -> protocol of the databases beside the usual ones that this tree's proxy can speak to."""
    return {
        database.name: database.protocol
        for database in world.databases
        if not _is_usual(database) and database.protocol in PROTOCOLS
    }


def _has_public_ca(database: Database) -> bool:
    """Signed by a CA of the system's store on AWS, for which no trust file of the proxy stands."""
    return database.protocol in ("redis", "dynamodb", "opensearch", "cassandra") or database.product in (
        "rdsproxy",
        "dsql",
    )


def _label(database: Database) -> str:
    if _is_usual(database):
        return "dev"
    return NAMED_LABEL if database.protocol == "mongodb" else OTHER_LABEL


def _is_usual(database: Database) -> bool:
    return (database.protocol, database.product) == ("postgres", "rds")


@dataclass(slots=True)
class Bridge:
    """The system under test, or on show."""

    world: World
    directory: Path
    change_broker: Change = unchanged
    """Edits the broker's configuration before it is written."""
    change_proxy: Change = unchanged
    """Edits the proxy's configuration before it is written."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the broker's environment, over what the sandbox says."""
    ports: dict[str, int] = field(default_factory=dict)
    """broker, broker_admin, proxy_admin, and one for each listener's name: app and mtls, and one named after each
    database of ``spoken``."""
    broker: Daemon = field(init=False)
    proxy: Daemon = field(init=False)
    proxies: dict[str, Daemon] = field(init=False, default_factory=dict)
    """All of them by name; `proxy` is the one that is always there."""

    def __post_init__(self) -> None:
        (self.directory / "spool").mkdir(parents=True, exist_ok=True)
        for name in ("broker", "broker_admin"):
            self.ports.setdefault(name, free_port())
        self.issue("broker", BROKER_ID, "localhost")
        self.issue("client", APP_WORKLOAD)
        self.issue("operator", OPERATOR)
        self.write_broker_config()
        self.broker = self._daemon("broker", "broker", {**self.world.environment(), **self.environment})
        self.proxy = self._make_proxy("proxy", PROXY_ID, self.change_proxy, self._own_ports())

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Start broker and proxy and wait for both. Raises SandboxError."""
        self.broker.start()
        self.proxy.start()

    def down(self) -> None:
        """Stop all."""
        for daemon in (*self.proxies.values(), self.broker):
            with contextlib.suppress(ProcessLookupError):
                daemon.stop()

    def file(self, name: str) -> str:
        """Path of a file of this bridge, as configuration wants it."""
        return str(self.directory / name)

    def audit(self, daemon: str) -> list[Document]:
        """Audit lines that a daemon has written so far; the last one may be half there, and is left out then."""
        file = self.directory / f"{daemon}-audit.jsonl"
        text = file.read_text() if file.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def add_proxy(self, name: str, spiffe_id: str, change: Change = unchanged) -> Daemon:
        """One more proxy with an identity of its own, not started. Its ports are NAME_app, NAME_mtls, NAME_admin."""
        return self._make_proxy(name, spiffe_id, change, {"app": f"{name}_app", "mtls": f"{name}_mtls"})

    def _own_ports(self) -> dict[str, str]:
        return {name: name for name in ("app", "mtls", *spoken(self.world))}

    def _make_proxy(self, name: str, spiffe_id: str, change: Change, ports: Mapping[str, str]) -> Daemon:
        for port in (*ports.values(), f"{name}_admin"):
            self.ports.setdefault(port, free_port())
        self.issue(name, spiffe_id, "localhost")
        self._write(f"{name}.yaml", self._proxy_document(name, ports), change)
        daemon = self.proxies[name] = self._daemon(name, "proxy", {})  # no AWS secret, not even by accident
        return daemon

    def _daemon(self, name: str, package: str, environment: Mapping[str, str]) -> Daemon:
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PG"))}
        return Daemon(
            name=name,
            command=[sys.executable, "-m", package, "serve", "--config", self.file(f"{name}.yaml")],
            environment={**plain, **environment},
            admin_port=self.ports[f"{name}_admin"],
            log_file=self.directory / f"{name}.log",
        )

    @property
    def authority(self) -> CertificateAuthority:
        """The CA of broker, proxies and clients; made on first use. The databases' own CA is the sandbox's."""
        certificate, key = self.directory / "mesh-ca.crt", self.directory / "mesh-ca.key"
        if not key.exists():
            CertificateAuthority.create("tollbridge mesh CA").save(certificate, key)
        return CertificateAuthority.load(certificate, key)

    def issue_certificates(self) -> None:
        """New certificates for broker, proxy and the client: a rotation."""
        self.issue("broker", BROKER_ID, "localhost")
        self.issue("proxy", PROXY_ID, "localhost")
        self.issue("client", APP_WORKLOAD)

    def issue(self, name: str, spiffe_id: str, *dns_names: str) -> None:
        """NAME.crt and NAME.key in this bridge's directory."""
        self.authority.issue(
            self.directory / f"{name}.crt",
            self.directory / f"{name}.key",
            spiffe_ids=[spiffe_id],
            dns_names=dns_names,
            ip_addresses=["127.0.0.1"] if dns_names else [],
        )

    def write_broker_config(self) -> None:
        """broker.yaml: the page's static database and one in each other account, rules, and the proxy's row."""
        document: Document = {
            "aws": {"region": self.world.region},
            # The sandbox's databases have the labels that tests give them.
            "discovery": {"fetch_metadata": False},
            "db_service": {
                "enabled": True,
                "databases": [
                    {
                        "name": database.name,
                        "protocol": database.protocol,
                        "uri": database.endpoint,
                        "static_labels": {"env": _label(database)},
                        "aws": {"assume_role_arn": database.role_arn, "external_id": database.external_id}
                        if database.role_arn
                        else {"account_id": database.account_id},
                        **({"tls": {"ca_cert_file": self.world.ca_cert_file}} if _has_public_ca(database) else {}),
                    }
                    for database in self.world.databases
                    if _is_usual(database) or database.name in spoken(self.world)
                ],
            },
            "access": {
                "rules": [
                    {
                        "name": "shop-in-dev",
                        "workloads": [f"{TRUST_DOMAIN}/ns/shop/*"],
                        "db_labels": {"env": ["dev"]},
                        "db_users": ["app", "readonly"],
                        "db_names": ["app", "postgres"],
                    }
                ]
            },
            "proxies": [
                {
                    "caller": PROXY_ID,
                    "workloads": [f"{TRUST_DOMAIN}/ns/shop/*"],
                    "db_labels": {"env": ["dev"]},
                }
            ],
            "operators": [{"caller": OPERATOR, "may": ["view", "register", "apply"]}],
            "listeners": [
                {
                    "address": f"127.0.0.1:{self.ports['broker']}",
                    "tls": {
                        "cert_file": self.file("broker.crt"),
                        "key_file": self.file("broker.key"),
                        "client_ca_file": self.file("mesh-ca.crt"),
                    },
                }
            ],
            "admin": {"address": f"127.0.0.1:{self.ports['broker_admin']}"},
            "audit": {"file": self.file("broker-audit.jsonl")},
        }
        if spoken(self.world):
            others = {"db_labels": {"env": [OTHER_LABEL]}, "db_users": list(OTHER_DB_USERS)}
            document["access"]["rules"].append(
                {"name": "shop-in-staging", "workloads": [f"{TRUST_DOMAIN}/ns/shop/*"], **others}
            )
            named = {"db_labels": {"env": [NAMED_LABEL]}, "db_users": list(OTHER_DB_USERS), "db_names": ["app"]}
            document["access"]["rules"].append(
                {"name": "shop-in-documents", "workloads": [f"{TRUST_DOMAIN}/ns/shop/*"], **named}
            )
            document["proxies"][0]["db_labels"]["env"] += [OTHER_LABEL, NAMED_LABEL]
        self._write("broker.yaml", document, self.change_broker)

    def write_proxy_config(self) -> None:
        """proxy.yaml again, after `change_proxy` or a port has changed."""
        self._write("proxy.yaml", self._proxy_document("proxy", self._own_ports()), self.change_proxy)

    def _proxy_document(self, name: str, ports: Mapping[str, str]) -> Document:
        """A loopback listener for one workload, and an mTLS one routed by login name."""
        files = {"cert_file": self.file(f"{name}.crt"), "key_file": self.file(f"{name}.key")}
        return {
            "broker": {
                "address": f"localhost:{self.ports['broker']}",
                "tls": {**files, "ca_file": self.file("mesh-ca.crt")},
            },
            "listeners": [
                {
                    "name": "app",
                    "protocol": "postgres",
                    "address": f"127.0.0.1:{self.ports[ports['app']]}",
                    "tls": {**files, "required": False},
                    "workload": APP_WORKLOAD,
                    "database": "rds-postgres",
                },
                {
                    "name": "mtls",
                    "protocol": "postgres",
                    "address": f"127.0.0.1:{self.ports[ports['mtls']]}",
                    "tls": {**files, "client_ca_file": self.file("mesh-ca.crt")},
                    "route": "login_name",
                },
                *(
                    {
                        "name": database,
                        "protocol": protocol,
                        "address": f"127.0.0.1:{self.ports[ports[database]]}",
                        "tls": {**files, "required": False},
                        "workload": APP_WORKLOAD,
                        "database": database,
                        # These clients may say nothing of themselves.
                        **({"db_user": "app"} if protocol == "redis" else {}),
                        **({"http": {"spool_dir": self.file("spool")}} if protocol == "opensearch" else {}),
                        **({"db_user": MONGODB_USER} if protocol == "mongodb" else {}),
                    }
                    for database, protocol in spoken(self.world).items()
                    if database in ports
                ),
            ],
            # The sandbox's databases listen on this machine and prove their real names with the sandbox's CA.
            "dial": self.world.dial,
            "trust": {"aws_rds": self.world.ca_cert_file, "aws_redshift": self.world.ca_cert_file},
            "admin": {"address": f"127.0.0.1:{self.ports[f'{name}_admin']}"},
            "audit": {"file": self.file(f"{name}-audit.jsonl")},
        }

    def _write(self, name: str, document: Document, change: Change) -> None:
        document = copy.deepcopy(document)
        change(document)
        (self.directory / name).write_text(yaml.safe_dump(document, sort_keys=False))
