"""How each service lets the bearer of a signed token in: what must be in it, and what its signer must be allowed.

A token is a presigned GET without its scheme. RDS has a verifier in ministack; the others, which have none, are judged
here by ministack's signature and policy code.
"""

import re
import time
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from . import emulator

MAX_LIFETIME_SECONDS = 900
MAX_DSQL_LIFETIME_SECONDS = 604_800
MAX_FUTURE_SKEW_SECONDS = 300
_STAMP = "%Y%m%dT%H%M%SZ"
_SIGNED = frozenset(
    {
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a login service stands for: one database server, as the trusted side of the check knows it."""

    database: str
    product: str
    hostname: str
    port: int
    region: str
    account_id: str
    resource_id: str
    """Of a cache: its name, which is also what a token is signed for."""


def refusal(target: Target, user: str, token: str) -> str | None:
    """None when AWS would let the bearer in as that user; else why not, in a few words without anything secret."""
    if target.product in ("rds", "rdsproxy"):
        return emulator.judge_rds_token(
            token,
            hostname=target.hostname,
            port=target.port,
            db_user=user,
            region=target.region,
            account_id=target.account_id,
            resource_id=target.resource_id,
        )
    terms = _dsql_terms(target, user) if target.product == "dsql" else _cache_terms(target, user)
    found = _verify(token, target, terms)
    if found.refusal is not None:
        return found.refusal
    return emulator.policy_refusal(
        found.access_key_id,
        account_id=target.account_id,
        region=target.region,
        action=terms.permission,
        resource_arns=terms.resources,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What one login takes."""

    service: str
    host: str
    wanted: Mapping[str, str]
    """Every parameter beside the signature's own."""
    permission: str
    resources: list[str]
    """A policy must allow all of them."""
    max_lifetime_seconds: int = MAX_LIFETIME_SECONDS


def _dsql_terms(target: Target, user: str) -> _Terms:
    """The token names no user: the role admin has an action of its own, all others share one."""
    action = "DbConnectAdmin" if user == "admin" else "DbConnect"
    return _Terms(
        service="dsql",
        host=target.hostname,
        wanted={"Action": action},
        permission=f"dsql:{action}",
        resources=[f"arn:aws:dsql:{target.region}:{target.account_id}:cluster/{target.resource_id}"],
        max_lifetime_seconds=MAX_DSQL_LIFETIME_SECONDS,
    )


def _cache_terms(target: Target, user: str) -> _Terms:
    prefix = f"{target.region}:{target.account_id}"
    service, extra = "elasticache", {}
    match target.product:
        case "elasticache":
            resources = [f"replicationgroup:{target.resource_id}", f"user:{user}"]
        case "elasticache-serverless":
            resources = [f"serverlesscache:{target.resource_id}", f"user:{user}"]
            extra = {"ResourceType": "ServerlessCache"}
        case "memorydb":
            service, resources = "memorydb", [f"cluster/{target.resource_id}", f"user/{user}"]
        case _:
            raise ValueError(f"no tokens for {target.product}")
    return _Terms(
        service=service,
        host=target.resource_id,
        wanted={"Action": "connect", "User": user, **extra},
        permission=f"{service}:Connect",
        resources=[f"arn:aws:{service}:{prefix}:{resource}" for resource in resources],
    )


@dataclass(frozen=True, slots=True)
class _Verified:
    access_key_id: str = ""
    refusal: str | None = None


def _verify(token: str, target: Target, terms: _Terms) -> _Verified:
    """Whether the token is what it should be, down to the last parameter, and signed by a key of that account."""
    parameters = _parameters(token, terms.host)
    allowed = _SIGNED | terms.wanted.keys()
    if (
        parameters is None
        or parameters.keys() - {"X-Amz-Security-Token"} != allowed
        or any(parameters[name] != value for name, value in terms.wanted.items())
        or parameters["X-Amz-Algorithm"] != "AWS4-HMAC-SHA256"
        or parameters["X-Amz-SignedHeaders"] != "host"
    ):
        return _Verified(refusal="InvalidToken")
    key, *scope = parameters["X-Amz-Credential"].split("/")
    signed_at = parameters["X-Amz-Date"]
    if scope != [signed_at[:8], target.region, terms.service, "aws4_request"]:
        return _Verified(refusal="InvalidScope")
    if (late := _time_refusal(signed_at, parameters["X-Amz-Expires"], terms.max_lifetime_seconds)) is not None:
        return _Verified(refusal=late)
    signature = emulator.presigned_signature(
        key,
        session_token=parameters.get("X-Amz-Security-Token", ""),
        account_id=target.account_id,
        host=terms.host,
        parameters=parameters,
        signed_at=signed_at,
        region=target.region,
        service=terms.service,
    )
    if signature is None:
        return _Verified(refusal="InvalidCredentials")
    if not emulator.same_signature(signature, parameters["X-Amz-Signature"]):
        return _Verified(refusal="SignatureDoesNotMatch")
    return _Verified(access_key_id=key)


def _parameters(token: str, host: str) -> dict[str, str] | None:
    """None for what is no presigned GET of that host, or says anything twice."""
    if not token.isascii() or re.search(r"[\x00-\x20\x7f#]", token):
        return None
    try:
        parts = urlsplit("//" + token)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=16)
    except ValueError:
        return None
    parameters = dict(pairs)
    # All these names are lower case, and signed so.
    if parts.netloc != host or parts.path != "/" or len(parameters) != len(pairs):
        return None
    return parameters


def _time_refusal(signed_at: str, lifetime: str, limit: int) -> str | None:
    if not re.fullmatch(r"\d{8}T\d{6}Z", signed_at) or not re.fullmatch(r"\d{1,6}", lifetime):
        return "InvalidToken"
    try:
        begins = timegm(time.strptime(signed_at, _STAMP))
    except ValueError:
        return "InvalidToken"
    if not 1 <= int(lifetime) <= limit:
        return "InvalidToken"
    if begins > time.time() + MAX_FUTURE_SKEW_SECONDS:
        return "TokenNotYetValid"
    return "ExpiredToken" if time.time() >= begins + int(lifetime) else None
