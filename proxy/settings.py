"""The proxy's YAML: what it may say, and what is wrong with it, all at once.

    broker:     where the broker is and who we are to it
    listeners:  where applications connect, who they are there and which database they reach
    sessions, databases, trust, dial, drain, admin, audit, log

`load(path)` returns a validated `ProxySettings`. Files it names are opened by `file_problems`, not here: a
configuration can be checked on a machine that has no keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from proxy.addresses import IPV4_LIST, Name, PortAddressText, Seconds, address_findings, is_ipv4, is_local
from proxy.admission import WAIT_SECONDS
from proxy.listener_settings import ListenerSettings
from proxy.net.dial import Dialer
from proxy.net.tls import TrustStores
from tollbridge.process import settings as loader
from tollbridge.process.settings import Finding, Loaded, Section
from tollbridge.process.tls import TlsFiles


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
    """`host:port`, balanced over every address of that name; without such a name, `ipv4:A:PORT,B:PORT`."""
    tls: BrokerTls | None = None
    """Absent: plaintext, which loopback and unix sockets alone may use."""

    def findings(self) -> Iterator[Finding]:
        """Plaintext stays on this machine."""
        if self.address.startswith(IPV4_LIST):
            yield from self._listed()
            return
        yield from address_findings(self, self.address)
        if self.tls is None and not is_local(self.address):
            yield Finding(
                self.at("tls"),
                "is required: the broker is not on this machine",
                hint="credentials travel here; give cert_file, key_file and ca_file",
            )

    def _listed(self) -> Iterator[Finding]:
        for text in self.address.removeprefix(IPV4_LIST).split(","):
            host, _colon, port = text.rpartition(":")
            if not (is_ipv4(host) and port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
                yield Finding(self.at("address"), f"{text!r} is no IPv4 address with a port", "ipv4:10.0.0.1:8443,...")
        if self.tls is None or not self.tls.server_name:
            message = "tls.server_name is required with a list of addresses: certificates name hosts"
            yield Finding(self.at("tls"), message, "the DNS name that every broker's certificate holds")


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
    audit_requests: bool = False
    """Write an audit line for each request to a database that is asked over HTTP: what, status, bytes, duration."""


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
        yield from self._elsewhere()

    def _elsewhere(self) -> Iterator[Finding]:
        """What does not go together with listeners, or leads nowhere."""
        for listener in self.listeners:
            if listener.address == self.admin.address and not listener.address.endswith(":0"):
                message = f"{listener.address!r} is the address of `admin`, too"
                yield Finding(listener.at("address"), message, "give one of them another port")
        fixed = {name for row in self.listeners for name in row.fixed_databases()}
        if all(row.route is None for row in self.listeners):
            for name in self.databases.keys() - fixed:
                message = "no listener leads to this database: these limits hold for nobody"
                known = f"listeners lead to {', '.join(sorted(fixed))}"
                yield Finding(self.at("databases", name), message, known, warning=True)


def load(path: Path, *, also: loader.Check[ProxySettings] | None = None) -> Loaded[ProxySettings]:
    """Read and validate. Raises `tollbridge.process.settings.SettingsError` with every problem, those of `also` too."""
    return loader.load(path, ProxySettings, also=also)
