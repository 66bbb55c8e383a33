"""The broker's one YAML. Every section has defaults, so that Teleport's own `db_service` loads as it stands.

`load` reads and judges it; `derive` turns it into the values the rest of the broker works with. Files that are only
needed to serve (certificates) are checked by `broker.check`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from broker.access.load import AccessSection, OperatorSection, ProxySection, check_db_names, check_reach, load_policy
from broker.access.model import Policy
from broker.access.operators import Operators, Power
from broker.discovery.load import DiscoverySection, check_matchers, load_matchers
from broker.discovery.model import Matcher
from broker.model import Origin, RegisteredDatabase
from broker.registry.arns import parse_role_arn, partition_of_region
from broker.registry.documents import Terms
from broker.registry.links import AccountLink, AccountLinks
from broker.registry.section import RegistrySection
from broker.registry.static import external_id_problem, register_static
from broker.teleport import REGION_HINT, ROLE_HINT, DbService
from tollbridge.process import settings as loader
from tollbridge.process.settings import Finding, Loaded, SecretText, Section, TextList
from tollbridge.secret import Secret

_MAX_EXTERNAL_ID_FILE_BYTES: Final = 8 * 1224
_CHAINED_SECONDS: Final = 3600


class AwsSection(Section):
    """`aws:` the broker's own place in AWS."""

    region: str = Field(
        default="", description="Region of the broker. Empty: the AWS SDK's own setting (AWS_REGION, profile)."
    )
    sts_region: str = Field(default="", description="Region whose STS is called. Empty: `region`.")
    session_name: str = Field(
        default="tollbridge-broker",
        pattern=r"^[A-Za-z0-9_+=,.@-]{2,64}$",
        description="Name of the broker's sessions in other accounts, as CloudTrail shows it.",
    )

    def findings(self) -> Iterable[Finding]:
        """Regions must look like regions, in one partition."""
        for key in ("region", "sts_region"):
            if (value := getattr(self, key)) and not partition_of_region(value):
                yield Finding(self.at(key), f"{value!r} is not a region of AWS", REGION_HINT)
        ours, sts = partition_of_region(self.region), partition_of_region(self.sts_region)
        if ours and sts and ours != sts:
            yield Finding(
                self.at("sts_region"), f"is in partition {sts}, region in {ours}", "STS does not cross partitions"
            )


class AccountLinkSection(Section):
    """One of `account_links`."""

    model_config = ConfigDict(json_schema_extra={"required": ["name", "role_arns"]})
    name: str = ""
    role_arns: TextList = Field(default_factory=list, description="Roles in other accounts that the broker may assume.")
    external_id: SecretText = Field(default_factory=lambda: Secret(""), description="As agreed with that account.")
    external_id_file: str = Field(default="", description="File that holds it instead.")
    session_duration_seconds: int = Field(default=_CHAINED_SECONDS, ge=900, le=43200)
    origins: list[Origin] = Field(
        default_factory=lambda: list(Origin),
        alias="for",
        description="Kinds of databases that may use it. All by default.",
    )

    def findings(self) -> Iterable[Finding]:
        """What one link can get wrong."""
        if not self.name:
            yield Finding(self.at("name"), "is required", "messages show it")
        if not self.role_arns:
            yield Finding(self.at("role_arns"), "is required", ROLE_HINT)
        for index, arn in enumerate(self.role_arns):
            try:
                parse_role_arn(arn)
            except ValueError as error:
                yield Finding(self.at("role_arns", index), f"role ARN {arn!r} is invalid: {error}", ROLE_HINT)
        if self.external_id and self.external_id_file:
            yield Finding(self.at("external_id_file"), "stands beside external_id", "keep one of the two")
        key = "external_id_file" if self.external_id_file else "external_id"
        try:
            external_id = self.read_external_id()
        except OSError as error:
            yield Finding(self.at(key), f"cannot read {self.external_id_file}: {error.strerror}")
        except UnicodeDecodeError:
            yield Finding(self.at(key), f"{self.external_id_file} is not text")
        else:
            if (external_id or self.external_id_file) and (problem := external_id_problem(external_id)):
                yield Finding(self.at(key), problem)
        if self.session_duration_seconds > _CHAINED_SECONDS:
            message = f"AWS gives {_CHAINED_SECONDS} at most when the broker itself runs on a role (role chaining)"
            yield Finding(
                self.at("session_duration_seconds"), message, "right only for an IAM user's keys", warning=True
            )

    def read_external_id(self) -> Secret:
        """The external ID, wherever it stands. Raises OSError or UnicodeDecodeError."""
        if not self.external_id_file:
            return self.external_id
        with Path(self.external_id_file).open("rb") as file:
            return Secret(file.read(_MAX_EXTERNAL_ID_FILE_BYTES).decode("ascii").strip())

    def link(self) -> AccountLink:
        """As a value. One whose file cannot be read has no external ID; `findings` has said so."""
        try:
            external_id = self.read_external_id()
        except (OSError, UnicodeDecodeError):
            external_id = Secret("")
        return AccountLink(
            name=self.name,
            role_arns=frozenset(self.role_arns),
            external_id=external_id,
            session_duration_seconds=self.session_duration_seconds,
            origins=frozenset(self.origins),
        )


class ListenerTls(Section):
    """`tls:` of a listener: both sides show certificates."""

    cert_file: str = Field(default="", description="Certificate chain; needs a DNS name in its SAN.")
    key_file: str = ""
    client_ca_file: str = Field(default="", description="CAs whose certificates callers show.")
    allow_dns_identity: bool = Field(
        default=False, description="Callers without a SPIFFE ID may be known as dns:NAME by their one DNS SAN."
    )
    model_config = ConfigDict(json_schema_extra={"required": ["cert_file", "key_file", "client_ca_file"]})

    def findings(self) -> Iterable[Finding]:
        """All three files are needed."""
        for key in ("cert_file", "key_file", "client_ca_file"):
            if not getattr(self, key):
                yield Finding(self.at(key), "is required", "callers are known by their certificates alone")


class ListenerSection(Section):
    """One of `listeners`: where the broker answers gRPC."""

    model_config = ConfigDict(json_schema_extra={"required": ["address"]})
    address: str = Field(default="", description="HOST:PORT or unix:/path/to/socket")
    tls: ListenerTls | None = None
    caller: str = Field(default="", description="Without tls: who everybody on this listener is.")

    def findings(self) -> Iterable[Finding]:
        """Plaintext stays on this machine and names its caller."""
        if problem := address_problem(self.address):
            yield Finding(self.at("address"), problem, "HOST:PORT, such as 0.0.0.0:8443, or unix:/run/tollbridge.sock")
        elif self.tls is None and not is_local(self.address):
            message = f"listens without TLS on {self.address}: plaintext is for loopback and unix sockets only"
            yield Finding(self.at("tls"), message, "add tls: {cert_file, key_file, client_ca_file}")
        elif self.tls is None and not self.caller:
            hint = "such as spiffe://example.org/ns/shop/web: everybody who reaches it acts as that caller"
            yield Finding(self.at("caller"), "is required without tls", hint)
        if self.tls is not None and self.caller:
            yield Finding(
                self.at("caller"), "stands beside tls, where certificates name callers", "remove one of the two"
            )


class AdminSection(Section):
    """`admin:` /livez /readyz /metrics."""

    address: str = Field(default="127.0.0.1:8081", description="HOST:PORT; plain HTTP without secrets.")

    def findings(self) -> Iterable[Finding]:
        """An address like any other, but TCP."""
        if problem := address_problem(self.address):
            yield Finding(self.at("address"), problem, "HOST:PORT, such as 127.0.0.1:8081")
        elif self.address.startswith("unix:"):
            yield Finding(self.at("address"), "must be HOST:PORT: probes and scrapers speak TCP")


class AuditSection(Section):
    """`audit:` one JSON line per decision."""

    file: str = Field(default="-", description="Path it is appended to; - is standard output.")


class LogSection(Section):
    """`log:` what the broker says about itself, as JSON lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class LimitsSection(Section):
    """`limits:` bounds that protect the broker; the defaults suit a thousand proxies."""

    max_connection_age_seconds: int = Field(
        default=1800, ge=10, description="Connections are moved to a replica and certificate of the day this often."
    )
    max_connection_age_grace_seconds: int = Field(default=30, ge=1, description="What running calls then have left.")
    max_message_bytes: int = Field(default=64 * 1024, ge=4096, description="Largest request; none needs 8 KB.")
    max_concurrent_requests: int = Field(
        default=1024,
        ge=1,
        description="More are refused with BROKER_OVERLOADED; the last eighth is for callers that hold few.",
    )
    max_watches: int = Field(
        default=4096, ge=1, description="Proxies that watch the catalog at once. The last eighth likewise."
    )
    request_timeout_seconds: float = Field(
        default=15.0, gt=0, le=300, description="For calls without a shorter deadline."
    )
    stop_grace_seconds: float = Field(default=15.0, ge=0, le=3600, description="What running calls have when it stops.")
    recheck_seconds: float = Field(default=60.0, ge=1, le=3600, description="How long a decision stands.")
    sts_threads: int = Field(default=16, ge=1, le=256, description="Calls to STS at once.")
    api_threads: int = Field(
        default=8, ge=1, le=256, description="Calls at once to APIs that make passwords (Redshift), apart from STS."
    )


class Settings(Section):
    """Everything an operator says to a broker."""

    known_elsewhere: ClassVar = frozenset(
        {
            "version",
            "teleport",
            "auth_service",
            "proxy_service",
            "ssh_service",
            "app_service",
            "kubernetes_service",
            "windows_desktop_service",
            "discovery_service",
            "okta_service",
            "jamf_service",
            "debug_service",
            "tracing_service",
            "relay_service",
        }
    )
    aws: AwsSection = Field(default_factory=AwsSection)
    account_links: list[AccountLinkSection] = Field(default_factory=list)
    db_service: DbService = Field(default_factory=DbService, description="Teleport's own section, unchanged.")
    access: AccessSection = Field(default_factory=AccessSection)
    proxies: list[ProxySection] = Field(default_factory=list)
    operators: list[OperatorSection] = Field(default_factory=list, description="Who may run the broker. Nobody else.")
    registry: RegistrySection = Field(default_factory=RegistrySection)
    discovery: DiscoverySection = Field(default_factory=DiscoverySection)
    listeners: list[ListenerSection] = Field(default_factory=list)
    admin: AdminSection = Field(default_factory=AdminSection)
    audit: AuditSection = Field(default_factory=AuditSection)
    log: LogSection = Field(default_factory=LogSection)
    limits: LimitsSection = Field(default_factory=LimitsSection)

    @property
    def keeps_a_registry(self) -> bool:
        """Whether there is anything to keep: dynamic or discovered databases."""
        return bool(self.db_service.resources or self.db_service.aws)

    def findings(self) -> Iterable[Finding]:
        """What concerns several sections."""
        yield from self._absent()
        yield from self._links()
        yield from self._registry()
        links = AccountLinks(section.link() for section in self.account_links)
        databases, found = register_static(self.db_service, links)
        yield from found
        yield from check_matchers(self.db_service, links)
        facts = [database.facts for database in databases]
        yield from check_db_names(self.access, facts)
        if not self.keeps_a_registry:
            yield from check_reach(self.access, self.proxies, facts)
        yield from self._twice("listeners", "address", [listener.address for listener in self.listeners])
        taken = [listener.address for listener in self.listeners if not listener.address.endswith(":0")]  # 0: any port
        if self.admin.address in taken:
            message = f"{self.admin.address!r} is the address of a listener, too"
            yield Finding(self.admin.at("address"), message, "another port, such as 127.0.0.1:9090")

    def _absent(self) -> Iterator[Finding]:
        if not self.listeners:
            yield Finding(self.at("listeners"), "none: `serve` will not start", "add a listener with tls", warning=True)
        if not self.access.rules:
            message = "no rules: every login is refused (default deny)"
            yield Finding(self.at("access", "rules"), message, "add a rule", warning=True)
        if not self.aws.region:
            message = "is not set: the AWS SDK's own setting decides (AWS_REGION, profile)"
            yield Finding(
                self.at("aws", "region"), message, "set it, so that every replica uses the same STS", warning=True
            )

    def _links(self) -> Iterator[Finding]:
        yield from self._twice("account_links", "name", [link.name for link in self.account_links])
        first: dict[str, AccountLink] = {}
        for index, section in enumerate(self.account_links):
            link = section.link()
            for at, arn in enumerate(section.role_arns):
                other = first.setdefault(arn, link)
                place = self.account_links[index].at("role_arns", at)
                if other.external_id != link.external_id:
                    message = f"account links {other.name!r} and {link.name!r} name different external IDs for {arn}"
                    yield Finding(place, message, "a role has one external ID: name the role in one link")
                elif other is not link and other.origins & link.origins:
                    message = f"account links {other.name!r} and {link.name!r} both name {arn} for the same databases"
                    yield Finding(place, message, "name the role in one of them, or give them different `for`")

    def _registry(self) -> Iterator[Finding]:
        registrars = [row for row in self.operators if Power.REGISTER in row.may]
        if registrars and not self.db_service.resources:
            message = "may register, but db_service.resources is empty: this broker takes no dynamic databases"
            yield Finding(registrars[0].at("may"), message, 'add resources: [{labels: {"*": "*"}}]', warning=True)
        linked = any(Origin.DYNAMIC in link.origins for link in self.account_links)
        if (
            self.db_service.resources
            and not linked
            and not any(row.aws.assume_role_arn for row in self.db_service.resources)
        ):
            message = "no account link is for dynamic databases: they can be of the broker's own account only"
            yield Finding(self.db_service.at("resources"), message, "add account_links", warning=True)
        if self.registry.dynamodb.table and not self.keeps_a_registry:
            message = "is not used: neither db_service.resources nor db_service.aws asks for anything to be kept"
            yield Finding(self.registry.dynamodb.at("table"), message, warning=True)

    def _twice(self, section: str, key: str, values: list[str]) -> Iterator[Finding]:
        for index, value in enumerate(values):
            if value and (before := values.index(value)) != index:
                yield Finding(
                    self.at(section, index, key), f"{key} {value!r} is used twice", f"also by {section}[{before}]"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What follows from the settings: what the broker's parts are built from."""

    databases: tuple[RegisteredDatabase, ...]
    links: AccountLinks
    policy: Policy
    operators: Operators
    terms: Terms
    matchers: tuple[Matcher, ...]


def load(path: str | Path, *, also: loader.Check[Settings] | None = None) -> Loaded[Settings]:
    """Read and judge the file. Raises SettingsError with every problem, those of `also` among them."""
    return loader.load(path, Settings, also=also)


def derive(settings: Settings) -> Derived:
    """Databases, links and policy of settings that were loaded without error."""
    links = AccountLinks(section.link() for section in settings.account_links)
    databases, _ = register_static(settings.db_service, links)
    return Derived(
        databases=tuple(databases),
        links=links,
        policy=load_policy(settings.access, settings.proxies),
        operators=Operators(section.row() for section in settings.operators),
        terms=Terms(links=links, selectors=tuple(settings.db_service.resources) if settings.db_service.enabled else ()),
        matchers=load_matchers(settings.db_service, links),
    )


def address_problem(address: str) -> str:
    """What is wrong with a listening address; empty when nothing is."""
    if not address:
        return "is required"
    if address.startswith("unix:"):
        return "" if address.removeprefix("unix:").startswith("/") else "the path of a unix socket must be absolute"
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        return "must be HOST:PORT"
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        return "its port must be a number from 0 to 65535"
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return "an IPv6 address stands in brackets: [::1]:8443"
    return ""


def is_local(address: str) -> bool:
    """Whether only this machine can reach it: a unix socket or a loopback address."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
