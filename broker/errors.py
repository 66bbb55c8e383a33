"""How the broker says no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from tollbridge.process.settings import Problem
from tollbridge.reasons import Reason

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class BrokerError(Exception):
    """A request that ends without a credential. `broker.api` turns it into a gRPC status with ErrorInfo.

    The message is for the person who can fix it: what happened, then the likely causes and what to change. It never
    holds a secret, a session token or an external ID.
    """

    def __init__(self, reason: Reason, message: str, *, metadata: Mapping[str, str] = _NOTHING) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = metadata
        """For ErrorInfo.metadata: names of roles, accounts, rules."""


class DocumentRefused(BrokerError):
    """A `kind: db` document that cannot be registered, with everything that is wrong with it."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
        first = str(problems[0]).replace("\n    hint: ", " (") + (")" if problems[0].hint else "") if problems else ""
        super().__init__(
            Reason.INVALID_REQUEST,
            f"the document{f' of {name!r}' if name else ''} has {count}: {first}",
            metadata={"database": name} if name else {},
        )
        self.problems = tuple(problems)
