"""The packaged trust bundles are what the README beside them says."""

from __future__ import annotations

import ssl
import warnings
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

TRUST = Path(str(resources.files("proxy.trust")))
BUNDLES = ["aws-rds.pem", "aws-redshift.pem"]


def certificates(name: str) -> list[x509.Certificate]:
    """Everything in a bundle."""
    with warnings.catch_warnings():
        # A root of 2004 with a serial number of zero, which its owner still uses.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_pem_x509_certificates((TRUST / name).read_bytes())


def common_names(name: str) -> set[str]:
    """Of every certificate that has one."""
    return {
        str(attribute.value)
        for certificate in certificates(name)
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    }


@pytest.mark.parametrize("name", BUNDLES)
def test_openssl_takes_every_certificate(name: str) -> None:
    """Nothing is malformed and nothing is there twice."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=TRUST / name)
    held = certificates(name)
    assert context.cert_store_stats()["x509_ca"] == len(held)
    assert len({certificate.fingerprint(hashes.SHA256()) for certificate in held}) == len(held)


@pytest.mark.parametrize("name", BUNDLES)
def test_no_root_expires_within_a_year(name: str) -> None:
    """A release with a dying bundle should fail here, not at a customer's."""
    horizon = datetime.now(UTC) + timedelta(days=365)
    assert min(certificate.not_valid_after_utc for certificate in certificates(name)) > horizon


@pytest.mark.parametrize("region", ["us-west-1", "eu-central-1"])
@pytest.mark.parametrize("key", ["RSA2048", "RSA4096", "ECC384"])
def test_rds_has_the_three_roots_of_a_region(region: str, key: str) -> None:
    """An instance may use any of the three."""
    assert f"Amazon RDS {region} Root CA {key} G1" in common_names("aws-rds.pem")


def test_rds_proxy_chains_to_amazon_trust_services() -> None:
    """RDS Proxy's certificates come from ACM."""
    assert {f"Amazon Root CA {number}" for number in range(1, 5)} <= common_names("aws-rds.pem")


def test_redshift_has_the_amazon_and_starfield_roots() -> None:
    """Both chains that Redshift endpoints have shown."""
    held = common_names("aws-redshift.pem")
    assert {"Amazon Root CA 1", "Starfield Services Root Certificate Authority - G2"} <= held
