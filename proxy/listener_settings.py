"""A listener in the settings: where applications connect, who they are there and which database they reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from proxy.addresses import Name, Seconds, address_findings, is_local
from proxy.engines import HTTP_ENGINES, PROTOCOLS
from proxy.http_settings import HttpListenerSettings
from tollbridge.process.settings import Finding, Section
from tollbridge.process.tls import TlsFiles
from tollbridge.process.words import nobodies, protocol_hint


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


class MongodbListener(Section):
    """What a MongoDB listener tells drivers."""

    advertise: str = Field(default="", max_length=260, pattern=r"^([^\s:]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$|^$")
    """HOST:PORT that drivers shall connect to, such as a Service's name; empty: what each has dialled itself (the TLS
    server name, or the address its connection arrived at)."""


class RedisListener(Section):
    """How a Redis listener uses the server's connections."""

    multiplex: bool = False
    """Clients of one workload and user share a connection, and leave it when they say what needs one of their own."""


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
    mongodb: MongodbListener | None = None
    redis: RedisListener | None = None
    http: HttpListenerSettings | None = None
    limits: ListenerLimits = Field(default_factory=ListenerLimits)

    def fixed_databases(self) -> set[str]:
        """Those it leads to, as far as its configuration says so; a login name may say any."""
        hosts = self.http.hosts.values() if self.http is not None else ()
        return {*([self.database] if self.database else ()), *self.sni.values(), *hosts}

    def findings(self) -> Iterator[Finding]:
        """Who comes in, over what, and where to."""
        yield from address_findings(self, self.address)
        if self.protocol not in PROTOCOLS:
            yield Finding(self.at("protocol"), f"must be one of {', '.join(PROTOCOLS)}", protocol_hint(self.protocol))
        local = is_local(self.address)
        if not local:
            yield from self._off_this_machine()
        has_client_ca = self.tls is not None and self.tls.client_ca_file is not None
        if local and self.workload is None and not has_client_ca:
            yield Finding(
                self.at(),
                "nothing here says who a client is",
                hint="set `workload`, or `tls.client_ca_file` so that client certificates say it",
            )
        if self.workload is not None:
            yield from nobodies(self, "workload", [self.workload])
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
        if self.http is not None and self.protocol not in HTTP_ENGINES:
            yield Finding(self.at("http"), f"means nothing where {self.protocol} is spoken", hint="remove it")
        for protocol, section in (("mysql", self.mysql), ("mongodb", self.mongodb), ("redis", self.redis)):
            if section is not None and self.protocol != protocol:
                yield Finding(self.at(protocol), f"means nothing where {self.protocol} is spoken", hint="remove it")
        if self.protocol == "mysql" and self.database is None and (self.mysql is None or not self.mysql.server_version):
            yield Finding(
                self.at("mysql", "server_version"),
                "is required without `database`: a MySQL server speaks first, before the client can say where it goes",
                hint="the version your databases run, like 8.0.36 or 5.5.5-10.11.8-MariaDB",
            )
        if self.protocol == "mongodb":
            yield from self._without_login()

    def _without_login(self) -> Iterator[Finding]:
        """Drivers open connections that never log in, to watch a server: they too must lead somewhere."""
        if self.db_user is None:
            yield Finding(
                self.at("db_user"),
                "is required: a driver names no user on the connections by which it watches a server",
                hint="the IAM role that clients enter as: a name, role/NAME or an ARN",
            )
        if self.route is not None:
            yield Finding(
                self.at("route"),
                "cannot be login_name: a driver names no user on the connections by which it watches a server",
                hint="set `database`, or `sni`",
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
            for name, on in (
                ("database", self.database),
                ("sni", self.sni),
                ("route: login_name", self.route),
                ("http.hosts", self.http and self.http.hosts),
            )
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
