"""When a session is still good enough: decisions in fractions of its life. PURE.

Fractions, because windows in minutes are wrong for short sessions: a 900 s session lies inside the SDK's 15-minute
window from birth and would be refreshed at every use.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Final

STALE_FROM: Final = 0.70
"""Fraction of life from which a session is refreshed while it is still handed out."""
STALE_SPREAD: Final = 0.10
"""Jitter moves that point by up to this fraction, so that replicas do not refresh in step."""
LAST_PART: Final = 1 / 30
"""Last fraction of life in which a session is no longer handed out: 120 s of an hour, 30 s of 900 s."""
FORCED_FROM: Final = 0.50
"""No session is replaced for more life before this fraction: what replaced it would hardly live longer."""


class Freshness(Enum):
    """What may be done with a session."""

    FRESH = "fresh"
    STALE = "stale"
    """Good, and time to get the next one."""
    EXPIRED = "expired"


def freshness(*, issued_at: datetime, expires_at: datetime | None, now: datetime, jitter: float) -> Freshness:
    """Judge by the part of its life a session has behind it. `jitter` is from [0, 1) and fixed per session."""
    if expires_at is None:
        return Freshness.FRESH
    life = (expires_at - issued_at).total_seconds()
    left = (expires_at - now).total_seconds()
    if life <= 0 or left <= life * LAST_PART:
        return Freshness.EXPIRED
    if life - left >= life * (STALE_FROM + STALE_SPREAD * jitter):
        return Freshness.STALE
    return Freshness.FRESH


def is_too_short(*, issued_at: datetime, expires_at: datetime | None, now: datetime, need_seconds: float) -> bool:
    """Whether less than `need_seconds` is left AND a new session would really have more.

    A session that never lives as long as the need is replaced only in the second half of its life; otherwise every
    token signed with a 900 s session would cost an AssumeRole.
    """
    if expires_at is None:
        return False
    life = (expires_at - issued_at).total_seconds()
    left = (expires_at - now).total_seconds()
    return left < min(need_seconds, life * (1 - FORCED_FROM))
