"""What the names of header lines mean here. PURE."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

# What a header line is to us. Plain numbers, because this runs for each line of each message and an enum is slow there.
# A line to KEEP goes on as it came and unsigned. From HOST on a line may come once.
KEEP, DROP, CONNECTION, HOST, CONTENT_TYPE, AMZ_TARGET, AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING = range(9)
EXPECT, UPGRADE, BROWSER = 9, 10, 11
KINDS: Final = 12

REQUEST_NAMES: Final = MappingProxyType(
    {
        b"host": HOST,
        b"content-type": CONTENT_TYPE,
        b"x-amz-target": AMZ_TARGET,
        b"authorization": AUTHORIZATION,
        b"content-length": CONTENT_LENGTH,
        b"transfer-encoding": TRANSFER_ENCODING,
        b"connection": CONNECTION,
        b"expect": EXPECT,
        b"upgrade": UPGRADE,
        # What browsers add to requests of pages, and nobody else to any: who sends both is refused for it.
        b"origin": BROWSER,
        b"sec-fetch-site": BROWSER,
        # The client's own signature: ours takes its place, and a token of its dummy session would contradict ours.
        b"date": DROP,
        b"x-amz-date": DROP,
        b"x-amz-security-token": DROP,
        b"x-amz-content-sha256": DROP,
        # Hop by hop (RFC 9110 7.6.1).
        b"keep-alive": DROP,
        b"te": DROP,
        b"trailer": DROP,
        b"http2-settings": DROP,
        # Who forwarded it, which AWS has no use for and an access policy could be told lies with.
        b"forwarded": DROP,
        b"via": DROP,
        b"x-real-ip": DROP,
        b"cookie": DROP,
        b"cookie2": DROP,
    }
)
DROPPED_PREFIXES: Final = (b"proxy-", b"x-forwarded-", b"x-amz-", b"x-envoy-", b"x-amzn-oidc-")
"""Of names that are not above. AWS wants each x-amz- header signed, and none is signed that nobody here knows:
x-amz-aoss-collection-id could lead to another collection than the client was let into.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""

RESPONSE_NAMES: Final = MappingProxyType(
    {
        b"content-length": CONTENT_LENGTH,
        b"transfer-encoding": TRANSFER_ENCODING,
        b"connection": CONNECTION,
        b"keep-alive": DROP,
        b"trailer": DROP,
        b"upgrade": DROP,
        b"proxy-authenticate": DROP,
        b"proxy-connection": DROP,
        b"alt-svc": DROP,
    }
)
