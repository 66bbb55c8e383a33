"""The story at the other databases: one login that is allowed, one that is not, each through the client of the house.

A tour is told when the sandbox has the database and this tree's proxy speaks its protocol.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from deploy.demo.narrator import Narrator
from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge, spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class Tour:
    """One product's part."""

    title: str
    database: str
    command: tuple[str, ...]
    """What asks, as a user the access rules allow; {port} and {user} are filled in."""
    denied: tuple[str, ...]
    """The same, as the user below."""
    user: str = "app"
    denied_user: str = "admin"
    denied_reason: str = "DB_USER_NOT_ALLOWED"
    what: str = "a database user"
    """What the rules tell apart, and {user} stands for."""
    shows: str = ""
    """What the answer must contain: the user, unless it says otherwise."""


_MARIADB: Final = (
    *("mariadb", "--no-defaults", "--host=127.0.0.1", "--port={port}", "--user={user}", "app"),
    "--execute=select current_user(), version(), count(*) from orders",
)
_PSQL: Final = (
    *("psql", "--no-psqlrc", "--no-password", "-x", "-c", "select current_user, session_user"),
    "host=127.0.0.1 port={port} user={user} dbname=app",
)

# Whoever speaks HTTP says which user it wants to be where an access key id would stand; no secret is needed.
_BOTO3: Final = (
    *("env", "AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:{port}", "AWS_DEFAULT_REGION=" + topology.REGION),
    *("AWS_ACCESS_KEY_ID={user}", "AWS_SECRET_ACCESS_KEY=any", os.path.relpath(sys.executable)),
    *(
        "-c",
        'import boto3, sys; sys.tracebacklimit = 0; print(boto3.client("dynamodb").scan(TableName="orders")["Items"])',
    ),
)
_CURL: Final = (
    *("curl", "--silent", "--show-error", "--aws-sigv4", f"aws:amz:{topology.REGION}:es", "--user", "{user}:any"),
    "http://127.0.0.1:{port}/",
)
_CQLSH: Final = (
    *(os.path.relpath(Path(sys.executable).with_name("cqlsh")), "127.0.0.1", "{port}"),
    *("--username={user}", "--password=ignored", "--execute=select * from shop.orders"),
)
# Nor does MongoDB's client say who it is; which database it wants stands in each message.
_PYMONGO: Final = (
    *(os.path.relpath(sys.executable), "-c"),
    'from pymongo import MongoClient as client; print([*client("mongodb://127.0.0.1:{port}").{user}.orders.find()])',
)
_ROLES: Final = MappingProxyType({"user": "role/DatabaseUserRole", "denied_user": "role/NobodysRole"})

TOURS: Final = MappingProxyType(
    {
        "mariadb": Tour(title="MariaDB", database=topology.RDS_MARIADB.name, command=_MARIADB, denied=_MARIADB),
        "valkey": Tour(
            title="Valkey, as ElastiCache",
            database=topology.CACHE.name,
            # The listener has a user for those who name none. redis-cli names one only beside a password; that is
            # ignored.
            command=("redis-cli", "-p", "{port}", "acl", "whoami"),
            denied=(
                *("redis-cli", "-p", "{port}", "--user", "{user}", "--pass", "ignored", "--no-auth-warning"),
                *("acl", "whoami"),
            ),
        ),
        "redshift": Tour(title="Redshift", database=topology.REDSHIFT.name, command=_PSQL, denied=_PSQL),
        "rdsproxy": Tour(title="RDS Proxy", database=topology.RDS_PROXY.name, command=_PSQL, denied=_PSQL),
        "dsql": Tour(title="DSQL", database=topology.DSQL.name, command=_PSQL, denied=_PSQL),
        "dynamodb": Tour(
            title="DynamoDB",
            database=topology.DYNAMODB.name,
            command=_BOTO3,
            denied=_BOTO3,
            shows="pending",
            **_ROLES,
        ),
        "opensearch": Tour(
            title="OpenSearch",
            database=topology.OPENSEARCH.name,
            command=_CURL,
            denied=_CURL,
            shows='"distribution" : "opensearch"',
            **_ROLES,
        ),
        "cassandra": Tour(
            title="Keyspaces",
            database=topology.KEYSPACES.name,
            command=_CQLSH,
            denied=_CQLSH,
            shows="Grace",
            **_ROLES,
        ),
        "mongodb": Tour(
            title="DocumentDB",
            database=topology.DOCUMENTDB.name,
            command=_PYMONGO,
            denied=_PYMONGO,
            denied_user="payroll",
            denied_reason="DB_NAME_NOT_ALLOWED",
            what="a db_name",
            shows="Grace",
        ),
    }
)
"""By the name of the sandbox's engine."""


@dataclass(frozen=True, slots=True)
class Guide:
    """Shows tours over a running bridge."""

    bridge: Bridge
    narrator: Narrator

    def show(self, product: str) -> None:
        """Every step of a product, or why there is none."""
        tour = TOURS[product]
        if tour.database not in spoken(self.bridge.world):
            protocol = self.bridge.world.database(tour.database).protocol
            self.narrator.say(f"\n      {tour.title}: left out, this proxy does not speak {protocol} yet")
            return
        self._allowed(tour)
        self._denied(tour)

    def line(self, product: str) -> str | None:
        """What a person pastes; None for a product that was left out."""
        tour = TOURS[product]
        return self._line(tour) if tour.database in spoken(self.bridge.world) else None

    def _allowed(self, tour: Tour) -> None:
        with self.narrator.step(f"{tour.title}: {tour.user} asks for {self._database(tour)}"):
            self.narrator.progress(self._line(tour))
            answer = self._ask(self._filled(tour, tour.command, tour.user))
            # redis-cli says errors as answers.
            if answer.returncode or (tour.shows or tour.user) not in answer.stdout:
                raise RuntimeError(answer.stdout + answer.stderr)
            self.narrator.quote(answer.stdout)
            decision = self._decision(tour)
            self.narrator.fact("assumed role", " -> ".join(decision["role_chain"]))
            self.narrator.fact("allowed by", f"rule {decision['rule']!r}, decision {decision['decision_id']}")
            self.narrator.fact("expires", decision["expires_at"])

    def _denied(self, tour: Tour) -> None:
        with self.narrator.step(f"{tour.title}: refused, {tour.what} that no rule allows"):
            answer = self._ask(self._filled(tour, tour.denied, tour.denied_user))
            said = _last_words(answer.stdout + answer.stderr)
            self.narrator.quote(said)
            if self._decision(tour).get("reason") != tour.denied_reason or tour.denied_user not in said:
                raise RuntimeError("it was let in, or refused for another reason")

    def _database(self, tour: Tour) -> str:
        database = self.bridge.world.database(tour.database)
        return f"{database.endpoint} of account {database.account_id}"

    def _filled(self, tour: Tour, command: tuple[str, ...], user: str) -> list[str]:
        return [word.format(port=self.bridge.ports[tour.database], user=user) for word in command]

    def _line(self, tour: Tour) -> str:
        return shlex.join(self._filled(tour, tour.command, tour.user))

    def _ask(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, check=False, env=client_environment(os.environ), capture_output=True, text=True, timeout=60
        )

    def _decision(self, tour: Tour) -> dict[str, Any]:
        return next(line for line in reversed(self.bridge.audit("broker")) if line.get("database") == tour.database)


def _last_words(said: str) -> str:
    """Of a program in Python only the error, not the way there."""
    return said.strip().splitlines()[-1].partition(", full error:")[0] if "Traceback" in said else said


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Without whatever could hold a password: what gets in, gets in without one."""
    secretive = ("PG", "AWS_", "MYSQL", "MARIADB", "REDISCLI")
    return {name: value for name, value in environment.items() if not name.startswith(secretive)}
