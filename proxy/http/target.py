"""A request's target as it is sent: what is signed is what is sent, and no two readers understand it differently. PURE.

AWS computes the signature over the path on the wire with dot segments and double slashes removed, and over the query
decoded and encoded again. A path that would so be signed as another one than is sent is not sent: double slashes become
one, dot segments are refused. In the query every name and value is written in the one way that decodes and encodes to
itself; a `+` there means a blank, as forms and OpenSearch read it.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from proxy.errors import Side
from proxy.http.heads import BadHttp

TARGET_LIMIT: Final = 16 * 1024
"""Bytes of a target as it is sent. OpenSearch takes 4 KiB of request line unless told otherwise."""

PRESIGN: Final = frozenset(
    {
        b"x-amz-algorithm", b"x-amz-credential", b"x-amz-date", b"x-amz-expires", b"x-amz-signedheaders",
        b"x-amz-signature", b"x-amz-security-token",
    }
)  # fmt: skip
"""Query parameters of a client's own signature, in lower case."""

_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
"""RFC 3986's unreserved characters, the only ones that AWS's encoding leaves alone."""
_IN_PATH: Final = _PLAIN | frozenset(b"/!$&'()*+,;=:@%")

_QUERY_CODES: Final = tuple(bytes((n,)) if n in _PLAIN else b"%%%02X" % n for n in range(256))
_PATH_CODES: Final = tuple(bytes((n,)) if n in _IN_PATH else b"%%%02X" % n for n in range(256))
_CANONICAL_CODES: Final = tuple(bytes((n,)) if n in _PLAIN or n == 0x2F else b"%%%02X" % n for n in range(256))

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_HIDDEN_DOTS: Final = re.compile(rb"/(?:\.|%2[Ee]){1,2}(?:/|$)").search
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNTIDY: Final = re.compile(rb"[^A-Za-z0-9\-_.~/!$&'()*+,;=:@%]").search
_VISIBLE: Final = re.compile(rb"/[!-~]*").fullmatch


@dataclass(frozen=True, slots=True)
class Target:
    """A target, as sent and as signed."""

    wire: bytes
    """Path and query for the request line."""
    path: bytes
    """The path of `wire`."""
    query: bytes
    """The query of `wire`, without its question mark."""
    canonical_path: bytes
    canonical_query: bytes


def tidy(target: bytes) -> Target:
    """What to send for a client's target. Raises BadHttp when it cannot be sent as one thing and signed as the same."""
    if not _VISIBLE(target) or b"#" in target:
        if target == b"*" or b"://" in target[:16] or not target.startswith(b"/"):
            raise BadHttp(Side.CLIENT, "the target is no path: write it as /path?query, with the host in Host")
        raise BadHttp(Side.CLIENT, "the target holds characters that must be percent-encoded")
    path, mark, query = target.partition(b"?")
    if _BAD_ESCAPE(target):
        raise BadHttp(Side.CLIENT, "the target holds a % that begins no percent-encoding")
    if b"//" in path:
        path = re.sub(rb"/{2,}", b"/", path)
    if b"/." in path and (b"/./" in path or b"/../" in path or path.endswith((b"/.", b"/.."))):
        raise BadHttp(Side.CLIENT, "the path has a segment . or .., which would be signed as another path")
    if _HIDDEN_DOTS(path):
        raise BadHttp(Side.CLIENT, "the path has a segment . or .. in percent-encoding, which may be read as one")
    if _UNTIDY(path):
        path = _encoded(path, _PATH_CODES)
    pairs = [_pair(pair) for pair in query.split(b"&") if pair] if mark else []
    pairs = [pair for pair in pairs if pair[0].lower() not in PRESIGN]
    sent = b"&".join(name + equals + value for name, equals, value in pairs)
    wire = path + b"?" + sent if sent else path
    if len(wire) > TARGET_LIMIT:
        raise BadHttp(Side.CLIENT, f"the target is longer than {TARGET_LIMIT} bytes", 414)
    signed = b"&".join(b"%b=%b" % pair for pair in sorted((name, value) for name, _, value in pairs))
    return Target(wire, path, sent, canonical_path(path), signed)


def canonical_path(path: bytes) -> bytes:
    """A path on the wire as AWS signs it: dot segments and double slashes removed, then encoded once more."""
    out: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            if out:
                out.pop()
        elif segment and segment != b".":
            out.append(segment)
    normal = b"/" + b"/".join(out)
    if out and path.endswith(b"/"):
        normal += b"/"
    return _encoded(normal, _CANONICAL_CODES)


def decoded(text: bytes) -> bytes:
    """Without percent-encoding."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), text) if b"%" in text else text


def _pair(pair: bytes) -> tuple[bytes, bytes, bytes]:
    name, equals, value = pair.partition(b"=")
    return _recoded(name), equals, _recoded(value)


def _recoded(text: bytes) -> bytes:
    return _encoded(decoded(text.replace(b"+", b" ")), _QUERY_CODES)


def _encoded(text: bytes, codes: tuple[bytes, ...]) -> bytes:
    return b"".join([codes[byte] for byte in text])
