"""What a run writes, shows and sends is searched for every secret there was: only a grant's password may hold any.

The run has both daemons at log level debug and goes through everything that could quote a secret: logins that succeed,
refusals by everybody who refuses, sessions that end or die, AWS out of order, tools, reload and shutdown.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import subprocess
import sys
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts
from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.control import Control
from deploy.sandbox.daemon import REPOSITORY, Daemon
from deploy.sandbox.world import World
from tests.e2e.clients import PROGRAM_SECONDS
from tests.e2e.load import app, enter, issue_workloads, make_role, mtls, refusal, role, until_let_in, with_roles
from tests.e2e.tap import Tap
from tests.support.raw_postgres import RawClient, startup
from tollbridge.client import Client, Identity, RpcFailed
from tollbridge.v1.credential_service_pb2 import IssueCredentialResponse

ISSUE: Final = "/tollbridge.v1.CredentialService/IssueCredential"
PIECE: Final = 20
"""Characters. Whoever shows 39 characters of a secret in a row shows one piece whole."""
ROLES: Final = ("dead", "ended", "disarmed", "throttled", "broken", "overlong")
OVERLONG: Final = {
    "name": "overlong",
    "role_arns": [role("overlong")],
    "external_id": topology.EXAMPLE_EXTERNAL_ID,
    "session_duration_seconds": 43200,
}
"""A session longer than its role allows: AWS refuses the parameters, and quotes them."""
WRONG_ID: Final = "an-external-id-that-is-wrong"


def pieces(secret: str) -> set[str]:
    """What gives a secret away: stretches of it as it is, in a URL, in base64 and in hex."""
    forms = {
        secret,
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote(urllib.parse.quote(secret, safe=""), safe=""),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        secret.encode().hex(),
    }
    if len(secret) < 2 * PIECE:
        return forms
    return {form[at : at + PIECE] for form in forms for at in range(0, len(form) - PIECE + 1, PIECE)}


def search(text: str, secrets: dict[str, set[str]]) -> set[str]:
    """Names of the secrets that a text gives away."""
    return {name for name, parts in secrets.items() if any(part in text for part in parts)}


@dataclass(slots=True)
class Evidence:
    """Everything a run left behind, and every secret that was in it."""

    texts: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    """What clients were told."""
    passwords: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    """Messages of the broker to its proxy and to a service, without the passwords."""
    keys: dict[str, set[str]] = field(default_factory=dict)
    """Secret access keys, session tokens and external IDs."""
    tokens: dict[str, set[str]] = field(default_factory=dict)
    """What databases were shown."""

    @property
    def secrets(self) -> dict[str, set[str]]:
        """All of them."""
        return self.keys | self.tokens


def talkative(document: Document) -> None:
    """Log level debug; decisions that stand for a second."""
    document["log"] = {"level": "debug"}


@pytest.fixture(scope="module")
def evidence(world: World, control: Control, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of one run."""
    for name in ROLES:
        make_role(world, name)
    tap, found = Tap(), Evidence()

    def change_broker(document: Document) -> None:
        talkative(document)
        with_roles(ROLES, limits={"recheck_seconds": 1}, account_links=[OVERLONG])(document)
        databases = document["db_service"]["databases"]
        example = next(entry for entry in databases if entry["name"] == "rds-postgres")
        mistakes = {
            "wrong-id": {**example["aws"], "external_id": WRONG_ID},
            "no-trust": {**example["aws"], "assume_role_arn": topology.NO_TRUST_ROLE_ARN},
            "no-connect": {**example["aws"], "assume_role_arn": topology.NO_CONNECT_ROLE_ARN},
        }
        databases += [{**example, "name": name, "aws": aws} for name, aws in mistakes.items()]

    def change_proxy(document: Document) -> None:
        talkative(document)
        tap.change(document)

    bridge = Bridge(world, tmp_path_factory.mktemp("secrets") / "bridge", change_broker, change_proxy)
    issue_workloads(bridge, 2)
    with tap.between(bridge), bridge:
        asyncio.run(run(bridge, control, found))
        found.texts["tools"] = tools(bridge)
        for daemon in (bridge.broker, bridge.proxy):
            found.texts |= pages(daemon)
        found.texts["environment of the proxy"] = process_of(bridge.proxy, "environ")
        found.texts["command lines"] = process_of(bridge.proxy, "cmdline") + process_of(bridge.broker, "cmdline")
    control.clear_faults()
    for file in bridge.directory.iterdir():
        if file.suffix in (".log", ".jsonl"):
            found.texts[file.name] = file.read_text()
    take_apart(tap, found)
    found.keys = {f"key or session token {number}": pieces(secret) for number, secret in enumerate(control.secrets())}
    found.keys["the broker's own key"] = pieces(world.broker_secret_access_key)
    found.keys |= {f"external ID {value}": {value} for value in (topology.EXAMPLE_EXTERNAL_ID, WRONG_ID)}
    return found


async def run(bridge: Bridge, control: Control, found: Evidence) -> None:
    """Everything that could quote a secret."""
    accounts = Accounts(bridge.world.aws_endpoint)
    for user in ("app@rds-postgres", "readonly@rds-postgres", "app@analytics", "app@local", "app@dead", "app@ended"):
        await enter(mtls(bridge, user))
    await enter(app(bridge))
    accounts.recreate_role(role("dead"))
    control.expire_session(role_arn=role("ended"))
    accounts.remove_role_policy(role("disarmed"))
    control.inject_fault("throttle", role_arn=role("throttled"))
    control.inject_fault("error500", role_arn=role("broken"))
    await enter(mtls(bridge, "app@dead", "worker-00"))
    await enter(mtls(bridge, "app@ended", "worker-00"))
    for user in (
        *(f"app@{name}" for name in ("disarmed", "throttled", "broken", "overlong")),
        *(f"app@{name}" for name in ("wrong-id", "no-trust", "no-connect", "no-such-database")),
        "admin@rds-postgres",
        "x" * 60 + "@rds-postgres",
        "nobody",
    ):
        found.told.append(await refusal(mtls(bridge, user)))
    found.told.append(await refusal(mtls(bridge, certificate="broker")))
    await asyncio.to_thread(be_rude, bridge)
    await ask_directly(bridge, found)
    bridge.broker.send(signal.SIGHUP)
    bridge.proxy.send(signal.SIGHUP)
    await asyncio.to_thread(bridge.broker.stop)
    found.told.append(await refusal(mtls(bridge, "readonly@analytics")))
    await asyncio.to_thread(bridge.broker.start)
    await until_let_in(mtls(bridge, "readonly@analytics"))


def be_rude(bridge: Bridge) -> None:
    """Bytes that no client sends."""
    for rude in (b"\x00" * 64, b"GET / HTTP/1.1\r\n\r\n", startup(user="app", database="app") + b"p\xff\xff\xff\xff"):
        with contextlib.suppress(OSError, EOFError), RawClient(bridge.ports["app"]) as client:
            client.send(rude).half_close().read_to_end()


async def ask_directly(bridge: Bridge, found: Evidence) -> None:
    """A service that asks the broker itself, for what it may have and what it may not."""
    identity = Identity(
        cert_file=Path(bridge.file("client.crt")),
        key_file=Path(bridge.file("client.key")),
        ca_file=Path(bridge.file("mesh-ca.crt")),
    )
    async with Client(f"localhost:{bridge.ports['broker']}", identity) as broker:
        grant = await broker.issue_credential("rds-postgres", "app", "app")
        again = await broker.issue_credential("rds-postgres", "app", "app", rejected="0" * 16)
        for given in (grant, again):
            found.passwords.append(given.token.password.reveal())
            found.answers.append(f"{given!r} {given}")
        for database, user in (("rds-postgres", "admin"), ("no-such", "app"), ("wrong-id", "app"), ("no-trust", "a")):
            with pytest.raises(RpcFailed) as failed:
                await broker.issue_credential(database, user)
            found.told.append(f"{failed.value!r} {failed.value} {failed.value.metadata}")


def tools(bridge: Bridge) -> str:
    """What the command lines say."""
    said = ""
    for package, *command in (
        ("broker", "check-config"),
        ("proxy", "check-config"),
        ("proxy", "check", "rds-postgres"),
        ("proxy", "check", "no-trust"),
    ):
        arguments = [sys.executable, "-m", package, *command, "--config", bridge.file(f"{package}.yaml")]
        environment = dict(bridge.broker.environment if package == "broker" else bridge.proxy.environment)
        done = subprocess.run(
            arguments, capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=PROGRAM_SECONDS
        )
        said += f"{command} {done.stdout} {done.stderr}\n"
    return said


def pages(daemon: Daemon) -> dict[str, str]:
    """What an admin port shows."""
    return {f"{daemon.name} {path}": daemon.admin(path)[1] for path in ("/metrics", "/readyz", "/livez")}


def process_of(daemon: Daemon, file: str) -> str:
    """What the system shows of a process."""
    assert daemon.process is not None
    return Path(f"/proc/{daemon.process.pid}/{file}").read_bytes().decode(errors="replace")


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
        assert len(signature) == 64
        found.tokens[f"token {number}"] = pieces(signature) | {password}


def test_the_run_went_where_secrets_are(evidence: Evidence) -> None:
    assert len(evidence.keys) >= 20
    assert len(evidence.tokens) >= 6
    assert len(evidence.told) >= 16
    audit = evidence.texts["broker-audit.jsonl"]
    for reason in ("ASSUME_ROLE_DENIED", "DATABASE_REFUSED", "AWS_THROTTLED", "AWS_UNAVAILABLE", "ASSUME_ROLE_INVALID"):
        assert reason in audit
    assert "is dead" in evidence.texts["broker.log"]
    assert evidence.texts["errors for the proxy"]


def test_the_search_finds_what_is_there(evidence: Evidence) -> None:
    for password in evidence.passwords:
        found = search(password, evidence.secrets)
        assert any(name.startswith("token") for name in found)
    assert any(search(password, evidence.keys) for password in evidence.passwords), "session tokens are part of tokens"
    hidden = next(iter(evidence.keys.values()))
    assert search(f"x{next(iter(hidden))}x", evidence.keys)


def test_nothing_written_or_shown_holds_a_secret(evidence: Evidence) -> None:
    leaks = {name: found for name, text in evidence.texts.items() if (found := search(text, evidence.secrets))}
    assert leaks == {}


def test_nothing_a_client_was_told_holds_a_secret(evidence: Evidence) -> None:
    assert [told for told in evidence.told if search(told, evidence.secrets)] == []


def test_of_what_the_broker_sends_only_a_grants_password_holds_one(evidence: Evidence) -> None:
    assert evidence.answers
    assert [answer for answer in evidence.answers if search(answer, evidence.secrets)] == []


def test_not_even_a_password_holds_a_secret_access_key(evidence: Evidence, control: Control, world: World) -> None:
    handed_out = [world.broker_secret_access_key, *(secret for secret in control.secrets() if len(secret) == 40)]
    keys = {str(number): pieces(secret) for number, secret in enumerate(handed_out)}
    assert len(keys) >= 10
    assert [password for password in evidence.passwords if search(password, keys)] == []
