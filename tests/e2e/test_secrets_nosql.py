"""As test_secrets.py, for Keyspaces and DocumentDB: a proxy is given keys of one day, region and service for the one,
and a proof that is good for one login for the other; neither, nor what clients typed, is found anywhere else.
"""

from __future__ import annotations

import base64
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import pymongo
import pytest
from pymongo.errors import PyMongoError

from deploy.sandbox import documentdb, topology
from deploy.sandbox.bridge import APP_WORKLOAD, Bridge, Document
from deploy.sandbox.commands import free_port
from deploy.sandbox.control import Control
from deploy.sandbox.daemon import REPOSITORY
from deploy.sandbox.world import World
from tests.e2e.clients import PROGRAM_SECONDS
from tests.e2e.nosql import POWERLESS, READER, USER
from tests.e2e.table import MISTAKES
from tests.e2e.tap import Tap
from tests.e2e.test_secrets import ISSUE, Evidence, pages, pieces, process_of, search, talkative
from tests.support import cql, mongo
from tests.support.raw_cql import CqlClient, query
from tests.support.raw_mongo import MongoClient
from tests.support.raw_postgres import RawClient
from tollbridge.v1.credential_service_pb2 import IssueCredentialResponse, SignChallengeResponse

KEYSPACES, DOCUMENTDB = topology.KEYSPACES.name, topology.DOCUMENTDB.name
SIGN: Final = "/tollbridge.v1.CredentialService/SignChallenge"
TYPED: Final = "a-password-that-only-its-client-knows"
SECRET_KEY_CHARACTERS: Final = 40
PATIENCE: Final = 5.0


@pytest.fixture(scope="module")
def steering(nosql_world: World) -> Iterator[Control]:
    """The levers of this sandbox."""
    control = Control(nosql_world.aws_endpoint)
    yield control
    control.clear_faults()


@pytest.fixture(scope="module")
def tap() -> Tap:
    """What the broker sent."""
    return Tap()


@pytest.fixture(scope="module")
def evidence(nosql_world: World, steering: Control, tap: Tap, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of one run."""
    found = Evidence()
    ports = {"cql-names": free_port(), **{f"m-{name}": free_port() for name in (*MISTAKES, "powerless")}}

    def change_broker(document: Document) -> None:
        talkative(document)
        document["limits"] = {"recheck_seconds": 1}
        databases = document["db_service"]["databases"]
        for like in (KEYSPACES, DOCUMENTDB):
            row = next(entry for entry in databases if entry["name"] == like)
            databases += [{**row, "name": f"{like}-{name}", "aws": aws} for name, aws in MISTAKES.items()]

    def change_proxy(document: Document) -> None:
        talkative(document)
        tap.change(document)

        def door(name: str, protocol: str, **more: Any) -> None:
            common = {"name": name, "protocol": protocol, "address": f"127.0.0.1:{ports[name]}"}
            document["listeners"].append({**common, "workload": APP_WORKLOAD, **more})

        door("cql-names", "cassandra", route="login_name")
        door("m-powerless", "mongodb", database=DOCUMENTDB, db_user=POWERLESS)
        for name in MISTAKES:
            door(f"m-{name}", "mongodb", database=f"{DOCUMENTDB}-{name}", db_user=USER)

    place = tmp_path_factory.mktemp("nosql-secrets") / "bridge"
    bridge = Bridge(nosql_world, place, change_broker, change_proxy, ports=ports)
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
    found.keys["the broker's own key"] = pieces(nosql_world.broker_secret_access_key)
    found.keys |= {f"external ID {value}": {value} for value in (topology.EXAMPLE_EXTERNAL_ID, "not-the-agreed-one")}
    found.keys["what a client typed"] = {TYPED}
    return found


def run(bridge: Bridge, control: Control, found: Evidence) -> None:
    """Everything that could quote a secret."""
    for _ in range(2):
        cassandra(bridge, found)
        mongodb(bridge, found)
        control.expire_session(role_arn=topology.EXAMPLE_ROLE_ARN)
        control.expire_session(role_arn=topology.DATABASE_USER_ROLE_ARN)
    documentdb.fail_over(bridge.world)
    be_rude(bridge, found)
    bridge.broker.send(signal.SIGHUP)
    bridge.proxy.send(signal.SIGHUP)
    bridge.broker.stop()
    cassandra(bridge, found)
    mongodb(bridge, found)
    bridge.broker.start()


def cassandra(bridge: Bridge, found: Evidence) -> None:
    """Sessions, refusals, statements that fail, and a second login that is held back."""
    for door, user in (
        *((KEYSPACES, user) for user in (USER, READER, POWERLESS, "role/NobodysRole", "x" * 60)),
        *(("cql-names", f"{USER}@{KEYSPACES}-{name}") for name in MISTAKES),
        ("cql-names", f"{USER}@nowhere"),
    ):
        with contextlib.suppress(OSError, EOFError), CqlClient(bridge.ports[door], seconds=PATIENCE) as client:
            client.send(cql.startup() + cql.plain(user, TYPED))
            told = [client.answer(), client.answer()]
            if told[-1].opcode == cql.AUTH_SUCCESS:
                told.append(client.request(query("SELECT * FROM shop.orders")))
                told.append(client.request(query(f"SELECT * FROM shop.nowhere -- {TYPED}"[:30])))
                client.send(cql.plain(user, TYPED))
                told.append(client.answer())
            found.told += [frame.body.decode("latin-1") for frame in told]


def mongodb(bridge: Bridge, found: Evidence) -> None:
    """The same, and drivers with passwords that nobody asked for."""
    for door in (DOCUMENTDB, "m-powerless", *(f"m-{name}" for name in MISTAKES)):
        with contextlib.suppress(OSError, EOFError), MongoClient(bridge.ports[door], seconds=PATIENCE) as client:
            found.told.append(str(client.request("hello")))
            found.told.append(str(client.request("count", 8, "app", count="orders")))
            found.told.append(str(client.request("count", 9, "payroll", count="people")))
            plain = {"mechanism": "PLAIN", "payload": b"\0app\0" + TYPED.encode()}
            found.told.append(str(client.request("saslStart", 10, "$external", **plain)))
    options: dict[str, Any] = {"serverSelectionTimeoutMS": 2_000, "username": "app", "password": TYPED}
    uri = f"mongodb://127.0.0.1:{bridge.ports[DOCUMENTDB]}/"
    with contextlib.suppress(PyMongoError), pymongo.MongoClient[dict[str, Any]](uri, **options) as driver:
        found.told.append(str(driver.app.orders.find_one()))


def be_rude(bridge: Bridge, found: Evidence) -> None:
    """Bytes that no client sends, with a secret in them."""
    for rude in (
        TYPED.encode(),
        cql.plain("app", TYPED),
        cql.frame(cql.STARTUP, b"\xff\xff" + TYPED.encode()),
        mongo.op_msg({"saslStart": 1, "payload": TYPED})[:-9],
        mongo.op_msg({TYPED: 1, "$db": "app"}),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + TYPED.encode(),
    ):
        for door in (KEYSPACES, DOCUMENTDB):
            with contextlib.suppress(OSError, EOFError), RawClient(bridge.ports[door], seconds=PATIENCE) as client:
                found.told.append(client.send(rude).half_close().read_to_end().decode("latin-1"))


def tools(bridge: Bridge) -> str:
    """What the proxy's command line says of each."""
    said = ""
    for name in (KEYSPACES, DOCUMENTDB, f"{KEYSPACES}-no-trust", f"{DOCUMENTDB}-no-trust"):
        arguments = [sys.executable, "-m", "proxy", "check", name, "--config", bridge.file("proxy.yaml")]
        arguments += ["--db-user", USER, "--workload", APP_WORKLOAD]
        environment = dict(bridge.proxy.environment)
        done = subprocess.run(
            arguments, capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=PROGRAM_SECONDS
        )
        said += f"{name} {done.stdout} {done.stderr}\n"
    return said


def take_apart(tap: Tap, found: Evidence) -> None:
    """Keys, proofs and session tokens here, the rest of the messages there."""
    found.texts["requests of the proxy"] = "\n".join(f"{method} {message!r}" for method, message in tap.requests)
    found.texts["errors for the proxy"] = "\n".join(tap.errors)
    for method, message in tap.answers:
        rest = message
        if method == ISSUE:
            issued = IssueCredentialResponse.FromString(message)
            for day in issued.signing_key.keys:
                found.tokens[f"signing key {len(found.tokens)}"] = {
                    day.key.hex(),
                    day.key.decode("latin-1"),
                    repr(day.key)[2:-1],
                    base64.b64encode(day.key).decode().rstrip("="),
                }
            issued.signing_key.session_token = ""
            del issued.signing_key.keys[:]
            rest = issued.SerializeToString()
        elif method == SIGN:
            signed = SignChallengeResponse.FromString(message)
            proof = signed.mongodb_aws
            signature = proof.authorization.partition("Signature=")[2]
            assert len(signature) == 64
            found.tokens[f"proof {len(found.tokens)}"] = pieces(signature)
            found.passwords.append(proof.authorization)
            proof.authorization = proof.session_token = ""
            rest = signed.SerializeToString()
        found.answers.append(rest.decode("latin-1"))


def test_the_run_went_where_secrets_are(evidence: Evidence) -> None:
    assert len(evidence.keys) >= 12
    kinds = {name.split()[0] for name in evidence.tokens}
    assert kinds == {"signing", "proof"}
    assert len(set(evidence.passwords)) >= 4, "each login has a proof of its own"
    audit = evidence.texts["broker-audit.jsonl"]
    for reason in ("ASSUME_ROLE_DENIED", "DB_USER_NOT_ALLOWED", "DB_NAME_NOT_ALLOWED", "DATABASE_REFUSED"):
        assert reason in audit, reason
    assert evidence.texts["errors for the proxy"]
    assert "Edsger" in "\n".join(evidence.told)


def test_no_message_of_the_broker_holds_a_secret_access_key(
    evidence: Evidence, tap: Tap, steering: Control, nosql_world: World
) -> None:
    handed_out = [secret for secret in steering.secrets() if len(secret) == SECRET_KEY_CHARACTERS]
    keys = {
        str(number): pieces(secret) for number, secret in enumerate([nosql_world.broker_secret_access_key, *handed_out])
    }
    assert len(keys) >= 6
    assert evidence.answers
    sent = [f"{method} {message.decode('latin-1')}" for method, message in tap.answers]
    assert [message[:60] for message in sent if search(message, keys)] == []
    assert not any(search(error, keys) for error in tap.errors)


def test_the_search_finds_what_is_there(evidence: Evidence, tap: Tap) -> None:
    for method, message in tap.answers:
        if method == SIGN or (method == ISSUE and IssueCredentialResponse.FromString(message).signing_key.keys):
            assert search(message.decode("latin-1"), evidence.keys), "each holds a session token"
            assert search(message.decode("latin-1"), evidence.tokens), "and keys of a day, or a proof"


def test_nothing_written_or_shown_holds_a_secret(evidence: Evidence) -> None:
    leaks = {name: found for name, text in evidence.texts.items() if (found := search(text, evidence.secrets))}
    assert leaks == {}


def test_nothing_a_client_was_told_holds_a_secret(evidence: Evidence) -> None:
    assert [told[:200] for told in evidence.told if search(told, evidence.secrets)] == []


def test_of_what_the_broker_sends_only_keys_and_proofs_hold_one(evidence: Evidence) -> None:
    assert evidence.answers
    assert [answer[:60] for answer in evidence.answers if search(answer, evidence.secrets)] == []


def test_nothing_crashed(evidence: Evidence) -> None:
    assert "Traceback" not in evidence.texts["proxy.log"] + evidence.texts["broker.log"]
    assert "crashed" not in evidence.texts["proxy.log"]
