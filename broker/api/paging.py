"""Pages of a list that may change between two of them. PURE."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from broker.errors import BrokerError
from tollbridge.reasons import Reason

DEFAULT_PAGE: Final = 200
MAX_PAGE: Final = 1000

_T = TypeVar("_T")


def page(items: Sequence[_T], key: Callable[[_T], str], size: int, token: str) -> tuple[Sequence[_T], str]:
    """The items after the one that `token` names, and the token of the next page; empty on the last.

    Where that one is gone the list starts again: whoever reads it then sees some twice rather than misses any.
    Raises INVALID_REQUEST.
    """
    if size < 0:
        raise BrokerError(Reason.INVALID_REQUEST, "page_size must not be negative")
    size = min(size or DEFAULT_PAGE, MAX_PAGE)
    start = 0
    if token:
        wanted = _decode(token)
        start = next((index + 1 for index, item in enumerate(items) if key(item) == wanted), 0)
    found = items[start : start + size]
    more = start + len(found) < len(items)
    return found, base64.urlsafe_b64encode(key(found[-1]).encode()).decode() if more and found else ""


def _decode(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BrokerError(Reason.INVALID_REQUEST, "page_token is not one that this broker gave out") from error
