"""As much BSON as a handshake needs: the elements of one document, their values unread. PURE.

https://bsonspec.org/spec.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

DOUBLE, STRING, ARRAY, BINARY, INT32, INT64 = 0x01, 0x02, 0x04, 0x05, 0x10, 0x12

NAME_LIMIT: Final = 256
"""Bytes of an element's name: none that a handshake or a command has comes near it."""

FIXED: Final = {
    0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0,
}  # fmt: skip
"""Sizes of the values that always have the same."""
COUNTED: Final = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4, 0x0F: 0}
"""Values that begin with an int32: what comes on top of it. (A regular expression is neither: see `value_size`.)"""

LEAST: Final = {0x02: 1, 0x03: 5, 0x04: 5, 0x05: 0, 0x0C: 1, 0x0D: 1, 0x0E: 1, 0x0F: 14}
"""The smallest that int32 can be."""

_int32: Final = struct.Struct("<i")


class BsonError(ValueError):
    """Bytes that are no document."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a document."""

    kind: int
    name: str
    value: bytes
    """As it stands in the document."""

    def text(self) -> str:
        """A string. Raises BsonError."""
        if self.kind != STRING or self.value[-1:] != b"\0":
            raise BsonError(f"{self.name} is no string")
        try:
            return self.value[4:-1].decode()
        except UnicodeDecodeError as error:
            raise BsonError(f"{self.name} is not UTF-8") from error

    def binary(self) -> bytes:
        """Bytes of any subtype. Raises BsonError."""
        if self.kind != BINARY:
            raise BsonError(f"{self.name} is no binary")
        return self.value[5:]

    def number(self) -> float:
        """A number of any kind; a boolean is 0 or 1. Raises BsonError."""
        match self.kind:
            case 0x01:
                return float(struct.unpack("<d", self.value)[0])
            case 0x10:
                return int(_int32.unpack(self.value)[0])
            case 0x12:
                return int(struct.unpack("<q", self.value)[0])
            case 0x08:
                return self.value[0]
        raise BsonError(f"{self.name} is no number")

    def truth(self) -> bool:
        """A boolean, or a number that stands for one. Raises BsonError."""
        return self.number() != 0


def value_size(data: bytes, kind: int, at: int) -> int:
    """Bytes of a value of this kind that begins at `at`. Raises BsonError for kinds that cannot be skipped unread.

    A regular expression is two strings that end where they end: no command has one at its top level.
    """
    fixed = FIXED.get(kind)
    if fixed is not None:
        return fixed
    more = COUNTED.get(kind)
    if more is None:
        raise BsonError(f"an element of type 0x{kind:02x}")
    if len(data) - at < 4:
        raise BsonError("a value that is cut short")
    count = int.from_bytes(data[at : at + 4], "little", signed=True)
    if count < LEAST[kind]:
        raise BsonError(f"a value of {count} bytes")
    return count + more


def elements(document: bytes) -> Iterator[Element]:
    """The elements of a whole document, in order. Raises BsonError."""
    if len(document) < 5 or _int32.unpack_from(document)[0] != len(document) or document[-1] != 0:
        raise BsonError("no document")
    at, end = 4, len(document) - 1
    while at < end:
        kind = document[at]
        stop = document.find(b"\0", at + 1, at + 2 + NAME_LIMIT)
        if stop < 0 or stop >= end:
            raise BsonError("an element without a name, or with one that is too long")
        size = value_size(document, kind, stop + 1)
        if stop + 1 + size > end:
            raise BsonError("a value that is longer than its document")
        try:
            name = document[at + 1 : stop].decode()
        except UnicodeDecodeError as error:
            raise BsonError("a name that is not UTF-8") from error
        yield Element(kind, name, document[stop + 1 : stop + 1 + size])
        at = stop + 1 + size


def read(document: bytes) -> dict[str, Element]:
    """The elements by name; a name that stands twice is an error, for readers differ about which counts."""
    found: dict[str, Element] = {}
    for element in elements(document):
        if found.setdefault(element.name, element) is not element:
            raise BsonError(f"{element.name} stands twice")
    return found


def write(parts: Iterable[Element]) -> bytes:
    """A document of these elements."""
    body = b"".join(bytes((part.kind,)) + part.name.encode() + b"\0" + part.value for part in parts)
    return _int32.pack(len(body) + 5) + body + b"\0"


def string(name: str, value: str) -> Element:
    """A string; a zero byte inside is legal in BSON."""
    data = value.encode(errors="replace")
    return Element(STRING, name, _int32.pack(len(data) + 1) + data + b"\0")


def int32(name: str, value: int) -> Element:
    """A 32-bit number."""
    return Element(INT32, name, _int32.pack(value))


def double(name: str, value: float) -> Element:
    """A 64-bit floating point number: what servers send as `ok`."""
    return Element(DOUBLE, name, struct.pack("<d", value))


def binary(name: str, value: bytes) -> Element:
    """Bytes of the generic subtype."""
    return Element(BINARY, name, _int32.pack(len(value)) + b"\0" + value)


def strings(name: str, values: Iterable[str]) -> Element:
    """An array of strings."""
    return Element(ARRAY, name, write(string(str(index), value) for index, value in enumerate(values)))
