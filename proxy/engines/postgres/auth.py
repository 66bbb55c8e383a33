"""How the proxy proves itself to a server: one small script per method, in a table. PURE.

A method gets what the server sent with its request and the sealed grant; it opens the grant itself, which the driver
allows only on verified TLS. Adding a method is a function and a row.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from proxy.engines.postgres import scram
from proxy.engines.postgres.refusals import upstream_error
from proxy.engines.postgres.wire import (
    AUTH_PHASE,
    AUTHENTICATION,
    ERROR,
    digest_response,
    password_message,
    read_message,
    sasl_initial_response,
    sasl_response,
)
from proxy.errors import PeerViolation, Refused
from proxy.inbox import Cursor
from proxy.model import SealedGrant
from proxy.script import UPSTREAM, Script, now, random_bytes, reveal, send
from tollbridge.reasons import Reason

SASL_CONTINUE: Final = 11
SASL_FINAL: Final = 12

DIGEST_SHA256: Final = 0
"""The one digest algorithm there is, an index into the driver's list of one."""
DIGEST_FIELD_LIMIT: Final = 256
"""Bytes of a digest request's salt and of its nonce: ample, and far below AUTH_LIMIT."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Method = Callable[[Cursor, SealedGrant], Script[None]]


def cleartext(request: Cursor, grant: SealedGrant) -> Script[None]:
    """The password itself: what RDS asks for when it checks an IAM token."""
    request.finish()
    password = yield from reveal(grant)
    yield from send(UPSTREAM, password_message(password.encode()))


def md5(request: Cursor, grant: SealedGrant) -> Script[None]:
    """md5(md5(password + user) + salt), both in hex."""
    salt = request.take(4)
    request.finish()
    password = yield from reveal(grant)
    inner = _md5_hex(password.encode() + grant.user.encode())
    yield from send(UPSTREAM, password_message(b"md5" + _md5_hex(inner + salt)))


def sasl(request: Cursor, grant: SealedGrant) -> Script[None]:
    """SCRAM-SHA-256, up to the server's proof."""
    offered = []
    while mechanism := request.cstring():
        offered.append(mechanism)
    request.finish()
    if scram.MECHANISM not in offered:
        names = ", ".join(name.decode("ascii", "replace") for name in offered)
        raise Refused(
            Reason.DATABASE_REFUSED,
            f"the database offers {grant.user!r} only SASL {names}; tollbridge can do SCRAM-SHA-256: "
            "set the user up for IAM authentication (GRANT rds_iam), or for SCRAM-SHA-256",
            decision_id=grant.decision_id,
        )
    raw_nonce = yield from random_bytes(scram.NONCE_BYTES)
    exchange = scram.Exchange(base64.b64encode(raw_nonce))
    yield from send(UPSTREAM, sasl_initial_response(scram.MECHANISM, exchange.first))
    server_first = yield from _next_sasl(SASL_CONTINUE)
    password = yield from reveal(grant)
    final, signature = exchange.answer(server_first, password)
    yield from send(UPSTREAM, sasl_response(final))
    scram.check_final((yield from _next_sasl(SASL_FINAL)), signature)


def digest(request: Cursor, grant: SealedGrant) -> Script[None]:
    """Redshift's: SHA256(SHA256(password + salt) + its nonce + ours), ours being the milliseconds since 1970.

    There is no public specification; this is what Amazon's own driver does. The user's name is not part of it.
    """
    algorithm = request.u32()
    salt, server_nonce = _digest_field(request, "salt"), _digest_field(request, "nonce")
    request.finish()
    if algorithm != DIGEST_SHA256:
        raise Refused(
            Reason.DATABASE_REFUSED,
            f"the database asks {grant.user!r} for digest algorithm {algorithm}; tollbridge can do number "
            f"{DIGEST_SHA256}, SHA-256: upgrade tollbridge",
            decision_id=grant.decision_id,
        )
    nonce = b"%d" % (((yield from now()) - _EPOCH) // timedelta(milliseconds=1))
    password = yield from reveal(grant)
    inner = hashlib.sha256(password.encode() + salt).digest()
    yield from send(UPSTREAM, digest_response(hashlib.sha256(inner + server_nonce + nonce).digest(), nonce))


METHODS: Final[Mapping[int, Method]] = MappingProxyType({3: cleartext, 5: md5, 10: sasl, 13: digest})
"""Authentication code -> how it is answered."""

_REFUSED_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        2: "Kerberos V5",
        6: "SCM credentials",
        7: "GSSAPI",
        9: "SSPI",
        14: "an identity provider's token",
    }
)


def refuse_method(code: int, grant: SealedGrant) -> Refused:
    """The refusal of a method that is not in the table."""
    name = _REFUSED_NAMES.get(code, "an unknown method")
    return Refused(
        Reason.DATABASE_REFUSED,
        f"the database asks {grant.user!r} for {name} (authentication code {code}), which tollbridge does not do: "
        "set this user up for IAM authentication (on RDS: GRANT rds_iam, and revoke rds_ad; on Redshift: a user or "
        "role of the cluster itself and not of its identity provider)",
        decision_id=grant.decision_id,
    )


def _digest_field(request: Cursor, what: str) -> bytes:
    length = request.u32()
    if not 1 <= length <= DIGEST_FIELD_LIMIT:
        raise PeerViolation(UPSTREAM, f"upstream's digest request has a {what} of {length} bytes")
    return request.take(length)


def _next_sasl(expected: int) -> Script[bytes]:
    """The data of the next SASL message from the server."""
    message = yield from read_message(UPSTREAM, AUTH_PHASE)
    if message.kind == ERROR:
        raise upstream_error(message, credential_shown=True)
    body = Cursor(message.body, UPSTREAM)
    if message.kind != AUTHENTICATION or body.u32() != expected:
        raise PeerViolation(UPSTREAM, "upstream left the SCRAM exchange in the middle")
    return body.rest()


def _md5_hex(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()
