"""Two brokers on one table and two proxies; what an operator does to them; how long until a client notices."""

from __future__ import annotations

import copy
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
import yaml

from deploy.sandbox import topology
from deploy.sandbox.bridge import PROXY_ID, Bridge, Document
from deploy.sandbox.commands import free_port
from deploy.sandbox.daemon import Daemon
from tests.e2e.clients import PATIENCE_SECONDS, connection_string
from tests.e2e.load import LOGIN_SECONDS
from tollbridge.client import Client, Identity

SOON_SECONDS: Final = 15.0
"""Within which every proxy knows what any broker was told: 5 s where the machine is not busy with other things."""
EVERY_DATABASE: Final = {"labels": {"*": "*"}}
LINK: Final = {
    "name": "example",
    "role_arns": [topology.EXAMPLE_ROLE_ARN],
    "external_id": topology.EXAMPLE_EXTERNAL_ID,
}

_numbers: Iterator[int] = itertools.count()


def dynamic(document: Document) -> None:
    """The bridge's broker, with nothing static of the example account, taking dynamic databases within one link."""
    section = document["db_service"]
    section["databases"] = [entry for entry in section["databases"] if entry["name"] != "rds-postgres"]
    section["resources"] = [EVERY_DATABASE]
    document["account_links"] = [copy.deepcopy(LINK)]


def kept_in(folder: Path) -> Callable[[Document], None]:
    """As `dynamic`, with the registry in a file there."""

    def change(document: Document) -> None:
        dynamic(document)
        document["registry"] = {"file": str(folder / "registry.db")}

    return change


def operator(bridge: Bridge, port: str = "broker", *, name: str = "operator") -> Client:
    """A client of one broker, with the operator's certificate or another."""
    files = {extension: Path(bridge.file(f"{name}.{extension}")) for extension in ("crt", "key")}
    identity = Identity(cert_file=files["crt"], key_file=files["key"], ca_file=Path(bridge.file("mesh-ca.crt")))
    return Client(f"localhost:{bridge.ports[port]}", identity)


@dataclass(slots=True)
class Pair:
    """A bridge whose broker shares a table with a second one; proxy `proxy` knows both, `second` the second alone."""

    bridge: Bridge
    table: str = field(default_factory=lambda: f"tollbridge-pair-{next(_numbers)}")
    brokers: dict[str, Daemon] = field(default_factory=dict)

    def up(self) -> None:
        """Start all."""
        bridge = self.bridge
        bridge.ports.update({name: free_port() for name in ("broker2", "broker2_admin")})
        bridge.change_broker = self._shared("broker")
        bridge.change_proxy = self._both
        bridge.write_broker_config()
        bridge.write_proxy_config()
        second = yaml.safe_load(Path(bridge.file("broker.yaml")).read_text())
        second["listeners"][0]["address"] = f"127.0.0.1:{bridge.ports['broker2']}"
        second["admin"]["address"] = f"127.0.0.1:{bridge.ports['broker2_admin']}"
        second["audit"]["file"] = bridge.file("broker2-audit.jsonl")
        second["registry"]["file"] = bridge.file("broker2.db")
        Path(bridge.file("broker2.yaml")).write_text(yaml.safe_dump(second))
        first = bridge.broker
        self.brokers = {
            "broker": first,
            "broker2": Daemon(
                name="broker2",
                command=[sys.executable, "-m", "broker", "serve", "--config", bridge.file("broker2.yaml")],
                environment=first.environment,
                admin_port=bridge.ports["broker2_admin"],
                log_file=bridge.directory / "broker2.log",
            ),
        }
        for broker in self.brokers.values():
            broker.start()
        bridge.proxy.start()
        bridge.add_proxy("second", PROXY_ID, self._second).start()

    def down(self) -> None:
        """Stop the second broker; the bridge stops the rest."""
        if self.brokers:
            self.brokers["broker2"].stop()

    def operator(self, broker: str) -> Client:
        """An operator's client of one of the two."""
        return operator(self.bridge, broker)

    def doors(self, user: str) -> dict[str, str]:
        """Connection strings of the login-name doors of both proxies."""
        return {name: login(self.bridge, port, user) for name, port in (("proxy", "mtls"), ("second", "second_mtls"))}

    def _shared(self, name: str) -> Callable[[Document], None]:
        def change(document: Document) -> None:
            dynamic(document)
            document["registry"] = {
                "file": self.bridge.file(f"{name}.db"),
                "dynamodb": {"table": self.table, "create_table": True},
            }
            # Decisions stand for a second: who lets in is a broker that lives.
            document["limits"] = {"recheck_seconds": 1}

        return change

    def _both(self, document: Document) -> None:
        ports = self.bridge.ports
        document["broker"]["address"] = f"ipv4:127.0.0.1:{ports['broker']},127.0.0.1:{ports['broker2']}"
        document["broker"]["tls"]["server_name"] = "localhost"

    def _second(self, document: Document) -> None:
        document["broker"]["address"] = f"localhost:{self.bridge.ports['broker2']}"


def login(bridge: Bridge, port: str, user: str, **more: str | int) -> str:
    """A client with a certificate at a door that is routed by login name."""
    parts: dict[str, str | int] = {
        "host": "localhost",
        "hostaddr": "127.0.0.1",
        "port": bridge.ports[port],
        "user": user,
        "dbname": "app",
        "sslmode": "verify-full",
        "sslrootcert": bridge.file("mesh-ca.crt"),
        "sslcert": bridge.file("client.crt"),
        "sslkey": bridge.file("client.key"),
        "connect_timeout": LOGIN_SECONDS,
    }
    return connection_string(parts | more)


async def seconds_until(dsn: str, entered: bool, *, at_most: float = PATIENCE_SECONDS) -> float:
    """How long until a login succeeds, or fails; fails itself when that takes longer than `at_most`."""
    began = time.monotonic()
    while True:
        said = ""
        try:
            async with await psycopg.AsyncConnection.connect(dsn) as connection:
                await connection.execute("select 1")
        except psycopg.OperationalError as error:
            said = str(error)
        took = time.monotonic() - began
        if entered == (not said):
            return took
        assert took <= at_most, f"after {took:.1f} s: {said or 'still let in'}"
