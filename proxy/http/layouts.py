"""Orders of header names that were seen before, as expressions that read such a head at once. PURE.

A client writes the same names in the same order each time, and so does a server. Once a head was read line by line and
found good, its order becomes one expression: the names as they were spelled, and for each value any printable ASCII. A
head that fits it can be read in no other way: every byte of it is a name that was found good, a printable character or
a line end, so nothing is left to check. Whatever does not fit (a tab, a character beyond ASCII, a name of another
spelling, a Connection of another value) is read line by line.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.http.names import CONNECTION, CONTENT_LENGTH, DROP, KEEP

LAYOUTS_LIMIT: Final = 16
"""Orders kept in mind, on each side."""

LAID_OUT_LINES: Final = 40
"""Header lines of a head that is laid out. SDKs send some 12."""

LAID_OUT_BYTES: Final = 1024
"""Of its names, and of its Connection line."""

SIGHTINGS: Final = 32
"""Of an order before it is laid out. An expression costs as much as reading a hundred heads line by line, and clients
may come with a new order each time."""

_SIGHTINGS_LIMIT: Final = 256

# All repeats are possessive: what does not fit is given up after one look at each byte.
_ANYTHING: Final = rb"[ -~]*+"
_VALUE: Final = rb": ?+([!-~][ -~]*+)(?<! )"
"""Captured without blanks around."""
_NUMBER: Final = rb": ?+([0-9]{1,15}+)"


class Layout:
    """One order of names. `match` finds a whole head with its empty line, at the beginning of what was received."""

    __slots__ = ("fields", "key", "match", "stays")

    def __init__(self, key: tuple[bytes, ...], meanings: list[int], wanted: tuple[int, ...]) -> None:
        """`key`: the whole line of Connection, if there is one, and the names. `wanted`: whose values are for us."""
        self.key = key
        connection, *names = key
        self.stays = b"close" not in connection.lower()
        # Group 1 is empty, for what this order has not; group 2 is the first line.
        expression = [rb"()(%b)\r\n" % _ANYTHING]
        groups, count, kept, runs = {}, 2, False, []
        for name, meaning in zip(names, meanings, strict=True):
            if kept and meaning != KEEP:
                expression.append(b")")
            if meaning == KEEP and not kept:
                expression.append(b"(")
                count += 1
                runs.append(count)
            kept = meaning == KEEP
            if meaning == CONNECTION:
                expression.append(re.escape(connection))
            elif kept or meaning == DROP:
                expression.append(re.escape(name) + b":" + _ANYTHING)
            else:
                expression.append(re.escape(name) + (_NUMBER if meaning == CONTENT_LENGTH else _VALUE))
                count += 1
                groups[meaning] = count
            expression.append(rb"\r\n")
        if kept:
            expression.append(b")")
        expression.append(rb"\r\n")
        self.match = re.compile(b"".join(expression)).match
        self.fields = (2, *(groups.get(kind, 1) for kind in wanted), *runs)
        """Groups of a match: the first line, each that is wanted, and each run of lines that go on."""


class Layouts:
    """The orders that one side was seen to use."""

    def __init__(self, wanted: tuple[int, ...]) -> None:
        """`wanted`: whose values are for us."""
        self.known: list[Layout] = []
        """The one learnt last first."""
        self._wanted = wanted
        self._sightings: dict[tuple[bytes, ...], int] = {}

    def saw(self, names: list[bytes], meanings: list[int], connection: bytes) -> None:
        """A head was read and found good, and another with these names would be read the same. `connection`: its whole
        line of this name, or nothing."""
        key, sightings = (connection, *names), self._sightings
        if len(names) > LAID_OUT_LINES or sum(map(len, key)) > LAID_OUT_BYTES:
            return
        if len(sightings) >= _SIGHTINGS_LIMIT and key not in sightings:
            sightings.clear()
        sightings[key] = sightings.get(key, 0) + 1
        if sightings[key] % SIGHTINGS == 0 and all(layout.key != key for layout in self.known):
            self.known.insert(0, Layout(key, meanings, self._wanted))
            del self.known[LAYOUTS_LIMIT:]

    def forget(self) -> None:
        """As in a new process."""
        self.known.clear()
        self._sightings.clear()
