"""Who a client certificate says it is, and certificates that change under a running listener."""

from __future__ import annotations

import errno
import logging
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from proxy.net.identity import ClientCertificates, ClientTls, ClientTlsFiles, identify
from tests.support.ca import TestCa
from tests.support.clock import FakeClock
from tests.support.stage import APP, proxy_stage, until

URI, DNS = "URI", "DNS"


@pytest.mark.parametrize(
    ("names", "allow_dns", "identity"),
    [
        ([(URI, APP)], False, APP),
        ([(URI, APP), (DNS, "app.example")], True, APP),
        ([(URI, APP), (URI, "spiffe://td/other")], True, None),
        ([(URI, APP), (URI, "https://app.example")], True, None),
        ([(URI, "https://app.example")], False, None),
        ([(DNS, "app.example")], False, None),
        ([(DNS, "App.Example")], True, "dns:app.example"),
        ([(DNS, "a.example"), (DNS, "b.example")], True, None),
        ([(DNS, "*.example")], True, None),
        ([(DNS, "a.example\x00.evil")], True, None),
        ([(URI, "spiffe://td/app\x00")], False, None),
        ([(URI, "spiffe://td")], False, None),
        ([(URI, "spiffe://td/a//b")], False, None),
        ([(URI, "spiffe://TD/app")], False, None),
        ([(URI, "spiffe://td/app?x=1")], False, None),
        ([(URI, "spiffe://td/ns/shop/../admin")], False, None),
        ([(URI, "spiffe://td/./app")], False, None),
        ([(URI, "https://app.example"), (DNS, "app.example")], True, None),
        ([(URI, "SPIFFE://td/app"), (DNS, "app.example")], True, None),
        ([(DNS, "a." * 127 + "example")], True, None),
        ([(URI, "spiffe://td/" + "a" * 2048)], False, None),
        ([], True, None),
    ],
)
def test_identity(names: list[tuple[str, str]], allow_dns: bool, identity: str | None) -> None:
    certificate: dict[str, Any] = {"subject": ((("commonName", "admin"),),), "subjectAltName": tuple(names)}
    found, why = identify(certificate, allow_dns=allow_dns)
    assert found == identity
    assert bool(why) is (identity is None)


def test_no_certificate_is_no_identity_and_nothing_to_complain_about() -> None:
    assert identify(None, allow_dns=True) == identify({}, allow_dns=True) == (None, "")


async def facts_of(ca: TestCa, tmp_path: Path, context: ssl.SSLContext, **door: Any) -> tuple[str, list[str]]:
    """What the client reads, and which workloads the broker was asked for."""
    async with proxy_stage(ca, tmp_path, workload=None, tls_required=True, **door) as stage:
        client = await stage.dial()
        await client.send(b"S")
        await client.receive(1)
        await client.tls(context, "proxy.example")
        await client.send(b"\x03app")
        said = (await client.receive(64)).decode().strip()
        await until(lambda: stage.log.starts or stage.log.refusals)
        return said, [event.facts.workload for event in stage.log.starts]


async def test_workload_comes_from_the_certificate(ca: TestCa, tmp_path: Path) -> None:
    assert await facts_of(ca, tmp_path, ca.client_context(APP)) == ("OK", [APP])


async def test_two_uris_are_nobody(ca: TestCa, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said, workloads = await facts_of(ca, tmp_path, ca.client_context(APP, "spiffe://td/other"))
    assert (said, workloads) == ("ERR CLIENT_UNIDENTIFIED", [])
    assert "2 URIs" in caplog.text


async def test_no_certificate_is_nobody(ca: TestCa, tmp_path: Path) -> None:
    assert await facts_of(ca, tmp_path, ca.client_context()) == ("ERR CLIENT_UNIDENTIFIED", [])


async def test_a_certificate_of_a_foreign_authority_does_not_fall_back_to_none(ca: TestCa, tmp_path: Path) -> None:
    foreign = TestCa(tmp_path)
    context = foreign.client_context(APP)
    context.load_verify_locations(cadata=ca.pem)
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.dial()
        await client.send(b"S")
        await client.receive(1)
        await client.tls(context, "proxy.example")  # TLS 1.3: our side is done before the server has looked
        with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
            await client.receive()
        await until(lambda: stage.counters.connections_open == 0)
        assert not stage.log.starts


async def test_required_means_required(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, client_certificates=ClientCertificates.REQUIRED) as stage:
        client = await stage.dial()
        await client.send(b"S")
        await client.receive(1)
        await client.tls(ca.client_context(), "proxy.example")
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
            await client.receive()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("sliced", [False, True], ids=["whole", "byte by byte"])
async def test_direct_tls_with_sni(ca: TestCa, tmp_path: Path, version: ssl.TLSVersion, sliced: bool) -> None:
    door = {"database": None, "sni_databases": {"proxy.example": "orders"}}
    async with proxy_stage(ca, tmp_path, **door) as stage:  # type: ignore[arg-type]
        context = ca.client_context(APP)
        context.minimum_version = context.maximum_version = version
        client = await stage.dial()
        await client.tls(context, "proxy.example", sliced=sliced)
        await client.send(b"\x03app")
        assert await client.exactly(3) == b"OK\n"
        await client.send(b"hi\n")
        assert await client.exactly(3) == b"hi\n"


async def test_plaintext_in_front_of_the_clients_handshake_is_refused(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.dial()
        await client.send(b"S\x03app")
        assert await client.to_end() == b"ERR CLIENT_PROTOCOL\n"


async def test_plaintext_instead_of_the_clients_handshake_is_no_tls(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        client = await stage.dial()
        await client.send(b"S")
        assert await client.receive(1) == b"S"
        await client.send(b"\x03app, in the clear")
        said = await client.to_end()
        assert b"ERR" not in said  # an alert at most: never plaintext where TLS was promised
        await until(lambda: stage.counters.connections_open == 0)


def overwrite(target: tuple[Path, Path], source: tuple[Path, Path]) -> None:
    for old, new in zip(target, source, strict=True):
        os.replace(new, old)


def serial(context: ssl.SSLContext, ca: TestCa) -> str:
    """Which certificate a context shows, by an in-memory handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ca.client_context().wrap_bio(to_client, to_server, server_hostname="proxy.example")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = client.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


def test_new_files_are_used_and_a_pair_that_does_not_match_is_not(ca: TestCa, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    files = ca.files(ca.leaf("proxy.example"))
    subject = ClientTls(
        ClientTlsFiles(certificate=files[0], key=files[1]), client_certificates=ClientCertificates.NONE, clock=clock
    )
    first = serial(subject.context(), ca)
    assert serial(subject.context(("toy",)), ca) == first

    overwrite(files, ca.files(ca.leaf("proxy.example")))
    assert serial(subject.context(), ca) == first, "looks once a second at most"
    clock.advance(1.1)
    second = serial(subject.context(), ca)
    assert second != first
    assert serial(subject.context(("toy",)), ca) == second

    certificate, _ = ca.files(ca.leaf("proxy.example"))
    _, key = ca.files(ca.leaf("proxy.example"))
    overwrite(files, (certificate, key))
    clock.advance(1.1)
    assert serial(subject.context(), ca) == second
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 1
    clock.advance(1.1)
    subject.context()
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 1, "said once, not every second"

    overwrite(files, ca.files(ca.leaf("proxy.example")))
    clock.advance(1.1)
    assert serial(subject.context(), ca) not in (first, second)


def test_while_the_files_do_not_match_a_protocol_asked_for_the_first_time_gets_what_is_in_force(ca: TestCa) -> None:
    clock = FakeClock()
    files = ca.files(ca.leaf("proxy.example"))
    subject = ClientTls(
        ClientTlsFiles(certificate=files[0], key=files[1]), client_certificates=ClientCertificates.NONE, clock=clock
    )
    first = serial(subject.context(), ca)
    overwrite(files, (ca.files(ca.leaf("proxy.example"))[0], ca.files(ca.leaf("proxy.example"))[1]))
    assert serial(subject.context(("toy",)), ca) == first
    clock.advance(1.1)
    assert serial(subject.context(("toy", "other")), ca) == first


def test_a_file_that_is_gone_keeps_the_old(ca: TestCa, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    files = ca.files(ca.leaf("proxy.example"))
    subject = ClientTls(
        ClientTlsFiles(certificate=files[0], key=files[1]), client_certificates=ClientCertificates.NONE, clock=clock
    )
    files[1].unlink()
    clock.advance(1.1)
    assert serial(subject.context(), ca)
    assert "old ones stay" in caplog.text


def test_what_failed_for_a_moment_is_tried_again(ca: TestCa, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    files = ca.files(ca.leaf("proxy.example"))
    subject = ClientTls(
        ClientTlsFiles(certificate=files[0], key=files[1]), client_certificates=ClientCertificates.NONE, clock=clock
    )
    first = serial(subject.context(), ca)
    overwrite(files, ca.files(ca.leaf("proxy.example")))
    with monkeypatch.context() as exhausted:
        exhausted.setattr(os, "memfd_create", no_descriptor_free)
        clock.advance(1.1)
        assert serial(subject.context(), ca) == first
    clock.advance(1.1)
    assert serial(subject.context(), ca) != first


def no_descriptor_free(*_: object) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


def test_bundles_of_authorities_may_carry_comments_in_any_language(ca: TestCa, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("# NetLock Arany Főtanúsítvány\n" + ca.pem, encoding="utf-8")
    certificate, key = ca.files(ca.leaf("proxy.example"))
    subject = ClientTls(
        ClientTlsFiles(certificate=certificate, key=key, client_ca=bundle),
        client_certificates=ClientCertificates.REQUIRED,
        clock=FakeClock(),
    )
    assert subject.context().get_ca_certs()


def test_certificates_need_their_authority(ca: TestCa) -> None:
    certificate, key = ca.files(ca.leaf("proxy.example"))
    with pytest.raises(ValueError, match="client_ca"):
        ClientTls(
            ClientTlsFiles(certificate=certificate, key=key),
            client_certificates=ClientCertificates.REQUIRED,
            clock=FakeClock(),
        )


async def test_rotation_between_two_logins(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path) as stage:
        await stage.login(encrypted=True)
        stage.clock.advance(2)
        await stage.login(encrypted=True)
