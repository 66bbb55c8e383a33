"""AWS Signature Version 4 in a header, with keys derived by somebody else. PURE.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

Only headers that no hop changes are signed: Host, what AWS itself needs, and Content-Type and X-Amz-Target where a
request has them. The session token goes on the wire as it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tollbridge.model import SigningKey

UNSIGNED_PAYLOAD: Final = b"UNSIGNED-PAYLOAD"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest().encode()

_CONTENT_TYPE, _TARGET, _PAYLOAD = 1, 2, 4


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
    return hashlib.sha256(body).hexdigest().encode() if body else EMPTY_SHA256


@dataclass(slots=True)
class _Form:
    """A canonical request's headers, with room for what differs between requests."""

    headers: bytes
    """%-format: content type, payload hash, time, target, as far as they are there."""
    names: bytes
    """SignedHeaders."""


_Day = tuple[bytes, "hashlib._Hash", "hashlib._Hash"]
"""Scope, and the inner and the outer hash after the key."""


class Signer:
    """Signs requests to one host. Holds the session token and the keys, and never prints them."""

    __slots__ = ("_access_key_id", "_days", "_forms", "_host", "_key", "_token")

    def __init__(self, key: SigningKey, host: str) -> None:
        self._key = key
        self._host = host.encode()
        self._access_key_id = key.access_key_id.encode()
        self._token = key.session_token.reveal().encode()
        self._days: dict[str, _Day] = {}
        self._forms: dict[int, _Form] = {}

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
        day = self._days.get(stamp.date) or self._day(stamp.date)
        content_type, amz_target = _folded(content_type), _folded(amz_target)
        which = bool(content_type) * _CONTENT_TYPE + bool(amz_target) * _TARGET + payload_header * _PAYLOAD
        form = self._forms.get(which) or self._form(which)
        values = [stamp.time]
        if payload_header:
            values.insert(0, payload)
        if content_type:
            values.insert(0, content_type)
        if amz_target:
            values.append(amz_target)
        canonical = b"%b\n%b\n%b\n%b\n%b\n%b" % (
            method, path, query, form.headers % tuple(values), form.names, payload,
        )  # fmt: skip
        scope, inner, outer = day
        inner, outer = inner.copy(), outer.copy()
        inner.update(
            b"AWS4-HMAC-SHA256\n%b\n%b\n%b" % (stamp.time, scope, hashlib.sha256(canonical).hexdigest().encode())
        )
        outer.update(inner.digest())
        lines = [
            b"X-Amz-Date: %b\r\nX-Amz-Security-Token: %b\r\nAuthorization: AWS4-HMAC-SHA256 Credential=%b/%b, "
            b"SignedHeaders=%b, Signature=%b\r\n"
            % (
                stamp.time, self._token, self._access_key_id, scope, form.names,
                outer.hexdigest().encode(),
            )
        ]  # fmt: skip
        if content_type:
            lines.append(b"Content-Type: %b\r\n" % content_type)
        if amz_target:
            lines.append(b"X-Amz-Target: %b\r\n" % amz_target)
        if payload_header:
            lines.append(b"X-Amz-Content-Sha256: %b\r\n" % payload)
        return b"".join(lines)

    def _day(self, date: str) -> _Day:
        key = self._key.key_of(date)
        if key is None:
            raise NoKey(date)
        # HMAC (RFC 2104) begun: what the key alone decides is computed once a day, and copied for each request.
        block = key.ljust(64, b"\0")
        inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))
        day = self._days[date] = (f"{date}/{self._key.region}/{self._key.service}/aws4_request".encode(), inner, outer)
        return day

    def _form(self, which: int) -> _Form:
        room = b"%b"
        rows = [
            (b"content-type", room, which & _CONTENT_TYPE),
            (b"host", _literal(self._host), 1),
            (b"x-amz-content-sha256", room, which & _PAYLOAD),
            (b"x-amz-date", room, 1),
            (b"x-amz-security-token", _literal(self._token), 1),
            (b"x-amz-target", room, which & _TARGET),
        ]
        present = [(name, value) for name, value, there in rows if there]
        headers = b"".join(b"%b:%b\n" % row for row in present)
        form = self._forms[which] = _Form(headers, b";".join(name for name, _ in present))
        return form


def _literal(text: bytes) -> bytes:
    """For a %-format."""
    return text.replace(b"%", b"%%")


def _folded(value: bytes) -> bytes:
    """As it is signed: runs of blanks are one blank."""
    return b" ".join(value.split()) if b"  " in value or b"\t" in value else value
