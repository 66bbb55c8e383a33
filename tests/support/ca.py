"""A certificate authority for tests, on trustme, and files and SSL contexts made from it."""

from __future__ import annotations

import os
import ssl
from datetime import datetime
from pathlib import Path

import trustme


class TestCa:
    """One authority. `leaf("spiffe://td/app")`, `leaf("db.example")`: names are DNS names, IP addresses or URIs."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self._made = 0
        self.pem = self._ca.cert_pem.bytes().decode()
        self.file = self._write("ca.pem", self._ca.cert_pem.bytes())

    def leaf(self, *names: str, common_name: str | None = None, expires_at: datetime | None = None) -> trustme.LeafCert:
        """A certificate and its key."""
        return self._ca.issue_cert(*names, common_name=common_name, not_after=expires_at)

    def files(self, leaf: trustme.LeafCert) -> tuple[Path, Path]:
        """Chain and key of a leaf, as two files."""
        self._made += 1
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return (
            self._write(f"leaf-{self._made}.pem", chain),
            self._write(f"leaf-{self._made}.key", leaf.private_key_pem.bytes()),
        )

    def server_context(self, *names: str, expires_at: datetime | None = None) -> ssl.SSLContext:
        """What a database server uses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.leaf(*names, expires_at=expires_at).configure_cert(context)
        return context

    def client_context(self, *identity: str) -> ssl.SSLContext:
        """What an application uses; with `identity` it shows a client certificate."""
        context = ssl.create_default_context(cadata=self.pem)
        if identity:
            self.leaf(*identity).configure_cert(context)
        return context

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return path
