"""As test_secrets.py, for what is spoken over HTTP: a proxy is given keys of one day, region and service, no more.

Every message the broker sent it is searched for secret access keys: whole, in pieces, in hex, base64 and URLs.
"""

from __future__ import annotations

import base64
import contextlib
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest
import urllib3

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts
from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.http_clients import USER, authorization
from tests.e2e.table import MISTAKES
from tests.e2e.tap import Tap
from tests.e2e.test_secrets import ISSUE, Evidence, pages, pieces, process_of, search, talkative, tools
from tests.support.raw_postgres import RawClient
from tollbridge.v1.credential_service_pb2 import IssueCredentialResponse

TYPED: Final = "a-secret-that-only-its-client-knows"
TARGET: Final = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.Scan"}
SCAN: Final = b'{"TableName":"orders"}'
SECRET_KEY_CHARACTERS: Final = 40


@pytest.fixture(scope="module")
def steering(http_world: World) -> Iterator[Control]:
    """The levers of this sandbox."""
    control = Control(http_world.aws_endpoint)
    yield control
    control.clear_faults()


@pytest.fixture(scope="module")
def tap() -> Tap:
    """What the broker sent."""
    return Tap()


@pytest.fixture(scope="module")
def evidence(http_world: World, steering: Control, tap: Tap, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of one run."""
    found = Evidence()

    def change_broker(document: Document) -> None:
        talkative(document)
        document["limits"] = {"recheck_seconds": 1}
        databases = document["db_service"]["databases"]
        for like in ("tables", "search"):
            row = next(entry for entry in databases if entry["name"] == like)
            databases += [{**row, "name": f"{like}-{name}", "aws": aws} for name, aws in MISTAKES.items()]

    def change_proxy(document: Document) -> None:
        talkative(document)
        tap.change(document)
        for row in document["listeners"]:
            if row["name"] in ("tables", "search"):
                hosts = {f"{row['name']}-{name}": f"{row['name']}-{name}" for name in MISTAKES}
                row["http"] = {"hosts": {**hosts, row["name"]: row.pop("database")}}

    bridge = Bridge(http_world, tmp_path_factory.mktemp("http-secrets") / "bridge", change_broker, change_proxy)
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
    found.keys["the broker's own key"] = pieces(http_world.broker_secret_access_key)
    found.keys |= {f"external ID {value}": {value} for value in (topology.EXAMPLE_EXTERNAL_ID, "not-the-agreed-one")}
    found.keys["what a client sent"] = {TYPED}
    return found


def run(bridge: Bridge, control: Control, found: Evidence) -> None:
    """Everything that could quote a secret."""
    accounts = Accounts(bridge.world.aws_endpoint)
    ask(bridge, found, "tables")
    ask(bridge, found, "search")
    ask(bridge, found, "serverless-search")
    ask(bridge, found, "tables", user="role/ReaderRole")
    ask(bridge, found, "tables", user="role/PowerlessUserRole")
    ask(bridge, found, "tables", user="role/NobodysRole")
    for database in ("tables", "search"):
        for name in MISTAKES:
            ask(bridge, found, database, host=f"{database}-{name}")
    accounts.recreate_role(topology.READER_ROLE_ARN)
    control.expire_session(role_arn=topology.DATABASE_USER_ROLE_ARN)
    ask(bridge, found, "tables", user="role/ReaderRole")
    ask(bridge, found, "tables")
    ask(bridge, found, "search")
    be_rude(bridge)
    bridge.broker.send(signal.SIGHUP)
    bridge.proxy.send(signal.SIGHUP)
    bridge.broker.stop()
    ask(bridge, found, "tables", user="role/Unheard")
    bridge.broker.start()
    ask(bridge, found, "tables")


def ask(bridge: Bridge, found: Evidence, database: str, *, user: str = USER, host: str = "") -> None:
    """One request, with all that a client may think belongs there."""
    service = {"tables": "dynamodb", "search": "es"}.get(database, "aoss")
    headers = {
        "Host": host or database,
        "Authorization": authorization(service, user).replace("0" * 64, TYPED),
        "X-Amz-Security-Token": TYPED,
        "Cookie": TYPED,
        **(TARGET if database == "tables" else {}),
    }
    method, body = ("POST", SCAN) if database == "tables" else ("GET", None)
    with urllib3.PoolManager(timeout=15) as pool:
        url = f"http://127.0.0.1:{bridge.ports[database]}/"
        answer: Any = pool.urlopen(method, url, body=body, headers=headers, retries=False)
        found.told.append(f"{answer.status} {answer.headers} {answer.data.decode(errors='replace')}")


def be_rude(bridge: Bridge) -> None:
    """Bytes that no client sends, with a secret in them."""
    for rude in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + TYPED.encode(),
        f"GET /{TYPED} HTTP/1.1\r\nAuthorization: {TYPED}\n\r\n".encode(),
        f"POST / HTTP/1.1\r\nHost: tables\r\nX: {TYPED}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".encode(),
        f"GET /?X-Amz-Signature={TYPED}&X-Amz-Security-Token={TYPED} HTTP/1.1\r\nHost: search\r\n\r\n".encode(),
    ):
        for database in ("tables", "search"):
            with contextlib.suppress(OSError, EOFError), RawClient(bridge.ports[database]) as client:
                client.send(rude).half_close().read_to_end()


def take_apart(tap: Tap, found: Evidence) -> None:
    """Keys and session tokens here, the rest of the messages there."""
    found.texts["requests of the proxy"] = "\n".join(f"{method} {message!r}" for method, message in tap.requests)
    found.texts["errors for the proxy"] = "\n".join(tap.errors)
    for method, message in tap.answers:
        rest = message
        if method == ISSUE:
            answer = IssueCredentialResponse.FromString(message)
            assert answer.WhichOneof("credential") == "signing_key"
            for day in answer.signing_key.keys:
                assert len(day.key) == 32
                number = len(found.tokens)
                found.tokens[f"signing key {number}"] = {
                    day.key.hex(),
                    day.key.decode("latin-1"),
                    repr(day.key)[2:-1],
                    base64.b64encode(day.key).decode().rstrip("="),
                }
            found.passwords.append(answer.signing_key.session_token)
            answer.signing_key.session_token = ""
            del answer.signing_key.keys[:]
            rest = answer.SerializeToString()
        found.answers.append(rest.decode("latin-1"))


def test_the_run_went_where_secrets_are(evidence: Evidence) -> None:
    assert len(evidence.keys) >= 12
    assert len(evidence.tokens) >= 4
    audit = evidence.texts["broker-audit.jsonl"]
    for reason in ("ASSUME_ROLE_DENIED", "DB_USER_NOT_ALLOWED"):
        assert reason in audit
    assert evidence.texts["errors for the proxy"]
    statuses = {told[:3] for told in evidence.told}
    assert {"200", "403"} <= statuses, statuses


def test_no_message_of_the_broker_holds_a_secret_access_key(
    evidence: Evidence, tap: Tap, steering: Control, http_world: World
) -> None:
    handed_out = [secret for secret in steering.secrets() if len(secret) == SECRET_KEY_CHARACTERS]
    keys = {
        str(number): pieces(secret) for number, secret in enumerate([http_world.broker_secret_access_key, *handed_out])
    }
    assert len(keys) >= 6
    assert evidence.answers
    sent = [f"{method} {message.decode('latin-1')}" for method, message in tap.answers]
    assert [message[:60] for message in sent if search(message, keys)] == []
    assert not any(search(error, keys) for error in tap.errors)


def test_the_search_finds_what_is_there(evidence: Evidence, tap: Tap) -> None:
    issued = [message.decode("latin-1") for method, message in tap.answers if method == ISSUE]
    assert all(search(message, evidence.keys) for message in issued), "each holds a session token"
    assert all(search(message, evidence.tokens) for message in issued), "and keys of a day"


def test_nothing_written_or_shown_holds_a_secret(evidence: Evidence) -> None:
    leaks = {name: found for name, text in evidence.texts.items() if (found := search(text, evidence.secrets))}
    assert leaks == {}


def test_nothing_a_client_was_told_holds_a_secret(evidence: Evidence) -> None:
    assert [told[:200] for told in evidence.told if search(told, evidence.secrets)] == []


def test_of_what_the_broker_sends_only_a_signing_key_holds_one(evidence: Evidence) -> None:
    assert evidence.answers
    assert [answer[:60] for answer in evidence.answers if search(answer, evidence.secrets)] == []
