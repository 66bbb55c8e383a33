"""What an HTTP engine decides about a request, as frozen values. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from proxy.errors import Refused
from proxy.http.target import Target
from tollbridge.reasons import Reason

NO_FACTS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where a request goes and what it is."""

    host: str
    """Of the endpoint itself, or another name of the same service that belongs to it."""
    target: Target
    operation: str
    """For audit lines: the API's own name of what is asked."""
    repeatable: bool
    """Doing it twice does no harm, so it may be sent again when its connection breaks before an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of the proxy itself, in the service's own form."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The request of `tollbridge-proxy check`: one that needs as little permission as there is."""

    head: bytes
    """As a client would send it, without its empty line."""
    body: bytes = b""


class Verdict(Enum):
    """What an upstream answer says of our signature."""

    TAKEN = "taken"
    """Whatever it says, it is for the client."""
    REJECTED = "rejected"
    """The credential or the signature was not taken: an answer for us, and it may quote what was signed."""
    SKEWED = "skewed"
    """The same, because of the time."""


class HttpRefused(Refused):
    """A refusal with an HTTP status that its reason alone does not give."""

    def __init__(self, reason: Reason, message: str, status: int) -> None:
        super().__init__(reason, message)
        self.status = status


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """How a service says one reason."""

    status: int
    kind: str
    """The service's name for it: `__type`, or the error's `type`."""
    hint: str
    """What to do about it."""
    headers: tuple[tuple[str, str], ...] = field(default=())


def said(refusal: Refused, hint: str) -> str:
    """The text of a refusal: what, which reason, how to fix it."""
    decision = f", decision {refusal.decision_id}" if refusal.decision_id else ""
    return f"tollbridge: {printable(refusal.message)} [{refusal.reason}{decision}]: {hint}"


def printable(text: str) -> str:
    """Without control characters: each becomes a blank."""
    return "".join(character if character.isprintable() else " " for character in text)
