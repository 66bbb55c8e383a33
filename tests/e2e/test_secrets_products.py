"""As test_secrets.py, for every other product: what goes through MySQL, Redis and Redshift leaves no secret behind.

Tokens, passwords that Redshift's API gave, session tokens, and passwords that clients typed although nobody asked.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest

from deploy.sandbox import topology
from deploy.sandbox.bridge import APP_WORKLOAD, Bridge, Document
from deploy.sandbox.commands import free_port
from deploy.sandbox.control import Control
from deploy.sandbox.daemon import REPOSITORY
from deploy.sandbox.world import World
from tests.e2e.clients import PROGRAM_SECONDS, connection_string
from tests.e2e.table import MISTAKES
from tests.e2e.tap import Tap
from tests.e2e.test_secrets import ISSUE, Evidence, pages, pieces, process_of, search, talkative
from tests.support import mysql_bytes as my
from tests.support.raw_mysql import MysqlClient
from tests.support.raw_postgres import RawClient
from tests.support.raw_redis import RedisClient, command
from tollbridge.v1.credential_service_pb2 import IssueCredentialResponse

MARIADB, CACHE = topology.RDS_MARIADB.name, topology.CACHE.name
CACHES: Final = (CACHE, topology.SERVERLESS_CACHE.name, topology.MEMORYDB.name)
CLUSTER, WORKGROUP = topology.REDSHIFT.name, topology.REDSHIFT_SERVERLESS.name
PRODUCTS: Final = (MARIADB, *CACHES, CLUSTER, WORKGROUP)
TYPED: Final = "a-password-that-only-its-client-knows"
LOGIN_SECONDS: Final = 2.0
"""How long a login in the cache lives here: sessions renew it."""
PATIENCE: Final = 3.0
"""Seconds for one conversation."""
WRONG_ID: Final = "not-the-agreed-one"


@pytest.fixture(scope="module")
def steering(whole_world: World) -> Iterator[Control]:
    """The levers of this sandbox."""
    control = Control(whole_world.aws_endpoint)
    yield control
    control.clear_faults()


@pytest.fixture(scope="module")
def evidence(whole_world: World, steering: Control, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of one run."""
    tap, found, ports = Tap(), Evidence(), {"my-names": free_port(), "re-names": free_port()}

    def change_broker(document: Document) -> None:
        talkative(document)
        document["limits"] = {"recheck_seconds": 1}
        staging = next(rule for rule in document["access"]["rules"] if rule["name"] == "shop-in-staging")
        staging["db_users"] += ["missing", "nobody-may"]
        databases = document["db_service"]["databases"]
        for protocol, example in (("my", MARIADB), ("re", CACHE)):
            row = next(entry for entry in databases if entry["name"] == example)
            databases += [{**row, "name": f"{protocol}-{name}", "aws": aws} for name, aws in MISTAKES.items()]

    def change_proxy(document: Document) -> None:
        talkative(document)
        tap.change(document)
        for row in document["listeners"]:
            if row["name"] == CACHE:
                row["limits"] = {"login_seconds": LOGIN_SECONDS}
        for name, protocol, more in (
            ("my-names", "mysql", {"mysql": {"server_version": "8"}}),
            ("re-names", "redis", {}),
        ):
            document["listeners"].append(
                {
                    "name": name,
                    "protocol": protocol,
                    "address": f"127.0.0.1:{ports[name]}",
                    "workload": APP_WORKLOAD,
                    "route": "login_name",
                    **more,
                }
            )

    place = tmp_path_factory.mktemp("product-secrets") / "bridge"
    bridge = Bridge(whole_world, place, change_broker, change_proxy, ports=ports)
    with tap.between(bridge), bridge:
        run(bridge, steering, found)
        found.texts["tools"] = tools(bridge)
        for daemon in (bridge.broker, bridge.proxy):
            found.texts |= pages(daemon)
        found.texts["environment of the proxy"] = process_of(bridge.proxy, "environ")
        found.texts["command lines"] = process_of(bridge.proxy, "cmdline") + process_of(bridge.broker, "cmdline")
    for file in bridge.directory.iterdir():
        if file.suffix in (".log", ".jsonl"):
            found.texts[file.name] = file.read_text()
    take_apart(tap, found)
    found.keys = {f"handed out {number}": pieces(secret) for number, secret in enumerate(steering.secrets())}
    found.keys["the broker's own key"] = pieces(whole_world.broker_secret_access_key)
    found.keys |= {f"external ID {value}": {value} for value in (topology.EXAMPLE_EXTERNAL_ID, WRONG_ID)}
    found.keys["what a client typed"] = {TYPED}
    return found


def run(bridge: Bridge, control: Control, found: Evidence) -> None:
    """Everything that could quote a secret, on every engine."""
    for _ in range(2):
        mysql(bridge, found)
        redis(bridge, found)
        redshift(bridge, found)
        control.expire_session(role_arn=topology.EXAMPLE_ROLE_ARN)
    control.inject_fault("throttle", service="redshift", action="GetClusterCredentials")
    control.expire_session(role_arn=topology.EXAMPLE_ROLE_ARN)
    control.expire_database_users()
    redshift(bridge, found, "readonly")  # for whom there is no password yet
    control.clear_faults()
    for name in PRODUCTS:
        with contextlib.suppress(OSError, EOFError), RawClient(bridge.ports[name], seconds=PATIENCE) as client:
            rude = b"*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$%d\r\n%s" % (len(TYPED) + 9, TYPED.encode())
            found.told.append(client.send(rude).half_close().read_to_end().decode("latin-1"))
    bridge.broker.send(signal.SIGHUP)
    bridge.proxy.send(signal.SIGHUP)
    bridge.broker.stop()
    mysql(bridge, found)
    redis(bridge, found, wait=0)
    bridge.broker.start()


def mysql(bridge: Bridge, found: Evidence) -> None:
    """Sessions, refusals, and commands that are held back."""
    for door, user in (
        *((MARIADB, user) for user in ("app", "readonly", "admin", "x" * 60)),
        *(("my-names", f"app@my-{name}") for name in MISTAKES),
        ("my-names", f"app@{MARIADB}"),
        ("my-names", "app@nowhere"),
    ):
        with contextlib.suppress(OSError, EOFError), MysqlClient(bridge.ports[door], seconds=PATIENCE) as client:
            client.packet()
            client.send(my.packet(my.response(user, plugin="mysql_clear_password", auth=TYPED.encode()), 1))
            if (switched := client.packet()[1])[:1] == b"\xfe":
                client.send(my.packet(TYPED.encode()[:20], 3))
                switched = client.packet()[1]
            found.told.append(switched.decode("latin-1"))
            client.send(my.packet(b"\x03selekt", 0) + my.packet(b"\x11readonly\0" + b"\0app\0", 0))
            found.told.append(client.read_to_end().decode("latin-1"))


def redis(bridge: Bridge, found: Evidence, *, wait: float = 1.5 * LOGIN_SECONDS) -> None:
    """Sessions that renew their login and reset, refusals, and commands that are held back."""
    for door, user in (
        *((name, user) for name in CACHES for user in ("app", "readonly", "admin")),
        *(("re-names", f"app@re-{name}") for name in MISTAKES),
        ("re-names", f"app@{CACHE}"),
        ("re-names", "app@nowhere"),
    ):
        for login in (command("AUTH", user, TYPED), command("HELLO", "3", "AUTH", user, TYPED)):
            with contextlib.suppress(OSError, EOFError), RedisClient(bridge.ports[door], seconds=PATIENCE) as client:
                client.send(login + command("AUTH", "other", TYPED) + command("MONITOR") + command("RESET"))
                client.send(command("ACL", "WHOAMI") + command("QUIT"))
                found.told.append(client.read_to_end().decode("latin-1"))
    with contextlib.suppress(OSError, EOFError), RedisClient(bridge.ports[CACHE]) as client:
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            found.told.append(client.say("ACL", "WHOAMI").decode("latin-1"))
            time.sleep(0.1)


def redshift(bridge: Bridge, found: Evidence, *more: str) -> None:
    """Users and roles, those AWS gives no password for, and one that is not there."""
    roles = ("role/DatabaseUserRole", "role/PowerlessUserRole")
    for name, users in (
        (CLUSTER, ("app", *roles, "missing", "nobody-may", "admin", *more)),
        (WORKGROUP, (*roles, "admin")),
    ):
        for user in users:
            parts: dict[str, Any] = {"host": "127.0.0.1", "port": bridge.ports[name], "sslmode": "disable"}
            dsn = connection_string({**parts, "user": user, "dbname": "app", "password": TYPED})
            try:
                with psycopg.connect(dsn) as connection:
                    found.told.append(str(connection.execute("select session_user").fetchone()))
            except psycopg.OperationalError as error:
                found.told.append(str(error))


def tools(bridge: Bridge) -> str:
    """What the proxy's command line says of each."""
    said = ""
    for name in (*PRODUCTS, "my-no-trust", "re-no-connect"):
        arguments = [sys.executable, "-m", "proxy", "check", name, "--config", bridge.file("proxy.yaml")]
        environment = dict(bridge.proxy.environment)
        done = subprocess.run(
            arguments, capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=PROGRAM_SECONDS
        )
        said += f"{name} {done.stdout} {done.stderr}\n"
    return said


def take_apart(tap: Tap, found: Evidence) -> None:
    """Passwords here, the rest of the messages there."""
    found.texts["requests of the proxy"] = "\n".join(f"{method} {message!r}" for method, message in tap.requests)
    found.texts["errors for the proxy"] = "\n".join(tap.errors)
    for method, message in tap.answers:
        rest = message
        if method == ISSUE:
            answer = IssueCredentialResponse.FromString(message)
            found.passwords.append(answer.token.password)
            answer.token.password = ""
            rest = answer.SerializeToString()
        found.answers.append(rest.decode("latin-1"))
    for number, password in enumerate(dict.fromkeys(found.passwords)):
        signature = password.partition("X-Amz-Signature=")[2][:64]
        found.tokens[f"token {number}"] = pieces(signature or password) | {password}


def test_the_run_went_where_secrets_are(evidence: Evidence) -> None:
    signed = {password for password in evidence.passwords if "X-Amz-Signature" in password}
    assert len(signed) >= 8
    assert len(set(evidence.passwords) - signed) >= 3, "Redshift's API gave passwords"
    assert len(evidence.keys) >= 10
    told = "\n".join(evidence.told)
    for word in ("COM_CHANGE_USER is refused", "tollbridge refuses this: MONITOR", "+RESET", "IAM:app", "IAMR:"):
        assert word in told
    audit = evidence.texts["broker-audit.jsonl"]
    for reason in ("ASSUME_ROLE_DENIED", "DATABASE_REFUSED", "CREDENTIAL_DENIED", "AWS_THROTTLED"):
        assert reason in audit
    assert evidence.texts["errors for the proxy"]
    assert evidence.texts["tools"].count("ok") >= len(PRODUCTS)


def test_the_search_finds_what_is_there(evidence: Evidence) -> None:
    for password in evidence.passwords:
        assert any(name.startswith("token") for name in search(password, evidence.secrets))
    assert search(f"AUTH app {TYPED}", evidence.secrets)


def test_nothing_written_or_shown_holds_a_secret(evidence: Evidence) -> None:
    leaks = {name: found for name, text in evidence.texts.items() if (found := search(text, evidence.secrets))}
    assert leaks == {}


def test_nothing_a_client_was_told_holds_a_secret(evidence: Evidence) -> None:
    assert [told for told in evidence.told if search(told, evidence.secrets)] == []


def test_of_what_the_broker_sends_only_a_grants_password_holds_one(evidence: Evidence) -> None:
    assert evidence.answers
    assert [answer for answer in evidence.answers if search(answer, evidence.secrets)] == []


def test_not_even_a_password_holds_a_secret_access_key(
    evidence: Evidence, steering: Control, whole_world: World
) -> None:
    """Keys are 40 characters; passwords of Redshift are among what was handed out and longer."""
    handed_out = [whole_world.broker_secret_access_key, *(key for key in steering.secrets() if len(key) == 40)]
    keys = {str(number): pieces(secret) for number, secret in enumerate(handed_out)}
    assert len(keys) >= 5
    assert [password for password in evidence.passwords if search(password, keys)] == []


def test_nothing_crashed(evidence: Evidence) -> None:
    assert "Traceback" not in evidence.texts["proxy.log"] + evidence.texts["broker.log"]
    assert "crashed" not in evidence.texts["proxy.log"]
