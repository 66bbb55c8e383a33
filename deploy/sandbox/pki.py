"""Certificates for everything in a sandbox: databases, broker, proxies, clients."""

import ipaddress
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = timedelta(days=30)
LEAF_LIFETIME = timedelta(days=7)
CLOCK_SLACK = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A root that signs leaf certificates directly. All keys are ECDSA P-256."""

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str = "tollbridge sandbox CA") -> "CertificateAuthority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SLACK)
            .not_valid_after(now + CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(for_ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate_file: Path, key_file: Path) -> "CertificateAuthority":
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_file} holds no key that this class has written")  # noqa: TRY004 - the file is wrong
        return cls(x509.load_pem_x509_certificate(certificate_file.read_bytes()), key)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def save(self, certificate_file: Path, key_file: Path | None = None) -> None:
        """The certificate for those who trust it; the key only for those who will issue more."""
        if key_file is not None:
            write_atomically(key_file, _key_pem(self._key), mode=0o600)
        write_atomically(certificate_file, self.certificate_pem, mode=0o644)

    def issue(
        self,
        certificate_file: Path,
        key_file: Path,
        *,
        spiffe_ids: Sequence[str] = (),
        dns_names: Sequence[str] = (),
        ip_addresses: Sequence[str] = (),
        common_name: str | None = None,
        lifetime: timedelta = LEAF_LIFETIME,
        not_before: datetime | None = None,
    ) -> None:
        """Write a new key and a certificate for it, good for TLS servers and clients alike.

        Issuing to the same paths again is a rotation: each file is replaced at once, the key first, so that a reader
        sees at worst a new key beside an old certificate. ``lifetime`` counts from now and may be negative: an
        expired certificate. ``not_before`` is a little in the past unless given.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        expires_at = now + lifetime
        valid_from = not_before or min(now, expires_at) - CLOCK_SLACK
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in spiffe_ids]
        names += [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses]
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(valid_from)
            .not_valid_after(expires_at)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(for_ca=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            # RFC 5280 4.2.1.6: critical where the subject is empty, because it is then the only name.
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not attributes)
        certificate = builder.sign(self._key, hashes.SHA256())
        write_atomically(key_file, _key_pem(key), mode=0o600)
        write_atomically(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def write_atomically(file: Path, content: bytes, *, mode: int) -> None:
    """Replace a file in one step; no reader sees half of it, and no one but us sees a key before its mode is set."""
    descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    with os.fdopen(descriptor, "wb") as output:
        output.write(content)
        os.fchmod(output.fileno(), mode)
    Path(draft).replace(file)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_usage(*, for_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=for_ca,
        crl_sign=for_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
