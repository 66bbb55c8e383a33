"""Pages of a list: all of it, in order, also while it changes."""

from __future__ import annotations

import pytest

from broker.api.paging import MAX_PAGE, page
from broker.errors import BrokerError
from tollbridge.reasons import Reason


def read(items: list[str], size: int) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        some, token = page(items, str, size, token)
        found.extend(some)
        if not token:
            return found


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 1000, 5000])
def test_all_pages_together_are_the_list(size: int) -> None:
    items = [f"item {number}" for number in range(7)]
    assert read(items, size) == items


def test_an_empty_list_is_one_empty_page() -> None:
    assert page([], str, 10, "") == ([], "")


def test_no_page_is_larger_than_the_limit() -> None:
    assert len(page([str(n) for n in range(3 * MAX_PAGE)], str, 10**9, "")[0]) == MAX_PAGE


def test_where_the_last_one_shown_is_gone_some_come_twice_rather_than_never() -> None:
    _, token = page(["a", "b", "c", "d"], str, 2, "")
    assert list(page(["a", "c", "d"], str, 10, token)[0]) == ["a", "c", "d"]


@pytest.mark.parametrize(("size", "token"), [(-1, ""), (1, "%%%"), (1, "a"), (1, "/w==")])
def test_nonsense_is_the_callers(size: int, token: str) -> None:
    with pytest.raises(BrokerError) as raised:
        page(["a"], str, size, token)
    assert raised.value.reason is Reason.INVALID_REQUEST
