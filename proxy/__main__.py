"""The command line: argv in, exit code out. `tollbridge-proxy --help` says the rest."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from proxy.files import file_findings
from proxy.listener_settings import ListenerSettings
from proxy.settings import ProxySettings, load
from tollbridge.process import lifecycle
from tollbridge.process.settings import Problem, SettingsError, json_schema
from tollbridge.process.telemetry import start_logging
from tollbridge.process.tls import TlsFilesError

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2

CONFIG = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=Path("/etc/tollbridge/proxy.yaml"),
    envvar="TOLLBRIDGE_PROXY_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The YAML file.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tollbridge", prog_name="tollbridge-proxy")
def main() -> None:
    """Let applications into databases of other AWS accounts, over the databases' own protocols.

    Applications connect here without a password. The proxy asks the broker whether this workload may enter, logs in
    with a credential that lives for minutes, and moves bytes. See deploy/config/proxy.example.yaml for a configuration.
    """


@main.command()
@CONFIG
def serve(config: Path) -> None:
    """Serve until SIGTERM or SIGINT.

    \b
    SIGTERM, SIGINT  drain: accept no more, let sessions finish for `drain.seconds`, then end them with the
                     database's own goodbye; a second signal ends them at once
    SIGHUP           open the audit file anew, after a rotation
    \b
    Certificates and CAs are taken over when their files change; nothing needs to be sent.
    Exit code 0 after a drain, 1 when the proxy could not start or failed, 2 for a bad configuration.
    """
    settings = _settings(config)
    start_logging(settings.log.level)
    sys.exit(_serve(settings))


@main.command("check-config", short_help="Say all that is wrong with the configuration.")
@CONFIG
@click.option("--no-files", is_flag=True, help="Do not open the certificates and bundles that the file names.")
def check_config(config: Path, no_files: bool) -> None:
    """Say everything that is wrong with the configuration, each with its line, path and a hint.

    Exit code 0: it can be used. 2: it cannot.
    """
    settings = _settings(config, files=not no_files)
    count = len(settings.listeners)
    click.echo(f"{config}: ok: {count} listener{'s' if count != 1 else ''}")


@main.command()
def schema() -> None:
    """Print the configuration's JSON Schema, for editors."""
    click.echo(json.dumps(json_schema(ProxySettings), indent=2))


@main.command(short_help="Log in once, step by step.")
@click.argument("database")
@CONFIG
@click.option("--db-user", help="User inside the database.  [default: the listener's `db_user`]")
@click.option("--db-name", default="", help="Logical database.  [default: as the protocol has it]")
@click.option("--workload", help="Speak for this workload.  [default: the one of the listeners, if there is one]")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json", "jsonl"]),
    default="text",
    show_default=True,
    help="json: all of it at the end; jsonl: a line of JSON for each step as it ends.",
)
def check(database: str, config: Path, db_user: str | None, db_name: str, workload: str | None, output: str) -> None:
    """Log in to DATABASE once, step by step, and say which step fails and why.

    \b
    broker, database   is the broker there, does it list the database for this proxy     exit code 3
    grant              does it let this workload in, as this user                        exit code 4
    dns, tcp           is there a way to the database                                    exit code 5
    tls                does its certificate chain to the right roots and bear its name   exit code 6
    login, query       does it take the credential and answer one trivial question       exit code 7
    \b
    Exit code 0 when all of it works, 2 for a bad configuration or command line.
    """
    settings = _settings(config)
    start_logging("error")
    import proxy.check as checking  # grpc loads here, not for --help

    listeners = listeners_for(settings, database)
    db_user = db_user or next((listener.db_user for listener in listeners if listener.db_user), None)
    workloads = {listener.workload for listener in listeners if listener.workload}
    if db_user is None:
        raise click.UsageError("no listener of this database sets `db_user`: give --db-user")
    if workload is None and len(workloads) > 1:
        raise click.UsageError(f"the listeners speak for {len(workloads)} workloads: give --workload")
    workload = workload or next(iter(workloads), "")

    def show(result: checking.Result) -> None:
        if output == "text":
            click.echo(checking.as_line(result))
        elif output == "jsonl":
            click.echo(json.dumps(checking.as_record(result)))

    try:
        report = lifecycle.run(
            checking.check(
                settings,
                database=database,
                workload=workload,
                db_user=db_user,
                db_name=db_name,
                clock=lifecycle.SystemClock(),
                on_result=show,
            )
        )
    except (ValueError, TlsFilesError) as error:
        _config_error(config, [Problem(path="", line=None, message=str(error))])
    if output == "json":
        click.echo(report.as_json())
    sys.exit(report.exit_code)


def listeners_for(settings: ProxySettings, database: str) -> list[ListenerSettings]:
    """The listeners that lead to a database; those that fix it come first."""
    fixed = [row for row in settings.listeners if row.database == database or database in row.sni.values()]
    return fixed or [row for row in settings.listeners if row.route is not None]


def _settings(config: Path, *, files: bool = False) -> ProxySettings:
    """The file's settings; ends the process with exit code 2 when there are none. `files`: judge those it names."""
    try:
        loaded = load(config, also=file_findings if files else None)
    except SettingsError as error:
        _config_error(config, error.problems)
    for warning in loaded.warnings:
        click.echo(warning.told(config, "warning"), err=True)
    return loaded.value


def _config_error(config: Path, problems: list[Problem]) -> NoReturn:
    for problem in problems:
        click.echo(problem.told(config, "error"), err=True)
    click.echo(f"{config}: {len(problems)} problem{'s' if len(problems) != 1 else ''}", err=True)
    sys.exit(EXIT_CONFIG)


def _serve(settings: ProxySettings) -> int:
    """Run the proxy. Its exit code."""
    from proxy.app import ProxyApp  # grpc and uvloop load here, not for --help

    async def serve() -> None:
        life = lifecycle.Lifecycle()
        proxy = ProxyApp(settings, clock=lifecycle.SystemClock(), lifecycle=life)
        with life.signals():
            await proxy.run()

    try:
        lifecycle.run(serve())
    except (OSError, ValueError, TlsFilesError) as error:
        logging.getLogger("proxy").critical("the proxy cannot start: %s", error)
        return EXIT_FAILED
    except BaseExceptionGroup:
        logging.getLogger("proxy").critical("the proxy failed", exc_info=True)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    main()
