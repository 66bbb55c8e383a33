"""Where answers end, in what the server says on a connection that clients share. PURE.

Short answers are followed by patterns that know 64, 32, ... 1 of them, and so are the elements of long ones; what is
left goes through `wire.Frame`, one element at a time. A value may be of any size, nothing of it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from proxy.engines.redis.patterns import SHORT, anything, sized
from proxy.engines.redis.wire import Frame
from proxy.errors import PeerViolation
from proxy.script import UPSTREAM

MOST: Final = 64
"""Answers that one match follows."""
PUSH: Final = b">"
"""A message that answers nothing. None can come where nobody has subscribed to anything."""

_HEAD: Final = re.compile(rb"(?:\$([1-9][0-9]{2,11})|([*~%])(0|[1-9][0-9]{0,4}))\r\n").match
"""Of a long value, or of an answer that holds others."""

Match = Callable[[bytes, int], "re.Match[bytes] | None"]
Rungs = tuple[tuple[int, Match], ...]


@cache
def _ladder() -> tuple[Rungs, ...]:
    """For each number of answers up to MOST, the patterns that can be of use, that of most answers first.

    They compile in 20 ms, when first asked for.
    """
    short = rf"(?:\$(?:{sized(SHORT, anything)}|-1\r\n)|[+\-:_,#(][^\r\n]*+\r\n)"
    sizes = [1 << power for power in reversed(range(MOST.bit_length()))]
    rungs = [(size, re.compile(rf"{short}{{{size}}}+".encode(), re.DOTALL).match) for size in sizes]
    return tuple(tuple(rung for rung in rungs if rung[0] <= count) for count in range(MOST + 1))


class RedisAnswers:
    """`proxy.multiplex.Answers` for one connection, of RESP2 or RESP3."""

    __slots__ = ("_exact", "_frame", "_ladder")

    def __init__(self) -> None:
        self._ladder = _ladder()
        self._exact = dict(self._ladder[MOST])
        self._frame: Frame | None = None
        """The answer under way."""

    def advance(self, data: bytes, at: int, count: int) -> tuple[int, int]:
        frame = self._frame
        exact = self._exact.get(count)
        if frame is None and exact is not None and (found := exact(data, at)) is not None:
            return found.end(), 0
        while count:
            if frame is None:
                at, count = self._short(data, at, count)
                if not count or at == len(data):
                    break
                if data[at : at + 1] == PUSH:
                    raise PeerViolation(UPSTREAM, "upstream sent a message on a connection that has subscribed to none")
                frame = Frame()
            at = frame.feed(data, at, self._short)
            if not frame.complete:
                break
            frame = None
            count -= 1
        self._frame = frame
        return at, count

    def _short(self, data: bytes, at: int, count: int) -> tuple[int, int]:
        """Past whole answers that hold none but short ones, `count` at most: where they end and how many are left."""
        while True:
            at, count = self._climb(data, at, count)
            head = _HEAD(data, at) if count else None
            if head is None:
                return at, count
            value, kind, elements = head.groups()
            if value is not None:
                ends, left = head.end() + int(value) + 2, 0
            else:
                ends, left = self._climb(data, head.end(), int(elements) * (2 if kind == b"%" else 1))
            if left or ends > len(data):
                return at, count
            at = ends
            count -= 1

    def _climb(self, data: bytes, at: int, count: int) -> tuple[int, int]:
        """The same of short answers alone."""
        for size, match in self._ladder[min(count, MOST)]:
            while count >= size and (found := match(data, at)) is not None:
                at = found.end()
                count -= size
        return at, count
