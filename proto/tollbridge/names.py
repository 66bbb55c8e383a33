"""Which name may be meant by one that nobody has. PURE."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final

MAX_COMPARED: Final = 100
"""Names that one is compared with. A comparison costs 0.2 ms, and everybody else's logins wait: with each of three
thousand it was half a second for every client that asked for a database that is gone."""
MAX_CHARS: Final = 255
"""No longer name is a slip of somebody's."""


def nearest(name: str, known: Collection[str], *, cutoff: float = 0.6) -> str:
    """A known name that looks like this one, or nothing."""
    close = difflib.get_close_matches(name, worth_comparing(name, known), n=1, cutoff=cutoff)
    return close[0] if close else ""


def worth_comparing(name: str, known: Collection[str]) -> Sequence[str]:
    """Of few names all; of many those that begin or end as this one does: one slip leaves one half of it as it is."""
    if len(name) > MAX_CHARS:
        return ()
    if len(known) <= MAX_COMPARED:
        return tuple(known)
    middle = len(name) // 2
    alike = (each for each in known if each.startswith(name[:middle]) or each.endswith(name[middle:]))
    return tuple(islice(alike, MAX_COMPARED)) if middle else ()
