"""Patterns that are exact about lengths: what both readers of short messages are made of. PURE.

A length is spelled out digit by digit, and behind each length stand so many bytes of any kind: no value can pretend to
be a message, and nothing is tried twice. Such a pattern grows with every length it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

SHORT: Final = 199
"""Longest value that patterns follow: one tree of 200 lengths compiles in 3 ms, and a command has several."""


def sized(limit: int, body: Callable[[int], str], digits: str = "") -> str:
    """A length of at most `limit` and what it announces: a tree over the length's digits."""
    branches = [rf"\r\n{body(int(digits))}\r\n"] if digits else ["0" + sized(limit, body, "0")]
    if digits != "0":
        deeper = [digits + digit for digit in ("0123456789" if digits else "123456789")]
        branches += [longer[-1] + sized(limit, body, longer) for longer in deeper if int(longer) <= limit]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def anything(length: int) -> str:
    """So many bytes, whatever they are."""
    return f".{{{length}}}"


def one_of(words: Iterable[str]) -> str:
    """One of these lower-case words of one length in any case: a tree over their letters. Nothing, of none."""
    tails: dict[str, list[str]] = {}
    for word in sorted(words):
        if not word:
            return ""
        tails.setdefault(word[0], []).append(word[1:])
    branches = [(f"[{head}{head.upper()}]" if head.isalpha() else head) + one_of(rest) for head, rest in tails.items()]
    if not branches:
        return "(?!)"
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
