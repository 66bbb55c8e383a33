"""What the configuration says now: rules, operators, account links, static databases. Replaced whole at a reload."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from broker.access.model import Policy
from broker.access.operators import Operators, Power
from broker.registry.documents import Terms
from broker.registry.links import AccountLinks
from broker.settings import Derived, Settings, derive

OnChange = Callable[[Settings, Derived], Awaitable[None]]


class InForce:
    """Asked at each use, so that nobody holds what is no longer in force. Lives on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.started_with = settings
        """What cannot change while the broker runs is as it says here."""
        self.settings = settings
        self.derived = derive(settings)
        self._hooks: list[OnChange] = []

    @property
    def policy(self) -> Policy:
        """Rules and proxy rows. The same object while they are the same."""
        return self.derived.policy

    @property
    def operators(self) -> Operators:
        """Who may run the broker."""
        return self.derived.operators

    @property
    def links(self) -> AccountLinks:
        """Which roles may be assumed for what."""
        return self.derived.links

    @property
    def terms(self) -> Terms:
        """What dynamic databases are judged under."""
        return self.derived.terms

    def may(self, caller: str, power: Power) -> bool:
        """Whether a caller has a power over anything at all."""
        return self.operators.may(caller, power)

    def on_change(self, hook: OnChange) -> None:
        """Await `hook` with what is newly in force, in the order in which hooks came."""
        self._hooks.append(hook)

    async def replace(self, settings: Settings, derived: Derived) -> None:
        """Put another configuration in force."""
        if derived.policy.version == self.derived.policy.version:
            derived = dataclasses.replace(derived, policy=self.derived.policy)
        self.settings, self.derived = settings, derived
        for hook in self._hooks:
            await hook(settings, derived)
