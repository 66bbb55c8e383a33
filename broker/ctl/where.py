"""How the command line finds its broker: flags, then environment, then ~/.config/tollbridge/config.yaml."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from pydantic import Field

from broker.ctl.failure import Failure, exit_for, file_problems, near
from tollbridge.process import settings as loader
from tollbridge.process.settings import Finding, Section, TextList
from tollbridge.reasons import Reason

if TYPE_CHECKING:
    from tollbridge.client import RpcFailed

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

CONFIG_ENV: Final = "TOLLBRIDGE_CONFIG"
_INTERRUPTED: Final = 130
_GRPC_VERBOSITY: Final = "GRPC_VERBOSITY"


class TlsSection(Section):
    """`broker.tls:` who this command line is, and whom it believes."""

    cert_file: str = Field(default="", description="Certificate whose SPIFFE ID is the caller.")
    key_file: str = ""
    ca_file: str = Field(default="", description="CAs that sign the broker's certificate.")

    def findings(self) -> Iterable[Finding]:
        """All or none."""
        named = [key for key in ("cert_file", "key_file", "ca_file") if getattr(self, key)]
        for key in ("cert_file", "key_file", "ca_file"):
            if named and key not in named:
                yield Finding(self.at(key), f"is missing beside {named[0]}", "all three are needed for mutual TLS")


class BrokerSection(Section):
    """`broker:`."""

    address: str = Field(default="", description="HOST:PORT or unix:/path of a broker.")
    server_name: str = Field(default="", description="Name in its certificate, where that is not the host.")
    tls: TlsSection = Field(default_factory=TlsSection)


class ProxySection(Section):
    """`proxy:` whose `check` doctor joins with the broker's diagnosis."""

    config: str = Field(default="", description="YAML of a proxy on this machine.")
    command: TextList = Field(
        default_factory=list,
        description="How a proxy is run elsewhere, such as [kubectl, exec, deploy/proxy, --, tollbridge-proxy].",
    )


class CliSettings(Section):
    """The whole file."""

    broker: BrokerSection = Field(default_factory=BrokerSection)
    proxy: ProxySection = Field(default_factory=ProxySection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The broker to ask, and as whom."""

    address: str
    server_name: str = ""
    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""


def default_file() -> Path:
    """$TOLLBRIDGE_CONFIG, or where the desktop's standard puts configuration."""
    if named := os.environ.get(CONFIG_ENV):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "tollbridge" / "config.yaml"


def read_settings() -> CliSettings:
    """The file's settings; the defaults when there is none. Ends the command for a bad file."""
    path = default_file()
    if not path.exists():
        if os.environ.get(CONFIG_ENV):
            raise Failure(f"{CONFIG_ENV} names {path}, which does not exist", fix="correct it, or unset it")
        return CliSettings()
    with file_problems(path):
        return loader.load(path, CliSettings).value


def find(flags: dict[str, str]) -> Where:
    """Each value from its flag or environment variable (click has merged those), else from the file."""
    section = read_settings().broker
    tls = section.tls
    where = Where(
        address=flags["broker"] or section.address,
        server_name=flags["server_name"] or section.server_name,
        cert_file=flags["cert"] or tls.cert_file,
        key_file=flags["key"] or tls.key_file,
        ca_file=flags["ca"] or tls.ca_file,
    )
    if not where.address:
        raise Failure(
            "no broker to ask",
            fix=f"give --broker HOST:PORT, set TOLLBRIDGE_BROKER, or write `broker: {{address: HOST:PORT}}` into"
            f" {default_file()}",
        )
    files = {"--cert": where.cert_file, "--key": where.key_file, "--ca": where.ca_file}
    missing = [flag for flag, file in files.items() if not file]
    if missing and len(missing) < len(files):
        raise Failure(
            f"mutual TLS needs three files, and {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing",
            fix="the certificate that names you, its key, and the CA of the broker's certificate",
        )
    return where


_FLAGS: Final = (
    ("--broker", "TOLLBRIDGE_BROKER", "HOST:PORT", "The broker."),
    ("--cert", "TOLLBRIDGE_CERT_FILE", "FILE", "Certificate to call as."),
    ("--key", "TOLLBRIDGE_KEY_FILE", "FILE", "Its key."),
    ("--ca", "TOLLBRIDGE_CA_FILE", "FILE", "CA of the broker's certificate."),
    ("--server-name", "TOLLBRIDGE_SERVER_NAME", "NAME", "Name in the broker's certificate.  [default: the host]"),
)


def broker_options(command: F) -> F:
    """The flags that say where the broker is; the command gets them as one `where: Flags`."""
    for flag, variable, metavar, text in reversed(_FLAGS):
        command = click.option(
            flag, envvar=variable, show_envvar=True, default="", metavar=metavar, help=text, expose_value=False,
            callback=_keep,
        )(command)  # fmt: skip
    return command


def _keep(context: click.Context, parameter: click.Parameter, value: str) -> str:
    context.meta[f"tollbridge.{parameter.name}"] = value
    return value


def here() -> Where:
    """Where the broker of the running command is."""
    meta = click.get_current_context().meta
    return find({key: meta.get(f"tollbridge.{key}", "") for key in ("broker", "server_name", "cert", "key", "ca")})


def ask(work: Callable[[Any], Coroutine[Any, Any, T]], *, deadline_seconds: float = 30.0) -> T:
    """Run `work(client)` against the broker; every failure ends the command with its fix and exit code."""
    import asyncio
    import logging

    with _silent_core():  # grpc loads here, not for --help
        from tollbridge.client import Client, Identity, RpcFailed, TlsFilesError

    logging.getLogger("tollbridge").addHandler(logging.NullHandler())
    where = here()
    identity = (
        Identity(cert_file=Path(where.cert_file), key_file=Path(where.key_file), ca_file=Path(where.ca_file))
        if where.cert_file
        else None
    )

    async def run() -> T:
        async with Client(
            where.address, identity, server_name=where.server_name, deadline_seconds=deadline_seconds
        ) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except RpcFailed as failed:
        raise told(failed) from failed
    except (ValueError, TlsFilesError) as error:
        raise Failure(str(error), fix="see `tollbridge --help`, How the broker is found") from error
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None


@contextlib.contextmanager
def _silent_core() -> Iterator[None]:
    """gRPC's core writes nothing on stderr by itself: neither each handshake that fails (the command's own error says
    that once), nor a thread that could not start because `token` was just becoming the user's program.

    The core reads the variable once, when it loads; so the user's program need not inherit it.
    """
    if _GRPC_VERBOSITY in os.environ:
        yield
        return
    os.environ[_GRPC_VERBOSITY] = "NONE"
    try:
        yield
    finally:
        del os.environ[_GRPC_VERBOSITY]


def told(failed: RpcFailed, fix: str = "") -> Failure:
    """A broker's refusal as the end of a command."""
    if not fix and failed.reason is Reason.CALLER_UNIDENTIFIED:
        fix = "give --cert, --key and --ca, or their environment variables; `tollbridge --help` says more"
    return Failure(f"{failed.message} ({failed.reason})", fix=fix, code=exit_for(failed.reason))


async def served(client: Any) -> list[str]:
    """Names of the databases that are served and that this caller may view; of those it may enter, for others."""
    from tollbridge.client import RpcFailed

    try:
        found = [each.served_as for each in await client.list_registrations() if each.served_as]
    except RpcFailed as failed:
        if failed.reason not in (Reason.CALLER_NOT_ALLOWED, Reason.INTERNAL):
            raise
        found = [each.name for each in await client.list_databases()]
    return sorted(found)


async def or_near(client: Any, name: str, work: Awaitable[T]) -> T:
    """What `work` answers; where it knows no database of that name, the refusal says which may be meant."""
    from tollbridge.client import RpcFailed

    try:
        return await work
    except RpcFailed as failed:
        if failed.reason is not Reason.DATABASE_UNKNOWN or "did you mean" in failed.message:
            raise
        known = await served(client)
        if name in known:  # it is there, and not of the kind that was asked for: the broker has said so
            raise
        raise told(failed, near(name, known) or "`tollbridge ls` lists what there is") from failed


def names(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Names of databases for shell completion: none when the broker does not answer at once."""
    with context.scope():
        try:
            return [name for name in ask(served, deadline_seconds=1.0) if name.startswith(begun)]
        except (Failure, SystemExit):
            return []
