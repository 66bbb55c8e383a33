"""Reads members of AWS's answers, any of which may be missing or of another kind than its model says. PURE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.discovery.model import Cause, Item, Listing, Sighting, Skipped, TagCall
from tollbridge.model import Product

Answers = Mapping[str, Sequence[Item]]
"""Operation -> everything it listed."""
Outcome = Sighting | Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """How one service is looked at."""

    product: Product
    listings: tuple[Listing, ...]
    read: Callable[[Answers], Iterator[Outcome]]
    """Pure: what the answers say. Neither tags nor hosts are judged yet."""
    tags: TagCall | None = None
    """For sightings whose tags no listing holds."""


def text(item: Any, *path: str) -> str:
    """The string at a path of members; empty where there is none."""
    for member in path:
        if not isinstance(item, Mapping):
            return ""
        item = item.get(member)
    return item if isinstance(item, str) else ""


def number(item: Any, *path: str) -> int:
    """The whole number at a path; 0 where there is none."""
    for member in path:
        if not isinstance(item, Mapping):
            return 0
        item = item.get(member)
    return item if isinstance(item, int) and not isinstance(item, bool) else 0


def many(item: Any, member: str) -> Sequence[Any]:
    """The list of that name; empty where there is none."""
    found = item.get(member) if isinstance(item, Mapping) else None
    return found if isinstance(found, list | tuple) else ()


def tags(items: Iterable[Any], key: str = "Key", value: str = "Value") -> dict[str, str]:
    """A list of tags as a mapping."""
    return {name: text(tag, value) for tag in items if (name := text(tag, key))}


UNAVAILABLE: Final = frozenset(
    {
        "create-failed",
        "creating",
        "delete-failed",
        "deleted",
        "deleting",
        "failed",
        "final-snapshot",
        "hardware-failure",
        "incompatible-network",
        "incompatible-option-group",
        "incompatible-parameters",
        "incompatible-restore",
        "inaccessible-encryption-credentials",
        "inaccessible-encryption-credentials-recoverable",
        "insufficient-capacity",
        "insufficient-resource-limits",
        "paused",
        "restore-error",
        "resuming",
        "starting",
        "stopped",
        "stopping",
        "suspended",
        "unavailable",
    }
)
"""States in which a resource takes no logins, over all services, in lower case. Any other, also one that AWS adds
tomorrow, counts as available: a database that is being backed up or modified is reachable."""


def unavailable(
    product: Product, name: str, arn: str, status: str, tagged: Mapping[str, str] | None = None
) -> Skipped | None:
    """A resource in a state that takes no logins."""
    if status.lower() not in UNAVAILABLE:
        return None
    why = f"its status is {status}"
    return Skipped(product=product, name=name, arn=arn, cause=Cause.NOT_AVAILABLE, why=why, tags=tagged)


def version(text_: str) -> tuple[int, ...]:
    """The leading numbers of a version: 10.6.14 -> (10, 6, 14). Empty where it begins with none."""
    numbers: list[int] = []
    for part in text_.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits or len(digits) > 9:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def older(text_: str, *least: int) -> bool:
    """Whether a version is known and lower."""
    known = version(text_)
    return bool(known) and known < least
