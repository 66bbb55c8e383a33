"""Signatures against botocore's signer, over whatever a client may ask for: what is sent is what it signs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import PeerViolation
from proxy.http.target import Target, tidy
from proxy.sigv4 import Signer, Stamp, payload_hash
from tests.unit.proxy.test_sigv4 import derived
from tollbridge.model import SigningKey
from tollbridge.secret import Secret

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CHARACTERS = "/.-_~*,+ %aZ09=&?:@!$'()<>{}\"äπ𝄞"


class Botocore(SigV4Auth):
    """At a given instant."""

    def at(self, request: AWSRequest, now: datetime) -> str:
        """The Authorization header."""
        request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
        request.headers["X-Amz-Date"] = request.context["timestamp"]
        request.headers["X-Amz-Security-Token"] = self.credentials.token or ""
        canonical = self.canonical_request(request)
        to_sign = self.string_to_sign(request, canonical)
        names = self.signed_headers(self.headers_to_sign(request))
        return f"{names} {self.signature(to_sign, request)}"


@st.composite
def targets(draw: st.DrawFn) -> Target:
    """What clients ask for, percent-encoded here and there, as it is sent."""
    text = draw(st.text(CHARACTERS, max_size=20))
    wild = "".join(c if c.isascii() and draw(st.booleans()) else "".join(f"%{b:02X}" for b in c.encode()) for c in text)
    pairs = draw(st.lists(st.tuples(st.text(CHARACTERS, max_size=5), st.text(CHARACTERS, max_size=5)), max_size=4))
    query = "&".join("=".join("".join(f"%{b:02x}" for b in part.encode()) for part in pair) for pair in pairs)
    raw = f"/{wild}?{query}".replace(" ", "+").replace("#", "").encode("ascii", "ignore")
    try:
        return tidy(raw)
    except PeerViolation:
        return tidy(b"/")


headers = st.text("abcXYZ0189-/.;= ", min_size=1, max_size=24).map(str.strip).filter(bool)


@given(
    target=targets(),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]),
    body=st.binary(max_size=40),
    content_type=st.one_of(st.just(""), headers),
    amz_target=st.one_of(st.just(""), headers),
    service=st.sampled_from(["dynamodb", "es", "aoss"]),
    token=st.text("abcXYZ019+/=", min_size=1, max_size=60),
    seconds=st.integers(0, 400 * 86400),
)
def test_it_signs_as_botocore_does(
    target: Target,
    method: str,
    body: bytes,
    content_type: str,
    amz_target: str,
    service: str,
    token: str,
    seconds: int,
) -> None:
    """The same headers, the same signature, for the very bytes that go on the wire."""
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    stamp, host = Stamp.of(now), "abc.eu-central-1.example.com"
    key = SigningKey(
        access_key_id="ASIAIOSFODNN7EXAMPLE",
        session_token=Secret(token),
        region="eu-central-1",
        service=service,
        keys={stamp.date: Secret(derived(stamp.date, "eu-central-1", service).hex())},
    )
    payload = payload_hash(body)
    ours = Signer(key, host).sign(
        stamp,
        method.encode(),
        target.canonical_path,
        target.canonical_query,
        payload,
        content_type=content_type.encode(),
        amz_target=amz_target.encode(),
        payload_header=service != "dynamodb",
    )
    sent: dict[str, Any] = {"Host": host}
    if content_type:
        sent["Content-Type"] = content_type
    if amz_target:
        sent["X-Amz-Target"] = amz_target
    if service != "dynamodb":
        sent["X-Amz-Content-Sha256"] = payload.decode()
    request = AWSRequest(method, f"https://{host}{target.wire.decode()}", headers=sent, data=body)
    theirs = Botocore(Credentials("ASIAIOSFODNN7EXAMPLE", SECRET, token), service, "eu-central-1").at(request, now)
    match = re.search(rb"SignedHeaders=(\S+), Signature=([0-9a-f]{64})\r\n", ours)
    assert match is not None
    assert f"{match[1].decode()} {match[2].decode()}" == theirs
