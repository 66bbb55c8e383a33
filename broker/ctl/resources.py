"""`tollbridge create`, `get`, `ls`, `rm`, `forget`: databases as they are registered."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import yaml

from broker.ctl.failure import Failure, exit_for, printable
from broker.ctl.output import TEXT, dump, output_option, show, table
from broker.ctl.where import ask, broker_options, names, or_near
from tollbridge.model import Database
from tollbridge.reasons import Reason

if TYPE_CHECKING:
    from tollbridge.client import Client, RpcFailed
    from tollbridge.client.registrations import DocumentProblem, Registration

_MAX_FILE_BYTES: Final = 8 * 1024 * 1024
_SEPARATOR: Final = re.compile(r"^---(\s.*)?$")

_EXAMPLES: Final = """
\b
Examples:
  tollbridge create database.yaml
  tollbridge create -f database.yaml                         # also when it exists
  tollbridge get rds-postgres -o yaml > database.yaml        # edit it, then create -f
  generate | tollbridge create --check -
"""


@click.command("create", short_help="Register databases.", epilog=_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-f", "--force", is_flag=True, help="Replace databases that exist.")
@click.option("--check", "check_only", is_flag=True, help="Have the broker judge the documents; change nothing.")
@broker_options
@output_option
def create(file: Path, force: bool, check_only: bool, form: str) -> None:
    """Register the databases of FILE: `kind: db`, `version: v3` documents, as YAML or JSON; - is standard input.

    A document that came from `get -o yaml` carries its revision: `create -f` then refuses (exit code 6) when somebody
    else has changed it meanwhile. Several documents are registered one after the other, up to the first that fails.
    """
    documents = list(_documents(file))

    async def work(client: Client) -> list[tuple[str, Registration]]:
        from tollbridge.client import RpcFailed

        done = []
        for line, text in documents:
            try:
                made = (
                    await client.update_database(text, allow_missing=True, validate_only=check_only)
                    if force
                    else await client.create_database(text, validate_only=check_only)
                )
            except RpcFailed as failed:
                if failed.reason is Reason.INVALID_REQUEST and force and _has_revision(text):
                    raise Failure(f"{failed.message}", fix="remove metadata.revision to create it anew") from failed
                raise _refused(file, line, failed) from failed
            done.append(("ok" if check_only else "registered", made))
            if form == TEXT:
                _tell(made, check_only)
        return done

    done = ask(work)
    if form != TEXT:
        click.echo(dump([{"result": result, **_value(made)} for result, made in done], form), nl=False)


@click.command("ls")
@click.option(
    "--origin", "origins", multiple=True, type=click.Choice(["static", "dynamic", "discovered"]), help="Only of these."
)
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only with this label.")
@broker_options
@output_option
def ls(origins: tuple[str, ...], labels: tuple[str, ...], form: str) -> None:
    """List databases.

    Operators see every registration that their rows select, with its origin and what keeps it from being served. Other
    callers see the databases that rules let them enter, or that they serve as a proxy.
    """
    wanted = dict(_pair(label) for label in labels)
    found = ask(lambda client: _listed(client, origins))
    rows = [row for row in found if wanted.items() <= row["labels"].items()]

    def text() -> str:
        if not rows:
            return "no databases\n"
        lines = [
            (
                row["name"], row["origin"], row["protocol"], row["product"], row["account_id"] or "(own)",
                row["region"], row["endpoint"], ",".join(f"{k}={v}" for k, v in sorted(row["labels"].items())),
                row["status"],
            )
            for row in rows
        ]  # fmt: skip
        headers = ("NAME", "ORIGIN", "PROTOCOL", "PRODUCT", "ACCOUNT", "REGION", "ENDPOINT", "LABELS", "STATUS")
        if not rows[0]["origin"]:  # no operator: the catalog does not say
            return table([*headers[:1], *headers[2:-1]], [[line[0], *line[2:-1]] for line in lines])
        return table(headers, lines)

    show(rows, form, text)


@click.command("get")
@click.argument("name", shell_complete=names)
@broker_options
@output_option
def get(name: str, form: str) -> None:
    """Show one database.

    With `-o yaml` or `-o json` as the document that would register it, revision and all, never with an external ID:
    edit it and give it to `create -f`.
    """
    found = ask(lambda client: or_near(client, name, client.get_database(name)))
    if form != TEXT:
        document = yaml.safe_load(found.document)
        click.echo(found.document if form == "yaml" else json.dumps(document, indent=2) + "\n", nl=False)
        return
    value = _value(found)
    rows = [(key.replace("_", " "), _flat(each)) for key, each in value.items() if each not in ("", None, [], {})]
    width = max(len(key) for key, _ in rows)
    click.echo("\n".join(printable(f"{key:<{width}}  {each}") for key, each in rows))
    for problem in found.problems:
        click.echo(printable(_problem_line(problem)))


@click.command("rm")
@click.argument("name", shell_complete=names)
@click.option("--revision", default="", metavar="R", help="Only if it still has this revision.")
@broker_options
def rm(name: str, revision: str) -> None:
    """Remove a database that was registered with `create`.

    Static ones are removed from the broker's configuration, discovered ones by AWS, or with `forget`.
    """
    ask(lambda client: or_near(client, name, client.delete_database(name, revision=revision)))
    click.echo(f"database {name!r} is removed")


@click.command("forget", short_help="Drop a discovered database by hand.")
@click.argument("name", shell_complete=names)
@broker_options
def forget(name: str) -> None:
    """Drop a discovered database whose account or region no longer answers.

    A failed sweep removes nothing, so what it kept is dropped by hand. One that AWS still lists is refused.
    """
    ask(lambda client: or_near(client, name, client.forget_database(name)))
    click.echo(f"database {name!r} is forgotten")


async def _listed(client: Client, origins: Sequence[str]) -> list[dict[str, Any]]:
    from tollbridge.client import RpcFailed
    from tollbridge.client.registrations import Origin

    try:
        return [_row(each) for each in await client.list_registrations([Origin(each) for each in origins])]
    except RpcFailed as failed:
        if failed.reason is not Reason.CALLER_NOT_ALLOWED or origins:
            raise
        return [{**_facts(each), "origin": "", "status": ""} for each in await client.list_databases()]


def _row(entry: Registration) -> dict[str, Any]:
    facts = _facts(entry.database) if entry.database else _unserved(entry)
    errors = [problem for problem in entry.problems if not problem.warning]
    status = "served"
    if not entry.served_as:
        status = f"NOT SERVED: {errors[0].message}" if errors else "NOT SERVED"
    elif entry.served_as != entry.name:
        status = f"served as {entry.served_as}: {entry.name!r} is taken"
    return {**facts, "name": entry.served_as or entry.name, "origin": str(entry.origin), "status": status}


def _facts(database: Database) -> dict[str, Any]:
    return {
        "name": database.name,
        "protocol": str(database.protocol),
        "product": str(database.product),
        "account_id": database.account_id,
        "region": database.region,
        "endpoint": str(database.endpoint),
        "labels": dict(database.labels),
        "description": database.description,
    }


def _unserved(entry: Registration) -> dict[str, Any]:
    """What the document says, for a database that the broker does not serve."""
    document = yaml.safe_load(entry.document) or {}
    spec, metadata = document.get("spec") or {}, document.get("metadata") or {}
    aws = spec.get("aws") or {}
    return {
        "name": entry.name,
        "protocol": str(spec.get("protocol", "")),
        "product": "",
        "account_id": str(aws.get("account_id", "")),
        "region": str(aws.get("region", "")),
        "endpoint": str(spec.get("uri", "")),
        "labels": {str(key): str(value) for key, value in (metadata.get("labels") or {}).items()},
        "description": str(metadata.get("description", "")),
    }


def _value(entry: Registration) -> dict[str, Any]:
    """For programs."""
    return {
        **_row(entry),
        "registered_as": entry.name,
        "revision": entry.revision,
        "assume_role_arn": entry.assume_role_arn,
        "account_link": entry.account_link,
        "written_at": f"{entry.written_at:%FT%TZ}" if entry.written_at else None,
        "written_by": entry.written_by or None,
        "problems": [
            {"path": each.path, "message": each.message, "hint": each.hint, "warning": each.warning}
            for each in entry.problems
        ],
    }


def _tell(made: Registration, check_only: bool) -> None:
    where = f" as {made.served_as!r}" if made.served_as and made.served_as != made.name else ""
    role = made.assume_role_arn or "the broker's own identity"
    verb = "would be registered" if check_only else "is registered"
    click.echo(printable(f"database {made.name!r} {verb}{where}; access through {role}"))
    for problem in made.problems:
        click.echo(printable(_problem_line(problem)), err=True)


def _problem_line(problem: DocumentProblem) -> str:
    severity = "warning" if problem.warning else "error"
    path = f"{problem.path}: " if problem.path else ""
    hint = f"\n    hint: {problem.hint}" if problem.hint else ""
    return f"{severity}: {path}{problem.message}{hint}"


def _refused(file: Path, first_line: int, failed: RpcFailed) -> Failure:
    """Every problem of the document with its line in the file, as compilers show them."""
    for problem in failed.problems:
        place = f"{file}:{first_line + problem.line - 1}" if problem.line else f"{file}:{first_line}"
        click.echo(printable(f"{place}: {_problem_line(problem)}"), err=True)
    if failed.omitted:
        click.echo(f"{file}: {failed.omitted} more", err=True)
    if failed.problems:
        count = len(failed.problems) + failed.omitted
        message = f"the document has {count} problem{'' if count == 1 else 's'} and is not registered"
        return Failure(f"{message} ({failed.reason})", code=exit_for(failed.reason))
    fix = {
        Reason.DATABASE_EXISTS: "`create -f` replaces it",
        Reason.REVISION_CONFLICT: "get it again (`tollbridge get NAME -o yaml`), make the change there, `create -f`",
    }.get(failed.reason, "")
    return Failure(f"{failed.message} ({failed.reason})", fix=fix, code=exit_for(failed.reason))


def _documents(file: Path) -> Iterator[tuple[int, str]]:
    """Each document of the file with the line it begins at. Ends the command for a file that cannot be read."""
    try:
        raw = sys.stdin.buffer.read(_MAX_FILE_BYTES + 1) if str(file) == "-" else file.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is not UTF-8 text") from error
    if len(raw) > _MAX_FILE_BYTES:
        raise Failure(f"{file} is larger than {_MAX_FILE_BYTES} bytes")
    lines: list[str] = []
    first = 1
    found = False
    for number, line in enumerate([*text.splitlines(), "---"], 1):
        if not _SEPARATOR.match(line):
            lines.append(line)
            continue
        if any(each.strip() and not each.lstrip().startswith("#") for each in lines):
            found = True
            yield first, "\n".join(lines) + "\n"
        lines, first = [], number + 1
    if not found:
        raise Failure(f"{file} holds no document", fix="kind: db, version: v3, metadata and spec: see the README")


def _has_revision(text: str) -> bool:
    return re.search(r"^\s+revision:", text, re.MULTILINE) is not None


def _pair(label: str) -> tuple[str, str]:
    key, equals, value = label.partition("=")
    if not (equals and key):
        raise Failure(f"--label {label!r} is no KEY=VALUE", fix="such as --label env=dev")
    return key, value


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in sorted(value.items()))
    if isinstance(value, list):
        return f"{len(value)}"
    return str(value)
