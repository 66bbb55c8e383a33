"""How MySQL's clients are told no."""

from __future__ import annotations

import pytest

from proxy.engines.mysql import MysqlEngine
from proxy.engines.mysql.refusals import NATIVE_ROWS, encode
from proxy.errors import Refused
from tollbridge.reasons import LOGIN_REASONS, ROWS, Reason

every_reason = pytest.mark.parametrize("reason", LOGIN_REASONS)


@every_reason
def test_every_reason_has_a_code_a_state_and_a_fix(reason: Reason) -> None:
    row = NATIVE_ROWS[reason]
    assert 1000 <= row.code <= 4000
    assert len(row.sqlstate) == 5
    assert len(row.hint) > 20
    assert row.hint.endswith((".", "?", ")."))


@every_reason
def test_the_useful_part_comes_first_within_what_clients_keep(reason: Reason) -> None:
    packet = encode(Refused(reason, "what went wrong: " + "ü" * 2000, decision_id="d" * 200), 7)
    assert packet[3:5] == b"\x07\xff"
    assert packet[7:8] == b"#"
    text = packet[13:]
    assert len(text) <= 511
    assert text.startswith(b"tollbridge: what went wrong: ")
    assert reason.encode() in text
    text.decode()  # not cut inside a character


@every_reason
def test_a_short_refusal_says_how_to_mend_it(reason: Reason) -> None:
    text = encode(Refused(reason, "no"), 1)[13:].decode()
    assert text == f"tollbridge: no [{reason}] {NATIVE_ROWS[reason].hint}"


@every_reason
def test_pools_are_told_to_retry_exactly_what_can_be_retried(reason: Reason) -> None:
    """1040 and 1053 mean `try again`: no reason that stays true until somebody acts may use them."""
    if NATIVE_ROWS[reason].code in {1040, 1053}:
        assert ROWS[reason].retryable


@every_reason
def test_before_the_greeting_no_sqlstate_is_said(reason: Reason) -> None:
    said = MysqlEngine().refuse(reason, "not now")
    assert said[3:5] == b"\0\xff"
    assert said[7:].startswith(b"tollbridge: not now")
