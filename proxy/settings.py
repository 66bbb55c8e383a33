"""The proxy's YAML: what it may say, and what is wrong with it, all at once.

    broker:     where the broker is and who we are to it
    listeners:  where applications connect, who they are there and which database they reach
    sessions, databases, trust, dial, drain, admin, audit, log

`load(path)` returns a validated `ProxySettings`. Files it names are opened by `file_problems`, not here: a
configuration can be checked on a machine that has no keys.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from proxy.admission import WAIT_SECONDS
from proxy.engines import ENGINES
from proxy.net.dial import Dialer
from proxy.net.tls import TrustStores
from tollbridge.process import settings as loader
from tollbridge.process.settings import Finding, Loaded, Section
from tollbridge.process.tls import TlsFiles

UNIX: Final = "unix:"
MAX_UNIX_PATH: Final = 107
"""sun_path holds 108 bytes with its NUL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen or connect: a host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def local(self) -> bool:
        """Whether nobody but this machine can be at the other end."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path:
            return UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`host:port`, `[v6]:port` or `unix:/path`. Raises ValueError, which the loader reports."""
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if not path.startswith("/") or len(path.encode()) > MAX_UNIX_PATH:
            raise ValueError(f"a unix socket is unix:/absolute/path of at most {MAX_UNIX_PATH} bytes")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or (":" in host and not bracketed) or not (port.isascii() and port.isdigit()):
        raise ValueError("must be host:port, [IPv6 address]:port or unix:/path")
    if int(port) > 65535:
        raise ValueError("a port is at most 65535")
    return Address(host=host.lower(), port=int(port))


def _address_findings(section: Section, text: str) -> Iterator[Finding]:
    """As a finding and not as a type: a type error would hide what else is wrong with the section."""
    try:
        parse_address(text)
    except ValueError as error:
        yield Finding(section.at("address"), str(error))


def _local(text: str) -> bool:
    try:
        return parse_address(text).local
    except ValueError:
        return True


def _is_port_address(text: str) -> str:
    if parse_address(text).path:
        raise ValueError("must be host:port here")
    return text


PortAddressText = Annotated[str, AfterValidator(_is_port_address)]
Name = Annotated[str, Field(min_length=1, max_length=253)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]


class BrokerTls(Section):
    """Who this proxy is to the broker, and whom it takes for the broker."""

    cert_file: Path
    """Certificate chain; its one SPIFFE URI is the caller in the broker's `proxies:` row."""
    key_file: Path
    ca_file: Path
    server_name: str = ""
    """DNS name in the broker's certificate; empty: the host of the address."""

    def files(self) -> TlsFiles:
        """What is watched for rotation."""
        return TlsFiles(cert_file=self.cert_file, key_file=self.key_file, ca_file=self.ca_file)


class BrokerSettings(Section):
    """Where the broker is."""

    address: str
    tls: BrokerTls | None = None
    """Absent: plaintext, which loopback and unix sockets alone may use."""

    def findings(self) -> Iterator[Finding]:
        """Plaintext stays on this machine."""
        yield from _address_findings(self, self.address)
        if self.tls is None and not _local(self.address):
            yield Finding(
                self.at("tls"),
                "is required: the broker is not on this machine",
                hint="credentials travel here; give cert_file, key_file and ca_file",
            )


class ListenerTls(Section):
    """What clients of a listener are shown, and what they must show."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    """Who signs client certificates. With it, a client's workload is its certificate's one SPIFFE URI."""
    required: bool = True
    """Refuse clients that do not ask for TLS. May be false on loopback and unix sockets."""
    allow_dns_identity: bool = False
    """Take a certificate with no URI and exactly one DNS name as the workload `dns:NAME`."""

    def files(self) -> TlsFiles:
        """What is watched for rotation."""
        return TlsFiles(cert_file=self.cert_file, key_file=self.key_file, ca_file=self.client_ca_file)


class ListenerLimits(Section):
    """What one listener bears."""

    max_connections: int = Field(default=1000, ge=1, le=1_000_000)
    """Open connections, logins included; one more is refused in the database's own words."""
    handshake_seconds: Seconds = 15.0
    """From accept to established: the client's part, the broker's, the dial and the upstream login."""
    login_seconds: Seconds | None = None
    """How long a login lasts upstream before the server ends it, where sessions can renew it unseen. Absent: what AWS
    says of the protocol (redis: twelve hours). Renewed after three quarters of it, ended just before it otherwise."""


class MysqlListener(Section):
    """What a MySQL listener says and allows before it can know the database."""

    server_version: str = Field(default="", max_length=60, pattern=r"^[ -~]*$")
    """Version to greet with, and with it the flags that every server has; empty: as the database itself greets."""
    local_infile: bool = False
    """Let the database ask clients for files (LOAD DATA LOCAL INFILE)."""


class ListenerSettings(Section):
    """Where applications connect."""

    name: Name
    protocol: str
    address: str
    tls: ListenerTls | None = None
    workload: Name | None = None
    """Everybody who connects here is this workload. Loopback and unix sockets only."""
    database: Name | None = None
    """Everybody who connects here reaches this database."""
    sni: dict[Name, Name] = Field(default_factory=dict)
    """Server name that the client asks for -> database."""
    route: Literal["login_name"] | None = None
    """`login_name`: log in as db_user@database."""
    db_user: Name | None = None
    """User inside the database for clients that name none."""
    mysql: MysqlListener | None = None
    limits: ListenerLimits = Field(default_factory=ListenerLimits)

    def findings(self) -> Iterator[Finding]:
        """Who comes in, over what, and where to."""
        yield from _address_findings(self, self.address)
        if self.protocol not in ENGINES:
            yield Finding(self.at("protocol"), f"must be one of {', '.join(sorted(ENGINES))}")
        local = _local(self.address)
        if not local:
            yield from self._off_this_machine()
        has_client_ca = self.tls is not None and self.tls.client_ca_file is not None
        if local and self.workload is None and not has_client_ca:
            yield Finding(
                self.at(),
                "nothing here says who a client is",
                hint="set `workload`, or `tls.client_ca_file` so that client certificates say it",
            )
        if self.workload is not None and has_client_ca:
            yield Finding(
                self.at("workload"),
                "is the workload of every client here, whatever certificate it shows",
                hint="remove either `workload` or `tls.client_ca_file`",
                warning=True,
            )
        yield from self._routes()
        yield from self._greeting()

    def _greeting(self) -> Iterator[Finding]:
        if self.protocol != "mysql":
            if self.mysql is not None:
                yield Finding(self.at("mysql"), f"means nothing where {self.protocol} is spoken", hint="remove it")
        elif self.database is None and (self.mysql is None or not self.mysql.server_version):
            yield Finding(
                self.at("mysql", "server_version"),
                "is required without `database`: a MySQL server speaks first, before the client can say where it goes",
                hint="the version your databases run, like 8.0.36 or 5.5.5-10.11.8-MariaDB",
            )

    def _off_this_machine(self) -> Iterator[Finding]:
        where = f"{self.address} can be reached from other machines"
        if self.tls is None:
            yield Finding(
                self.at("tls"),
                f"is required: {where}",
                hint="give cert_file, key_file and client_ca_file, or listen on 127.0.0.1 or unix:/path",
            )
        elif not self.tls.required:
            yield Finding(
                self.tls.at("required"), f"must be true: {where}", hint="remove the line, or listen on 127.0.0.1"
            )
        if self.tls is not None and self.tls.client_ca_file is None:
            yield Finding(
                self.tls.at("client_ca_file"),
                f"is required: {where}, and only a client certificate says who is there",
                hint="name the CA that signs your workloads' certificates",
            )
        if self.workload is not None:
            yield Finding(
                self.at("workload"),
                f"is for loopback and unix sockets only: {where}",
                hint="let client certificates say who it is (`tls.client_ca_file`)",
            )

    def _routes(self) -> Iterator[Finding]:
        given = [
            name
            for name, on in (("database", self.database), ("sni", self.sni), ("route: login_name", self.route))
            if on
        ]
        if len(given) != 1:
            yield Finding(
                self.at(),
                f"must have exactly one route, not {' and '.join(given) or 'none'}",
                hint="one of `database: NAME`, `sni: {server name: NAME}`, `route: login_name`",
            )
        if self.sni and self.tls is None:
            yield Finding(self.at("sni"), "needs `tls`: a server name is part of the TLS handshake")
        elif self.sni and self.tls is not None and not self.tls.required:
            yield Finding(
                self.at("sni"),
                "leads nowhere for clients without TLS",
                hint="leave `tls.required` true",
                warning=True,
            )
        for server_name in self.sni:
            if server_name != server_name.lower():
                yield Finding(self.at("sni", server_name), "server names are compared in lower case: write it so")


class SessionLimits(Section):
    """What sessions of a database may do, and how many there may be. Absent: no limit."""

    idle_seconds: Seconds | None = None
    """End a session after so long without a byte in either direction."""
    max_session_seconds: Seconds | None = None
    """End a session that old: the bound on how long a withdrawn permission lives on in open sessions."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Connections that this process has open to the database at most, over all listeners, logins included."""
    logins_per_second: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Logins that this process sends to the database at most; one second's worth may come at once after a pause."""
    wait_seconds: Annotated[float, Field(ge=0, le=60)] = WAIT_SECONDS
    """How long a login may wait for one of these two before it is refused; never over half of what its
    `handshake_seconds` leave."""


class TrustSettings(Section):
    """Files in place of the packaged bundles."""

    aws_rds: Path | None = None
    aws_redshift: Path | None = None

    def stores(self) -> TrustStores:
        """With the packaged bundle where no file is given."""
        packaged = TrustStores()
        return TrustStores(
            aws_rds=self.aws_rds or packaged.aws_rds, aws_redshift=self.aws_redshift or packaged.aws_redshift
        )


class DrainSettings(Section):
    """How the process ends."""

    seconds: Annotated[float, Field(ge=0, le=86400)] = 25.0
    """How long sessions may go on after SIGTERM. Below Kubernetes' default grace of 30."""


class AdminSettings(Section):
    """/livez /readyz /metrics."""

    address: PortAddressText = "127.0.0.1:8082"


class AuditSettings(Section):
    """Where session lines go."""

    file: Path | None = None
    """Appended to; absent: standard output."""


class LogSettings(Section):
    """Where the process talks about itself: JSON lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class ProxySettings(Section):
    """The whole file."""

    broker: BrokerSettings
    listeners: list[ListenerSettings] = Field(default_factory=list)
    sessions: SessionLimits = Field(default_factory=SessionLimits)
    """Of every database."""
    databases: dict[Name, SessionLimits] = Field(default_factory=dict)
    """Of one database. What is not said here is as in `sessions`."""
    trust: TrustSettings = Field(default_factory=TrustSettings)
    dial: dict[Name, Name] = Field(default_factory=dict)
    """`host` or `host:port` of an endpoint -> `address` or `address:port` to connect to. The certificate must still
    name the endpoint."""
    drain: DrainSettings = Field(default_factory=DrainSettings)
    admin: AdminSettings = Field(default_factory=AdminSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    def limits_of(self, database: str) -> SessionLimits:
        """What holds for one database."""
        own = self.databases.get(database)
        if own is None:
            return self.sessions
        return self.sessions.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})

    def findings(self) -> Iterator[Finding]:
        """What listeners must not share, and what a type cannot say."""
        if not self.listeners:
            yield Finding(self.at("listeners"), "must hold at least one listener")
        for what, values in (
            ("name", [listener.name for listener in self.listeners]),
            ("address", [listener.address.lower() for listener in self.listeners]),
        ):
            counts = Counter(values)
            for listener, value in zip(self.listeners, values, strict=True):
                if counts[value] > 1 and not value.endswith(":0"):
                    yield Finding(listener.at(what), f"{value!r} is used by {counts[value]} listeners")
        for source, target in self.dial.items():
            host, colon, port = source.rpartition(":")
            if colon and (not port.isdecimal() or not host):
                yield Finding(self.at("dial", source), "must be `host` or `host:port` of a database's endpoint")
            try:
                Dialer(dial={source: target})
            except ValueError:
                yield Finding(self.at("dial", source), "must lead to `address` or `address:port`")


def load(path: Path) -> Loaded[ProxySettings]:
    """Read and validate. Raises `tollbridge.process.settings.SettingsError` with every problem."""
    return loader.load(path, ProxySettings)
