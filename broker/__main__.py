"""`tollbridge-broker`: argv only."""

from __future__ import annotations

import json
from pathlib import Path

import click

from broker import check
from broker.settings import load
from tollbridge.process.settings import SettingsError
from tollbridge.process.telemetry import start_logging

_CONFIG = click.option(
    "-c",
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("/etc/tollbridge/broker.yaml"),
    show_default=True,
    envvar="TOLLBRIDGE_BROKER_CONFIG",
    show_envvar=True,
    help="The broker's YAML.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tollbridge", prog_name="tollbridge-broker")
def main() -> None:
    """Decides who may enter which database, and issues credentials that live for minutes.

    The broker assumes an IAM role in the AWS account that owns a database (with an external ID where that account asks
    for one) and hands proxies a login token, never an AWS key.
    """


@main.command()
@_CONFIG
def serve(config: Path) -> None:
    """Serve until told to stop.

    AWS credentials come from the SDK's own chain: environment, shared files with AWS_PROFILE, web identity, container,
    instance metadata. The configuration is read again when it changes and at SIGHUP; one with an error changes nothing.
    SIGTERM stops gracefully. Exits 2 when the configuration cannot be used.
    """
    try:
        loaded = load(config, also=check.file_findings)
    except SettingsError as error:
        check.show(config, error.problems, "error")
        raise SystemExit(2) from error
    check.show(config, loaded.warnings, "warning")
    if not loaded.value.listeners:
        click.echo(f"{config}: error: listeners: none: nobody could reach the broker", err=True)
        raise SystemExit(2)
    start_logging(loaded.value.log.level)
    from broker.app import serve as run  # boto3, grpc and uvloop load here, not for --help
    from broker.reload import ConfigFile

    raise SystemExit(run(loaded.value, ConfigFile(config, lambda: load(config, also=check.file_findings))))


@main.command("check-config")
@_CONFIG
@click.option("--no-files", is_flag=True, help="Do not open the certificates that the configuration names.")
def check_config(config: Path, no_files: bool) -> None:
    """Say everything that is wrong with the configuration.

    Prints each problem with its line, path and a hint, and exits 2; or a summary and warnings, and exits 0. Talks to
    nobody: AWS is not asked.
    """
    raise SystemExit(check.check_config(config, files=not no_files))


@main.command()
def schema() -> None:
    """Print the configuration's JSON Schema.

    Editors check and complete with it: write `# yaml-language-server: $schema=PATH` into the first line of the YAML.
    """
    click.echo(json.dumps(check.schema(), indent=2))


if __name__ == "__main__":
    main()
