"""Who calls: from the verified client certificate, or fixed by a plaintext listener. PURE but for the context variable.

A caller is `spiffe://trust-domain/path`, or `dns:NAME` where configuration allows it. The common name never counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import grpc

from broker.errors import BrokerError
from tollbridge.reasons import Reason

AuthContext = Mapping[str, Iterable[bytes]]
Identify = Callable[[grpc.aio.ServicerContext[Any, Any]], str]
"""Returns the caller of an RPC. Raises CALLER_UNIDENTIFIED."""

MAX_SPIFFE_ID: Final = 2048
"""SPIFFE-ID 2.3."""

_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+")
"""SPIFFE-ID 2.1 and 2.2: no port, user, query, fragment or escape. A path is required: a trust domain is nobody."""

_DNS_NAME: Final = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""No wildcards: a certificate for many names is nobody's identity."""

_caller: ContextVar[str] = ContextVar("tollbridge_caller")


def caller_of(auth: AuthContext, *, allow_dns: bool) -> str:
    """The caller a client certificate names. Raises CALLER_UNIDENTIFIED."""
    uris = [value.decode("utf-8", "replace") for value in auth.get("peer_uri", ())]
    if len(uris) > 1:
        raise _unidentified(
            f"the client certificate holds {len(uris)} URI names and an identity must be unambiguous: "
            "issue it with exactly one SPIFFE URI"
        )
    if uris:
        if len(uris[0]) > MAX_SPIFFE_ID or not _is_spiffe_id(uris[0]):
            raise _unidentified(
                "the URI name in the client certificate is no SPIFFE ID (spiffe://trust-domain/path, no dot segments): "
                "issue it with one"
            )
        return uris[0]
    if not allow_dns:
        raise _unidentified(
            "the client certificate names nobody: issue it with exactly one SPIFFE URI as subject alternative name "
            "(the common name does not count; DNS names count where allow_dns_identity is set)"
        )
    names = [value.decode("utf-8", "replace").lower() for value in auth.get("peer_dns", ())]
    if len(names) != 1:
        raise _unidentified(
            f"the client certificate holds no SPIFFE URI and {len(names)} DNS names: issue it with exactly one"
        )
    if len(names[0]) > 253 or not _DNS_NAME.fullmatch(names[0]):
        raise _unidentified("the DNS name in the client certificate is no host name (wildcards name nobody)")
    return f"dns:{names[0]}"


def by_certificate(*, allow_dns: bool) -> Identify:
    """For mTLS listeners."""
    return lambda context: caller_of(context.auth_context(), allow_dns=allow_dns)


def fixed(caller: str) -> Identify:
    """For plaintext listeners, which know their one caller from configuration."""
    return lambda _context: caller


def enter(caller: str) -> None:
    """Remember the caller for the rest of this RPC's task. For the interceptor."""
    _caller.set(caller)


def current_caller() -> str:
    """The caller of the RPC being served. Raises LookupError outside of one that the interceptor let in."""
    return _caller.get()


def _is_spiffe_id(uri: str) -> bool:
    return bool(_SPIFFE_ID.fullmatch(uri)) and not {".", ".."} & set(uri.split("/"))


def _unidentified(message: str) -> BrokerError:
    return BrokerError(Reason.CALLER_UNIDENTIFIED, message)
