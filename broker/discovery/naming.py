"""What a discovered database is called. PURE.

Across accounts and regions names may collide: the registry then tells them apart (`broker.registry.snapshot`). Within
one account, region and product that would not be enough, so they are made unique here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from broker.discovery.model import Sighting
from tollbridge.model import Product

MAX_NAME_CHARS: Final = 63
"""A database's name is a DNS label."""
_NAME: Final = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?", re.ASCII)
_OTHER: Final = re.compile(r"[^a-zA-Z0-9-]+", re.ASCII)


def is_name(text: str) -> bool:
    """Whether a database can be called so."""
    return len(text) <= MAX_NAME_CHARS and _NAME.fullmatch(text) is not None


def wanted_name(sighting: Sighting, product: Product) -> str:
    """The resource's own name, and which of its endpoints it is. Always a name."""
    text = "-".join(filter(None, (sighting.name, sighting.suffix)))
    name = _OTHER.sub("-", text).strip("-") or product.value
    if not name[0].isalpha():
        name = f"{product.value}-{name}"
    changed = name != text and name != f"{product.value}-{text}"
    return _with_mark(name, sighting.host) if changed or len(name) > MAX_NAME_CHARS else name


def unique_names(wanted: Iterable[tuple[str, str, bool]]) -> dict[str, str]:
    """Host -> name, for (name, host, whether it is a resource's first endpoint) of one cell; hosts differ.

    A resource's own name beats one made from another's, and otherwise the host decides: the same resources always get
    the same names, in whatever order AWS lists them.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name, host, _first in sorted(wanted, key=lambda row: (not row[2], row[1])):
        free, salt = name, host
        while free in taken:
            free, salt = _with_mark(name, salt), f"{salt}/"
        taken.add(free)
        names[host] = free
    return names


def _with_mark(name: str, host: str) -> str:
    """The name, cut where it must be, ended by a mark of the host."""
    mark = hashlib.sha256(host.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: MAX_NAME_CHARS - len(mark) - 1].rstrip('-')}-{mark}"
