"""`check-config` and `schema`: what can be said about a configuration without serving it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from broker.settings import ListenerTls, Settings, derive, load
from tollbridge.process.files import expired, unreadable, unwritable
from tollbridge.process.settings import Finding, Problem, SettingsError, json_schema
from tollbridge.process.tls import TlsFiles, TlsFilesError, certificate_facts, read


def check_config(path: str | Path, *, files: bool = True) -> int:
    """Print every problem, or a summary and the warnings. 0 when the broker can start with the file, else 2.

    `files`: also look at the certificates and directories it names.
    """
    try:
        loaded = load(path, also=file_findings if files else None)
    except SettingsError as error:
        show(path, error.problems, "error")
        click.echo(f"{path}: {_count(len(error.problems), 'problem')}", err=True)
        return 2
    show(path, loaded.warnings, "warning")
    click.echo(f"{path}: ok: {summary(loaded.value)}")
    return 0


def schema() -> dict[str, Any]:
    """The configuration's JSON Schema."""
    return {**json_schema(Settings), "title": "tollbridge-broker configuration"}


def show(path: str | Path, problems: list[Problem], severity: str) -> None:
    """Print problems to standard error."""
    for problem in problems:
        click.echo(problem.told(path, severity), err=True)


def summary(settings: Settings) -> str:
    """What the broker would serve, in a line."""
    derived = derive(settings)
    accounts = {database.facts.account_id for database in derived.databases}
    return ", ".join(
        (
            f"{_count(len(derived.databases), 'database')} in {_count(len(accounts), 'account')}",
            _count(len(derived.links.all), "account link"),
            _count(len(derived.policy.rules), "rule"),
            _count(len(derived.policy.proxies), "proxies row"),
            _count(len(settings.listeners), "listener"),
            f"policy version {derived.policy.version}",
        )
    )


def file_findings(settings: Settings) -> Iterator[Finding]:
    """What is wrong with the files that serving needs."""
    for listener in settings.listeners:
        if (tls := listener.tls) and tls.cert_file and tls.key_file and tls.client_ca_file:
            yield from _certificate(tls)
    file = settings.audit.file
    if file != "-":
        hint = "create it for the user the broker runs as; - is standard output"
        yield from unwritable(settings.audit, "file", Path(file), hint)


def _certificate(tls: ListenerTls) -> Iterator[Finding]:
    if missing := unreadable(tls, "cert_file", "key_file", "client_ca_file"):
        yield from missing
        return
    files = TlsFiles(cert_file=Path(tls.cert_file), key_file=Path(tls.key_file))
    try:
        facts = certificate_facts(files.cert_file)
    except TlsFilesError as error:
        yield Finding(tls.at("cert_file"), str(error))
        return
    if not facts.dns_names:
        message = f"{files.cert_file} has no DNS name in its SAN: gRPC clients check that name and take no other"
        yield Finding(tls.at("cert_file"), message, "issue it with the name clients dial (SPIRE: -dns NAME)")
    yield from expired(tls, files.cert_file, facts)
    try:
        read(files)
    except TlsFilesError as error:
        yield Finding(tls.at("key_file"), str(error), "certificate and key must be issued together")
        return
    try:
        read(replace(files, ca_file=Path(tls.client_ca_file)))
    except TlsFilesError as error:
        yield Finding(tls.at("client_ca_file"), str(error))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
