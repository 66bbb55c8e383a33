"""What Keyspaces takes for a password: a request that is never sent, signed with SigV4 over the server's nonce. PURE.

A PUT of /authenticate on the host `cassandra`, with the nonce as its body and the parameters of a presigned URL. The
session's token is not among what is signed; it is shown beside the signature. AWS describes it by its plugins:
https://github.com/aws/aws-sigv4-auth-cassandra-python-driver-plugin
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from typing import Final

from proxy.errors import PeerViolation, Refused, Side
from tollbridge.model import SigningKey
from tollbridge.reasons import Reason

MECHANISM: Final = b"SigV4\0\0"
"""The first AUTH_RESPONSE: asks the server for this exchange and not for a password."""
_NONCE: Final = re.compile(rb"nonce=([!-~]{32})")
_SECONDS: Final = 900
_PUT: Final = "PUT\n/authenticate\n{query}\nhost:cassandra\n\nhost\n{payload}"


def parse_nonce(challenge: bytes) -> bytes:
    """The server's nonce. Raises PeerViolation."""
    found = _NONCE.search(challenge)
    if found is None:
        raise PeerViolation(Side.UPSTREAM, "upstream's challenge holds no nonce of 32 characters: is it Keyspaces?")
    return found[1]


def timestamp(instant: datetime) -> str:
    """As it is both signed and shown. Milliseconds are cut: rounding makes one login of 2,000 end in `.1000Z`."""
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03}Z"


def canonical_request(key: SigningKey, nonce: bytes, date: str, scope: str) -> str:
    """What is hashed to be signed."""
    query = "&".join(
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            f"X-Amz-Credential={key.access_key_id}%2F{scope.replace('/', '%2F')}",
            f"X-Amz-Date={date.replace(':', '%3A')}",
            f"X-Amz-Expires={_SECONDS}",
        )
    )
    return _PUT.format(query=query, payload=hashlib.sha256(nonce).hexdigest())


def sign(key: SigningKey, nonce: bytes, instant: datetime) -> str:
    """The signature, in hexadecimal. Raises Refused where the grant holds no key for the day."""
    date, day = timestamp(instant), f"{instant:%Y%m%d}"
    of_day = key.key_of(day)
    if of_day is None:
        raise Refused(
            Reason.CLOCK_SKEWED,
            f"this proxy's clock says {instant:%Y-%m-%d}, and the broker gave keys for {', '.join(sorted(key.keys))}: "
            "set the clocks of both (NTP)",
        )
    scope = f"{day}/{key.region}/{key.service}/aws4_request"
    hashed = hashlib.sha256(canonical_request(key, nonce, date, scope).encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}"
    return hmac.new(of_day, to_sign.encode(), hashlib.sha256).hexdigest()


def answer(key: SigningKey, nonce: bytes, instant: datetime) -> bytes:
    """The second AUTH_RESPONSE. Raises Refused as `sign` does."""
    fields = [
        f"signature={sign(key, nonce, instant)}",
        f"access_key={key.access_key_id}",
        f"amzdate={timestamp(instant)}",
    ]
    if key.session_token:
        fields.append(f"session_token={key.session_token.reveal()}")
    return ",".join(fields).encode()
