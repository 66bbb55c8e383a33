"""Redshift's APIs as `broker.model.Redshift`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC
from typing import Any, Final

from broker.audit import CallCounters
from broker.aws.calls import Calls
from broker.aws.clients import SkewMeter
from broker.aws.errors import AwsFault, Call, login_refusal
from broker.errors import BrokerError
from broker.model import AccountSession, TemporaryLogin
from broker.policies.statements import Place, Statement, compact, redshift_role, redshift_user, redshift_workgroup
from tollbridge.clock import Clock
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

WORKERS: Final = 8
"""Passwords are kept for minutes, so calls are few; these threads are not STS's, whatever Redshift does."""
LIFE_SECONDS: Final = 900
"""The shortest life, and AWS's default."""

_CLUSTERS: Final = "redshift"
_WORKGROUPS: Final = "redshift-serverless"


class BotoRedshift:
    """Calls Redshift through boto3 on threads of its own. `close()` when done."""

    def __init__(
        self,
        *,
        clock: Clock,
        counters: CallCounters,
        skew: SkewMeter,
        workers: int = WORKERS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._skew = skew
        self._calls = Calls(name="redshift", clock=clock, counters=counters, skew=skew, workers=workers, sleep=sleep)

    async def user_login(
        self,
        session: AccountSession,
        place: Place,
        *,
        cluster: str,
        db_user: str,
        db_name: str,
        db_groups: Sequence[str],
    ) -> TemporaryLogin:
        """See broker.model.Redshift."""
        params: dict[str, Any] = {
            "ClusterIdentifier": cluster,
            "DbUser": db_user,
            "AutoCreate": False,
            "DurationSeconds": LIFE_SECONDS,
        }
        if db_name:
            params["DbName"] = db_name
        if db_groups:
            params["DbGroups"] = list(db_groups)
        needed = redshift_user(place, cluster, db_user, db_name, db_groups)
        name = "GetClusterCredentials"
        answer = await self._call(
            _CLUSTERS,
            name,
            session,
            place,
            f"cluster {cluster}",
            needed,
            lambda api: api.get_cluster_credentials(**params),
        )
        return _login(answer, "DbUser", "DbPassword", "Expiration")

    async def role_login(self, session: AccountSession, place: Place, *, cluster: str, db_name: str) -> TemporaryLogin:
        """See broker.model.Redshift."""
        params: dict[str, Any] = {"ClusterIdentifier": cluster, "DurationSeconds": LIFE_SECONDS}
        if db_name:
            params["DbName"] = db_name
        needed = (redshift_role(place, cluster, db_name),)
        answer = await self._call(
            _CLUSTERS,
            "GetClusterCredentialsWithIAM",
            session,
            place,
            f"cluster {cluster}",
            needed,
            lambda api: api.get_cluster_credentials_with_iam(**params),
        )
        return _login(answer, "DbUser", "DbPassword", "Expiration")

    async def workgroup_login(
        self, session: AccountSession, place: Place, *, workgroup: str, db_name: str
    ) -> TemporaryLogin:
        """See broker.model.Redshift."""
        params: dict[str, Any] = {"workgroupName": workgroup, "durationSeconds": LIFE_SECONDS}
        if db_name:
            params["dbName"] = db_name
        needed = (redshift_workgroup(place, workgroup),)
        answer = await self._call(
            _WORKGROUPS,
            "GetCredentials",
            session,
            place,
            f"workgroup {workgroup}",
            needed,
            lambda api: api.get_credentials(**params),
        )
        return _login(answer, "dbUser", "dbPassword", "expiration")

    def close(self) -> None:
        """End the threads."""
        self._calls.close()

    async def _call(
        self,
        service: str,
        name: str,
        session: AccountSession,
        place: Place,
        target: str,
        needed: Sequence[Statement],
        operation: Callable[[Any], Mapping[str, Any]],
    ) -> Mapping[str, Any]:
        operation_name = f"{service}:{name}"
        try:
            return await self._calls.run(service, place.region, session, operation_name, operation)
        except AwsFault as fault:
            call = Call(operation=operation_name, signer=session, region=place.region, skew_seconds=self._skew.seconds)
            raise login_refusal(fault, call, target, compact(*needed)) from None


def _login(answer: Mapping[str, Any], user: str, password: str, end: str) -> TemporaryLogin:
    try:
        return TemporaryLogin(
            user=answer[user], password=Secret(answer[password]), expires_at=answer[end].astimezone(UTC)
        )
    except (KeyError, AttributeError):
        # Every member of these answers is optional in AWS's model. Nothing of the answer is repeated.
        raise BrokerError(
            Reason.AWS_UNAVAILABLE, "Redshift's answer holds no user, password or expiration", metadata={}
        ) from None
