"""The store in a table of DynamoDB that several brokers share.

    kind       name        (keys)       revision, document, written_at, written_by, deleted, changed
    #mark      KIND                     changed: the mark of that kind
    #lease     NAME                     owner, ends_at

Every write is one TransactWriteItems: the items, each on condition that its revision is the one that was read, and the
mark, on condition that nobody moved it. So two brokers never write over one another, and a reader that sees a mark sees
everything up to it. The index `by_change` answers "what since" consistently, which a local index can. Tombstones carry
a TTL.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC
from functools import partial
from typing import Any, Final

from botocore.exceptions import ClientError

from broker.audit import CallCounters
from broker.aws.calls import Calls
from broker.aws.clients import SkewMeter
from broker.aws.errors import AwsFault, Kind
from broker.errors import BrokerError
from broker.model import AccountSession
from broker.policies.statements import Place, allow, compact
from broker.registry.store import MAX_CHANGES, TOMBSTONE_SECONDS, Change, Conflict, Item, Page, StoreError, written_at
from broker.sessions.checks import partition_of
from tollbridge.clock import Clock

_SERVICE: Final = "dynamodb"
_INDEX: Final = "by_change"
_MARK: Final = "#mark"
_LEASE: Final = "#lease"
_WORKERS: Final = 4
_ATTEMPTS: Final = 12
"""Of one write, while other brokers write too."""
_BACKOFF_SECONDS: Final = 0.05
_CREATE_POLLS: Final = 60
_BATCH: Final = 100
"""Keys of one BatchGetItem."""
_ACTIONS: Final = (
    "dynamodb:BatchGetItem",
    "dynamodb:DescribeTable",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
)
_CREATE_ACTIONS: Final = ("dynamodb:CreateTable", "dynamodb:UpdateTimeToLive")

_Attributes = Mapping[str, Any]
_Operation = Callable[[Any], Mapping[str, Any]]


class DynamoStore:
    """Implements `broker.registry.store.Store`."""

    shared = True

    def __init__(
        self,
        table: str,
        region: str,
        base: Callable[[], Awaitable[AccountSession]],
        *,
        clock: Clock,
        counters: CallCounters,
        skew: SkewMeter,
        create: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`base` gives the broker's own identity. `create`: make the table when it does not exist."""
        self._table = table
        self._region = region
        self._base = base
        self._clock = clock
        self._create = create
        self._sleep = sleep
        self._jitter = jitter
        self._closed = False
        self._calls = Calls(
            name="registry table", clock=clock, counters=counters, skew=skew, workers=_WORKERS, sleep=sleep
        )

    async def open(self) -> None:
        """See Store."""
        if await self._exists():
            return
        if not self._create:
            raise self._missing()
        await self._call("CreateTable", self._make_table)
        for _ in range(_CREATE_POLLS):
            if await self._exists():
                break
            await self._sleep(1.0)
        else:
            raise StoreError(f"table {self._table} in {self._region} was asked for, but does not become active")
        # Tombstones that nobody removes cost little: that this is not allowed is no reason not to start.
        await self._call("UpdateTimeToLive", self._expire_tombstones)

    async def mark(self, kind: str) -> int:
        """See Store."""
        key = {"kind": _text(_MARK), "name": _text(kind)}
        answer = await self._call(
            "GetItem", lambda api: api.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        )
        return _number(answer.get("Item", {}), "changed")

    async def changes(self, kind: str, since: int | None) -> Page:
        """See Store."""
        # First the mark: whatever is written while the pages are read is above it, and will be read again.
        mark = await self.mark(kind)
        whole = since is None or since > mark
        query: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "#kind = :kind" if whole else "#kind = :kind AND #changed > :since",
            "ExpressionAttributeNames": {"#kind": "kind"} if whole else {"#kind": "kind", "#changed": "changed"},
            "ExpressionAttributeValues": {":kind": _text(kind)},
        }
        if not whole:
            query["IndexName"] = _INDEX
            query["ExpressionAttributeValues"][":since"] = _integer(since or 0)
        found: list[tuple[int, Item]] = []
        start: _Attributes | None = None
        while True:
            page = query | ({"ExclusiveStartKey": start} if start else {})
            answer = await self._call("Query", partial(_query, page))
            for attributes in answer.get("Items", ()):
                item = _item(attributes)
                if not (whole and item.deleted):
                    found.append((_number(attributes, "changed"), item))
            start = answer.get("LastEvaluatedKey")
            if not start:
                break
        found.sort(key=lambda pair: pair[0])
        return Page(mark, tuple(item for _, item in found), whole)

    async def write(self, kind: str, changes: Sequence[Change], *, by: str) -> tuple[Item, ...]:
        """See Store."""
        if len(changes) > MAX_CHANGES:
            raise ValueError(f"at most {MAX_CHANGES} changes in one write")
        for attempt in range(_ATTEMPTS):
            mark, present = await self.mark(kind), await self._present(kind, [change.name for change in changes])
            made = [self._changed(change, present.get(change.name), by) for change in changes]
            steps = [self._put(kind, item, present.get(item.name), mark + 1) for item in made]
            if await self._transact([*steps, self._move_mark(kind, mark)]):
                return tuple(made)
            await self._sleep(_BACKOFF_SECONDS * 2 ** min(attempt, 5) * (0.5 + self._jitter()))
        raise StoreError(f"table {self._table} is written by too many at once: try again")

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """See Store."""
        now = self._clock.now().timestamp()
        key = {"kind": _text(_LEASE), "name": _text(name)}
        update = {
            "TableName": self._table,
            "Key": key,
            "UpdateExpression": "SET #owner = :owner, #ends = :ends",
            "ConditionExpression": "attribute_not_exists(#owner) OR #owner = :owner OR #ends <= :now",
            "ExpressionAttributeNames": {"#owner": "owner", "#ends": "ends_at"},
            "ExpressionAttributeValues": {
                ":owner": _text(owner),
                ":ends": {"N": repr(now + seconds)},
                ":now": {"N": repr(now)},
            },
        }
        answer = await self._call("UpdateItem", _unless_refused(lambda api: api.update_item(**update)))
        return "refused" not in answer

    async def close(self) -> None:
        """See Store."""
        self._closed = True
        self._calls.close()

    async def _present(self, kind: str, names: Sequence[str]) -> dict[str, Item]:
        keys = [{"kind": _text(kind), "name": _text(name)} for name in dict.fromkeys(names)]
        found: dict[str, Item] = {}
        while keys:
            asked = {self._table: {"Keys": keys[:_BATCH], "ConsistentRead": True}}
            answer = await self._call("BatchGetItem", partial(_batch_get, asked))
            for attributes in answer.get("Responses", {}).get(self._table, ()):
                item = _item(attributes)
                found[item.name] = item
            left = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
            keys = [*left, *keys[_BATCH:]]
        return found

    def _changed(self, change: Change, found: Item | None, by: str) -> Item:
        revision, deleted = (found.revision, found.deleted) if found else (0, True)
        if change.expected is not None and change.expected != (0 if deleted else revision):
            raise Conflict(change.name, revision, deleted=deleted)
        return Item(
            name=change.name,
            revision=revision + 1,
            document=change.document or "",
            written_at=self._clock.now(),
            written_by=by,
            deleted=change.document is None,
        )

    def _put(self, kind: str, item: Item, found: Item | None, changed: int) -> dict[str, Any]:
        attributes = {
            "kind": _text(kind),
            "name": _text(item.name),
            "revision": _integer(item.revision),
            "changed": _integer(changed),
            "document": _text(item.document),
            "written_at": _text(item.written_at.astimezone(UTC).isoformat()),
            "written_by": _text(item.written_by),
            "deleted": {"BOOL": item.deleted},
        }
        if item.deleted:
            attributes["expires_at"] = _integer(int(self._clock.now().timestamp()) + TOMBSTONE_SECONDS)
        put: dict[str, Any] = {"TableName": self._table, "Item": attributes}
        if found is None:
            put |= {"ConditionExpression": "attribute_not_exists(#kind)", "ExpressionAttributeNames": {"#kind": "kind"}}
        else:
            put |= {
                "ConditionExpression": "#revision = :found",
                "ExpressionAttributeNames": {"#revision": "revision"},
                "ExpressionAttributeValues": {":found": _integer(found.revision)},
            }
        return {"Put": put}

    def _move_mark(self, kind: str, mark: int) -> dict[str, Any]:
        update: dict[str, Any] = {
            "TableName": self._table,
            "Key": {"kind": _text(_MARK), "name": _text(kind)},
            "UpdateExpression": "SET #changed = :next",
            "ConditionExpression": "#changed = :mark" if mark else "attribute_not_exists(#changed)",
            "ExpressionAttributeNames": {"#changed": "changed"},
            "ExpressionAttributeValues": {":next": _integer(mark + 1)},
        }
        if mark:
            update["ExpressionAttributeValues"][":mark"] = _integer(mark)
        return {"Update": update}

    async def _transact(self, steps: Sequence[Mapping[str, Any]]) -> bool:
        """False: somebody else wrote first, and nothing happened."""
        # One token for all attempts: where an answer was lost, a retry must not take its own write for another's.
        token = uuid.uuid4().hex
        answer = await self._call(
            "TransactWriteItems",
            _unless_refused(lambda api: api.transact_write_items(TransactItems=list(steps), ClientRequestToken=token)),
        )
        return "refused" not in answer

    async def _exists(self) -> bool:
        def describe(api: Any) -> Mapping[str, Any]:
            try:
                return dict(api.describe_table(TableName=self._table))
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise
                return {}

        answer = await self._call("DescribeTable", describe)
        return bool(answer.get("Table", {}).get("TableStatus") == "ACTIVE")

    def _make_table(self, api: Any) -> Mapping[str, Any]:
        def keys(sort: str) -> list[dict[str, str]]:
            return [{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]

        types = {"kind": "S", "name": "S", "changed": "N"}
        try:
            return dict(
                api.create_table(
                    TableName=self._table,
                    BillingMode="PAY_PER_REQUEST",
                    AttributeDefinitions=[
                        {"AttributeName": name, "AttributeType": kind} for name, kind in types.items()
                    ],
                    KeySchema=keys("name"),
                    LocalSecondaryIndexes=[
                        {"IndexName": _INDEX, "KeySchema": keys("changed"), "Projection": {"ProjectionType": "ALL"}}
                    ],
                )
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceInUseException":  # another broker was first
                raise
            return {}

    def _expire_tombstones(self, api: Any) -> Mapping[str, Any]:
        try:
            return dict(
                api.update_time_to_live(
                    TableName=self._table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"}
                )
            )
        except ClientError:
            return {}

    async def _call(self, name: str, operation: _Operation) -> Mapping[str, Any]:
        if self._closed:
            raise StoreError(f"table {self._table} is let go of: the broker is stopping")
        place = Place(partition="aws", region=self._region, account_id="*")
        try:
            base = await self._base()
            place = Place(partition=partition_of(base.arn), region=self._region, account_id=base.account_id)
            return await self._calls.run(_SERVICE, self._region, base, f"{_SERVICE}:{name}", operation)
        except BrokerError as error:
            raise StoreError(f"table {self._table} cannot be asked: {error.message}") from error
        except AwsFault as fault:
            raise self._explained(name, fault, place) from None

    def _explained(self, name: str, fault: AwsFault, place: Place) -> StoreError:
        if fault.code == "ResourceNotFoundException":
            return self._missing()
        if fault.kind is Kind.DENIED:
            actions = [*_ACTIONS, *(_CREATE_ACTIONS if self._create else ())]
            table = place.arn(_SERVICE, f"table/{self._table}")
            statement = compact(allow(actions, [table, f"{table}/index/{_INDEX}"]))
            return StoreError(
                f"the broker's identity may not do dynamodb:{name} on table {self._table}: its policy needs {statement}"
            )
        return StoreError(
            f"dynamodb:{name} on table {self._table} in {self._region} failed: {fault.code} ({fault.kind})"
        )

    def _missing(self) -> StoreError:
        return StoreError(
            f"there is no table {self._table} in {self._region}: set registry.dynamodb.create_table: true for the "
            "first start, or make it (keys kind and name, local index by_change on kind and changed; all are text but "
            "changed, a number)"
        )


def _unless_refused(operation: _Operation) -> _Operation:
    """The answer, or `refused` when a condition did not hold or another transaction was under way."""

    def run(api: Any) -> Mapping[str, Any]:
        try:
            return operation(api)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in {"ConditionalCheckFailedException", "TransactionConflictException"}:
                return {"refused": True}
            reasons = {reason.get("Code") for reason in error.response.get("CancellationReasons", ())}
            expected = {"None", None, "ConditionalCheckFailed", "TransactionConflict"}
            if code == "TransactionCanceledException" and reasons <= expected:
                return {"refused": True}
            raise

    return run


def _query(query: Mapping[str, Any], api: Any) -> Mapping[str, Any]:
    return dict(api.query(**query))


def _batch_get(asked: Mapping[str, Any], api: Any) -> Mapping[str, Any]:
    return dict(api.batch_get_item(RequestItems=asked))


def _text(value: str) -> dict[str, str]:
    return {"S": value}


def _integer(value: int) -> dict[str, str]:
    return {"N": str(value)}


def _number(attributes: _Attributes, name: str) -> int:
    written = attributes.get(name, {}).get("N", "0")
    # Longer ones fit into no copy of the table.
    return int(written) if written.isascii() and written.isdigit() and len(written) <= 18 else 0


def _item(attributes: _Attributes) -> Item:
    def text(name: str) -> str:
        return str(attributes.get(name, {}).get("S", ""))

    return Item(
        name=text("name"),
        revision=_number(attributes, "revision"),
        document=text("document"),
        written_at=written_at(text("written_at")),
        written_by=text("written_by"),
        deleted=bool(attributes.get("deleted", {}).get("BOOL", False)),
    )
