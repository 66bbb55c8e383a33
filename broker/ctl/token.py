"""`tollbridge token`: a login token for a program that connects to the database itself.

The password reaches the program through its environment, or a file that its owner alone may read; never a command
line, which every user of a machine can see, and the terminal only when it is asked for.
"""

from __future__ import annotations

import configparser
import io
import json
import os
import re
import shlex
import shutil
import ssl
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from broker.ctl.failure import Exit, Failure
from broker.ctl.where import ask, broker_options, names, or_near
from tollbridge.model import Database, Grant, Protocol, TlsMode, Token, TrustStore
from tollbridge.secret import Secret

_EXAMPLES: Final = """
\b
Examples:
  tollbridge token rds-postgres --db-user app --db-name app -- psql
  tollbridge token rds-mysql --db-user app -- mysql -h {host} -P {port} -u {user} --enable-cleartext-plugin
  tollbridge token cache --db-user app -- redis-cli -h {host} -p {port} --user {user} --tls
  tollbridge token rds-postgres --db-user app --write ~/.pgpass --format pgpass
"""

_PLACE: Final = re.compile(r"\{(host|port|user|db_name)\}")
FORMATS: Final = ("env", "json", "pgpass", "mycnf", "password")
_SSL_MODES: Final = {TlsMode.VERIFY_FULL: "verify-full", TlsMode.VERIFY_CA: "verify-ca", TlsMode.INSECURE: "require"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Everything a client needs."""

    protocol: Protocol
    host: str
    port: int
    user: str
    password: Secret
    db_name: str
    expires_at: datetime
    ssl_mode: str
    ca_file: str

    def places(self) -> dict[str, str]:
        """What `{...}` in a command's arguments may name. Never the password."""
        return {"host": self.host, "port": str(self.port), "user": self.user, "db_name": self.db_name}


@click.command(
    "token",
    short_help="Run a program with a login token.",
    epilog=_EXAMPLES,
    context_settings={"ignore_unknown_options": False},
)
@click.argument("database", shell_complete=names)
@click.option("--db-user", required=True, metavar="USER", help="Log in as.")
@click.option("--db-name", default="", metavar="NAME", help="Logical database.")
@click.option("--workload", default="", metavar="ID", help="On behalf of.  [default: this certificate's own identity]")
@click.option("--write", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write a file of mode 0600.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="env",
    show_default=True,
    help="Of that file, or of --print.",
)
@click.option("--print", "shown", is_flag=True, help="Write it to standard output, password and all.")
@click.option(
    "--ca-file", "ca_file", default="", metavar="FILE", envvar="TOLLBRIDGE_DATABASE_CA_FILE", show_envvar=True,
    help="CAs of the database, such as AWS's bundle for RDS.",
)  # fmt: skip
@broker_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def token(
    database: str, db_user: str, db_name: str, workload: str, file: Path | None, form: str, shown: bool, ca_file: str,
    command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run a program with a login token in its environment, or write the token into a file.

    After `--` stands the program. It gets PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD, PGSSLMODE; or MYSQL_HOST,
    MYSQL_TCP_PORT, MYSQL_PWD; or REDISCLI_AUTH; and always TOLLBRIDGE_HOST, _PORT, _USER, _DB_NAME, _EXPIRES_AT. In its
    arguments {host}, {port}, {user} and {db_name} are filled in; the password never is.

    The program connects to the database itself, without a proxy, and must check its certificate: for RDS and Redshift
    give AWS's CA bundle with --ca-file.

    The token is good for new logins for some minutes; sessions outlive it.
    """
    if [bool(command), file is not None, shown].count(True) != 1:
        raise Failure(
            "what to do with the token?" if not (command or file or shown) else "one of the three, not several",
            fix="`-- PROGRAM ...` runs a program with it, --write FILE keeps it in a file, --print shows it",
        )
    if ca_file:
        _check_ca(ca_file)
    if command and "{" not in command[0] and shutil.which(command[0]) is None:
        raise Failure(f"there is no program {command[0]!r}", fix="install it, or give its path")
    login = _login(database, db_user, db_name, workload, ca_file)
    if shown:
        click.echo(rendered(login, form), nl=False)
    elif file is not None:
        write(file, rendered(login, form))
        click.echo(f"{file}: {form} for {login.user}, good for logins until {login.expires_at:%FT%TZ}", err=True)
    else:
        _become(login, command)


def _login(name: str, db_user: str, db_name: str, workload: str, ca_file: str) -> Login:
    found: dict[str, Any] = {}

    async def work(client: Any) -> Grant:
        entry = {each.name: each for each in await client.list_databases()}.get(name)
        found["entry"] = entry
        work = client.issue_credential(name, db_user, db_name=db_name, workload=workload)
        grant: Grant = await or_near(client, name, work)
        return grant

    grant = ask(work)
    entry: Database | None = found["entry"]
    if not isinstance(grant.credential, Token):
        raise Failure(
            f"{name!r} logs in with {type(grant.credential).__name__}, which is no password a program could take",
            fix="connect through a proxy",
            code=Exit.NO,
        )
    if entry is None:
        raise Failure(f"the broker does not list {name!r} for this caller", code=Exit.UNKNOWN)
    return Login(
        protocol=entry.protocol,
        host=grant.endpoint.host,
        port=grant.endpoint.port,
        user=grant.credential.user,
        password=grant.credential.password,
        db_name=db_name,
        expires_at=grant.expires_at,
        ssl_mode=_SSL_MODES[grant.tls.mode],
        ca_file=ca_file or ("system" if grant.tls.trust_store is TrustStore.SYSTEM and not grant.tls.ca_pem else ""),
    )


def environment(login: Login) -> dict[str, str]:
    """Variables of the clients of its protocol, and our own."""
    common = {f"TOLLBRIDGE_{key.upper()}": value for key, value in login.places().items()}
    common["TOLLBRIDGE_EXPIRES_AT"] = f"{login.expires_at:%FT%TZ}"
    password = login.password.reveal()
    match login.protocol:
        case Protocol.POSTGRES:
            ours = {
                "PGHOST": login.host,
                "PGPORT": str(login.port),
                "PGUSER": login.user,
                "PGPASSWORD": password,
                "PGSSLMODE": login.ssl_mode,
            }
            if login.db_name:
                ours["PGDATABASE"] = login.db_name
            if login.ca_file:
                ours["PGSSLROOTCERT"] = login.ca_file
        case Protocol.MYSQL:
            ours = {
                "MYSQL_HOST": login.host,
                "MYSQL_TCP_PORT": str(login.port),
                "MYSQL_PWD": password,
                # A token is sent as it is, over TLS: MySQL's own client asks to be told that this is meant.
                "LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN": "1",
            }
        case _:
            ours = {"REDISCLI_AUTH": password}
    return {**common, **ours}


def filled(login: Login, command: Sequence[str]) -> list[str]:
    """The command with {host}, {port}, {user}, {db_name} filled in; other braces stay."""
    places = login.places()
    return [_PLACE.sub(lambda found: places[found[1]], argument) for argument in command]


def rendered(login: Login, form: str) -> str:
    """The file's text."""
    renderers: Mapping[str, Callable[[Login], str]] = {
        "env": _env,
        "json": _json,
        "pgpass": _pgpass,
        "mycnf": _mycnf,
        "password": lambda each: each.password.reveal() + "\n",
    }
    wanted = {"pgpass": Protocol.POSTGRES, "mycnf": Protocol.MYSQL}.get(form)
    if wanted is not None and login.protocol is not wanted:
        raise Failure(f"--format {form} is for {wanted} databases, this one is {login.protocol}", fix="--format env")
    return renderers[form](login)


def _env(login: Login) -> str:
    return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in environment(login).items())


def _json(login: Login) -> str:
    value = {
        **login.places(),
        "port": login.port,
        "protocol": str(login.protocol),
        "password": login.password.reveal(),
        "expires_at": f"{login.expires_at:%FT%TZ}",
    }
    return json.dumps(value, indent=2) + "\n"


def _pgpass(login: Login) -> str:
    fields = (login.host, str(login.port), login.db_name or "*", login.user, login.password.reveal())
    return ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields) + "\n"


def _mycnf(login: Login) -> str:
    parser = configparser.RawConfigParser()
    password = login.password.reveal().replace("\\", "\\\\").replace('"', '\\"')
    parser["client"] = {
        "host": login.host,
        "port": str(login.port),
        "user": login.user,
        "password": f'"{password}"',
        **({"ssl-ca": login.ca_file} if login.ca_file not in ("", "system") else {}),
    }
    text = io.StringIO()
    parser.write(text, space_around_delimiters=False)
    return text.getvalue()


def write(file: Path, text: str) -> None:
    """Put a file of mode 0600 in its place at once, so that nobody ever reads half of it. Ends the command on error."""
    file = file.expanduser()
    if file.exists() and not file.is_file():
        raise Failure(f"{file} is no regular file", fix="name another")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # made 0600
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(text)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failure(
            f"cannot write {file}: {error.strerror}", fix="the directory must exist and be writable"
        ) from error


def _check_ca(path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError as error:
        raise Failure(f"--ca-file {path}: {error.strerror or error}", fix="a PEM file of CA certificates") from error


def _become(login: Login, command: Sequence[str]) -> NoReturn:
    arguments = filled(login, command)
    sys.stdout.flush()
    try:
        os.execvpe(arguments[0], arguments, {**os.environ, **environment(login)})  # noqa: S606 - the user's own program
    except OSError as error:
        raise Failure(
            f"{arguments[0]!r} cannot be run: {error.strerror}", fix="install it, or give its path"
        ) from error
