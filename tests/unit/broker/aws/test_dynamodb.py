"""What is read from the table that brokers share, where somebody wrote into it by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from broker.audit import CallCounters
from broker.aws.clients import SkewMeter
from broker.aws.dynamodb import DynamoStore
from broker.model import AccountSession
from tests.support.clock import FakeClock
from tollbridge.secret import Secret


class Scribbled(DynamoStore):
    """A store whose table answers as it is told."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        async def base() -> AccountSession:
            return AccountSession(
                access_key_id="AKIABASE",
                secret_key=Secret("base-secret"),
                session_token=Secret(""),
                arn="arn:aws:iam::111111111111:user/broker",
                account_id="111111111111",
                issued_at=datetime(2030, 1, 1, tzinfo=UTC),
                expires_at=None,
            )

        super().__init__("tollbridge", "us-west-1", base, clock=FakeClock(), counters=CallCounters(), skew=SkewMeter())
        self._rows = rows

    async def _call(self, name: str, operation: Any) -> Any:
        await asyncio.sleep(0)
        return {"Items": self._rows} if name == "Query" else {"Item": {"changed": {"N": "7"}}}


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"written_at": {"S": "yesterday"}, "revision": {"N": "1.5"}},
        {"revision": {"N": "1E+3"}, "changed": {"N": "-1"}, "deleted": {"S": "no"}},
        {"revision": {"N": "9" * 38}, "document": {"M": {}}, "written_by": {"NULL": True}},
    ],
)
async def test_an_item_that_no_broker_wrote_is_read_and_ends_nobody(row: dict[str, Any]) -> None:
    """Every broker reads it at every start, and its document is judged like any other."""
    store = Scribbled({"kind": {"S": "db"}, "name": {"S": "x"}, **row})
    page = await store.changes("db", None)
    await store.close()
    assert [(item.name, item.document) for item in page.items] == [("x", "")]
    assert 0 <= page.items[0].revision < 2**63
    assert page.items[0].written_at.tzinfo is UTC
