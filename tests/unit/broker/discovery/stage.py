"""A sweeper and everything around it, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from broker.discovery.model import Matcher
from broker.discovery.plan import cells
from broker.discovery.sweep import MemoryStore, Rhythm, Sweeper
from tests.support.clock import FakeClock
from tests.unit.broker.discovery.answers import EVERYTHING
from tests.unit.broker.discovery.world import FakeAws, Published, eyes
from tollbridge.model import Product
from tollbridge.secret import Secret

ACCOUNTS = ("222222222222", "333333333333", "444444444444")
REGIONS = ("us-west-1", "us-east-2")


def role(account: str) -> str:
    return f"arn:aws:iam::{account}:role/example-role"


def matcher(account: str = "222222222222", **more: Any) -> Matcher:
    defaults: dict[str, Any] = {
        "products": (Product.RDS,),
        "regions": ("us-west-1",),
        "tags": EVERYTHING,
        "role_arn": role(account) if account else "",
        "external_id": Secret("example-external-id"),
    }
    return Matcher(**{**defaults, **more})


class Stage:
    """A sweeper and everything around it."""

    def __init__(self, aws: FakeAws, clock: FakeClock, matchers: Sequence[Matcher], **more: Any) -> None:
        self.published = Published()
        self.naps: list[float] = []
        self.clock = clock
        self.sweeper = Sweeper(
            cells=cells(matchers),
            eyes=eyes(aws),
            store=more.get("store") or MemoryStore(),
            publish=self.published,
            rhythm=Rhythm(clock=clock, jitter=lambda: 0.5, interval_seconds=300.0, sleep=self.sleep),
            owner=more.get("owner", "broker-1"),
        )

    async def sleep(self, seconds: float) -> None:
        """Lets the test decide when time moves."""
        self.naps.append(seconds)
        await asyncio.Event().wait()

    @property
    def names(self) -> list[str]:
        return sorted(self.published.names)

    def state(self, account: str = "222222222222", region: str = "us-west-1", product: Product = Product.RDS) -> Any:
        return next(
            state
            for key, state in self.sweeper.table.states.items()
            if (key.account_id, key.region, key.product) == (account, region, product)
        )


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the loop's own turns are what is waited for
            await asyncio.sleep(0)
