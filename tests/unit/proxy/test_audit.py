"""Audit lines: what they say, what they never say, and what happens when they cannot be written."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from proxy.audit import MAX_MESSAGE, MAX_VALUE, AuditedGrants, AuditLog, Writer
from proxy.errors import Refused
from proxy.model import SealedGrant
from proxy.net.events import LoginFacts, RequestDone, SessionEnd, SessionRefusal, SessionStart
from tests.support.clock import FakeClock
from tests.support.proofs import NoProofs
from tollbridge.model import Credential, Token
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

FACTS = LoginFacts(
    peer="127.0.0.1:40000",
    door="orders",
    workload="spiffe://td/app",
    database="orders",
    db_user="app",
    db_name="shop",
    decision_id="d-1",
    credential_id="c-1",
    reused=True,
    upstream="10.0.0.1:5432",
    encrypted=True,
    notes={"application_name": "psql"},
)


def lines(path: Path) -> list[dict[str, Any]]:
    """What was written."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_session_leaves_two_lines(tmp_path: Path) -> None:
    """They join each other and the broker's line on the decision."""
    file = tmp_path / "audit.jsonl"
    writer = Writer(file)
    log = AuditLog(writer, FakeClock())
    log.on_start(SessionStart(facts=FACTS, seconds=0.01234567))
    log.on_end(
        SessionEnd(
            facts=FACTS,
            ended="proxy",
            reason=Reason.SESSION_IDLE,
            message="idle for 60 s",
            seconds=61.5,
            bytes_to_client=10,
            bytes_to_upstream=20,
        )
    )
    writer.close()
    start, end = lines(file)
    common = {
        "time": "2030-01-01T00:00:00.000+00:00",
        "peer": "127.0.0.1:40000",
        "listener": "orders",
        "workload": "spiffe://td/app",
        "database": "orders",
        "db_user": "app",
        "db_name": "shop",
        "decision_id": "d-1",
        "credential_id": "c-1",
        "reused": True,
        "upstream": "10.0.0.1:5432",
        "client_tls": True,
        "notes": {"application_name": "psql"},
    }
    assert start == {**common, "event": "session.start", "login_seconds": 0.0123}
    assert end == {
        **common,
        "event": "session.end",
        "ended_by": "proxy",
        "reason": "SESSION_IDLE",
        "message": "idle for 60 s",
        "seconds": 61.5,
        "bytes_to_client": 10,
        "bytes_to_upstream": 20,
    }


def test_a_refusal_has_its_reason_and_no_empty_fields(tmp_path: Path) -> None:
    """What the login did not get to is left out."""
    file = tmp_path / "audit.jsonl"
    writer = Writer(file)
    facts = LoginFacts(peer="unix", door="orders")
    refusal = SessionRefusal(facts=facts, reason=Reason.DRAINING, message="connect again", seconds=0)
    AuditLog(writer, FakeClock()).on_refusal(refusal)
    writer.close()
    assert lines(file) == [
        {
            "time": "2030-01-01T00:00:00.000+00:00",
            "event": "session.refused",
            "peer": "unix",
            "listener": "orders",
            "client_tls": False,
            "reason": "DRAINING",
            "message": "connect again",
            "login_seconds": 0,
        }
    ]


def test_values_a_client_chose_are_bounded_and_stay_on_their_line(tmp_path: Path) -> None:
    """Neither size nor line breaks nor broken text get through."""
    file = tmp_path / "audit.jsonl"
    writer = Writer(file)
    facts = LoginFacts(
        peer="p", door="d", db_user="x" * 10_000, db_name='"}\n{"event": "forged\udc80', notes={"k": "v" * 999}
    )
    AuditLog(writer, FakeClock()).on_refusal(
        SessionRefusal(facts=facts, reason=Reason.INVALID_REQUEST, message="m" * 9999, seconds=0)
    )
    writer.close()
    (line,) = lines(file)
    assert len(line["db_user"]) == MAX_VALUE
    assert len(line["notes"]["k"]) == MAX_VALUE
    assert len(line["message"]) == MAX_MESSAGE
    assert line["event"] == "session.refused"


def test_a_rotated_file_is_opened_anew(tmp_path: Path) -> None:
    """On SIGHUP: nothing is lost, nothing goes on into the old file."""
    file = tmp_path / "audit.jsonl"
    writer = Writer(file)
    log = AuditLog(writer, FakeClock())
    log.on_start(SessionStart(facts=FACTS, seconds=0))
    file.rename(tmp_path / "old")
    writer.reopen()
    log.on_start(SessionStart(facts=FACTS, seconds=0))
    writer.close()
    assert len(lines(file)) + len(lines(tmp_path / "old")) == 2
    assert file.exists()


class YesGrants(NoProofs):
    """Says yes."""

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
    ) -> tuple[SealedGrant, Credential]:
        """Whatever."""
        return None, Token(user="u", password=Secret("x"))  # type: ignore[return-value]


def fill(fifo: Path) -> None:
    """Leave a pipe no room for a single byte more."""
    descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x")
    os.close(descriptor)


async def test_nobody_gets_in_unrecorded(tmp_path: Path) -> None:
    """A log collector that stands still stops new logins, not the event loop."""
    fifo = tmp_path / "audit"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = Writer(fifo, limit=2)
    log = AuditLog(writer, FakeClock())
    grants = AuditedGrants(YesGrants(), writer)
    names = {"workload": "w", "database": "d", "db_user": "u", "db_name": "", "rejected": ""}
    await grants.request(**names)
    fill(fifo)
    for _ in range(10):  # the writer's thread takes one line and is stuck with it; two more wait
        log.on_start(SessionStart(facts=FACTS, seconds=0))
        await asyncio.sleep(0.01)
    assert writer.full
    assert writer.lost
    with pytest.raises(Refused, match="audit log of this proxy cannot be written"):
        await grants.request(**names)
    os.close(reader)  # the writer's thread fails and goes on
    writer.close()


def test_a_file_that_cannot_be_opened_ends_the_start(tmp_path: Path) -> None:
    """Not the first session."""
    with pytest.raises(OSError, match="No such file"):
        Writer(tmp_path / "missing" / "audit.jsonl")


def test_a_request_leaves_one_line(tmp_path: Path) -> None:
    """What was asked and how it was answered; a name that a client invented is bounded."""
    file = tmp_path / "audit.jsonl"
    writer = Writer(file)
    AuditLog(writer, FakeClock()).on_request(
        RequestDone(
            facts=FACTS,
            method="GET",
            names={"path": "/" + "x" * 5000, "index": "logs-*"},
            status=200,
            bytes_to_client=100,
            bytes_to_upstream=0,
            seconds=0.01234567,
        )
    )
    writer.close()
    (line,) = lines(file)
    assert line["event"] == "request"
    assert (line["method"], line["status"], line["index"], line["seconds"]) == ("GET", 200, "logs-*", 0.0123)
    assert (line["bytes_to_client"], line["bytes_to_upstream"]) == (100, 0)
    assert line["decision_id"] == "d-1"
    assert len(line["path"]) == MAX_MESSAGE
