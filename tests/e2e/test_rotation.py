"""Certificates and CAs change under load: nobody who may enter is kept out, and halves that do not fit are not used."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from deploy.sandbox.bridge import APP_WORKLOAD, BROKER_ID, PROXY_ID, Bridge, Document
from deploy.sandbox.pki import CertificateAuthority, write_atomically
from tests.e2e.conftest import Workshop
from tests.e2e.load import Traffic, app, mtls, refusal, state, traffic, until
from tollbridge.client import Client, Identity, RpcFailed

BROKER_TOOK_OVER: Final = "listener 127.0.0.1:{broker}: new certificate, key or CA taken over"
PROXY_TOOK_OVER: Final = "client of localhost:{broker}: new certificate, key or CA taken over"
DOOR_TOOK_OVER: Final = "certificate reloaded"


def asked_often(document: Document) -> None:
    """Decisions stand for a second: the proxy talks to the broker all the time."""
    document["limits"] = {"recheck_seconds": 1}


@dataclass(slots=True)
class Mesh:
    """A bridge, the CA of the day and the client's certificate of the day."""

    bridge: Bridge
    authority: CertificateAuthority
    client: str = "client"
    asked: int = 0
    failures: list[str] = field(default_factory=list)
    """Of a service that asks the broker itself."""

    def issue(self, name: str, spiffe_id: str, *dns_names: str) -> None:
        """A certificate by the CA of the day, in place of the one there is."""
        self.authority.issue(
            Path(self.bridge.file(f"{name}.crt")),
            Path(self.bridge.file(f"{name}.key")),
            spiffe_ids=[spiffe_id],
            dns_names=dns_names,
            ip_addresses=["127.0.0.1"] if dns_names else [],
        )

    def issue_servers(self) -> None:
        """For broker, proxy and the service that watches its files as they do."""
        self.issue("broker", BROKER_ID, "localhost")
        self.issue("proxy", PROXY_ID, "localhost")
        self.issue("service", APP_WORKLOAD)

    def issue_client(self, name: str) -> None:
        """libpq reads two files at each login: it gets them both under a new name."""
        self.issue(name, APP_WORKLOAD)
        self.client = name

    def trust(self, *authorities: CertificateAuthority) -> None:
        """What everybody trusts from now on."""
        bundle = b"".join(authority.certificate_pem for authority in authorities)
        write_atomically(Path(self.bridge.file("mesh-ca.crt")), bundle, mode=0o644)

    def door(self) -> str:
        """Where clients with certificates come in."""
        return mtls(self.bridge, certificate=self.client)

    def taken_over(self) -> tuple[int, int, int]:
        """How often broker, proxy and the proxy's door have taken over something new."""
        broker, proxy = self.bridge.broker.log(), self.bridge.proxy.log()
        return (
            broker.count(BROKER_TOOK_OVER.format(**self.bridge.ports)),
            proxy.count(PROXY_TOOK_OVER.format(**self.bridge.ports)),
            proxy.count(DOOR_TOOK_OVER),
        )

    async def settled(self, changes: int) -> None:
        """Until each of them has taken over so many changes."""
        await until(lambda: min(self.taken_over()) >= changes, what=f"{changes} changes taken over")

    async def wait_until_shown(self, name: str, port: str, alpn: str) -> None:
        """Until whoever listens there shows the certificate in the file."""
        wanted = certificate_in(self.bridge.file(f"{name}.crt"))
        for _ in range(600):
            if await asyncio.to_thread(shown_certificate, self.bridge.ports[port], alpn) == wanted:
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"{name} still shows an old certificate")

    async def ask(self) -> None:
        """Be a service that asks the broker itself, again and again."""
        identity = Identity(
            cert_file=Path(self.bridge.file("service.crt")),
            key_file=Path(self.bridge.file("service.key")),
            ca_file=Path(self.bridge.file("mesh-ca.crt")),
        )
        async with Client(f"localhost:{self.bridge.ports['broker']}", identity) as broker:
            while True:
                try:
                    await broker.issue_credential("rds-postgres", "readonly", "app")
                except RpcFailed as failed:
                    self.failures.append(str(failed))
                self.asked += 1
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[Traffic]:
        """Logins at two doors and calls to the broker, none of which may fail."""
        async with traffic(self.door, lambda: app(self.bridge)) as logins, asyncio.TaskGroup() as group:
            asking = group.create_task(self.ask())
            try:
                await logins.more(20)
                yield logins
                await logins.more(20)
            finally:
                asking.cancel()
        assert logins.failures == []
        assert self.failures == []
        assert self.asked > 20


def certificate_in(file: str) -> bytes:
    """As it goes over the wire."""
    return ssl.PEM_cert_to_DER_cert(Path(file).read_text())


def shown_certificate(port: int, alpn: str) -> bytes | None:
    """What a server shows, whoever signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.getpeercert(binary_form=True)


@pytest.fixture
def mesh(workshop: Workshop) -> Mesh:
    """A bridge of its own."""
    bridge = workshop.bridge(up=False, change_broker=asked_often)
    mesh = Mesh(bridge, bridge.authority)
    mesh.issue("service", APP_WORKLOAD)
    bridge.up()
    return mesh


async def test_all_certificates_rotate_twice_under_load_and_no_login_fails(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    async with mesh.under_load() as logins:
        for turn in (1, 2):
            mesh.issue_servers()
            mesh.issue_client(f"client-{turn}")
            await mesh.settled(turn)
            await mesh.wait_until_shown("broker", "broker", "h2")
            await mesh.wait_until_shown("proxy", "mtls", "postgresql")
            await logins.more(20)
    state(capsys, f"{logins.logins} logins and {mesh.asked} calls, slowest login {logins.slowest:.2f} s")


async def test_the_ca_is_replaced_under_load_by_way_of_a_bundle_of_both(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = mesh.authority, CertificateAuthority.create("tollbridge mesh CA, the next")

    async with mesh.under_load() as logins:
        mesh.trust(old, new)
        await mesh.settled(1)
        await logins.more(20)
        mesh.authority = new
        mesh.issue_servers()
        mesh.issue_client("client-of-the-new-ca")
        await mesh.settled(2)
        await logins.more(20)
        mesh.trust(new)
        await mesh.settled(3)
        await logins.more(20)
        told = await refusal(mtls(mesh.bridge, certificate="client"))
        assert "certificate" in told or "unknown ca" in told
    state(capsys, f"{logins.logins} logins and {mesh.asked} calls, slowest login {logins.slowest:.2f} s")


async def test_a_certificate_without_its_key_is_kept_out_with_a_warning_until_the_key_comes(mesh: Mesh) -> None:
    bridge = mesh.bridge
    files = {name: Path(bridge.file(f"{name}.crt")) for name in ("broker", "proxy")}
    right_keys = {name: file.with_suffix(".key").read_bytes() for name, file in files.items()}
    async with mesh.under_load() as logins:
        mesh.issue_servers()
        await mesh.settled(1)
        now_right = {name: file.with_suffix(".key").read_bytes() for name, file in files.items()}
        in_force = certificate_in(bridge.file("proxy.crt"))
        for name, file in files.items():
            write_atomically(file.with_suffix(".key"), right_keys[name], mode=0o600)
        await until(lambda: "the previous certificate and key stay in force" in bridge.broker.log())
        await until(lambda: "the previous certificate and key stay in force" in bridge.proxy.log())
        await until(lambda: "the old ones stay in force" in bridge.proxy.log())
        await logins.more(20)
        first_direct_tls = await asyncio.to_thread(shown_certificate, bridge.ports["mtls"], "postgresql")
        assert first_direct_tls == in_force
        for name, file in files.items():
            write_atomically(file.with_suffix(".key"), now_right[name], mode=0o600)
        await logins.more(20)
        mesh.issue_servers()
        await mesh.settled(2)
    for daemon in (bridge.broker, bridge.proxy):
        assert daemon.log().count("stay in force") <= 3, "a warning is said once, not every second"
