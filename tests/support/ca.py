"""A certificate authority for tests. trustme makes the authority; leaves are made here, because they carry URIs too."""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


class TestCa:
    """One authority. `leaf("spiffe://td/app")`, `leaf("db.example")`: names are DNS names, IP addresses or URIs."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        ca = trustme.CA()
        self._folder = folder
        self._made = 0
        self.pem = ca.cert_pem.bytes().decode()
        self.file = self._write("ca.pem", ca.cert_pem.bytes())
        self._certificate = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
        key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    def leaf(self, *names: str, common_name: str = "", expires_at: datetime | None = None) -> Leaf:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        now = datetime.now(UTC)
        expires_at = expires_at or now + timedelta(days=30)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, expires_at) - timedelta(days=1))
            .not_valid_after(expires_at)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_name(name) for name in names]), critical=False
            )
        return Leaf(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def files(self, leaf: Leaf) -> tuple[Path, Path]:
        """Certificate and key of a leaf, as two files."""
        self._made += 1
        return self._write(f"leaf-{self._made}.pem", leaf.certificate), self._write(f"leaf-{self._made}.key", leaf.key)

    def server_context(self, *names: str, expires_at: datetime | None = None) -> ssl.SSLContext:
        """What a database server uses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(self.leaf(*names, expires_at=expires_at)))
        return context

    def client_context(self, *identity: str) -> ssl.SSLContext:
        """What an application uses; with `identity` it shows a client certificate."""
        context = ssl.create_default_context(cadata=self.pem)
        if identity:
            context.load_cert_chain(*self.files(self.leaf(*identity)))
        return context

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return path


def _name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
