"""Globs and label selectors."""

from __future__ import annotations

import time

import pytest

from broker.access.globs import matches, selects


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "", True),
        ("*", "anything/at all", True),
        ("app", "app", True),
        ("app", "App", False),
        ("app", "apps", False),
        ("app*", "app", True),
        ("app*", "apple", True),
        ("*app", "an app", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a??", "abc", True),
        ("spiffe://mesh/ns/shop/*", "spiffe://mesh/ns/shop/sa/web", True),
        ("spiffe://mesh/ns/shop/*", "spiffe://mesh/ns/shopping/sa/web", False),
        ("spiffe://mesh/ns/*/sa/web", "spiffe://mesh/ns/a/b/sa/web", True),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a*b*c", "a1b2c", True),
        ("a*b*c", "a1c2b", False),
        ("*b*b*", "abab", True),
        ("*ab*ab", "ab", False),
        ("*ab", "abab", True),
        ("a**b", "ab", True),
        ("a*", "a\nb", True),
        ("a$", "a", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_glob(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


def test_no_name_makes_a_glob_slow() -> None:
    started = time.process_time()
    assert not matches("*a" * 60 + "b", "a" * 2048)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ({}, {}, False),
        ({}, {"env": "dev"}, False),
        ({"*": ("*",)}, {}, True),
        ({"*": ("*",)}, {"env": "dev"}, True),
        ({"*": ("dev",)}, {"stage": "dev"}, True),
        ({"*": ("dev",)}, {}, False),
        ({"env": ("dev",)}, {"env": "dev", "team": "x"}, True),
        ({"env": ("dev",)}, {"env": "prod"}, False),
        ({"env": ("dev", "pre*")}, {"env": "preprod"}, True),
        ({"env": ("*",)}, {}, False),
        ({"env": ("dev",), "team": ("x",)}, {"env": "dev"}, False),
    ],
)
def test_selector(selector: dict[str, tuple[str, ...]], labels: dict[str, str], selected: bool) -> None:
    assert selects(selector, labels) is selected
