"""AWS's describe and list calls as `broker.discovery.model.Directory`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from botocore import xform_name

from broker.audit import CallCounters
from broker.aws.calls import Calls
from broker.aws.clients import SkewMeter
from broker.aws.errors import AwsFault, Call, described_refusal
from broker.discovery.model import Change, Item, Listing, TagCall, Target
from broker.errors import BrokerError
from broker.model import AccountSession
from broker.policies.statements import Place, Statement, allow, compact
from tollbridge.clock import Clock
from tollbridge.reasons import Reason

WORKERS: Final = 8
"""Threads of these calls alone: a sweep that waits for AWS takes none from logins."""

_MODIFY: Final = {
    Target.INSTANCE: ("ModifyDBInstance", "DescribeDBInstances", "DBInstanceIdentifier", "DBInstances"),
    Target.CLUSTER: ("ModifyDBCluster", "DescribeDBClusters", "DBClusterIdentifier", "DBClusters"),
}


class BotoDirectory:
    """Looks at AWS through boto3 on threads of its own. `close()` when done."""

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
        self._counters = counters
        self._calls = Calls(name="discovery", clock=clock, counters=counters, skew=skew, workers=workers, sleep=sleep)

    def calls(self) -> int:
        """See Directory."""
        return sum(self._counters.calls.values())

    async def items(self, session: AccountSession, place: Place, listing: Listing) -> Sequence[Item]:
        """See Directory."""
        found: list[Item] = []
        page, seen = "", set[str]()
        needed = allow(listing.permission, "*")
        while True:
            parameters = {**listing.parameters, **({listing.page: page} if page else {})}
            answer = await self._call(
                session, place, listing.service, listing.operation, parameters, listing.permission, needed
            )
            items = answer.get(listing.items) or ()
            # A call for one thing (GetWorkgroup) answers with that thing, not with a list of it.
            found.extend((items,) if isinstance(items, Mapping) else items)
            page = (answer.get(listing.page) or "") if listing.page else ""
            if not page:
                break
            if page in seen:
                # The same page again and again: half a list would look like databases that went away.
                raise BrokerError(
                    Reason.AWS_UNAVAILABLE, f"{listing.permission} in {place.region} does not come to an end"
                )
            seen.add(page)
        if listing.then is None:
            return found
        return await self._details(session, place, listing, found)

    async def _details(
        self, session: AccountSession, place: Place, listing: Listing, named: Sequence[Item]
    ) -> list[Item]:
        """The second call, some names at a time."""
        details = listing.then
        assert details is not None  # noqa: S101 - asked for only then
        names = [name for item in named if isinstance(name := item.get(details.member), str)]
        found: list[Item] = []
        for start in range(0, len(names), details.at_once):
            parameters = {details.parameter: names[start : start + details.at_once]}
            answer = await self._call(
                session,
                place,
                listing.service,
                details.operation,
                parameters,
                details.action,
                allow(details.action, "*"),
            )
            found.extend(answer.get(details.items) or ())
        return found

    async def tags(self, session: AccountSession, place: Place, call: TagCall, arn: str) -> Mapping[str, str]:
        """See Directory."""
        answer = await self._call(
            session, place, call.service, call.operation, {call.parameter: arn}, call.action, allow(call.action, "*")
        )
        rows = answer.get(call.items) or ()
        # Redshift Serverless writes its members small.
        return {str(row.get("Key", row.get("key", ""))): str(row.get("Value", row.get("value", ""))) for row in rows}

    async def iam_auth(self, session: AccountSession, change: Change) -> bool:
        """See Directory."""
        _, describe, identifier, items = _MODIFY[change.target]
        answer = await self._call(
            session,
            change.place,
            "rds",
            describe,
            {identifier: change.identifier},
            f"rds:{describe}",
            allow(f"rds:{describe}", "*"),
        )
        found = answer.get(items) or ()
        pending = (found[0].get("PendingModifiedValues") or {}) if found else {}
        return bool(
            found
            and (found[0].get("IAMDatabaseAuthenticationEnabled") or pending.get("IAMDatabaseAuthenticationEnabled"))
        )

    async def turn_iam_auth_on(self, session: AccountSession, change: Change) -> None:
        """See Directory."""
        modify, _, identifier, _ = _MODIFY[change.target]
        parameters = {
            identifier: change.identifier,
            "EnableIAMDatabaseAuthentication": True,
            "ApplyImmediately": True,
        }
        await self._call(
            session, change.place, "rds", modify, parameters, f"rds:{modify}", allow(f"rds:{modify}", change.arn)
        )

    def close(self) -> None:
        """End the threads."""
        self._calls.close()

    async def _call(
        self,
        session: AccountSession,
        place: Place,
        service: str,
        operation: str,
        parameters: Mapping[str, Any],
        permission: str,
        needed: Statement,
    ) -> Mapping[str, Any]:
        method = xform_name(operation)

        def attempt(client: Any) -> Mapping[str, Any]:
            answer: Mapping[str, Any] = getattr(client, method)(**parameters)
            return answer

        try:
            return await self._calls.run(service, place.region, session, permission, attempt)
        except AwsFault as fault:
            call = Call(operation=permission, signer=session, region=place.region, skew_seconds=self._skew.seconds)
            raise described_refusal(fault, call, compact(needed)) from None
