"""Where a token goes: a program's environment or a file of mode 0600, and nowhere else."""

from __future__ import annotations

import configparser
import json
import shlex
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.ctl.__main__ import main
from broker.ctl.failure import Failure
from broker.ctl.token import Login, environment, filled, rendered, write
from tollbridge.model import Protocol
from tollbridge.secret import Secret

PASSWORD = r"""orders:5432/?Action=connect&X-Amz-Signature=a'b"c\d"""

LOGIN = Login(
    protocol=Protocol.POSTGRES,
    host="orders.example",
    port=5432,
    user="app",
    password=Secret(PASSWORD),
    db_name="shop",
    expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    ssl_mode="verify-full",
    ca_file="/etc/rds.pem",
)
MYSQL = replace(LOGIN, protocol=Protocol.MYSQL, port=3306)
REDIS = replace(LOGIN, protocol=Protocol.REDIS, port=6379)


def test_postgres_clients_find_everything_and_check_the_certificate() -> None:
    found = environment(LOGIN)
    assert found["PGPASSWORD"] == PASSWORD
    assert (found["PGHOST"], found["PGPORT"], found["PGUSER"], found["PGDATABASE"]) == (
        "orders.example",
        "5432",
        "app",
        "shop",
    )
    assert (found["PGSSLMODE"], found["PGSSLROOTCERT"]) == ("verify-full", "/etc/rds.pem")


@pytest.mark.parametrize(("login", "variable"), [(MYSQL, "MYSQL_PWD"), (REDIS, "REDISCLI_AUTH")])
def test_other_clients_find_the_password_where_they_look(login: Login, variable: str) -> None:
    assert environment(login)[variable] == PASSWORD
    assert environment(login)["TOLLBRIDGE_HOST"] == "orders.example"


def test_arguments_are_filled_in_and_never_with_the_password() -> None:
    command = ["mysql", "-h", "{host}", "-P{port}", "-u", "{user}", "{db_name}", "{password}", "{}", "{host"]
    assert filled(LOGIN, command) == [
        *("mysql", "-h", "orders.example", "-P5432", "-u", "app", "shop"),
        *("{password}", "{}", "{host"),
    ]


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    assert filled(replace(LOGIN, user="{host}"), ["{user}"]) == ["{host}"]


def test_a_shell_reads_the_env_file_back() -> None:
    lines = [shlex.split(line) for line in rendered(LOGIN, "env").splitlines()]
    found = dict(words[1].split("=", 1) for words in lines)
    assert found == environment(LOGIN)


def test_pgpass_escapes_what_separates_its_fields() -> None:
    line = rendered(LOGIN, "pgpass").rstrip("\n")
    assert line.startswith("orders.example:5432:shop:app:")
    assert line.removeprefix("orders.example:5432:shop:app:").replace("\\:", ":").replace("\\\\", "\\") == PASSWORD


def test_mycnf_is_an_option_file() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(rendered(MYSQL, "mycnf"))
    quoted = parser["client"]["password"]
    assert quoted.strip('"').replace('\\"', '"').replace("\\\\", "\\") == PASSWORD
    assert parser["client"]["ssl-ca"] == "/etc/rds.pem"


def test_json_has_it_all() -> None:
    found = json.loads(rendered(REDIS, "json"))
    assert (found["user"], found["password"], found["port"]) == ("app", PASSWORD, 6379)


@pytest.mark.parametrize(("login", "form"), [(MYSQL, "pgpass"), (REDIS, "mycnf")])
def test_a_format_of_another_protocol_is_refused(login: Login, form: str) -> None:
    with pytest.raises(Failure, match=form):
        rendered(login, form)


def test_a_file_is_its_owners_alone_whatever_stood_there(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("an older one")
    file.chmod(0o644)
    write(file, PASSWORD)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == PASSWORD
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)
    write(link, PASSWORD)
    assert target.read_text() == "mine"
    assert not link.is_symlink()


@pytest.mark.parametrize("place", ["nowhere/token", "."])
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, place: str) -> None:
    with pytest.raises(Failure):
        write(tmp_path / place, PASSWORD)


def test_a_login_never_prints_its_password() -> None:
    assert PASSWORD not in repr(LOGIN)
    assert "Signature" not in repr(LOGIN)


@pytest.mark.parametrize("arguments", [[], ["--print", "--", "psql"], ["--print", "--write", "x"]])
def test_what_to_do_with_it_must_be_said_once(arguments: list[str]) -> None:
    answer = CliRunner().invoke(main, ["token", "orders", "--db-user", "app", "--broker", "localhost:1", *arguments])
    assert answer.exit_code == 2
    assert "--write FILE" in answer.stderr
