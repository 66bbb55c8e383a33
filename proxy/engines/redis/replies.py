"""Where answers end, in what the server says on a connection that clients share. PURE.

Short answers are followed by patterns that know 64, 32, ... 1 of them, and so are the elements of long ones; what is
left goes through `wire.Frame`, one element at a time. A value may be of any size, nothing of it is kept.

In RESP3 a server may push messages between answers, and never inside one. Nobody on a shared connection has asked for
any, so they are nobody's: they are followed like answers, and skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from proxy.engines.redis.patterns import SHORT, anything, sized
from proxy.engines.redis.wire import PUSH, REPLY_LIMIT, Frame
from proxy.errors import PeerViolation
from proxy.script import UPSTREAM

MOST: Final = 64
"""Answers that one match follows."""
PUSHED_LIMIT: Final = REPLY_LIMIT
"""Bytes of messages that may come between two answers, in one or in many, as soon as they are announced."""

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
    """`proxy.multiplex.Answers` for one connection."""

    __slots__ = ("_aside", "_exact", "_frame", "_ladder", "_pushed", "_pushes")

    def __init__(self, *, pushes: bool) -> None:
        """`pushes`: messages may come between answers, as in RESP3; RESP2 knows none."""
        self._pushes = pushes
        self._pushed = 0
        """Bytes of them since the last answer."""
        self._aside = False
        """What is under way is one of them."""
        self._ladder = _ladder()
        self._exact = dict(self._ladder[MOST])
        self._frame: Frame | None = None
        """The answer or message under way."""

    def advance(self, data: bytes, at: int, count: int) -> tuple[int, int]:
        frame = self._frame
        exact = self._exact.get(count)
        if frame is None and exact is not None and (found := exact(data, at)) is not None:
            self._pushed = 0
            return found.end(), 0
        if self._aside:
            return at, count
        begins = at
        while count:
            if frame is None:
                at, count = self._short(data, at, count)
                if not count or at == len(data):
                    break
                if data[at : at + 1] == PUSH:
                    break
                frame = Frame()
            at = frame.feed(data, at, self._short)
            if not frame.complete:
                break
            frame = None
            count -= 1
        self._frame = frame
        if at > begins:
            self._pushed = 0
        return at, count

    def skip(self, data: bytes, at: int) -> int:
        frame = self._frame
        while at < len(data):
            if frame is None:
                if data[at : at + 1] != PUSH:
                    break
                if not self._pushes:
                    raise PeerViolation(UPSTREAM, "upstream sent a message on a connection that has subscribed to none")
                frame, self._aside = Frame(), True
            elif not self._aside:
                break
            ends = frame.feed(data, at)
            self._pushed += ends - at
            at = ends
            elements, more = frame.owed
            if self._pushed + max(elements, more) > PUSHED_LIMIT:
                raise PeerViolation(UPSTREAM, f"upstream sent more than {PUSHED_LIMIT} bytes that answer nothing")
            if frame.complete:
                frame, self._aside = None, False
        self._frame = frame
        return at

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
