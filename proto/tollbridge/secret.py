"""A value that never prints itself."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn

_HIDDEN: Final = "Secret(hidden)"


class Secret:
    """Holds a password, token or key so that no log line, error or repr can show it.

    `reveal()` is the only way out, so a search for that word finds every place where a secret is used. Formatting,
    pickling and copying into containers all show the placeholder or fail.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return _HIDDEN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return _HIDDEN

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
