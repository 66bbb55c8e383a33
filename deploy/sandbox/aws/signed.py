"""What AWS recomputes of a request signed in its Authorization header. Pure, and no code of the signer's.

Written from the service's side: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
``parse`` says what a request claims, ``signature`` what its Signature should have been.
"""

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Iterable
from dataclasses import dataclass
from time import strptime
from urllib.parse import unquote_to_bytes

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
MAX_SKEW_SECONDS = 300
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[A-Za-z0-9]{16,128})/(?P<date>[0-9]{8})/(?P<region>[a-z0-9-]+)"
    r"/(?P<service>[a-z0-9-]+)/aws4_request"
    r", *SignedHeaders=(?P<names>[a-z0-9;_-]+), *Signature=(?P<signature>[0-9a-f]{64})"
)
_HASH = re.compile(r"[0-9a-f]{64}")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an Authorization header says, before anything of it is believed."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    signed_at: str
    session_token: str
    payload_hash: str | None
    """What x-amz-content-sha256 says, if it is there."""


class Unsigned(Exception):
    """A request that is not signed as it must be; the message says why."""


def parse(headers: Iterable[tuple[bytes, bytes]]) -> Claim:
    """Names in lower case. Raises Unsigned."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    for name in ("authorization", "host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"):
        if len(values.get(name, ())) > 1:
            raise Unsigned(f"{name} is there twice")
    given = {name: found[0].strip() for name, found in values.items()}
    if "authorization" not in given:
        raise Unsigned("Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(given["authorization"])
    if found is None:
        raise Unsigned("Authorization is not a SigV4 header")
    names = tuple(found["names"].split(";"))
    if list(names) != sorted(set(names)):
        raise Unsigned("SignedHeaders are not in order")
    # What is not signed somebody may have changed on the way.
    must = {"host", *(name for name in values if name.startswith("x-amz-")), *({"content-type"} & values.keys())}
    if missing := must - set(names):
        raise Unsigned(f"not signed: {', '.join(sorted(missing))}")
    if absent := set(names) - values.keys():
        raise Unsigned(f"signed, but not there: {', '.join(sorted(absent))}")
    signed_at = given.get("x-amz-date", "")
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", signed_at):
        raise Unsigned("X-Amz-Date is missing or malformed")
    if signed_at[:8] != found["date"]:
        raise Unsigned("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
    return Claim(
        access_key_id=found["key"],
        date=found["date"],
        region=found["region"],
        service=found["service"],
        signed_headers=names,
        signature=found["signature"],
        signed_at=signed_at,
        session_token=given.get("x-amz-security-token", ""),
        payload_hash=given.get("x-amz-content-sha256"),
    )


def skewed(claim: Claim, now: float) -> str | None:
    """None when it was signed within five minutes of ``now``, else AWS's words."""
    try:
        signed_at = timegm(strptime(claim.signed_at, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return "X-Amz-Date is no date"
    if signed_at < now - MAX_SKEW_SECONDS:
        return f"Signature expired: {claim.signed_at} is now earlier than 5 minutes ago"
    if signed_at > now + MAX_SKEW_SECONDS:
        return f"Signature not yet current: {claim.signed_at} is still later than 5 minutes ahead"
    return None


def is_hash(text: str) -> bool:
    """Whether it is a SHA-256 in hex, in lower case."""
    return _HASH.fullmatch(text) is not None


def signature(
    claim: Claim,
    secret: str,
    *,
    method: str,
    target: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    payload_hash: str,
) -> str:
    """What the claim's signature should be. ``target`` is path and query as they stood in the request line."""
    path, _, query = target.partition(b"?")
    lines = [method, _path(path), _query(query)]
    lines += _headers(headers, claim.signed_headers)
    lines += ["", ";".join(claim.signed_headers), payload_hash]
    canonical = hashlib.sha256("\n".join(lines).encode("latin-1")).hexdigest()
    scope = (claim.date, claim.region, claim.service, "aws4_request")
    text = f"AWS4-HMAC-SHA256\n{claim.signed_at}\n{'/'.join(scope)}\n{canonical}"
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _path(path: bytes) -> str:
    """Dot segments and empty ones gone, then every byte of the path on the wire encoded: '%' becomes '%25'."""
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    whole = "/" + "/".join(_encoded(segment) for segment in kept)
    return whole + "/" if kept and path.endswith((b"/", b"/.", b"/..")) else whole


def _query(query: bytes) -> str:
    """Decoded and encoded again, sorted by name and value; '+' stands for itself."""
    pairs = []
    for part in query.split(b"&") if query else ():
        name, _, value = part.partition(b"=")
        pairs.append((_encoded(unquote_to_bytes(name)), _encoded(unquote_to_bytes(value))))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _headers(headers: Iterable[tuple[bytes, bytes]], names: tuple[str, ...]) -> list[str]:
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.decode("latin-1"), []).append(" ".join(value.decode("latin-1").split()))
    return [f"{name}:{','.join(values[name])}" for name in names]


def _encoded(text: bytes) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text)
