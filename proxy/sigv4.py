"""AWS Signature Version 4 in a header, with keys derived by somebody else. PURE.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

Only headers that no hop changes are signed: Host, what AWS itself needs, and Content-Type and X-Amz-Target where a
request has them. The session token goes on the wire as it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from tollbridge.model import SigningKey

UNSIGNED_PAYLOAD: Final = b"UNSIGNED-PAYLOAD"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest().encode()
_sha256: Final = hashlib.sha256().copy
"""As hashlib.sha256, without OpenSSL's search for the algorithm."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """An instant as AWS writes it."""

    date: str
    """YYYYMMDD, in UTC: chooses the key."""
    time: bytes
    """YYYYMMDD'T'HHMMSS'Z': the header's value."""

    @classmethod
    def of(cls, now: datetime) -> Stamp:
        """Of an aware instant."""
        text = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        return cls(text[:8], text.encode())


class NoKey(Exception):
    """The grant holds no key for a date: it has run out, or a clock is very wrong."""


def payload_hash(body: bytes) -> bytes:
    """Of a body in one piece, as it is signed."""
    if not body:
        return EMPTY_SHA256
    begun = _sha256()
    begun.update(body)
    return begun.hexdigest().encode()


_Hash: TypeAlias = "hashlib._Hash"


@dataclass(slots=True)
class _Day:
    """One date's part of a signature."""

    scope: bytes
    inner: _Hash
    outer: _Hash
    """HMAC (RFC 2104) begun: what the key alone decides is computed once a day, and copied for each request."""


class Envelope:
    """What requests have in common that differ in their bodies and unsigned headers alone, for one second.

    All of the canonical request but the payload's hash has gone into the hash before, so that signing costs three short
    hashes, however long the session token is.
    """

    __slots__ = ("_begun", "_inner", "_outer", "head")

    def __init__(self, head: bytes, begun: _Hash, inner: _Hash, outer: _Hash) -> None:
        self.head = head
        """Header lines up to the signature itself, which ends the last of them."""
        self._begun = begun
        self._inner = inner
        self._outer = outer

    def signature(self, payload: bytes) -> bytes:
        """Of the request with this payload hash (hexadecimal, or UNSIGNED_PAYLOAD)."""
        canonical = self._begun.copy()
        canonical.update(payload)
        inner = self._inner.copy()
        inner.update(canonical.hexdigest().encode())
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest().encode()


class Signer:
    """Signs requests to one host. Holds the session token and the keys, and never prints them."""

    __slots__ = ("_access_key_id", "_days", "_host", "_key", "_token")

    def __init__(self, key: SigningKey, host: str) -> None:
        self._key = key
        self._host = host.encode()
        self._access_key_id = key.access_key_id.encode()
        self._token = key.session_token.reveal().encode()
        self._days: dict[str, _Day] = {}

    def sign(
        self,
        stamp: Stamp,
        method: bytes,
        path: bytes,
        query: bytes,
        payload: bytes,
        *,
        content_type: bytes = b"",
        amz_target: bytes = b"",
        payload_header: bool = False,
    ) -> bytes:
        """The header lines that make a request ours, each with its CR LF, Content-Type and X-Amz-Target included.

        `path` and `query` are canonical (see `proxy.http.target`); `payload` is the body's hash in hexadecimal, or
        UNSIGNED_PAYLOAD. Raises NoKey.
        """
        envelope = self.envelope(
            stamp,
            method,
            path,
            query,
            content_type=content_type,
            amz_target=amz_target,
            payload=payload if payload_header else b"",
        )
        return envelope.head + envelope.signature(payload) + b"\r\n"

    def envelope(
        self,
        stamp: Stamp,
        method: bytes,
        path: bytes,
        query: bytes,
        *,
        content_type: bytes = b"",
        amz_target: bytes = b"",
        payload: bytes = b"",
    ) -> Envelope:
        """As `sign`, up to the payload. `payload`: its hash, where it is a header too. Raises NoKey."""
        day = self._days.get(stamp.date) or self._day(stamp.date)
        content_type, amz_target = _folded(content_type), _folded(amz_target)
        rows = [
            (b"content-type", content_type),
            (b"host", self._host),
            (b"x-amz-content-sha256", payload),
            (b"x-amz-date", stamp.time),
            (b"x-amz-security-token", self._token),
            (b"x-amz-target", amz_target),
        ]
        present = [row for row in rows if row[1]]
        names = b";".join([name for name, _ in present])
        signed = b"".join([b"%b:%b\n" % row for row in present])
        inner = day.inner.copy()
        inner.update(b"AWS4-HMAC-SHA256\n%b\n%b\n" % (stamp.time, day.scope))
        lines = b"".join([b"%b: %b\r\n" % row for row in present if row[0] != b"host"])
        return Envelope(
            b"%bAuthorization: AWS4-HMAC-SHA256 Credential=%b/%b, SignedHeaders=%b, Signature="
            % (lines, self._access_key_id, day.scope, names),
            hashlib.sha256(b"%b\n%b\n%b\n%b\n%b\n" % (method, path, query, signed, names)),
            inner,
            day.outer,
        )

    def _day(self, date: str) -> _Day:
        key = self._key.key_of(date)
        if key is None:
            raise NoKey(date)
        block = key.ljust(64, b"\0")
        day = self._days[date] = _Day(
            f"{date}/{self._key.region}/{self._key.service}/aws4_request".encode(),
            hashlib.sha256(bytes(byte ^ 0x36 for byte in block)),
            hashlib.sha256(bytes(byte ^ 0x5C for byte in block)),
        )
        return day


def _folded(value: bytes) -> bytes:
    """As it is signed: runs of blanks are one blank."""
    return b" ".join(value.split()) if b"  " in value or b"\t" in value else value
