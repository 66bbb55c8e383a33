"""A MariaDB that checks tokens, a bridge in front of it, and every way in that the MySQL tests use."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import mysql.connector
import pymysql
from mysql.connector.abstracts import MySQLConnectionAbstract

from deploy.sandbox import topology
from deploy.sandbox.bridge import APP_WORKLOAD, Bridge, Document
from deploy.sandbox.commands import free_port
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import World
from tests.e2e.clients import run
from tests.support.hostile_mysql import HOSTILE, plain_context
from tests.support.hostile_postgres import HostileServer

DATABASE: Final = topology.RDS_MARIADB.name
DOORS: Final = ("names", "known", "mtls-names", "files", "plain")
GREETS_AS: Final = "5.5.5-10.6.0-MariaDB-registered"
"""Of the right family: drivers choose SQL by it, and a MariaDB that is called MySQL 8 lacks collations."""


def host_of(name: str) -> str:
    """The endpoint AWS would show for a hostile server."""
    return f"{name}.abcdef012345.us-west-1.rds.amazonaws.com"


@dataclass(slots=True)
class MysqlBridge:
    """Broker, proxy, MariaDB, and servers that are none."""

    world: World
    directory: Path
    servers: dict[str, HostileServer] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    bridge: Bridge = field(init=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ports = {f"my-{name}": free_port() for name in DOORS}
        for name, behaviour in HOSTILE.items():
            self.servers[name] = HostileServer(behaviour, self._certificate(name))
        self.bridge = Bridge(
            self.world, self.directory / "bridge", self._change_broker, self.change_proxy, ports=self.ports
        )

    def stop(self) -> None:
        """All of it."""
        self.bridge.down()
        for server in self.servers.values():
            server.stop()

    def port(self, door: str) -> int:
        """`door` is a database with a listener of its own, or one of DOORS."""
        return self.bridge.ports[door if door == DATABASE else f"my-{door}"]

    @property
    def ca(self) -> str:
        """Who signs the proxy's certificate."""
        return self.bridge.file("mesh-ca.crt")

    def pymysql(self, side: str = "plain", door: str = DATABASE, **more: Any) -> pymysql.Connection[Any]:
        """Without a password."""
        tls: dict[str, Any] = {"ssl_ca": self.ca, "ssl_verify_cert": True, "ssl_verify_identity": True}
        options = {"user": "app", "database": "app", **(tls if side == "tls" else {"ssl_disabled": True})}
        return pymysql.connect(host="localhost", port=self.port(door), **(options | more))

    def connector(self, side: str = "plain", door: str = DATABASE, **more: Any) -> MySQLConnectionAbstract:
        """Oracle's own, in Python."""
        tls: dict[str, Any] = {"ssl_ca": self.ca, "ssl_verify_cert": True, "ssl_verify_identity": True}
        options = {"user": "app", "database": "app", **(tls if side == "tls" else {"ssl_disabled": True})}
        connection = mysql.connector.connect(host="localhost", port=self.port(door), use_pure=True, **(options | more))
        assert isinstance(connection, MySQLConnectionAbstract)
        return connection

    def mariadb(
        self, statements: str, side: str = "plain", door: str = DATABASE, *options: str, user: str = "app"
    ) -> subprocess.CompletedProcess[str]:
        """The command line."""
        tls = ["--ssl", f"--ssl-ca={self.ca}", "--ssl-verify-server-cert"] if side == "tls" else ["--skip-ssl"]
        where = ["--protocol=tcp", "-h", "localhost", "-P", str(self.port(door)), "-u", user]
        return run("mariadb", "--no-defaults", *where, *tls, "-N", "-B", *options, "-e", statements, "app")

    def root(self, statement: str) -> list[list[str]]:
        """From behind, as the server's own root."""
        options = self.world.database(DATABASE).superuser_dsn.split()
        answer = run("mariadb", "--no-defaults", *options, "-N", "-B", "-e", statement)
        assert answer.returncode == 0, answer.stderr
        return [line.split("\t") for line in answer.stdout.splitlines()]

    def status(self, name: str) -> int:
        """One of the server's counters."""
        return int(self.root(f"show global status like '{name}'")[0][1])

    def change_proxy(self, document: Document) -> None:
        """More doors."""
        tls = next(row["tls"] for row in document["listeners"] if row["name"] == DATABASE)
        mtls = next(row["tls"] for row in document["listeners"] if row["name"] == "mtls")

        def door(name: str, **more: Any) -> Document:
            address = f"127.0.0.1:{self.ports[f'my-{name}']}"
            return {"name": f"my-{name}", "protocol": "mysql", "address": address, **more}

        mine, version = {"workload": APP_WORKLOAD}, {"mysql": {"server_version": GREETS_AS}}
        document["listeners"] += [
            door("names", tls=tls, route="login_name", **mine, **version),
            door("known", database=DATABASE, **mine, **version),
            door("mtls-names", tls=mtls, route="login_name", **version),
            door("files", database=DATABASE, mysql={"local_infile": True}, **mine),
            door("plain", database=DATABASE, **mine),
        ]
        for name, server in self.servers.items():
            document["dial"][f"{host_of(name)}:3306"] = f"127.0.0.1:{server.port}"

    def _change_broker(self, document: Document) -> None:
        databases = document["db_service"]["databases"]
        example = next(entry for entry in databases if entry["name"] == DATABASE)
        for name in self.servers:
            databases.append({**example, "name": name, "uri": f"{host_of(name)}:3306"})

    def _certificate(self, name: str) -> Any:
        authority = CertificateAuthority.load(Path(self.world.ca_cert_file), Path(self.world.ca_key_file))
        if name == "foreign-ca":
            authority = CertificateAuthority.create()
        files = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        authority.issue(*files, dns_names=[host_of("another" if name == "wrong-name" else name)])
        return plain_context(*(str(file) for file in files))


def rows(connection: pymysql.Connection[Any], statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """All of a statement's."""
    with connection.cursor() as cursor:
        cursor.execute(statement, tuple(values) or None)
        return list(cursor.fetchall())


def version_of(connection: Any) -> str:
    """What PyMySQL was greeted with."""
    return str(connection.server_version)
