"""TLS towards upstream: contexts from TlsFacts, and what a failed handshake means in words that name the fix."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import proxy
from proxy.errors import PeerClosed, PeerViolation, Refused, Side
from proxy.model import Location
from proxy.net.transport import Link
from tollbridge.model import TlsFacts, TlsMode, TrustStore
from tollbridge.reasons import Reason

CONTEXT_LIMIT: Final = 256
"""Contexts kept: one per trust, mode and PEM. Above it the least used goes; a catalog has a handful."""

_BUNDLES: Final = Path(proxy.__file__).parent / "trust"

# X509_V_ERR_*, from OpenSSL's x509_vfy.h; Python exposes the number alone.
_EXPIRED, _NOT_YET_VALID = 10, 9
_HOSTNAME, _IP_ADDRESS = 62, 64
_UNKNOWN_CA: Final = frozenset({2, 18, 19, 20, 21})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStores:
    """Where the bundles of AWS's own authorities lie."""

    aws_rds: Path = _BUNDLES / "aws-rds.pem"
    aws_redshift: Path = _BUNDLES / "aws-redshift.pem"


@dataclass(frozen=True, slots=True)
class _Key:
    mode: TlsMode
    store: TrustStore
    ca_pem: str
    alpn: tuple[str, ...]


class UpstreamTls:
    """SSL contexts, built once per kind of trust, off the event loop: one over the system's store costs 39 ms."""

    def __init__(self, stores: TrustStores | None = None) -> None:
        self._stores = stores or TrustStores()
        self._contexts: OrderedDict[_Key, ssl.SSLContext] = OrderedDict()

    async def context(self, facts: TlsFacts, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """The context for these facts. Raises Refused when the trust they name cannot be loaded."""
        key = _Key(facts.mode, facts.trust_store, facts.ca_pem, alpn)
        context = self._contexts.get(key)
        if context is not None:
            self._contexts.move_to_end(key)
            return context
        loop = asyncio.get_running_loop()
        context = await loop.run_in_executor(None, self._build, key)
        context = self._contexts.setdefault(key, context)
        if len(self._contexts) > CONTEXT_LIMIT:
            self._contexts.popitem(last=False)
        return context

    async def prove(self, link: Link, location: Location, alpn: tuple[str, ...] = ()) -> ssl.SSLObject:
        """TLS on a connection to a location. Raises Refused when the server does not prove to be the one meant, and
        PeerViolation when it speaks before its turn or leaves."""
        context = await self.context(location.tls, alpn)
        if len(link.inbox):
            raise PeerViolation(Side.UPSTREAM, f"{location.endpoint} sent bytes before TLS began: is it a database?")
        try:
            return await link.start_tls(context, expected_name(location))
        except ssl.SSLError as error:
            raise explain(error, location, link.tls_object) from error
        except PeerClosed as closed:
            raise PeerClosed(
                Side.UPSTREAM,
                f"{location.endpoint} closed the connection in the TLS handshake: check that it speaks TLS there",
            ) from closed

    def _build(self, key: _Key) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.hostname_checks_common_name = False
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.check_hostname = key.mode is TlsMode.VERIFY_FULL
        context.verify_mode = ssl.CERT_NONE if key.mode is TlsMode.INSECURE else ssl.CERT_REQUIRED
        if key.alpn:
            context.set_alpn_protocols(list(key.alpn))
        if key.mode is TlsMode.INSECURE:
            return context
        try:
            self._trust(context, key)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise Refused(
                Reason.UPSTREAM_TLS_UNVERIFIED,
                f"trust store {key.store} cannot be loaded ({error}): have the operator of the proxy install the "
                "bundle, or correct the database's `tls.ca_cert_file`",
            ) from error
        return context

    def _trust(self, context: ssl.SSLContext, key: _Key) -> None:
        match key.store:
            case TrustStore.SYSTEM:
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
            case TrustStore.AWS_RDS:
                context.load_verify_locations(cafile=self._stores.aws_rds)
            case TrustStore.AWS_REDSHIFT:
                context.load_verify_locations(cafile=self._stores.aws_redshift)
            case TrustStore.INLINE if not key.ca_pem:
                raise ValueError("the database names inline trust and carries no PEM")
        if key.ca_pem:
            context.load_verify_locations(cadata=key.ca_pem)


def expected_name(location: Location) -> str:
    """The name that upstream's certificate must carry, and that we ask for as SNI."""
    return location.tls.server_name or location.endpoint.host


def explain(error: ssl.SSLError, location: Location, upstream: ssl.SSLObject | None) -> Refused | PeerViolation:
    """A failed handshake with upstream as an outcome for the client."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(Reason.UPSTREAM_TLS_UNVERIFIED, _explain_certificate(error, location, upstream))
    reason = (error.reason or "handshake failed").replace("_", " ").lower()
    where = f"TLS with {location.endpoint} failed ({reason})"
    if "alert" in reason:
        return Refused(
            Reason.UPSTREAM_TLS_REFUSED, f"{where}: the server refused our handshake; check its TLS settings"
        )
    if "version" in reason or "protocol" in reason:
        return Refused(
            Reason.UPSTREAM_TLS_REFUSED,
            f"{where}: what answers there does not speak TLS 1.2 or newer; check the endpoint and its port",
        )
    return Refused(Reason.UPSTREAM_TLS_REFUSED, f"{where}: check the endpoint and the server's TLS settings")


def _explain_certificate(
    error: ssl.SSLCertVerificationError, location: Location, upstream: ssl.SSLObject | None
) -> str:
    where = f"the certificate of {location.endpoint}"
    code = error.verify_code
    if code in (_HOSTNAME, _IP_ADDRESS):
        return (
            f"{where} is for {certificate_names(upstream) or 'another name'}, expected {expected_name(location)}: "
            "correct the database's endpoint, or set its TLS `server_name` if this certificate is the right one"
        )
    if code == _EXPIRED:
        return f"{where} has expired: rotate the server's certificate; if it is new, check this host's clock"
    if code == _NOT_YET_VALID:
        return f"{where} is not valid yet: check this host's clock"
    if code in _UNKNOWN_CA:
        extra = " and the database's own `tls.ca_cert_file`" if location.tls.ca_pem else ""
        store = location.tls.trust_store
        return (
            f"{where} is signed by an authority that trust store {store}{extra} does not hold: register the authority "
            "in the database's `tls.ca_cert_file`, or renew the proxy's bundle (`trust`; SSL_CERT_FILE for system)"
        )
    return f"{where} does not verify ({error.verify_message}): check the server's certificate chain"


def certificate_names(upstream: ssl.SSLObject | None) -> str:
    """The names in the certificate that upstream showed, for messages only. Empty when they cannot be told.

    After a failed verification Python 3.11 has no public way to the certificate; its inner object keeps the chain.
    """
    try:
        inner: Any = getattr(upstream, "_sslobj", upstream)
        leaf = inner.get_verified_chain()[0].get_info()
        names = [f"{value}" for kind, value in leaf.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    except (AttributeError, IndexError, TypeError, ValueError):
        return ""
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
