"""SCRAM-SHA-256, the client's side, as one value per exchange. PURE.

RFC 5802 and RFC 7677, as PostgreSQL uses them: no user name inside (the startup packet has it), no channel binding
(SCRAM-SHA-256-PLUS needs the server certificate's hash, and this exchange only ever runs inside verified TLS).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from proxy.errors import PeerViolation
from proxy.script import UPSTREAM

MECHANISM: Final = b"SCRAM-SHA-256"
NONCE_BYTES: Final = 18
"""As libpq: SCRAM_RAW_NONCE_LEN."""
ITERATION_LIMIT: Final = 100_000
"""PBKDF2 rounds a server may ask for: some 30 ms of this process. PostgreSQL's default is 4,096; pgjdbc stops at the
same number as we do."""

_GS2_HEADER: Final = b"n,,"
_SERVER_FIRST: Final = re.compile(rb"(r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9}))(?:,.*)?", re.DOTALL)
_SERVER_FINAL: Final = re.compile(rb"v=([A-Za-z0-9+/=]+)(?:,.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One login. `user` is empty towards PostgreSQL; the RFC's example has one."""

    nonce: bytes
    """Printable, without a comma."""
    user: bytes = b""

    @property
    def first(self) -> bytes:
        """The client's first message."""
        return _GS2_HEADER + self._first_bare

    @property
    def _first_bare(self) -> bytes:
        return b"n=" + self.user + b",r=" + self.nonce

    def answer(self, server_first: bytes, password: str) -> tuple[bytes, bytes]:
        """The client's final message, and the signature that the server must then show. Raises PeerViolation.

        The password is taken as UTF-8: SASLprep changes nothing in ASCII, and tokens are ASCII.
        """
        match = _SERVER_FIRST.fullmatch(server_first)
        if match is None:
            raise PeerViolation(UPSTREAM, "upstream's first SCRAM message is malformed")
        nonce, iterations = match[2], int(match[4])
        if not nonce.startswith(self.nonce) or nonce == self.nonce:
            raise PeerViolation(UPSTREAM, "upstream's SCRAM nonce does not continue ours")
        if iterations > ITERATION_LIMIT:
            raise PeerViolation(UPSTREAM, f"upstream asks for {iterations} SCRAM iterations, over {ITERATION_LIMIT}")
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), _decoded(match[3]), iterations)
        final_bare = b"c=" + base64.b64encode(_GS2_HEADER) + b",r=" + nonce
        signed = b",".join((self._first_bare, server_first, final_bare))
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return final_bare + b",p=" + base64.b64encode(proof), _hmac(_hmac(salted, b"Server Key"), signed)


def check_final(server_final: bytes, expected_signature: bytes) -> None:
    """Raise PeerViolation unless the server proved that it knows the password too."""
    match = _SERVER_FINAL.fullmatch(server_final)
    if match is None or not hmac.compare_digest(_decoded(match[1]), expected_signature):
        raise PeerViolation(UPSTREAM, "upstream did not prove that it knows this user's password (SCRAM signature)")


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise PeerViolation(UPSTREAM, "upstream's SCRAM message holds broken base64") from None


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
