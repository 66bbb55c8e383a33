"""psql and pgbench work through the proxy as they do without it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tests.e2e.clients import SIDES, Clients, psql, run

pytestmark = pytest.mark.parametrize("side", SIDES)


def test_psql_logs_in_without_any_password(clients: Clients, side: str) -> None:
    answer = psql(clients.dsn(side), "select current_user, current_database()")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "app|app\n", "")


def test_psql_sees_the_servers_own_parameters(clients: Clients, side: str) -> None:
    answer = psql(clients.dsn(side), "show server_version", r"\echo :SERVER_VERSION_NUM :ENCODING", "show TimeZone")
    assert answer.returncode == 0, answer.stderr
    version, said, zone = answer.stdout.splitlines()
    assert version.startswith("15.")
    assert re.fullmatch(r"15\d{4} UTF8", said)
    assert zone == "UTC"


def test_psql_gets_the_servers_error_and_the_session_lives_on(clients: Clients, side: str) -> None:
    answer = psql(clients.dsn(side), stdin="\\set ON_ERROR_STOP 0\nselect 1/0;\nselect 'still here';\n")
    assert "division by zero" in answer.stderr
    assert answer.stdout == "still here\n"


def test_psql_copies_both_ways_and_nothing_changes(clients: Clients, side: str, tmp_path: Path) -> None:
    rows = "".join(f"{n}\t{hashlib.sha256(str(n).encode()).hexdigest()}\n" for n in range(50_000))
    source, target = tmp_path / "in.tsv", tmp_path / "out.tsv"
    source.write_text(rows)
    answer = psql(
        clients.dsn(side),
        stdin=(
            "create temporary table copied (n integer, digest text);\n"
            f"\\copy copied from '{source}'\n"
            f"\\copy (select * from copied order by n) to '{target}'\n"
        ),
    )
    assert answer.returncode == 0, answer.stderr
    assert target.read_text() == rows


def test_psql_reads_a_result_of_thirty_megabytes_whole(clients: Clients, side: str) -> None:
    text = "select repeat(md5(n::text), 100) from generate_series(1, 10000) n"
    answer = psql(clients.dsn(side), text)
    assert answer.returncode == 0, answer.stderr
    expected = "".join(f"{hashlib.md5(str(n).encode()).hexdigest() * 100}\n" for n in range(1, 10_001))  # noqa: S324
    assert hashlib.sha256(answer.stdout.encode()).digest() == hashlib.sha256(expected.encode()).digest()


@pytest.mark.parametrize("options", [["-M", "simple"], ["-M", "extended"], ["-M", "prepared"], ["-C", "-M", "simple"]])
def test_pgbench_runs_without_a_failed_transaction(
    clients: Clients, side: str, tmp_path: Path, options: list[str]
) -> None:
    script = tmp_path / "script.sql"
    script.write_text(
        "\\set n random(1, 10000)\n"
        "select payload from readings where id = :n;\n"
        "begin;\nselect count(*) from orders;\nend;\n"
    )
    count = 20 if "-C" in options else 200
    answer = run(
        "pgbench", "-n", *options, "-c", "4", "-j", "2", "-t", str(count), "-f", str(script), clients.dsn(side)
    )
    assert answer.returncode == 0, answer.stderr
    assert f"number of transactions actually processed: {4 * count}/{4 * count}" in answer.stdout
    assert "number of failed transactions: 0" in answer.stdout
