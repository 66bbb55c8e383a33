"""Bytes that mean nothing, the same in every run: no rare value of theirs may decide how a test ends."""

from __future__ import annotations

from random import Random


def noise(size: int, number: int = 0) -> bytes:
    """So many bytes; another `number`, other bytes."""
    return Random(number).randbytes(size)
