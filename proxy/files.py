"""What is wrong with the files that a proxy's configuration names: all of it at once, before anything is served."""

from __future__ import annotations

import os
import ssl
from collections.abc import Generator, Iterator
from pathlib import Path

from proxy.settings import ProxySettings
from tollbridge.process.lifecycle import SystemClock
from tollbridge.process.settings import Finding, Section
from tollbridge.process.tls import TlsFiles, TlsFilesError, certificate_facts, read


def file_findings(settings: ProxySettings) -> Iterator[Finding]:
    """Certificates, keys, CAs, bundles and directories."""
    broker = settings.broker.tls
    if broker is not None:
        missing = yield from _missing(broker, "cert_file", "key_file", "ca_file")
        if not missing:
            yield from _certificate(broker, broker.files())
            yield from _caller(broker, broker.cert_file)
    for listener in settings.listeners:
        if listener.tls is not None:
            missing = yield from _missing(listener.tls, "cert_file", "key_file", "client_ca_file")
            if not missing:
                yield from _certificate(listener.tls, listener.tls.files())
        if listener.http is not None:
            for problem in listener.http.file_problems():
                yield Finding(listener.http.at("spool_dir"), problem)
    for key in ("aws_rds", "aws_redshift"):
        yield from _bundle(settings, key)
    file = settings.audit.file
    if file is not None and not os.access(file.parent, os.W_OK | os.X_OK):
        message = f"directory {file.parent} does not exist or cannot be written to"
        yield Finding(settings.audit.at("file"), message, "create it for the user the proxy runs as, or leave file out")


def _missing(section: Section, *keys: str) -> Generator[Finding, None, bool]:
    """Says which cannot be read; returns whether any."""
    any_missing = False
    for key in keys:
        path: Path | None = getattr(section, key)
        if path is not None and not os.access(path, os.R_OK):
            any_missing = True
            yield Finding(section.at(key), f"{path} does not exist or cannot be read")
    return any_missing


def _certificate(section: Section, files: TlsFiles) -> Iterator[Finding]:
    try:
        read(files)
        facts = certificate_facts(files.cert_file)
    except TlsFilesError as error:
        yield Finding(section.at(), str(error))
        return
    if facts.expires_at_seconds <= SystemClock().now().timestamp():
        message = f"{files.cert_file} expired at {facts.expires_at}"
        yield Finding(section.at("cert_file"), message, "issue a new one", warning=True)


def _caller(section: Section, cert_file: Path) -> Iterator[Finding]:
    """Who the broker will take this proxy for."""
    try:
        uris = certificate_facts(cert_file).uris
    except TlsFilesError:
        return  # said already
    if len(uris) != 1 or not uris[0].startswith("spiffe://"):
        message = f"{cert_file} does not name exactly one SPIFFE ID: the broker will not know this proxy"
        hint = (
            "one URI in its SAN, as in the broker's `proxies:`; a DNS name does where the broker has allow_dns_identity"
        )
        yield Finding(section.at("cert_file"), message, hint, warning=True)


def _bundle(settings: ProxySettings, key: str) -> Iterator[Finding]:
    bundle: Path | None = getattr(settings.trust, key)
    if bundle is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=bundle)
    except OSError as error:  # ssl.SSLError is one
        yield Finding(settings.trust.at(key), f"{bundle} holds no PEM certificates that can be read ({error})")
