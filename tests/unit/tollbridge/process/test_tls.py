from __future__ import annotations

import errno
import logging
import os
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.ca import TestCa
from tollbridge.process import tls
from tollbridge.process.tls import TlsFiles, TlsFilesError, TlsMaterial, TlsWatch


@pytest.fixture
def ca(tmp_path: Path) -> TestCa:
    return TestCa(tmp_path)


def files(ca: TestCa, *names: str) -> TlsFiles:
    certificate, key = ca.files(ca.leaf(*names))
    return TlsFiles(cert_file=certificate, key_file=key, ca_file=ca.file)


def replace(old: TlsFiles, new: TlsFiles, *parts: str) -> None:
    for part in parts:
        shutil.copy(getattr(new, part), getattr(old, part))


def test_a_pair_that_belongs_together_is_read(ca: TestCa) -> None:
    material = tls.read(files(ca, "db.example"))
    assert material.ca_pem == ca.pem.encode()
    assert material.cert_pem.startswith(b"-----BEGIN CERTIFICATE")
    assert "PRIVATE" not in repr(material)


def test_material_loads_into_contexts_without_a_file(ca: TestCa) -> None:
    material = tls.read(files(ca, "db.example"))
    tls.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), material)


def test_no_ca_file_is_no_ca(ca: TestCa) -> None:
    both = files(ca, "db.example")
    assert tls.read(TlsFiles(cert_file=both.cert_file, key_file=both.key_file)).ca_pem is None


def test_a_foreign_key_is_refused_by_name(ca: TestCa) -> None:
    one, two = files(ca, "a"), files(ca, "b")
    with pytest.raises(TlsFilesError, match=str(two.key_file)):
        tls.read(TlsFiles(cert_file=one.cert_file, key_file=two.key_file))


@pytest.mark.parametrize(
    ("part", "content", "says"),
    [
        ("cert_file", b"", "is empty"),
        ("key_file", b" \n", "is empty"),
        ("cert_file", b"nonsense", "not a certificate and its private key"),
        ("ca_file", b"nonsense", "holds no PEM certificates"),
        ("ca_file", b"\xff\xfe", "holds no PEM certificates"),
        ("cert_file", b"x" * (tls.MAX_FILE_BYTES + 1), "is larger than"),
        ("key_file", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n", "key"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(ca: TestCa, part: str, content: bytes, says: str) -> None:
    broken = files(ca, "a")
    getattr(broken, part).write_bytes(content)
    with pytest.raises(TlsFilesError, match=says):
        tls.read(broken)


def test_a_certificate_and_a_key_in_each_others_place_are_told_apart(ca: TestCa) -> None:
    """gRPC would take them, and then say that nobody listens."""
    one = files(ca, "a")
    with pytest.raises(TlsFilesError, match=rf"^{one.key_file} holds a private key and no certificate: .* swapped"):
        tls.read(TlsFiles(cert_file=one.key_file, key_file=one.cert_file, ca_file=one.ca_file))
    with pytest.raises(TlsFilesError, match=rf"^{one.key_file} holds no PEM certificate: .* swapped"):
        tls.certificate_facts(one.key_file)


def test_a_file_that_is_no_certificate_has_no_facts(ca: TestCa, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("nonsense")
    with pytest.raises(TlsFilesError, match="notes holds no PEM certificate"):
        tls.certificate_facts(tmp_path / "notes")


def test_certificate_and_key_may_stand_in_one_file(ca: TestCa, tmp_path: Path) -> None:
    one, both = files(ca, "a"), tmp_path / "both.pem"
    both.write_bytes(one.key_file.read_bytes() + one.cert_file.read_bytes())
    assert tls.read(TlsFiles(cert_file=both, key_file=both)).cert_pem == both.read_bytes()


def test_an_encrypted_key_does_not_ask_the_terminal(ca: TestCa) -> None:
    from cryptography.hazmat.primitives import serialization

    one = files(ca, "a")
    key = serialization.load_pem_private_key(one.key_file.read_bytes(), None)
    one.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    with pytest.raises(TlsFilesError, match="encrypted"):
        tls.read(one)


def test_a_missing_file_is_named(ca: TestCa, tmp_path: Path) -> None:
    with pytest.raises(TlsFilesError, match="cannot read the certificate file"):
        tls.read(TlsFiles(cert_file=tmp_path / "no", key_file=tmp_path / "no"))


def test_names_and_expiry_are_read_even_of_an_expired_certificate(ca: TestCa) -> None:
    expired = datetime.now(UTC) - timedelta(days=1)
    certificate, _key = ca.files(ca.leaf("db.example", "spiffe://td/app", expires_at=expired))
    facts = tls.certificate_facts(certificate)
    assert (facts.dns_names, facts.uris) == (("db.example",), ("spiffe://td/app",))
    assert facts.expires_at_seconds == int(expired.timestamp())


async def test_a_watch_takes_over_what_fits_and_tells_everybody_once(ca: TestCa) -> None:
    current, new = files(ca, "a"), files(ca, "b")
    watch = TlsWatch(current, what="test")
    heard: list[TlsMaterial] = []
    watch.on_change(heard.append)
    assert not await watch.poll()
    replace(current, new, "cert_file")
    assert not await watch.poll()
    replace(current, new, "key_file")
    assert await watch.poll()
    assert not await watch.poll()
    assert heard == [watch.material] == [tls.read(new)]
    assert (watch.rotations, watch.rejected) == (1, 1)


async def test_a_watch_lives_through_a_lack_of_descriptors(ca: TestCa, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor_free(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    current, new = files(ca, "a"), files(ca, "b")
    watch = TlsWatch(current, what="test")
    replace(current, new, "cert_file", "key_file")
    with monkeypatch.context() as exhausted:
        exhausted.setattr(os, "memfd_create", no_descriptor_free)
        assert not await watch.poll()
    assert await watch.poll()
    assert (watch.rotations, watch.rejected) == (1, 1)


def test_comments_in_a_bundle_do_no_harm(ca: TestCa) -> None:
    both = files(ca, "a")
    assert both.ca_file is not None
    both.ca_file.write_bytes("# Autoridad de Certificación\n".encode() + b"\xff\n" + ca.pem.encode())
    assert tls.read(both).ca_pem == both.ca_file.read_bytes()


async def test_a_change_of_the_ca_alone_counts(ca: TestCa, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    current = files(ca, "a")
    assert current.ca_file is not None
    watch = TlsWatch(current, what="test")
    current.ca_file.write_text(ca.pem + TestCa(tmp_path / "other").pem)
    assert await watch.poll()


async def test_bad_files_are_warned_of_once_and_again_after_a_recovery(
    ca: TestCa, caplog: pytest.LogCaptureFixture
) -> None:
    current = files(ca, "a")
    watch = TlsWatch(current, what="test")
    good = current.key_file.read_bytes()
    with caplog.at_level(logging.WARNING):
        for content in (b"", b"", good, b"", b""):
            current.key_file.write_bytes(content)
            await watch.poll()
    assert len(caplog.records) == 2
    assert watch.material == tls.read(
        TlsFiles(cert_file=current.cert_file, key_file=_write(current, good), ca_file=ca.file)
    )


def _write(current: TlsFiles, content: bytes) -> Path:
    current.key_file.write_bytes(content)
    return current.key_file


async def test_files_behind_swapped_links_are_seen(ca: TestCa, tmp_path: Path) -> None:
    """Kubernetes swaps one symbolic link for a whole directory."""
    for name, leaf in (("v1", ca.leaf("a")), ("v2", ca.leaf("b"))):
        (tmp_path / name).mkdir()
        for target, source in zip(("tls.crt", "tls.key"), ca.files(leaf), strict=True):
            shutil.copy(source, tmp_path / name / target)
    link = tmp_path / "data"
    link.symlink_to("v1")
    watch = TlsWatch(TlsFiles(cert_file=link / "tls.crt", key_file=link / "tls.key"), what="test")
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(link)
    assert await watch.poll()
