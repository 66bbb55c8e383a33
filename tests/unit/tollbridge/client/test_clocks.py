"""A grant means the same on a machine whose clock is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tollbridge.client.convert import CLOCK_NOISE, on_our_clock
from tollbridge.model import Endpoint, Grant, TlsFacts, Token
from tollbridge.secret import Secret

DECIDED_AT = datetime(2026, 1, 15, 12, tzinfo=UTC)


def grant(decided_at: datetime | None = DECIDED_AT) -> Grant:
    """Fifteen minutes of credential, one minute of decision."""
    return Grant(
        decision_id="d",
        credential_id="c",
        endpoint=Endpoint(host="db.example", port=5432),
        tls=TlsFacts(),
        credential=Token(user="app", password=Secret("token")),
        issued_at=DECIDED_AT - timedelta(minutes=1),
        expires_at=DECIDED_AT + timedelta(minutes=14),
        recheck_after=DECIDED_AT + timedelta(minutes=1),
        usable_until=DECIDED_AT + timedelta(minutes=13),
        decided_at=decided_at,
    )


@pytest.mark.parametrize("ahead", [timedelta(minutes=-10), timedelta(seconds=-3), timedelta(hours=2)])
def test_every_instant_keeps_its_distance_from_the_decision(ahead: timedelta) -> None:
    """A caller ten minutes behind asks again after a minute, not after eleven."""
    received_at = DECIDED_AT + ahead
    ours = on_our_clock(grant(), received_at)
    assert ours.decided_at == received_at
    for name in ("issued_at", "expires_at", "recheck_after", "usable_until"):
        assert getattr(ours, name) - received_at == getattr(grant(), name) - DECIDED_AT


@pytest.mark.parametrize("ahead", [timedelta(0), CLOCK_NOISE, -CLOCK_NOISE])
def test_what_an_answer_takes_is_no_difference(ahead: timedelta) -> None:
    """Clocks that agree leave the broker's own instants."""
    assert on_our_clock(grant(), DECIDED_AT + ahead) == grant()


def test_a_broker_that_does_not_say_is_believed() -> None:
    """As before the field existed."""
    assert on_our_clock(grant(None), DECIDED_AT + timedelta(hours=1)) == grant(None)
