"""AWS STS as `broker.model.Sts`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, TypeVar

from broker.audit import Counters
from broker.aws.base import BaseKeys, read_base_keys
from broker.aws.calls import Calls
from broker.aws.clients import GARBLED, WORKERS, SkewMeter
from broker.aws.errors import AwsFault, Call, Kind, assume_role_refusal, no_credentials_text, refusal
from broker.errors import BrokerError
from broker.model import AccountSession, Hop
from tollbridge.clock import Clock
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

if TYPE_CHECKING:
    from mypy_boto3_sts.client import STSClient
    from mypy_boto3_sts.type_defs import AssumeRoleRequestTypeDef

CHAINED_MAX_SECONDS: Final = 3600
"""AWS: a role assumed by a role session lives at most an hour, whatever MaxSessionDuration says."""
BASE_SECONDS: Final = 20.0
"""How long the SDK's chain may take. Its own calls are shorter; a `credential_process` may wait for ever."""

_R = TypeVar("_R", bound=Mapping[str, Any])


class BotoSts:
    """Calls AWS through boto3 on threads of its own. `close()` when done."""

    def __init__(
        self,
        *,
        clock: Clock,
        region: str,
        counters: Counters,
        workers: int = WORKERS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`workers` calls are made at once; more wait for a thread."""
        self._region = region
        self.skew = SkewMeter()
        self._calls = Calls(
            name="sts", clock=clock, counters=counters.sts, skew=self.skew, workers=workers, sleep=sleep
        )
        self._clients = self._calls.clients
        self._reading: asyncio.Task[BaseKeys] | None = None
        self.base_source = ""
        """Which provider of the SDK's chain the base keys came from."""

    async def base_session(self) -> AccountSession:
        """The broker's own identity: keys from the chain, and whose they are (asked once per reading)."""
        try:
            async with asyncio.timeout(BASE_SECONDS):
                keys = await asyncio.shield(self._read_base_keys())
        except TimeoutError:
            raise BrokerError(
                Reason.BASE_CREDENTIALS_MISSING,
                f"the AWS SDK has not come by the broker's own credentials in {BASE_SECONDS:g} s: check what its chain"
                " asks here, a credential_process most of all",
            ) from None
        except AwsFault as fault:
            raise BrokerError(
                Reason.BASE_CREDENTIALS_MISSING, no_credentials_text(fault), metadata={"aws_code": fault.code}
            ) from None
        now = self._clients.now()
        if keys.expires_at is not None and keys.expires_at <= now:
            raise BrokerError(
                Reason.BASE_CREDENTIALS_MISSING,
                f"the broker's AWS credentials (from {keys.source}) expired at {keys.expires_at:%FT%TZ}: renew them",
                metadata={"source": keys.source},
            )
        arn = await self._arn_of(keys)
        self.base_source = keys.source
        return AccountSession(
            access_key_id=keys.access_key_id,
            secret_key=keys.secret_key,
            session_token=keys.session_token,
            arn=arn,
            account_id=_account_of(arn),
            issued_at=now,
            expires_at=keys.expires_at,
        )

    async def assume_role(self, parent: AccountSession, hop: Hop, region: str) -> AccountSession:
        """One AssumeRole call. Raises BrokerError, SessionGone when AWS no longer knows the parent."""
        region = region or self._region
        params = _assume_role_params(parent, hop)
        try:
            answer = await self._call(region, parent, "AssumeRole", lambda sts: sts.assume_role(**params))
        except AwsFault as fault:
            raise assume_role_refusal(fault, self._described("AssumeRole", parent, region), hop) from None
        try:
            keys, arn = answer["Credentials"], answer["AssumedRoleUser"]["Arn"]
            return AccountSession(
                access_key_id=keys["AccessKeyId"],
                secret_key=Secret(keys["SecretAccessKey"]),
                session_token=Secret(keys["SessionToken"]),
                arn=arn,
                account_id=_account_of(arn),
                issued_at=self._clients.now(),
                expires_at=keys["Expiration"].astimezone(UTC),
            )
        except GARBLED:
            raise _garbled("AssumeRole", region) from None

    async def is_alive(self, session: AccountSession, region: str) -> bool:
        """Whether AWS still knows the session. GetCallerIdentity needs no permission, so only death refuses it."""
        region = region or self._region
        try:
            await self._call(region, session, "GetCallerIdentity", lambda sts: sts.get_caller_identity())
        except AwsFault as fault:
            if fault.kind is Kind.GONE:
                return False
            raise refusal(fault, self._described("GetCallerIdentity", session, region)) from None
        return True

    def clock_skew_seconds(self) -> float:
        """How far AWS's clock is ahead of ours."""
        return self.skew.seconds

    def close(self) -> None:
        """End the threads."""
        self._calls.close()

    def _read_base_keys(self) -> asyncio.Task[BaseKeys]:
        """The reading under way, or a new one: one that hangs must not take a thread more with each attempt."""
        if self._reading is None or self._reading.done():
            work = self._clients.in_thread(lambda: read_base_keys(self._region))
            self._reading = asyncio.get_running_loop().create_task(work, name="base keys")
        return self._reading

    async def _arn_of(self, keys: BaseKeys) -> str:
        signer = AccountSession(
            access_key_id=keys.access_key_id,
            secret_key=keys.secret_key,
            session_token=keys.session_token,
            arn="",
            account_id="",
            issued_at=self._clients.now(),
            expires_at=keys.expires_at,
        )
        try:
            answer = await self._call(self._region, signer, "GetCallerIdentity", lambda sts: sts.get_caller_identity())
        except AwsFault as fault:
            raise refusal(fault, self._described("GetCallerIdentity", signer, self._region)) from None
        try:
            _account_of(answer["Arn"])
        except GARBLED:
            raise _garbled("GetCallerIdentity", self._region) from None
        return answer["Arn"]

    async def _call(self, region: str, signer: AccountSession, name: str, operation: Callable[[STSClient], _R]) -> _R:
        return await self._calls.run("sts", region, signer, name, operation)

    def _described(self, operation: str, signer: AccountSession, region: str) -> Call:
        return Call(operation=f"sts:{operation}", signer=signer, region=region, skew_seconds=self.clock_skew_seconds())


def _assume_role_params(parent: AccountSession, hop: Hop) -> AssumeRoleRequestTypeDef:
    seconds = hop.duration_seconds
    if ":assumed-role/" in parent.arn:
        seconds = min(seconds, CHAINED_MAX_SECONDS)
    params: AssumeRoleRequestTypeDef = {
        "RoleArn": hop.role_arn,
        "RoleSessionName": hop.session_name,
        "DurationSeconds": seconds,
    }
    if hop.external_id:
        params["ExternalId"] = hop.external_id.reveal()
    if hop.tags:
        params["Tags"] = [{"Key": key, "Value": value} for key, value in hop.tags]
    if hop.session_policy:
        params["Policy"] = hop.session_policy
    return params


def _garbled(operation: str, region: str) -> BrokerError:
    """An answer that lacks what it is for. Nothing of it is repeated."""
    return BrokerError(
        Reason.AWS_UNAVAILABLE, f"AWS STS in {region} does not answer sts:{operation}: what came is no answer of AWS"
    )


def _account_of(arn: str) -> str:
    return arn.split(":")[4]
