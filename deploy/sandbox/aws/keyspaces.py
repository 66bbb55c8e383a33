"""The check Amazon Keyspaces makes of a SigV4 login: a signature of the nonce it sent. No code of the signer's.

What is signed: ``PUT /authenticate`` on the host ``cassandra``, with the hash of the nonce in place of a body's. The
session token is sent beside it and not signed.
"""

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Mapping
from time import strptime
from urllib.parse import quote

from . import clock, emulator
from .tokens import Target

MAX_SKEW_SECONDS = 900
TABLE = "orders"
"""Of the keyspace that a target's resource id names: what permissions are asked about."""
PERMISSIONS = {
    "Alter": "ALTER",
    "Create": "CREATE",
    "Drop": "DROP",
    "Modify": "MODIFY",
    "Select": "SELECT",
}
"""Action of an IAM policy -> permission of Cassandra."""

_FIELDS = {"signature", "access_key", "amzdate"}
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.\d{3}Z")


def refusal(target: Target, nonce: str, proof: str) -> str | None:
    """None when Keyspaces would let the bearer in; else why not, in a few words without anything secret."""
    fields = _fields(proof)
    if fields is None:
        return "InvalidProof"
    signed_at = fields["amzdate"]
    if (late := _time_refusal(signed_at)) is not None:
        return late
    key = fields["access_key"]
    secret = emulator.session_secret(key, fields.get("session_token", ""), account_id=target.account_id)
    if secret is None:
        return "InvalidCredentials"
    wanted = _signature(secret, key, nonce, signed_at, target.region)
    return None if hmac.compare_digest(wanted, fields["signature"].encode()) else "SignatureDoesNotMatch"


def access_key_id(proof: str) -> str | None:
    """Whose key a proof claims to be made with."""
    fields = _fields(proof)
    return fields["access_key"] if fields else None


def identity(target: Target, key: str) -> str:
    """For a proof that was not refused: the caller's ARN and the permissions it has, parted by spaces."""
    names = [permission for action, permission in PERMISSIONS.items() if _allowed(target, key, action)]
    return " ".join([emulator.caller_arn(key) or "unknown", *names])


def _allowed(target: Target, key: str, action: str) -> bool:
    table = f"arn:aws:cassandra:{target.region}:{target.account_id}:/keyspace/{target.resource_id}/table/{TABLE}"
    refused = emulator.policy_refusal(
        key,
        account_id=target.account_id,
        region=target.region,
        action=f"cassandra:{action}",
        resource_arns=[table],
    )
    return refused is None


def _fields(proof: str) -> Mapping[str, str] | None:
    """None unless every field is there once, and no other."""
    pairs = [part.partition("=")[::2] for part in proof.split(",")]
    fields = dict(pairs)
    if len(fields) != len(pairs) or fields.keys() - {"session_token"} != _FIELDS:
        return None
    return fields if proof.isascii() and re.fullmatch(r"[A-Za-z0-9]{16,128}", fields["access_key"]) else None


def _time_refusal(signed_at: str) -> str | None:
    if not _DATE.fullmatch(signed_at):
        return "InvalidProof"
    try:
        moment = timegm(strptime(signed_at[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return "InvalidProof"
    return None if abs(clock.now() - moment) <= MAX_SKEW_SECONDS else "RequestTimeTooSkewed"


def _signature(secret: str, key: str, nonce: str, signed_at: str, region: str) -> bytes:
    scope = (signed_at[:10].replace("-", ""), region, "cassandra", "aws4_request")
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "/".join((key, *scope)),
        "X-Amz-Date": signed_at,
        "X-Amz-Expires": "900",
    }
    lines = ["PUT", "/authenticate", "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())]
    lines += ["host:cassandra", "", "host", hashlib.sha256(nonce.encode()).hexdigest()]
    canonical = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", signed_at, "/".join(scope), canonical))
    derived = f"AWS4{secret}".encode()
    for part in scope:
        derived = hmac.digest(derived, part.encode(), "sha256")
    return hmac.digest(derived, text.encode(), "sha256").hex().encode()
