"""The only importer of ministack: its sessions, roles and verifiers behind typed functions.

ministack reads its settings from the environment when it is imported: ``aws.__main__`` sets them first.
"""

import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import ministack.app as ministack_app  # type: ignore[import-not-found, unused-ignore]
from ministack.core import iam_evaluator, rds_iam, sigv4  # type: ignore[import-not-found, unused-ignore]
from ministack.core.responses import request_scope  # type: ignore[import-not-found, unused-ignore]
from ministack.services import iam, imds, sts  # type: ignore[import-not-found, unused-ignore]

from . import clock, strict

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SESSION_TOKEN_RANDOM_BYTES = 763
"""Makes session tokens of about 1,000 characters, and RDS tokens of more than 1,300."""
EXPIRED_SESSION_KEPT_SECONDS = 3600.0
MACHINE_SESSION_NAME = "i-0123456789abcdef0"
MACHINE_SESSION_SECONDS = 21_600.0
_STAMP = "%Y-%m-%dT%H:%M:%SZ"
_EMPTY_HASH = hashlib.sha256(b"").hexdigest()

_handed_out: list[str] = []
"""Every secret made since the start."""


def install(machine_role_arn: str) -> None:
    """Make ministack's sessions more like AWS's. Call once, before the first request.

    The metadata services of EC2 and ECS then hand out working sessions of ``machine_role_arn``.
    """
    sts._gen_session_token = _new_session_token
    new_secret = iam._gen_secret
    sts._gen_secret = iam._gen_secret = lambda: _remembered(new_secret())
    # ministack forgets an expired session at the next AssumeRole by anybody and then calls its key unknown; AWS goes
    # on saying ExpiredToken.
    sts._evict_expired_sessions = _forget_long_expired_sessions
    # Which looks at the clock behind our back.
    too_late = sigv4.request_time_failure
    sigv4.request_time_failure = lambda signature: too_late(signature, now=datetime.fromtimestamp(clock.now(), UTC))
    imds._DEFAULT_ROLE = machine_role_arn.rsplit("/", 1)[-1]
    imds._credentials_doc = lambda: {"Code": "Success", "Type": "AWS-HMAC", **_machine_session(machine_role_arn)}
    imds._ecs_task_credentials_doc = lambda: {"RoleArn": machine_role_arn, **_machine_session(machine_role_arn)}


async def serve(scope: Message, receive: Receive, send: Send) -> None:
    """ministack itself, as an ASGI application."""
    await ministack_app.app(scope, receive, send)


def is_role_session(access_key_id: str) -> bool:
    session = sts._sessions.get(access_key_id)
    return session is not None and session.get("PrincipalType") == "AssumedRole"


def session_expired(access_key_id: str) -> bool:
    session = sts._sessions.get(access_key_id)
    return session is not None and time.time() >= session["Expiration"]


def bury_dead_session(access_key_id: str) -> bool:
    """Forget the session if its role was deleted, or deleted and made again; whether it did.

    From then on ministack says of the key what AWS says in each protocol (InvalidClientTokenId in STS's).
    """
    session = sts._sessions.get(access_key_id)
    if session is None or session.get("PrincipalType") != "AssumedRole":
        return False
    # AWS looks at the expiry before it looks for the role.
    if session_expired(access_key_id):
        return False
    role = _role(session["AccountId"], session["Arn"].split("/")[1])
    if not strict.session_outlived_its_role(session["UserId"], role.get("RoleId") if role else None):
        return False
    del sts._sessions[access_key_id]
    return True


def drop_session(access_key_id: str) -> None:
    sts._sessions.pop(access_key_id, None)


def expire_sessions(*, access_key_id: str | None, role_arn: str | None) -> int:
    """End sessions now: the one of a key, or all of a role. How many it ended."""
    ended = 0
    for key, session in sts._sessions.items():
        if key == access_key_id or (role_arn is not None and _session_role_arn(session) == role_arn):
            session["Expiration"] = time.time() - 1
            ended += 1
    return ended


def shorten_session(access_key_id: str, seconds: float) -> str:
    """Let a session end so many seconds from now. When that is, as an answer of STS says it."""
    ends_at = float(int(time.time() + seconds))
    sts._sessions[access_key_id]["Expiration"] = ends_at
    return time.strftime(_STAMP, time.gmtime(ends_at))


def handed_out() -> list[str]:
    """Secret access keys and session tokens of every session since the start, and passwords of database users."""
    return list(_handed_out)


def max_session_duration(role_arn: str) -> int:
    role = _role(role_arn.split(":")[4], role_arn.rsplit("/", 1)[-1])
    return int((role or {}).get("MaxSessionDuration", strict.DEFAULT_DURATION_SECONDS))


def caller_arn(access_key_id: str) -> str | None:
    """Who a key belongs to, or None when nobody can say."""
    account = _key_account(access_key_id)
    credential = iam_evaluator.resolve_credential(access_key_id, account) if account else None
    return getattr(credential, "principal_arn", None)


def judge_rds_token(
    token: str, *, hostname: str, port: int, db_user: str, region: str, account_id: str, resource_id: str
) -> str | None:
    """None when RDS would let the token's bearer in; else why not, in a few words without anything secret."""
    verified = rds_iam.verify_rds_iam_token(
        token, hostname=hostname, port=port, db_user=db_user, region=region, account_id=account_id
    )
    if not isinstance(verified, rds_iam.VerifiedRdsToken):
        return str(verified.code)
    resource_arn = f"arn:aws:rds-db:{region}:{account_id}:dbuser:{resource_id}/{db_user}"
    return policy_refusal(
        verified.access_key_id,
        account_id=account_id,
        region=region,
        action="rds-db:connect",
        resource_arns=[resource_arn],
    )


def presigned_signature(
    access_key_id: str,
    *,
    session_token: str,
    account_id: str,
    host: str,
    parameters: Mapping[str, str],
    signed_at: str,
    region: str,
    service: str,
) -> str | None:
    """The signature a presigned GET of ``host`` should carry; None when the key is not a live one of that account."""
    credential = iam_evaluator.resolve_credential(access_key_id, account_id, session_token)
    if isinstance(credential, iam_evaluator.CredentialResolutionError) or session_expired(access_key_id):
        return None
    canonical = sigv4.build_canonical_request("GET", "/", {"host": host}, parameters, "host", payload_hash=_EMPTY_HASH)
    text = sigv4.build_string_to_sign(signed_at, signed_at[:8], region, service, canonical)
    signature: str = sigv4.calculate_signature(credential.secret_access_key, signed_at[:8], region, service, text)
    return signature


def session_secret(access_key_id: str, session_token: str, *, account_id: str) -> str | None:
    """The secret of a role's live session in that account; None for any other key, or a token that is not the key's."""
    if not is_role_session(access_key_id):
        return None
    credential = iam_evaluator.resolve_credential(access_key_id, account_id, session_token)
    if isinstance(credential, iam_evaluator.CredentialResolutionError):
        return None
    secret: str = credential.secret_access_key
    return secret


def same_signature(expected: str, given: str) -> bool:
    """In constant time."""
    return bool(sigv4.signatures_match(expected, given))


def policy_refusal(
    access_key_id: str,
    *,
    account_id: str,
    region: str,
    action: str,
    resource_arns: Iterable[str],
    context: Mapping[str, str] | None = None,
) -> str | None:
    """None when the key's principal may do that to every one of the resources; else why not."""
    with request_scope(account_id, region):
        principal = iam_evaluator.resolve_principal(access_key_id, account_id)
        if isinstance(principal, iam_evaluator.AuthError):
            return "InvalidCredentials"
        if principal.policies is None:
            # ministack takes an account number for a root key with a well-known secret.
            return "RootCredentials"
        for resource_arn in resource_arns:
            asked = iam_evaluator.EvalContext(
                principal_arn=principal.arn,
                principal_type=principal.type,
                principal_account=account_id,
                action=action,
                resource_arn=resource_arn,
                region=region,
                principal_keys=principal.keys,
                service_context=dict(context or {}),
            )
            decision = iam_evaluator.evaluate(asked, principal.policies, *principal.limits).decision
            if decision != "Allow":
                return f"{action} {decision}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who signed a call, proved by its signature."""

    access_key_id: str
    account_id: str
    region: str
    arn: str


def authenticate(
    *, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, is_json: bool
) -> Caller | strict.Refusal:
    """Who signed a call that ministack does not serve. Header names in lower case. The service in the signature's scope
    is the gateway's to check."""
    signature = sigv4.parse_header_signature(headers)
    if isinstance(signature, tuple):
        return strict.unauthenticated("MissingAuthenticationToken", is_json=is_json)
    if sigv4.request_time_failure(signature) is not None:
        return strict.unauthenticated("RequestTimeTooSkewed", is_json=is_json)
    key = signature.access_key_id
    if session_expired(key):
        return strict.unauthenticated("ExpiredToken", is_json=is_json)
    account = _key_account(key)
    if account is None:  # a root key, that is an account's number, included
        return strict.unauthenticated("InvalidClientTokenId", is_json=is_json)
    credential = iam_evaluator.resolve_credential(key, account, headers.get("x-amz-security-token", ""))
    if isinstance(credential, iam_evaluator.CredentialResolutionError):
        return strict.unauthenticated("InvalidClientTokenId", is_json=is_json)
    wrong = sigv4.header_signature_failure(
        signature, credential.secret_access_key, method, path, parse_qs(query, keep_blank_values=True), headers, body
    )
    if wrong is not None:
        return strict.unauthenticated("SignatureDoesNotMatch", is_json=is_json)
    return Caller(access_key_id=key, account_id=account, region=signature.region, arn=credential.principal_arn)


def remember_secret(secret: str) -> None:
    """One more for ``handed_out``."""
    _remembered(secret)


def _new_session_token() -> str:
    return _remembered(strict.session_token(os.urandom(SESSION_TOKEN_RANDOM_BYTES)))


def _remembered(secret: str) -> str:
    _handed_out.append(secret)
    return secret


def _machine_session(role_arn: str) -> dict[str, str]:
    """A session as a machine's metadata service hands it out. Raises LookupError before the role is made."""
    account_id, name = role_arn.split(":")[4], role_arn.rsplit("/", 1)[-1]
    role = _role(account_id, name)
    if role is None:
        raise LookupError(f"no role {role_arn}")
    key, secret, token = iam._gen_session_access_key(), iam._gen_secret(), _new_session_token()
    session = {
        "Arn": f"arn:aws:sts::{account_id}:assumed-role/{name}/{MACHINE_SESSION_NAME}",
        "UserId": f"{role['RoleId']}:{MACHINE_SESSION_NAME}",
        "SecretAccessKey": secret,
        "SessionToken": token,
        "Expiration": time.time() + MACHINE_SESSION_SECONDS,
        "AccountId": account_id,
        "PrincipalType": "AssumedRole",
    }
    sts.register_session(key, session)
    return {
        "AccessKeyId": key,
        "SecretAccessKey": secret,
        "Token": token,
        "LastUpdated": time.strftime(_STAMP, time.gmtime()),
        "Expiration": time.strftime(_STAMP, time.gmtime(session["Expiration"])),
    }


def _role(account_id: str, name: str) -> dict[str, Any] | None:
    role: dict[str, Any] | None = iam._roles.get_scoped(account_id, None, name)
    return role


def _session_role_arn(session: dict[str, Any]) -> str | None:
    if session.get("PrincipalType") != "AssumedRole":
        return None
    role = _role(session["AccountId"], session["Arn"].split("/")[1])
    return role["Arn"] if role else None


def _key_account(access_key_id: str) -> str | None:
    session = sts._sessions.get(access_key_id)
    account: str | None = (
        session.get("AccountId") if session else iam_evaluator.find_iam_access_key_account(access_key_id)
    )
    return account


def _forget_long_expired_sessions() -> None:
    horizon = time.time() - EXPIRED_SESSION_KEPT_SECONDS
    for key in [key for key, session in sts._sessions.items() if session["Expiration"] < horizon]:
        del sts._sessions[key]
