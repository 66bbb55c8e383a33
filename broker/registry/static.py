"""From what an operator wrote to a RegisteredDatabase: every rule, with the words operators of Teleport know.

`register` judges one database and is shared by static configuration and `kind: db` documents; `register_static` adds
what concerns several of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from broker.model import Attribution, AwsAccess, Origin, RegisteredDatabase
from broker.policies.narrow import NARROWED, session_policy
from broker.registry import address
from broker.registry.arns import ParsedRole, is_account_id, parse_role_arn, partition_of_region
from broker.registry.bounds import REAL_ENDPOINT_HINT, Head, outside
from broker.registry.endpoints import AwsEndpoint, parse_endpoint
from broker.registry.links import AccountLink, AccountLinks
from broker.registry.products import BY_IDS, BY_PROTOCOL, IDENTIFIERS, PROTOCOLS, ROLE_IS_USER, TRUST_STORES
from broker.registry.trust import read_ca
from broker.sessions.names import WORKLOAD_TAG
from broker.teleport import REGION_HINT, ROLE_HINT, DatabaseCore, DbService, SelectorAws, StaticDatabase, StaticTls
from tollbridge.model import Database, Endpoint, Product, Protocol, TlsFacts, TlsMode, TrustStore
from tollbridge.process.settings import Finding
from tollbridge.process.words import protocol_hint
from tollbridge.secret import Secret

_NAME: Final = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?", re.ASCII)
_MAX_NAME_CHARS: Final = 63
"""A database's name is a DNS label: TLS SNI routes by it."""
_LABEL_KEY: Final = re.compile(r"[a-zA-Z/.0-9_:*-]+", re.ASCII)
_EXTERNAL_ID: Final = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_DB_GROUP: Final = re.compile(r"[a-z][a-z0-9_+.@-]{0,63}", re.ASCII)
_TAG: Final = re.compile(r"[\w \-.:/=+@]*")
_MAX_TAGS, _MAX_TAG_KEY, _MAX_TAG_VALUE = 50, 128, 256
_DEFAULT_DURATION_SECONDS: Final = 3600
"""The most AWS gives when the broker itself runs on a role (role chaining)."""


@dataclass(slots=True)
class Registration:
    """What came of one database: itself unless something is wrong, and all that was found."""

    database: RegisteredDatabase | None = None
    findings: list[Finding] = field(default_factory=list)


def external_id_problem(external_id: Secret) -> str:
    """What AWS would not take about an external ID; empty when it is fine. Never repeats it."""
    if _EXTERNAL_ID.fullmatch(external_id.reveal()):
        return ""
    return "external_id must be 2 to 1224 letters, digits or any of _ + = , . @ : / -"


def register_static(section: DbService, links: AccountLinks) -> tuple[list[RegisteredDatabase], list[Finding]]:
    """The databases of `db_service.databases` that can be served, and everything wrong or remarkable about any."""
    databases: list[RegisteredDatabase] = []
    findings: list[Finding] = []
    first: dict[str, StaticDatabase] = {}
    roles: dict[str, tuple[StaticDatabase, Secret]] = {}
    for entry in section.databases:
        head = Head(
            name=entry.name,
            name_at=entry.at("name"),
            labels=entry.static_labels,
            labels_at=entry.at("static_labels"),
            description=entry.description,
            attribution=entry.attribution,
        )
        made = register(head, entry, origin=Origin.STATIC, links=links)
        findings += made.findings
        if entry.name and (other := first.setdefault(entry.name, entry)) is not entry:
            message = f"database name {entry.name!r} is used twice"
            findings.append(Finding(entry.at("name"), message, f"also by databases[{other.at()[-1]}]"))
        elif made.database is not None and section.enabled:
            databases.append(made.database)
        if made.database is not None and entry.aws.assume_role_arn:
            other, external_id = roles.setdefault(entry.aws.assume_role_arn, (entry, made.database.access.external_id))
            if external_id != made.database.access.external_id:
                message = f"database {other.name!r} names another external ID (or none) for the same role"
                hint = "right only while the role's trust policy accepts both; an account link keeps it in one place"
                findings.append(Finding(entry.aws.at("external_id"), message, hint, warning=True))
    return databases, findings


def register(
    head: Head, core: DatabaseCore, *, origin: Origin, links: AccountLinks, role: SelectorAws | None = None
) -> Registration:
    """Judge one database. Reads the CA file of a static one, otherwise pure.

    `role` is what the resource selector that selects it says: it replaces role and external ID, and it is the
    operator's own word, so that no account link needs to name it.
    """
    reader = _Reader(head, core, origin, links, role if role and role.assume_role_arn else None)
    findings = list(reader.read())
    return Registration(reader.made if all(f.warning for f in findings) else None, findings)


class _Reader:
    """Reads one database; each step yields what it finds and leaves its result for those after it."""

    def __init__(
        self, head: Head, core: DatabaseCore, origin: Origin, links: AccountLinks, role: SelectorAws | None
    ) -> None:
        self.head, self.core, self.aws, self.origin, self.links = head, core, core.aws, origin, links
        self.role_arn = role.assume_role_arn if role else core.aws.assume_role_arn
        self.own_external_id = role.external_id if role else core.aws.external_id
        self.trusted_with_role = origin is Origin.STATIC or role is not None
        self.who = f"database {head.name!r}"
        self.protocol: Protocol | None = None
        self.endpoint: Endpoint | None = None
        self.known: AwsEndpoint | None = None
        self.product: Product | None = None
        self.role: ParsedRole | None = None
        self.region = self.account_id = ""
        self.link: AccountLink | None = None
        self.external_id = Secret("")
        self.tls = TlsFacts()
        self.ids: dict[str, str] = {}
        self.made: RegisteredDatabase | None = None

    def read(self) -> Iterator[Finding]:
        yield from self._names()
        yield from self._protocol()
        yield from self._uri()
        yield from self._product()
        yield from self._region()
        yield from self._role()
        yield from self._account()
        yield from self._external_id()
        yield from self._session_tags()
        yield from self._narrow_session()
        yield from self._tls()
        yield from self._rest()
        if self.protocol and self.endpoint and self.product:
            self.made = self._make(self.protocol, self.product, self.endpoint)

    def _names(self) -> Iterator[Finding]:
        name = self.head.name
        if not name:
            yield Finding(self.head.name_at, "invalid database name: it is empty")
        elif not _NAME.fullmatch(name):
            message = f"invalid {self.who} name: it must begin with a letter, go on with letters, digits and '-', "
            yield Finding(self.head.name_at, message + "and end with a letter or digit")
        elif len(name) > _MAX_NAME_CHARS:
            yield Finding(self.head.name_at, f"invalid {self.who} name: it is longer than {_MAX_NAME_CHARS} characters")
        for key in self.head.labels:
            if not _LABEL_KEY.fullmatch(key):
                hint = "letters, digits and any of / . _ : * -"
                yield Finding((*self.head.labels_at, key), f"invalid label key: {key!r}", hint)

    def _protocol(self) -> Iterator[Finding]:
        supported = f"supported are: {', '.join(Protocol)}"
        if not self.core.protocol:
            yield Finding(self.core.at("protocol"), f"{self.who} protocol is empty", supported)
        elif self.core.protocol not in set(Protocol):
            message = f"unsupported {self.who} protocol {self.core.protocol!r}, {supported}"
            yield Finding(self.core.at("protocol"), message, protocol_hint(self.core.protocol))
        else:
            self.protocol = Protocol(self.core.protocol)

    def _uri(self) -> Iterator[Finding]:
        place = self.core.at("uri")
        if self.core.uri:
            try:
                parsed = address.parse(self.core.uri, self.protocol)
            except ValueError as error:
                yield Finding(
                    place, f"invalid {self.who} address {address.shown(self.core.uri)!r}: {error}", address.HINT
                )
                return
            self.endpoint = parsed.endpoint
            if parsed.query:
                yield Finding(place, f"{parsed.query!r} arrives with a later version: ignored", warning=True)
        elif self.protocol not in address.DERIVED:
            yield Finding(place, f"{self.who} URI is empty", address.HINT)
        elif self.aws.region:
            self.endpoint = address.derive(self.protocol, self.aws.region)
        else:
            what = address.DERIVED[self.protocol].title
            message = f"{what} {self.who} URI is empty and cannot be derived without a configured AWS region"
            yield Finding(place, message, "set aws.region, or uri")
        if self.endpoint:
            self.known = parse_endpoint(self.endpoint.host)

    def _product(self) -> Iterator[Finding]:
        self.ids = self.aws.resource_ids()
        if self.known:
            self.product = self.known.product
            for key, value in self.known.ids.items():
                if self.ids.setdefault(key, value) != value:
                    message = f"{self.who} {key} {self.ids[key]!r} differs from {value!r}, which the URI names"
                    static = self.origin is Origin.STATIC
                    hint = "the configured one is used" if static else "remove it: the URI names it"
                    yield Finding(self.aws.at(*key.split(".")), message, hint, warning=static)
        elif self.protocol:
            named = (product for prefix, product in BY_IDS if any(key.startswith(prefix) for key in self.ids))
            self.product = next(named, BY_PROTOCOL[self.protocol])
            if self.endpoint and self.origin is Origin.STATIC:
                message = f"{self.endpoint.host!r} is not an endpoint name of AWS: taken for {self.product}"
                yield Finding(self.core.at("uri"), message, REAL_ENDPOINT_HINT, warning=True)
        if self.product and self.protocol and self.protocol not in PROTOCOLS[self.product]:
            speaks = " or ".join(sorted(PROTOCOLS[self.product]))
            message = (
                f"{self.who} protocol {self.protocol.value!r} does not fit its URI: {self.product} speaks {speaks}"
            )
            yield Finding(self.core.at("protocol"), message, f"protocol: {speaks}")
        name = IDENTIFIERS.get(self.product) if self.product and self.endpoint else None
        if name and not self.ids.get(name):
            message = f"{self.who} {self.product} has no {name}, and its URI does not name it"
            yield Finding(self.aws.at(*name.split(".")), message, f"set aws.{name}: credentials are made for that name")
        if self.known and self.known.kind == "custom" and not self.ids.get("rds.cluster_id"):
            message = f"{self.who} missing RDS ClusterID for RDS Aurora custom endpoint {self.core.uri}"
            yield Finding(self.aws.at("rds", "cluster_id"), message, "set aws.rds.cluster_id")

    def _region(self) -> Iterator[Finding]:
        derived = self.known.region if self.known else ""
        self.region = self.aws.region or derived
        place = self.aws.at("region")
        if not self.region:
            if self.core.uri and self.endpoint:
                message = f"{self.who} AWS region is empty and cannot be derived from the URI {self.core.uri!r}"
                yield Finding(place, message, "set aws.region")
        elif not partition_of_region(self.region):
            yield Finding(place, f"{self.who} AWS region {self.region!r} is not a region of AWS", REGION_HINT)
        elif derived and derived != self.region:
            message = f"{self.who} AWS region {self.region!r} does not match the configured URI region {derived!r}"
            yield Finding(
                place, message, "omit the URI or the region: either is derived from the other where AWS names it"
            )

    def _role(self) -> Iterator[Finding]:
        arn, place = self.role_arn, self.aws.at("assume_role_arn")
        if not arn:
            return
        try:
            self.role = parse_role_arn(arn)
        except ValueError as error:
            yield Finding(place, f"{self.who} assume_role_arn {arn!r} is invalid: {error}", ROLE_HINT)
            return
        partition = partition_of_region(self.region)
        if partition and partition != self.role.partition:
            message = f"{self.who} is incompatible with AWS assume_role_arn {arn!r}: the role is in partition "
            message += f"{self.role.partition}, region {self.region} in {partition}"
            yield Finding(place, message, "roles cannot be assumed across partitions")
        self.link = self.links.find(arn, Origin.STATIC if self.trusted_with_role else self.origin)
        if self.link is None and not self.trusted_with_role:
            message = f"{self.who} may not use {arn}: no account link names it for {self.origin} databases"
            yield Finding(place, message, "ask the operator for an entry in account_links")

    def _account(self) -> Iterator[Finding]:
        written, place = self.aws.account_id, self.aws.at("account_id")
        if written and not is_account_id(written):
            yield Finding(place, f"{self.who} has invalid AWS account ID: {written!r} must be 12-digit")
            return
        if not written and self.origin is Origin.DYNAMIC:
            yield Finding(
                place, f"{self.who} missing AWS account ID", "dynamic databases do not derive it from the role"
            )
        named = self.known.account_id if self.known else ""
        self.account_id = written or (self.role.account_id if self.role else "") or named
        if self.role and written and written != self.role.account_id:
            message = f"{self.who} is incompatible with AWS assume_role_arn {self.role.arn!r}: the role is in account "
            message += f"{self.role.account_id}, account_id is {written}"
            derived = self.origin is Origin.STATIC
            hint = (
                "omit account_id: it is derived from the role" if derived else "name a role of the database's account"
            )
            yield Finding(place, message, hint)
        elif named and self.account_id != named:
            message = f"{self.who} AWS account ID {self.account_id} does not match {named}, which the URI names"
            yield Finding(place if written else self.aws.at("assume_role_arn"), message)

    def _external_id(self) -> Iterator[Finding]:
        own, place = self.own_external_id, self.aws.at("external_id")
        linked = self.link.external_id if self.link else Secret("")
        self.external_id = own or linked
        if own and (problem := external_id_problem(own)):
            yield Finding(place, f"{self.who} {problem}")
        if own and not self.role_arn and self.product not in ROLE_IS_USER:
            message = f"AWS {self.who} has external_id, but assume_role_arn is empty"
            yield Finding(place, message, "name the role that asks for it, or remove external_id")
        if own and self.link and linked != own:
            message = f"{self.who} and account link {self.link.name!r} name different external IDs for "
            yield Finding(place, message + self.role_arn, "remove this one: the link's is used")

    def _session_tags(self) -> Iterator[Finding]:
        tags, place = self.aws.session_tags, self.aws.at("session_tags")
        own = self.head.attribution is Attribution.WORKLOAD
        if len(tags) > (room := _MAX_TAGS - own):
            beside = " beside the workload's" if own else ""
            yield Finding(place, f"{self.who} has {len(tags)} session tags, AWS takes {room}{beside}")
        seen: dict[str, str] = {}
        for key, value in tags.items():
            at = (*place, key)
            if not 1 <= len(key) <= _MAX_TAG_KEY or len(value) > _MAX_TAG_VALUE:
                yield Finding(at, f"a session tag has at most {_MAX_TAG_KEY} characters, its value {_MAX_TAG_VALUE}")
            elif key.lower().startswith("aws:") or not _TAG.fullmatch(key) or not _TAG.fullmatch(value):
                yield Finding(
                    at, "AWS does not take this session tag", "letters, digits, spaces and _ . : / = + - @; not aws:"
                )
            elif key.lower() == WORKLOAD_TAG:
                # Policies go by it in the account of the database: whoever may register is not to choose who enters.
                message = f"session tag {key!r} is the broker's own, and says which workload a session is for"
                yield Finding(at, message, "remove it; `attribution: workload` of a static database sets it")
            elif (other := seen.setdefault(key.lower(), key)) != key:
                yield Finding(at, f"session tags {other!r} and {key!r} are the same to AWS, which ignores case")

    def _narrow_session(self) -> Iterator[Finding]:
        if self.aws.narrow_session and self.product and self.product not in NARROWED:
            message = f"{self.who} has narrow_session, but {self.product} has no session of its own to narrow"
            yield Finding(self.aws.at("narrow_session"), message, f"remove it; it is for {', '.join(sorted(NARROWED))}")

    def _tls(self) -> Iterator[Finding]:
        tls = self.core.tls
        store = TRUST_STORES.get(self.product, TrustStore.SYSTEM) if self.product else TrustStore.SYSTEM
        if not isinstance(tls, StaticTls):
            self.tls = TlsFacts(trust_store=store)
            return
        pem = ""
        if tls.ca_cert_file:
            store = TrustStore.SYSTEM if tls.trust_system_cert_pool else TrustStore.INLINE
            try:
                pem = read_ca(tls.ca_cert_file)
            except ValueError as error:
                message = f"provided CA for {self.who} doesn't appear to be a valid x509 certificate: {error}"
                yield Finding(tls.at("ca_cert_file"), message, "a PEM file of CA certificates, readable by the broker")
        elif tls.trust_system_cert_pool and store is not TrustStore.SYSTEM:
            message = (
                f"has no effect without ca_cert_file: {self.product} certificates are signed by AWS's own CAs ({store})"
            )
            yield Finding(tls.at("trust_system_cert_pool"), message, warning=True)
        if tls.mode is not TlsMode.VERIFY_FULL:
            message = (
                f"{self.who} TLS mode {tls.mode.value!r}: a credential may be shown to whoever answers at that address"
            )
            yield Finding(tls.at("mode"), message, "verify-full works with every AWS database", warning=True)
        self.tls = TlsFacts(mode=tls.mode, trust_store=store, server_name=tls.server_name.lower(), ca_pem=pem)

    def _rest(self) -> Iterator[Finding]:
        yield from self._db_groups()
        if self.origin is not Origin.STATIC:
            yield from outside(
                self.head,
                self.core,
                origin=self.origin,
                host=self.endpoint.host if self.endpoint else "",
                known=self.known,
                product=self.product,
                role_arn=self.role_arn,
            )
        if self.core.mysql.server_version and self.protocol not in (Protocol.MYSQL, None):
            message = f"{self.who} MySQL ServerVersion can be only set for MySQL database"
            yield Finding(self.core.mysql.at("server_version"), message, "remove mysql")

    def _db_groups(self) -> Iterator[Finding]:
        groups = self.aws.redshift.db_groups
        if groups and self.product is not Product.REDSHIFT:
            message = f"{self.who} has redshift.db_groups, but is no Redshift cluster"
            yield Finding(self.aws.at("redshift", "db_groups"), message, "remove them")
        for index, group in enumerate(groups):
            if not _DB_GROUP.fullmatch(group):
                hint = "1 to 64 lower-case letters, digits or any of _ + . @ -, the first a letter"
                message = f"{self.who} {group!r} is no group name that AWS takes"
                yield Finding(self.aws.at("redshift", "db_groups", index), message, hint)

    def _make(self, protocol: Protocol, product: Product, endpoint: Endpoint) -> RegisteredDatabase:
        facts = Database(
            name=self.head.name,
            protocol=protocol,
            product=product,
            endpoint=endpoint,
            tls=self.tls,
            region=self.region,
            account_id=self.account_id,
            description=self.head.description,
            labels=dict(self.head.labels),
            server_version=self.core.mysql.server_version,
        )
        partition = self.role.partition if self.role else partition_of_region(self.region)
        return RegisteredDatabase(
            facts=facts,
            access=AwsAccess(
                partition=partition,
                role_arn=self.role_arn,
                external_id=self.external_id,
                session_duration_seconds=self.link.session_duration_seconds if self.link else _DEFAULT_DURATION_SECONDS,
                session_tags=tuple(sorted(self.aws.session_tags.items())),
            ),
            origin=self.origin,
            attribution=self.head.attribution,
            session_policy=session_policy(facts, partition) if self.aws.narrow_session else "",
            db_groups=tuple(self.aws.redshift.db_groups),
            resource_ids=self.ids,
        )
