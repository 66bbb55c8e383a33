"""A broker's gRPC side with fakes behind it, served for real on loopback, and clients to call it."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Self

from broker.access.model import Policy
from broker.api.catalog import Catalog
from broker.api.credentials import CredentialServicer
from broker.api.interceptors import May, Room, RpcMetrics, nobody
from broker.api.server import AddService, ApiServers, ConnectionLimits, Listener, PlaintextListener, TlsListener
from broker.errors import BrokerError
from broker.model import AwsAccess, GrantRequest, Origin, RegisteredDatabase
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tollbridge.client import Client, Identity
from tollbridge.model import (
    Credential,
    Database,
    Endpoint,
    Grant,
    Product,
    Protocol,
    StsChallenge,
    StsProof,
    TlsFacts,
    Token,
    TrustStore,
)
from tollbridge.process.lifecycle import SystemClock
from tollbridge.process.telemetry import Counters
from tollbridge.process.tls import TlsWatch
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

APP = "spiffe://td.example/app"
PASSWORD = "orders.example:5432/?Action=connect&X-Amz-Signature=deadbeef"


def database(name: str, **changes: object) -> Database:
    """A catalog entry."""
    facts = Database(
        name=name,
        protocol=Protocol.POSTGRES,
        product=Product.RDS,
        endpoint=Endpoint(host=f"{name}.abc.eu-central-1.rds.amazonaws.com", port=5432),
        tls=TlsFacts(trust_store=TrustStore.AWS_RDS),
        region="eu-central-1",
        account_id="222222222222",
        labels={"env": "test"},
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


class FakeGrants:
    """Answers by the name of the database; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[GrantRequest] = []
        self.raises: dict[str, Exception] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.facts: dict[str, Database] = {}
        """Databases whose endpoint or trust is not `database(name)`'s."""
        self.clock = FakeClock()
        self.credential: Credential | None = None
        """Instead of a token."""

    async def issue(self, request: GrantRequest) -> Grant:
        """A grant, the planned error, or a wait until the test lets go."""
        self.asked.append(request)
        if request.database in self.held:
            await self.held[request.database].wait()
        if request.database in self.raises:
            raise self.raises[request.database]
        now = self.clock.now()
        facts = self.facts.get(request.database) or database(request.database)
        return Grant(
            decision_id="d-1",
            credential_id="c-1",
            endpoint=facts.endpoint,
            tls=facts.tls,
            credential=self.credential or Token(user=request.db_user, password=Secret(PASSWORD)),
            issued_at=now,
            expires_at=now + timedelta(minutes=15),
            recheck_after=now + timedelta(seconds=60),
            usable_until=now + timedelta(minutes=14),
            policy_version="p1",
        )

    async def sign_challenge(self, request: GrantRequest, challenge: StsChallenge) -> tuple[str, StsProof]:
        """A proof that says what was asked, or the planned error."""
        self.asked.append(request)
        if request.database in self.raises:
            raise self.raises[request.database]
        said = f"{challenge.host} {challenge.nonce.hex()}"
        return "d-2", StsProof(authorization=Secret(said), date="20300101T000000Z", session_token=Secret(PASSWORD))


class House:
    """One broker's gRPC side. Databases named `hidden*` are visible to nobody."""

    def __init__(self, folder: Path, *, room: Room | None = None) -> None:
        self.folder = folder
        self.ca = TestCa(folder)
        self.grants = FakeGrants()
        self.databases: dict[str, RegisteredDatabase] = {}
        self.policy = Policy(version="p1")
        self.room = room or Room()
        self.counters = Counters(process_metrics=False)
        self.catalog = Catalog(
            lambda: self.databases,
            lambda: self.policy,
            lambda _policy, _caller, facts: not facts.name.startswith("hid"),
        )
        self.servers: ApiServers | None = None
        self.watch: TlsWatch | None = None

    @property
    def served(self) -> Counter[str]:
        """RPCs that ended, by method."""
        found: Counter[str] = Counter()
        for line in self.counters.exposition().decode().splitlines():
            if match := re.match(r'tollbridge_broker_rpcs_total{method="(.+)",reason=".*"} (.+)', line):
                found[match[1]] += int(float(match[2]))
        return found

    def register(self, *entries: Database, remove: tuple[str, ...] = ()) -> None:
        """Publish a new snapshot."""
        kept = {name: entry for name, entry in self.databases.items() if name not in remove}
        added = {
            facts.name: RegisteredDatabase(facts=facts, access=AwsAccess(partition="aws"), origin=Origin.STATIC)
            for facts in entries
        }
        self.databases = kept | added
        self.catalog.changed()

    def identity(self, *names: str, common_name: str = "", name: str = "client") -> Identity:
        """Files of a client certificate, under names that stay the same."""
        return self.write(self.ca, self.ca, name, *names, common_name=common_name)

    def write(self, signer: TestCa, trusts: TestCa, prefix: str, *names: str, common_name: str = "") -> Identity:
        """Certificate by `signer`, CA file of `trusts`; replaces what was there one file after the other."""
        certificate, key = signer.files(signer.leaf(*names, common_name=common_name))
        files = Identity(
            cert_file=self.folder / f"{prefix}.crt",
            key_file=self.folder / f"{prefix}.key",
            ca_file=self.folder / f"{prefix}-ca.crt",
        )
        assert files.ca_file is not None
        shutil.copy(trusts.file, files.ca_file)
        shutil.copy(certificate, files.cert_file)
        shutil.copy(key, files.key_file)
        return files

    def tls_listener(self, *, port: int = 0, allow_dns: bool = False) -> TlsListener:
        """An mTLS listener whose certificate names localhost."""
        files = self.write(self.ca, self.ca, "server", "localhost", "127.0.0.1")
        self.watch = TlsWatch(files, what="broker")
        return TlsListener("127.0.0.1", port, self.watch, allow_dns_identity=allow_dns)

    @asynccontextmanager
    async def serving(
        self,
        *listeners: Listener,
        grace: float = 1.0,
        limits: ConnectionLimits | None = None,
        more: Sequence[AddService] = (),
        may: May = nobody,
    ) -> AsyncIterator[Self]:
        """Serve; without listeners, on one mTLS port."""
        self.servers = ApiServers(
            listeners or (self.tls_listener(),),
            credentials=CredentialServicer(self.grants),
            catalog=self.catalog,
            room=self.room,
            metrics=RpcMetrics(self.counters, self.room, SystemClock()),
            limits=limits or ConnectionLimits(),
            may=may,
            more=more,
        )
        await self.servers.start()
        await self.servers.set_ready(True)
        try:
            yield self
        finally:
            await self.servers.stop(grace)

    @property
    def rotations(self) -> int:
        """How often the broker took over new files."""
        return self.watch.rotations if self.watch else 0

    @property
    def rejected(self) -> int:
        """How often the broker kept files out."""
        return self.watch.rejected if self.watch else 0

    @property
    def numeric_address(self) -> str:
        """Of the first listener: one address, so that gRPC's errors are about that."""
        assert self.servers is not None
        return self.servers.addresses[0]

    @property
    def address(self) -> str:
        """Of the first listener, by the name its certificate holds."""
        return self.numeric_address.replace("127.0.0.1", "localhost")

    def client(self, identity: Identity | None = None, **options: object) -> Client:
        """A client of the first listener, as APP unless told otherwise."""
        return Client(self.address, identity or self.identity(APP), **options)  # type: ignore[arg-type]


def refused(reason: Reason = Reason.DENIED_BY_RULE, message: str = "no", **metadata: str) -> BrokerError:
    """An error to plan."""
    return BrokerError(reason, message, metadata=metadata)


async def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds; other processes and gRPC's threads offer nothing to await."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


__all__ = [
    "APP",
    "AsyncExitStack",
    "FakeGrants",
    "House",
    "PASSWORD",
    "PlaintextListener",
    "database",
    "eventually",
    "refused",
]
