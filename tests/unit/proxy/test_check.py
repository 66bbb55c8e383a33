"""`check`: each step, where it stops, and what the shell learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.check import STEP_NOTE, Report, Result, as_line, check, noting
from proxy.errors import Refused
from proxy.script import UPSTREAM, Note, Script, Send, note, send
from proxy.settings import load
from tests.contract.house import APP, PASSWORD, House, database, refused
from tests.support.peer import serving
from tests.unit.proxy.whole import ORDERS, FakePostgres, configuration, written
from tollbridge.model import Protocol
from tollbridge.process.lifecycle import SystemClock
from tollbridge.reasons import Reason

STEPS = ["broker", "database", "grant", "dns", "tcp", "tls", "login", "query"]


async def checked(house: House, folder: Path, postgres: FakePostgres | None, name: str = "orders") -> Report:
    """One check against a served broker; without a database behind it when `postgres` is None."""
    postgres_or_not = postgres or FakePostgres(house)
    async with house.serving(), serving(postgres_or_not.serve) as server:
        document = configuration(house, folder, server.port if postgres else 1, house.address)
        return await against(document, folder, name)


async def against(document: dict[str, Any], folder: Path, name: str = "orders") -> Report:
    """One check with a configuration."""
    shown: list[Result] = []
    report = await check(
        load(written(folder, document)).value,
        database=name,
        workload=APP,
        db_user="app",
        db_name="",
        clock=SystemClock(),
        on_result=shown.append,
    )
    assert shown == report.results
    return report


def outcome(report: Report) -> tuple[list[str], str, Reason | None, int]:
    """Steps that were tried, the last one's detail and reason, and the exit code."""
    last = report.results[-1]
    assert [result.ok for result in report.results] == [True] * (len(report.results) - 1) + [report.exit_code == 0]
    return [result.step for result in report.results], last.detail, last.reason, report.exit_code


async def test_everything_works(house: House, tmp_path: Path) -> None:
    """Eight steps, each with what it saw; never the password."""
    house.register(ORDERS)
    report = await checked(house, tmp_path, FakePostgres(house))
    steps, detail, reason, code = outcome(report)
    assert steps == STEPS
    assert (reason, code) == (None, 0)
    assert detail == "PostgreSQL 15.20 answered `select 1`"
    details = {result.step: result.detail for result in report.results}
    assert details["database"].startswith("rds at orders.abc.eu-central-1.rds.amazonaws.com:5432, account 222222222222")
    assert details["grant"] == "user app, decision d-1, expires at 2030-01-01T00:15:00+00:00"
    assert "verify-full" in details["tls"]
    assert PASSWORD not in report.as_json()


async def test_a_broker_that_is_not_there(house: House, tmp_path: Path) -> None:
    """Nothing can be tried."""
    report = await against(configuration(house, tmp_path, 1, "localhost:1"), tmp_path)
    steps, detail, reason, code = outcome(report)
    assert (steps, reason, code) == (["broker"], Reason.BROKER_UNAVAILABLE, 3)
    assert "localhost:1" in detail


async def test_a_database_nobody_lists(house: House, tmp_path: Path) -> None:
    """The nearest name helps."""
    house.register(ORDERS)
    steps, detail, reason, code = outcome(await checked(house, tmp_path, None, "order"))
    assert (steps, reason, code) == (["broker", "database"], Reason.DATABASE_UNKNOWN, 3)
    assert "did you mean 'orders'?" in detail


async def test_a_protocol_this_proxy_does_not_speak(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer broker than proxy."""
    monkeypatch.setattr("proxy.check.PROTOCOLS", ("postgres",))
    house.register(database("orders", protocol=Protocol.CASSANDRA))
    _, detail, reason, code = outcome(await checked(house, tmp_path, None))
    assert (reason, code) == (Reason.PRODUCT_UNSUPPORTED, 3)
    assert "cassandra" in detail


async def test_a_refused_grant(house: House, tmp_path: Path) -> None:
    """The broker's words."""
    house.register(ORDERS)
    house.grants.raises["orders"] = refused(Reason.ASSUME_ROLE_DENIED, "check the external ID")
    steps, detail, reason, code = outcome(await checked(house, tmp_path, None))
    assert (steps[-1], reason, code) == ("grant", Reason.ASSUME_ROLE_DENIED, 4)
    assert detail == "check the external ID"


async def test_nothing_listens_at_the_database(house: House, tmp_path: Path) -> None:
    """DNS worked."""
    house.register(ORDERS)
    steps, _, reason, code = outcome(await checked(house, tmp_path, None))
    assert (steps[-2:], reason, code) == (["dns", "tcp"], Reason.UPSTREAM_UNREACHABLE, 5)


async def test_a_certificate_for_another_name(house: House, tmp_path: Path) -> None:
    """The grant stays sealed."""
    house.register(ORDERS)
    postgres = FakePostgres(house, host="other.example")
    steps, detail, reason, code = outcome(await checked(house, tmp_path, postgres))
    assert (steps[-1], reason, code) == ("tls", Reason.UPSTREAM_TLS_UNVERIFIED, 6)
    assert "other.example" in detail
    assert postgres.startups == []


async def test_a_database_that_refuses_twice(house: House, tmp_path: Path) -> None:
    """The second credential is asked for in the open."""
    house.register(ORDERS)
    steps, detail, reason, code = outcome(await checked(house, tmp_path, FakePostgres(house, rejects=2)))
    assert steps == [*STEPS[:6], *STEPS[2:7]]
    assert (reason, code) == (Reason.DATABASE_REFUSED, 7)
    assert "rds_iam" in detail or "PAM" in detail


def test_an_engine_that_notes_its_login_gets_a_query_of_its_own() -> None:
    """And sees every effect's result and failure as if nobody listened."""

    def probe() -> Script[str]:
        yield from note(STEP_NOTE, "login")
        try:
            yield from send(UPSTREAM, b"select 1")
        except Refused as refusal:
            return f"saw {refusal.reason}"
        return "sent"

    for failure, saw in ((None, "sent"), (_refused(), "saw DATABASE_UNKNOWN")):
        report = Report("orders", lambda: 0.0, lambda _: None)
        script = noting(probe(), report)
        assert script.send(None) == Note(STEP_NOTE, "login")
        assert report.current == "query"
        assert script.send(None) == Send(UPSTREAM, b"select 1")
        with pytest.raises(StopIteration) as stop:
            script.throw(failure) if failure else script.send(None)
        assert stop.value.value == saw


def test_json_is_for_programs() -> None:
    """Every step, with who can fix the one that failed."""
    report = Report("orders", lambda: 0.0, lambda _: None)
    report.done("broker", "fine")
    report.failed(_refused())
    assert json.loads(report.as_json()) == {
        "database": "orders",
        "ok": False,
        "exit_code": 3,
        "steps": [
            {"step": "broker", "ok": True, "seconds": 0.0, "detail": "fine"},
            {
                "step": "database",
                "ok": False,
                "seconds": 0.0,
                "detail": "no such database",
                "reason": "DATABASE_UNKNOWN",
                "fixer": "caller",
            },
        ],
    }


def _refused() -> Refused:
    return Refused(Reason.DATABASE_UNKNOWN, "no such database")


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (
            Result(step="dns", ok=True, seconds=0.0123, detail="10.0.0.1:5432"),
            "ok     dns           12 ms  10.0.0.1:5432",
        ),
        (
            Result(step="tcp", ok=False, seconds=5, detail="no answer", reason=Reason.UPSTREAM_TIMEOUT),
            """\
FAILED tcp         5000 ms  no answer
                            UPSTREAM_TIMEOUT: for the operator to fix; the same again may succeed later""",
        ),
    ],
)
def test_lines_are_for_people(result: Result, line: str) -> None:
    """Aligned, the reason beneath."""
    assert as_line(result) == line


def test_what_a_server_says_of_itself_does_not_reach_the_terminal_as_commands() -> None:
    """A greeting comes before anybody has proved who it is."""
    said = as_line(Result(step="query", ok=True, seconds=0.0, detail="server 8.0\x1b[2J\r\nok     all is well"))
    assert said.endswith("server 8.0?[2J??ok     all is well")
