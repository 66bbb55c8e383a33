from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from broker.sessions.freshness import Freshness, freshness, is_too_short

BORN = datetime(2030, 1, 1, tzinfo=UTC)


def judge(life: float, age: float, jitter: float = 0.0) -> Freshness:
    return freshness(
        issued_at=BORN, expires_at=BORN + timedelta(seconds=life), now=BORN + timedelta(seconds=age), jitter=jitter
    )


@pytest.mark.parametrize(
    ("life", "age", "jitter", "expected"),
    [
        (3600, 0, 0.0, Freshness.FRESH),
        (3600, 2519, 0.0, Freshness.FRESH),
        (3600, 2520, 0.0, Freshness.STALE),
        (3600, 2520, 0.9, Freshness.FRESH),
        (3600, 2880, 0.999, Freshness.STALE),
        (3600, 3479, 0.0, Freshness.STALE),
        (3600, 3480, 0.0, Freshness.EXPIRED),
        (3600, 4000, 0.0, Freshness.EXPIRED),
        (900, 0, 0.0, Freshness.FRESH),
        (900, 600, 0.0, Freshness.FRESH),
        (900, 630, 0.0, Freshness.STALE),
        (900, 871, 0.0, Freshness.EXPIRED),
        (0, 0, 0.0, Freshness.EXPIRED),
        (-5, 0, 0.0, Freshness.EXPIRED),
    ],
)
def test_a_session_is_judged_by_the_part_of_its_life_behind_it(
    life: float, age: float, jitter: float, expected: Freshness
) -> None:
    assert judge(life, age, jitter) is expected


def test_keys_without_an_end_are_always_fresh() -> None:
    now = BORN + timedelta(days=4000)
    assert freshness(issued_at=BORN, expires_at=None, now=now, jitter=0.0) is Freshness.FRESH
    assert not is_too_short(issued_at=BORN, expires_at=None, now=now, need_seconds=900)


@pytest.mark.parametrize(
    ("life", "left", "expected"),
    [
        (3600, 901, False),
        (3600, 899, True),
        (900, 900, False),
        (900, 890, False),
        (900, 451, False),
        (900, 449, True),
        (1200, 700, False),
        (1200, 599, True),
        (43200, 899, True),
    ],
)
def test_more_life_is_wanted_only_where_a_new_session_would_have_it(life: float, left: float, expected: bool) -> None:
    expires = BORN + timedelta(seconds=life)
    now = expires - timedelta(seconds=left)
    assert is_too_short(issued_at=BORN, expires_at=expires, now=now, need_seconds=900) is expected
