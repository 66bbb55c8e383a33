"""Certificates of the sandbox: names, validity, rotation."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from deploy.sandbox.pki import CertificateAuthority


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def client_context(authority: CertificateAuthority) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    # As Python 3.13 does by default.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def test_clients_accept_the_name_and_only_the_name(authority: CertificateAuthority, tmp_path: Path) -> None:
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    authority.issue(cert, key, dns_names=["db.example.com"])
    handshake(server_context(cert, key), client_context(authority), "db.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(cert, key), client_context(authority), "other.example.com")


def test_an_expired_certificate_is_expired(authority: CertificateAuthority, tmp_path: Path) -> None:
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    authority.issue(cert, key, dns_names=["db.example.com"], lifetime=-timedelta(hours=1))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(server_context(cert, key), client_context(authority), "db.example.com")


def test_spiffe_and_dns_names_stand_side_by_side(authority: CertificateAuthority, tmp_path: Path) -> None:
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    authority.issue(cert, key, spiffe_ids=["spiffe://example.org/proxy"], dns_names=["proxy"], ip_addresses=["::1"])
    names = x509.load_pem_x509_certificate(cert.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org/proxy"]
    assert names.value.get_values_for_type(x509.DNSName) == ["proxy"]
    assert names.critical
    assert key.stat().st_mode & 0o777 == 0o600


def test_issuing_again_rotates_in_place(authority: CertificateAuthority, tmp_path: Path) -> None:
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    authority.issue(cert, key, dns_names=["a"])
    before = cert.read_bytes(), key.read_bytes()
    authority.issue(cert, key, dns_names=["a"], not_before=datetime(2020, 1, 1, tzinfo=UTC))
    assert cert.read_bytes() != before[0]
    assert key.read_bytes() != before[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.crt", "a.key"]
    server_context(cert, key)


def test_a_saved_authority_issues_on(authority: CertificateAuthority, tmp_path: Path) -> None:
    authority.save(tmp_path / "ca.pem", tmp_path / "ca.key")
    again = CertificateAuthority.load(tmp_path / "ca.pem", tmp_path / "ca.key")
    again.issue(tmp_path / "a.crt", tmp_path / "a.key", dns_names=["a.example.com"])
    handshake(server_context(tmp_path / "a.crt", tmp_path / "a.key"), client_context(authority), "a.example.com")
    assert "_key" not in repr(again)
