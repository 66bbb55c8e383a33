"""TLS towards clients: our certificate from files that may change, and who a client's certificate says it is."""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from proxy.errors import PeerViolation, Side
from proxy.model import PeerFacts
from proxy.net.transport import Link
from tollbridge.clock import Clock
from tollbridge.process import tls
from tollbridge.process.tls import TlsFiles, TlsFilesError, TlsMaterial

_log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 1.0
"""How often, at most, a handshake looks whether the files have changed."""

# The SPIFFE ID specification: scheme, trust domain, path of non-empty segments that are not dots; 2,048 bytes at most.
_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+")
_SPIFFE_BYTES: Final = 2048
_DNS_BYTES: Final = 253
_DNS: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


class ClientCertificates(StrEnum):
    """Whether clients show a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTlsFiles:
    """Where our certificate, its key and the authority of client certificates lie."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class ClientTls:
    """SSL contexts towards clients. The files are looked at when a handshake begins, once a second at most."""

    def __init__(
        self,
        files: ClientTlsFiles,
        *,
        client_certificates: ClientCertificates,
        clock: Clock,
        allow_dns_identity: bool = False,
    ) -> None:
        """Raises TlsFilesError or OSError when the files cannot be loaded."""
        if client_certificates is not ClientCertificates.NONE and files.client_ca is None:
            raise ValueError("client certificates need `client_ca`: the authority that signs them")
        self._files = files
        self._client_certificates = client_certificates
        self._allow_dns_identity = allow_dns_identity
        self._clock = clock
        self._checked_at = clock.monotonic()
        self._complaint = ""
        self._seen = self._signature()
        self._material = self._read()
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {(): self._build((), self._material)}

    def context(self, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """The context of now, offering these ALPN names."""
        now = self._clock.monotonic()
        if now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            self._reload()
        context = self._contexts.get(alpn)
        if context is None:
            # Of what is in force, not of the files: they may be half replaced by now.
            context = self._contexts[alpn] = self._build(alpn, self._material)
        return context

    async def handshake(self, link: Link, alpn: tuple[str, ...] = ()) -> PeerFacts:
        """TLS with a client, and what that says about it. Raises PeerViolation."""
        try:
            client = await link.start_tls(self.context(alpn))
        except ssl.SSLError as error:
            reason = (error.reason or "failed").replace("_", " ").lower()
            raise PeerViolation(Side.CLIENT, f"TLS handshake with the client: {reason}") from error
        return self.facts(client)

    def facts(self, client: ssl.SSLObject) -> PeerFacts:
        """What a finished handshake says about the client."""
        identity = None
        if self._client_certificates is not ClientCertificates.NONE:
            identity, why = identify(client.getpeercert(), allow_dns=self._allow_dns_identity)
            if why:
                _log.warning("client certificate names no workload: %s", why)
        return PeerFacts(sni=getattr(client, "sni", None), alpn=client.selected_alpn_protocol(), identity=identity)

    def _reload(self) -> None:
        try:
            seen = self._signature()
            if seen == self._seen:
                return
            material = self._read()
            self._contexts = {alpn: self._build(alpn, material) for alpn in self._contexts}
        except (OSError, ValueError, TlsFilesError) as error:
            # Looked at again in a second: what failed may be this moment (no descriptor free) and not the files.
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning(
                    "new certificate files are not used, the old ones stay in force: %s (%s)",
                    self._files.certificate,
                    error,
                )
        else:
            self._material, self._seen, self._complaint = material, seen, ""
            _log.info("certificate reloaded: %s", self._files.certificate)

    def _signature(self) -> tuple[tuple[int, int, int], ...]:
        paths = (self._files.certificate, self._files.key, self._files.client_ca)
        stats = [os.stat(path) for path in paths if path is not None]
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)

    def _read(self) -> TlsMaterial:
        files = self._files
        return tls.read(TlsFiles(cert_file=files.certificate, key_file=files.key, ca_file=files.client_ca))

    def _build(self, alpn: tuple[str, ...], material: TlsMaterial) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        context.num_tickets = 0  # database clients do not resume; two tickets cost 0.12 ms per login
        tls.load_into(context, material)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        context.sni_callback = _keep_sni
        if self._client_certificates is not ClientCertificates.NONE:
            context.load_verify_locations(cadata=(material.ca_pem or b"").decode("ascii", "ignore"))
            required = self._client_certificates is ClientCertificates.REQUIRED
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        return context


def identify(certificate: Mapping[str, Any] | None, *, allow_dns: bool) -> tuple[str | None, str]:
    """The workload in a verified certificate and, when there is none although one was shown, why. PURE.

    Exactly one URI, a SPIFFE ID; else, where allowed, exactly one DNS name, written `dns:NAME`. Never the common name.
    """
    if not certificate:
        return None, ""
    names = certificate.get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    if len(uris) > 1:
        return None, f"it has {len(uris)} URIs, a SPIFFE certificate has exactly one"
    if uris:  # whatever it is, the DNS names beside it do not count: the broker reads certificates the same way
        if len(uris[0]) <= _SPIFFE_BYTES and _SPIFFE.fullmatch(uris[0]) and not {".", ".."} & set(uris[0].split("/")):
            return uris[0], ""
        return None, f"its URI {uris[0][:200]!r} is not a valid SPIFFE ID"
    dns = [value.lower() for kind, value in names if kind == "DNS"]
    if not allow_dns:
        return None, "it has no SPIFFE URI, and DNS names are not accepted here (`allow_dns_identity`)"
    if len(dns) != 1:
        return None, f"it has no SPIFFE URI and {len(dns)} DNS names; exactly one is accepted"
    if len(dns[0]) > _DNS_BYTES or not _DNS.fullmatch(dns[0]):
        return None, f"its DNS name {dns[0][:200]!r} is no plain host name"
    return f"dns:{dns[0]}", ""


def _keep_sni(client: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
    # CPython hands the SSLObject itself to the callback, and it takes attributes.
    client.sni = name.lower() if name else None  # type: ignore[attr-defined]
