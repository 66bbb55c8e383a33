"""What is wrong with the files that a proxy's configuration names: all of it at once, before anything is served."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from proxy.settings import ProxySettings
from tollbridge.process.files import expired, unreadable, unwritable
from tollbridge.process.settings import Finding, Section
from tollbridge.process.tls import TlsFiles, TlsFilesError, certificate_facts, read


def file_findings(settings: ProxySettings) -> Iterator[Finding]:
    """Certificates, keys, CAs, bundles and directories."""
    broker = settings.broker.tls
    if broker is not None:
        missing = unreadable(broker, "cert_file", "key_file", "ca_file")
        yield from missing
        if not missing:
            yield from _certificate(broker, broker.files())
            yield from _caller(broker, broker.cert_file)
    for listener in settings.listeners:
        if listener.tls is not None:
            missing = unreadable(listener.tls, "cert_file", "key_file", "client_ca_file")
            yield from missing
            if not missing:
                yield from _certificate(listener.tls, listener.tls.files())
        if listener.http is not None:
            for problem in listener.http.file_problems():
                yield Finding(listener.http.at("spool_dir"), problem)
    for key in ("aws_rds", "aws_redshift"):
        yield from _bundle(settings, key)
    file = settings.audit.file
    if file is not None:
        hint = "create it for the user the proxy runs as, or leave file out"
        yield from unwritable(settings.audit, "file", file, hint)


def _certificate(section: Section, files: TlsFiles) -> Iterator[Finding]:
    try:
        read(files)
        facts = certificate_facts(files.cert_file)
    except TlsFilesError as error:
        yield Finding(section.at(), str(error))
        return
    yield from expired(section, files.cert_file, facts)


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
