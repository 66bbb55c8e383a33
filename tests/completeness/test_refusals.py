"""No cell is empty: every engine can say every reason, and says in its docstring how it speaks."""

from __future__ import annotations

import importlib
import json
import re

import pytest

from proxy.engine import Engine, HttpEngine
from proxy.engines import ENGINES, HTTP_ENGINES
from proxy.engines.cassandra import CassandraEngine
from proxy.engines.dynamodb import refusals as dynamodb
from proxy.engines.opensearch import refusals as opensearch
from proxy.engines.postgres import PostgresEngine, wire
from proxy.engines.postgres.refusals import NATIVE_ROWS
from proxy.engines.redis import RedisEngine
from proxy.errors import Refused
from proxy.script import CLIENT
from tests.support import cql
from tollbridge.reasons import LOGIN_REASONS, ROWS, Code, Reason

every_reason = pytest.mark.parametrize("reason", LOGIN_REASONS)
every_engine = pytest.mark.parametrize(("name", "engine"), ENGINES.items())
every_http_engine = pytest.mark.parametrize(("name", "engine"), HTTP_ENGINES.items())


@every_reason
@every_engine
def test_every_engine_says_every_reason(name: str, engine: Engine, reason: Reason) -> None:
    """Natively, with the message inside."""
    said = engine.refuse(reason, f"because of {name}")
    assert f"because of {name}".encode() in said


@pytest.mark.parametrize("name", [*ENGINES, *HTTP_ENGINES])
def test_every_engine_has_a_sequence_diagram(name: str) -> None:
    """Three parties at least and arrows both ways, with a link to the spec, in the package's docstring."""
    doc = importlib.import_module(f"proxy.engines.{name}").__doc__ or ""
    assert all(party in doc for party in ("client", "proxy", "broker", "upstream"))
    assert "-->" in doc
    assert "<--" in doc
    assert "https://" in doc


@every_reason
def test_postgres_has_a_sqlstate_and_a_fix_for_every_reason(reason: Reason) -> None:
    """FATAL, five characters of class and code, a message, a hint that is a sentence."""
    said = PostgresEngine().refuse(reason, "what went wrong")
    fields = wire.error_fields(said[5:], CLIENT)
    assert fields["S"] == fields["V"] == "FATAL"
    assert re.fullmatch(r"[0-9A-Z]{5}", fields["C"])
    assert fields["M"] == "tollbridge: what went wrong"
    assert reason in fields["D"]
    assert re.fullmatch(r"[A-Za-z].{20,}\.", fields["H"])


@every_reason
def test_pools_are_told_to_retry_exactly_what_can_be_retried(reason: Reason) -> None:
    """57P01 and 57P03 mean `try again`: no reason that stays true until somebody acts may use them."""
    if NATIVE_ROWS[reason].sqlstate in {"57P01", "57P03"}:
        assert ROWS[reason].retryable


@every_reason
def test_redis_says_every_reason_in_one_line_with_the_useful_part_first(reason: Reason) -> None:
    """A code that clients know, the message, the reason, the fix; nothing in it can begin a second reply."""
    said = RedisEngine().refuse(reason, "what went wrong\r\n+OK\r\n" + "x" * 5000)
    assert re.match(rb"-(ERR|NOAUTH|NOPERM|WRONGPASS) tollbridge: what went wrong", said)
    assert said.endswith(b"\r\n")
    assert said.count(b"\r") == said.count(b"\n") == 1
    assert len(said) <= 1_000
    assert reason.encode() in said
    assert re.search(rb"\]: [A-Za-z`].{10,}\r\n$", said)


@every_reason
@every_http_engine
def test_every_http_engine_says_every_reason_as_its_service_would(
    name: str, engine: HttpEngine, reason: Reason
) -> None:
    """JSON that says what, why and how to fix it, in a status and under a name that clients know."""
    reply = engine.refuse(Refused(reason, f"because\r\nof {name}", decision_id="d-7"))
    said = json.loads(reply.body)
    error = said["error"] if name == "opensearch" else said
    text = error["reason"] if name == "opensearch" else error["message"]
    assert f"because  of {name} [{reason}, decision d-7]: " in text
    assert re.search(r"\]: [A-Za-z`].{7,}$", text)
    assert re.search(r"[A-Za-z_]{6,}$", error["type"] if name == "opensearch" else error["__type"])
    assert "json" in reply.content_type


@every_reason
def test_sdks_for_dynamodb_retry_exactly_what_can_be_retried(reason: Reason) -> None:
    """By the code or by a status of 5xx; what is wrong with a server or with us is worth a try as well."""
    row = dynamodb.NATIVE_ROWS[reason]
    retried = row.status >= 500 or row.kind == "ThrottlingException"
    assert retried == ROWS[reason].retryable or reason in {Reason.INTERNAL, Reason.UPSTREAM_PROTOCOL}


@every_reason
def test_clients_of_opensearch_retry_exactly_what_can_be_retried(reason: Reason) -> None:
    """By a status of 5xx, or after a while with 429."""
    row = opensearch.NATIVE_ROWS[reason]
    retried = row.status >= 500 or row.status == 429
    assert retried == ROWS[reason].retryable or reason in {Reason.INTERNAL, Reason.UPSTREAM_PROTOCOL}
    assert bool(row.headers) == (row.status in {429, 503})


@every_reason
def test_cassandra_says_every_reason_with_a_code_that_drivers_act_on(reason: Reason) -> None:
    """0x1001 means `another host, or later`: exactly what can be retried. A denial is bad credentials, never a server
    error, which drivers would try again. No text is taken for the one that makes them ask for an older version."""
    code, text = cql.read_error(CassandraEngine().refuse(reason, "what went wrong\n" + "x" * 5000))
    assert text.startswith("tollbridge: what went wrong xxx")
    assert re.search(rf"\[{reason}\]: [A-Za-z`].{{10,}}$", text)
    assert len(text) <= 2_000
    assert (code == 0x1001) == ROWS[reason].retryable
    if ROWS[reason].code in {Code.PERMISSION_DENIED, Code.UNAUTHENTICATED} or reason is Reason.DATABASE_REFUSED:
        assert code == 0x0100
    assert code in {0x0000, 0x000A, 0x0100, 0x1001}
    assert "unsupported protocol version" not in text
