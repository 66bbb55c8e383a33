"""Text of others, fit to stand in an answer. PURE."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Text without line ends or other control characters: each becomes a blank."""
    return "".join(character if character.isprintable() else " " for character in text)
