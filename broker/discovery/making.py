"""A sweeper from what the composition root has."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from broker.discovery.load import DiscoverySection
from broker.discovery.look import Eyes, Sessions
from broker.discovery.model import Change, Directory, Item, Listing, Matcher, TagCall
from broker.discovery.plan import cells
from broker.discovery.stored import RegistryStore
from broker.discovery.sweep import MemoryStore, Publish, Rhythm, Sweeper
from broker.model import AccountSession
from broker.policies.statements import Place
from broker.registry.store import Store
from tollbridge.clock import Clock


class Blind:
    """A `Directory` of a broker that looks at nothing."""

    async def items(self, session: AccountSession, place: Place, listing: Listing) -> Sequence[Item]:
        """Nothing."""
        return ()

    async def tags(self, session: AccountSession, place: Place, call: TagCall, arn: str) -> Mapping[str, str]:
        """None."""
        return {}

    async def iam_auth(self, session: AccountSession, change: Change) -> bool:
        """Nothing is to be changed."""
        return True

    async def turn_iam_auth_on(self, session: AccountSession, change: Change) -> None:
        """Changes nothing."""

    def calls(self) -> int:
        """None."""
        return 0


def make_sweeper(
    section: DiscoverySection,
    matchers: Sequence[Matcher],
    *,
    sessions: Sessions,
    directory: Directory | None,
    store: Store | None,
    publish: Publish,
    clock: Clock,
    jitter: Callable[[], float],
    broker_name: str,
    sts_region: str,
) -> Sweeper:
    """Not started. Without a store what is found is forgotten when the broker stops; without a directory it looks at
    nothing."""
    owner = f"{broker_name}-{random.SystemRandom().getrandbits(64):016x}"
    return Sweeper(
        cells=cells(matchers) if directory else (),
        eyes=Eyes(
            sessions=sessions,
            directory=directory or Blind(),
            broker_name=broker_name,
            sts_region=sts_region,
            name_tag=section.name_tag,
        ),
        store=RegistryStore(store, broker=owner) if store else MemoryStore(),
        publish=publish,
        rhythm=Rhythm(clock=clock, jitter=jitter, interval_seconds=section.interval_seconds),
        owner=owner,
        at_once=section.threads,
    )
