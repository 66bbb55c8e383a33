"""Globs over identities, users and names. PURE.

`*` stands for any text, also across `/` (`spiffe://mesh/ns/shop/*` covers every path below), `?` for one character;
nothing else is special and case counts. A `*` that stopped at `/` would surprise whoever knows Teleport's rules or
shell patterns over flat names; write the slashes that matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from broker.access.model import LabelSelector


@lru_cache(maxsize=16_384)
def _compiled(pattern: str) -> re.Pattern[str]:
    first, *rest = [re.escape(piece).replace(r"\?", ".") for piece in re.split(r"\*+", pattern)]
    if not rest:
        return re.compile(first, re.DOTALL)
    # Taking the earliest place for each piece but the last is always right, so none needs to be tried twice: atomic
    # groups keep a hostile name from making the match slow.
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits the glob."""
    if pattern == "*":
        return True
    if "*" not in pattern and "?" not in pattern:
        return pattern == text
    return _compiled(pattern).fullmatch(text) is not None


def any_matches(patterns: tuple[str, ...], text: str) -> bool:
    """Whether the text fits one of them."""
    return any(matches(pattern, text) for pattern in patterns)


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether every label of the selector is there with an accepted value. An empty selector selects nothing.

    The key `*` asks for any label with an accepted value; `{"*": ("*",)}` also takes what has no labels at all.
    """
    for key, accepted in selector.items():
        if key == "*":
            if "*" not in accepted and not any(any_matches(accepted, value) for value in labels.values()):
                return False
        elif key not in labels or not any_matches(accepted, labels[key]):
            return False
    return bool(selector)


def is_literal(pattern: str) -> bool:
    """Whether the pattern stands for itself alone."""
    return "*" not in pattern and "?" not in pattern
